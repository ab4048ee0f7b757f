"""The reference of the command line, from the commands themselves."""

from collections.abc import Iterator
from typing import Any, Final, Literal, get_args, get_origin

import typer
from tools.docs_site.markdown import code, page, table

from decisiongraph_service.cli import main, service_connection

PAGE: Final = "commands.md"


def render() -> str:
    """The page: every command with its arguments and options."""
    variables = (
        service_connection.SERVER_VARIABLE,
        service_connection.KEY_VARIABLE,
        service_connection.TOKEN_VARIABLE,
    )
    server, key, token = map(code, variables)
    return page(
        "# Command line",
        "`decisiongraph` is in `.venv/bin` of a checkout, and where the package is installed. Settings are the "
        "[environment variables](configuration.md), or stand in a file: `decisiongraph --config FILE COMMAND` "
        f"([settings file](API_RUNTIME.md#settings-file)). Commands that call a service take its address from {server} "
        f"(`host:port` of the gRPC server) and say who calls by {key} (an API key) or {token} (a token). Without them "
        "they call the `decisiongraph run` of this folder. A command that fails says why on standard error and ends "
        "with 1.",
        *(
            part
            for path, command in _commands(typer.main.get_command(main.app), ())
            for part in _section(path, command)
        ),
    )


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, by its words."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        if not child.hidden:
            yield from _commands(child, (*path, name))


def _section(path: tuple[str, ...], command: Any) -> Iterator[str]:
    parameters = [one for one in command.params if not getattr(one, "hidden", False)]
    arguments = [one.name.upper() for one in parameters if one.param_type_name == "argument"]
    options = ["[OPTIONS]"] if len(arguments) < len(parameters) else []
    yield f"## decisiongraph {' '.join(path)}"
    yield f"```text\n{' '.join(('decisiongraph', *path, *options, *arguments))}\n```"
    yield "\n\n".join(" ".join(paragraph.split()) for paragraph in command.help.split("\n\n"))
    yield table(("Name", "Value", "Default", "Meaning"), map(_row, parameters))


def _row(parameter: Any) -> tuple[str, ...]:
    name = parameter.name.upper() if parameter.param_type_name == "argument" else ", ".join(parameter.opts)
    return code(name), _value(parameter), _default(parameter), parameter.help or ""


def _value(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return "-"
    annotation = parameter.type_descriptor.annotation
    if get_origin(annotation) is Literal:
        return ", ".join(map(code, get_args(annotation)))
    return f"{_kind(annotation)}{_bounds(parameter.min, parameter.max)}{', repeatable' if parameter.multiple else ''}"


def _bounds(least: int | None, most: int | None) -> str:
    if least is None:
        return ""
    return f", at least {least:,}" if most is None else f", {least:,} to {most:,}"


def _kind(annotation: Any) -> str:
    """What a value of a type is called: of `str`, `str | None` and `list[str]` alike."""
    text = str(annotation)
    return next(
        name
        for mark, name in (("Path", "path"), ("int", "integer"), ("float", "number"), ("str", "text"))
        if mark in text
    )


def _default(parameter: Any) -> str:
    if parameter.required:
        return "**required**"
    value = parameter.default
    return "-" if value in (None, "", False) else code(str(value))
