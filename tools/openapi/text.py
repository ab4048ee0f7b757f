"""Turns proto comments, as the generator passes them on, into descriptions for people."""

import re
import textwrap

# The generator appends rules that it cannot express to the comment, one a line: `string.max_bytes = 200`,
# `event.event_type // event_type: is required`.
_RULE_LINE = re.compile(r"^\s*[a-z_0-9]+(\.[a-z_0-9]+)+ (=|//) .*$", re.MULTILINE)
_WRAPPER = textwrap.TextWrapper(width=100, break_long_words=False, break_on_hyphens=False)
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)\s")


def prose(comment: str) -> str:
    """The comment without rule lines and without the line breaks of its source; paragraphs stay."""
    paragraphs = _RULE_LINE.sub("", comment).strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip())


def first_sentence(text: str) -> str:
    """The first sentence, without its full stop."""
    return _SENTENCE_END.split(text, maxsplit=1)[0].removesuffix(".")


def wrapped(text: str) -> str:
    """The same text in lines of readable length, if it has several paragraphs; YAML folds a single one itself."""
    paragraphs = text.split("\n\n")
    if len(paragraphs) == 1:
        return text
    return "\n\n".join(_WRAPPER.fill(paragraph) for paragraph in paragraphs)


def sentences(*parts: str) -> str:
    """One paragraph of the parts that are not empty."""
    return " ".join(part for part in parts if part)
