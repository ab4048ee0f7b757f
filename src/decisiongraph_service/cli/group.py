"""Commands and groups of them, with help texts that are wrapped to the terminal they are shown on."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import typer

_F = TypeVar("_F", bound=Callable[..., Any])


class Group(typer.Typer):
    """A group of commands. The help of a command is the docstring of its function."""

    def __init__(self, *, help: str, **settings: Any) -> None:  # noqa: A002 - the name that Typer has
        super().__init__(
            help=help, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False, **settings
        )

    def add(self, name: str, function: _F, *, panel: str | None = None, hidden: bool = False) -> _F:
        """Add a command, among others of the same `panel`."""
        described = paragraphs(function.__doc__ or "")
        self.command(name, hidden=hidden, help=described, rich_help_panel=panel)(function)
        return function

    def named(self, name: str) -> Callable[[_F], _F]:
        """Add the function that this decorates as a command."""
        return lambda function: self.add(name, function)


def paragraphs(text: str) -> str:
    """A docstring whose line breaks are taken out where they only keep the source narrow.

    Blank lines part paragraphs; indented lines, such as examples, stay as they are.
    """
    blocks = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        b if any(line.startswith(" ") for line in b.split("\n")) else b.replace("\n", " ") for b in blocks
    )
