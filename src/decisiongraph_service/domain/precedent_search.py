"""What makes a finished trace a precedent of a decision at hand: features, words and their weights.

Source: docs/reference/PRECEDENT_AND_GRAPH_QUERY_SEMANTICS.md, ranked precedents. Pure: the same traces and the same
search give the same scores.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from decisiongraph_service.domain import text, vocabulary
from decisiongraph_service.domain.words import words

WORKFLOW: Final = "workflow"
ENTITY_TYPE: Final = "entity_type"
ENTITY: Final = "entity"
POLICY: Final = "policy"
POLICY_VERSION: Final = "policy_version"
EXCEPTION: Final = "exception"
APPROVER: Final = "approver"
ACTION_TYPE: Final = "action_type"
TEXT: Final = "text"
OUTCOME: Final = "outcome"
"""Only for filters: it has no weight."""

_SEPARATOR: Final = "\x00"
"""No projected text holds it, and so neither part of a value that has two."""
_OF_TWO_PARTS: Final = (ENTITY, POLICY_VERSION, APPROVER)

WEIGHTS: Final[Mapping[str, int]] = {
    POLICY: 30,
    ENTITY: 25,
    EXCEPTION: 20,
    WORKFLOW: 15,
    POLICY_VERSION: 15,
    ACTION_TYPE: 10,
    APPROVER: 10,
    ENTITY_TYPE: 5,
}
WORD_WEIGHT: Final = 4
"""Of each word that both have."""

MAX_WORDS_OF_A_TRACE: Final = 64
"""A trace is found by so many words: of its title first, then of its summary, then of its reasons in their order."""
MAX_LIKE_WORDS: Final = 12
"""So many words of a trace look for others like it."""
MAX_LIKE_VALUES: Final = 8
"""So many values of each feature of a trace look for others like it, those of its first events."""

READ_TYPES: Final = (
    vocabulary.TRACE_STARTED,
    vocabulary.POLICY_EVALUATED,
    vocabulary.EXCEPTION_REQUESTED,
    vocabulary.APPROVAL_RECORDED,
    vocabulary.PRECEDENT_CITED,
    vocabulary.ACTION_PROPOSED,
    vocabulary.ACTION_COMMITTED,
    vocabulary.TRACE_FINISHED,
)
"""The events that features are made of."""


class Feature(NamedTuple):
    """A property that traces can have in common."""

    feature: str
    value: str
    """Of one text, or of two as `joined` makes it."""
    result: str | None = None
    """How it ended in its trace: a policy's decision, an approval's decision, an action's status."""


class Facts(NamedTuple):
    """What one event says of its trace."""

    features: Sequence[Feature] = ()
    subject: str | None = None
    """Id of the exception that is asked for, or of the action that is proposed; later events tell how it ended."""
    ended: tuple[str, str, str] | None = None
    """Feature, id and result of something that an earlier event asked for or proposed."""
    texts: Sequence[str] = ()
    """Reasons; of the first and the last event the title and the summary."""


def joined(first: str, second: str) -> str:
    """A value that is made of two texts: callers see `:` between them, which may also be in either."""
    return f"{first}{_SEPARATOR}{second}"


def facts(event_type: str, payload: Mapping[str, Any]) -> Facts | None:
    """What an event says of its trace; None if nothing.

    Raises:
        KeyError, TypeError: the payload does not have the shape of its type.
    """
    match event_type:
        case vocabulary.TRACE_STARTED:
            entity = payload["primary_entity"]
            entity_type, entity_id = text.member(entity, "entity_type"), text.member(entity, "entity_id")
            features = (
                Feature(WORKFLOW, text.member(payload, "workflow")),
                Feature(ENTITY_TYPE, entity_type),
                Feature(ENTITY, joined(entity_type, entity_id)),
            )
            return Facts(features, texts=(text.member(payload, "title"),))
        case vocabulary.POLICY_EVALUATED:
            return Facts(_policy(payload, text.member(payload, "decision")))
        case vocabulary.EXCEPTION_REQUESTED:
            asked = Feature(EXCEPTION, text.member(payload["policy"], "policy_id"))
            return Facts((*_policy(payload, None), asked), text.member(payload, "exception_id"), texts=_reason(payload))
        case vocabulary.APPROVAL_RECORDED:
            return _approval(payload)
        case vocabulary.PRECEDENT_CITED:
            return Facts(texts=_reason(payload))
        case vocabulary.ACTION_PROPOSED:
            action = Feature(ACTION_TYPE, text.member(payload, "action_type"))
            return Facts((action,), text.member(payload, "action_id"))
        case vocabulary.ACTION_COMMITTED:
            return Facts(ended=(ACTION_TYPE, text.member(payload, "action_id"), text.member(payload, "status")))
        case vocabulary.TRACE_FINISHED:
            summary = text.optional_member(payload, "summary")
            return Facts(
                (Feature(OUTCOME, text.member(payload, "outcome")),), texts=() if summary is None else (summary,)
            )
    return None


def _policy(payload: Mapping[str, Any], decision: str | None) -> tuple[Feature, Feature]:
    policy = payload["policy"]
    policy_id = text.member(policy, "policy_id")
    version = Feature(POLICY_VERSION, joined(policy_id, text.member(policy, "policy_version")), decision)
    return Feature(POLICY, policy_id, decision), version


def _reason(payload: Mapping[str, Any]) -> tuple[str, ...]:
    reason = text.optional_member(payload, "reason")
    return () if reason is None else (reason,)


def _approval(payload: Mapping[str, Any]) -> Facts:
    approver, subject = payload["approver"], payload["subject"]
    decision = text.member(payload, "decision")
    value = joined(text.member(approver, "actor_type"), text.member(approver, "actor_id"))
    ended = None
    if text.member(subject, "subject_type") == "exception":
        ended = EXCEPTION, text.member(subject, "subject_id"), decision
    return Facts((Feature(APPROVER, value, decision),), ended=ended, texts=_reason(payload))


class Document:
    """What a trace is found by, from the facts of its events in their order."""

    def __init__(self, of_events: Iterable[tuple[str, Facts]]) -> None:
        """`of_events`: event types with their facts."""
        self._results: dict[tuple[str, str], str | None] = {}
        subjects: dict[tuple[str, str], list[str]] = {}
        texts: dict[str, list[str]] = {}
        for event_type, one in of_events:
            for feature, value, result in one.features:
                known = self._results.get((feature, value))
                self._results[feature, value] = known if result is None else result
                if one.subject is not None and feature in (EXCEPTION, ACTION_TYPE):
                    subjects.setdefault((feature, one.subject), []).append(value)
            if one.ended is not None:
                feature, subject, result = one.ended
                for value in subjects.get((feature, subject), ()):
                    self._results[feature, value] = result
            place = event_type if event_type in (vocabulary.TRACE_STARTED, vocabulary.TRACE_FINISHED) else "reasons"
            texts.setdefault(place, []).extend(one.texts)
        self.words = self._words(texts)
        """Its first words, in their order."""

    @staticmethod
    def _words(texts: Mapping[str, Sequence[str]]) -> list[str]:
        in_order = itertools.chain.from_iterable(
            texts.get(place, ()) for place in (vocabulary.TRACE_STARTED, vocabulary.TRACE_FINISHED, "reasons")
        )
        found: dict[str, None] = {}
        for one in in_order:
            if len(found) >= MAX_WORDS_OF_A_TRACE:
                break
            found.update(dict.fromkeys(words(one)))
        return list(found)[:MAX_WORDS_OF_A_TRACE]

    @property
    def features(self) -> list[Feature]:
        """Its features, each with how it ended last."""
        return [Feature(feature, value, result) for (feature, value), result in self._results.items()]

    @property
    def keys(self) -> list[int]:
        """The keys of its features and words."""
        features = (feature_key(feature, value) for feature, value in self._results)
        return list(dict.fromkeys(itertools.chain(features, map(word_key, self.words))))


class DocumentRow(NamedTuple):
    """The document of a finished trace, as it is stored."""

    finished_log_seq: int
    trace_id: str
    features: Sequence[Feature]
    keys: Sequence[int]


def feature_key(feature: str, value: str) -> int:
    """What a feature with its value is looked up by: the first 64 bits of a SHA-256, as a signed number."""
    digest = hashlib.sha256(f"{feature}\x1f{value}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@lru_cache(maxsize=65_536)
def word_key(word: str) -> int:
    """The same of a word."""
    return feature_key(TEXT, word)


class Term(NamedTuple):
    """One thing that a search looks for."""

    feature: str
    value: str
    weight: int

    @property
    def key(self) -> int:
        """What it is looked up by."""
        return feature_key(self.feature, self.value)

    @property
    def shown(self) -> str:
        """Its value as callers see it."""
        return self.value.replace(_SEPARATOR, ":") if self.feature in _OF_TWO_PARTS else self.value


def terms_like(document: Document) -> Iterator[Term]:
    """What looks for traces like one: the first values of each of its features, then its first words."""
    counts: dict[str, int] = {}
    for feature, value, _ in document.features:
        counts[feature] = counts.get(feature, 0) + 1
        if feature in WEIGHTS and counts[feature] <= MAX_LIKE_VALUES:
            yield Term(feature, value, WEIGHTS[feature])
    yield from terms_of_words(document.words[:MAX_LIKE_WORDS])


def terms_of_words(found: Iterable[str]) -> Iterator[Term]:
    """What looks for words."""
    return (Term(TEXT, word, WORD_WEIGHT) for word in found)


class Match(NamedTuple):
    """A term that a document has."""

    term: Term
    result: str | None
    """How it ended in the trace of the document; None for words, and where nothing tells it."""


def matches(terms: Sequence[Term], keys: Sequence[int], row: DocumentRow) -> list[Match]:
    """Which terms a document has, in the order of the search. `keys`: those of the terms."""
    present = set(row.keys)
    results = {(feature, value): result for feature, value, result in row.features}
    return [
        Match(term, results.get((term.feature, term.value)))
        for term, key in zip(terms, keys, strict=True)
        if key in present
    ]
