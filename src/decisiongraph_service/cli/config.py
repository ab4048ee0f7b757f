"""`decisiongraph config …`: the settings as this machine's processes would find them."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from decisiongraph_service.cli import configuration, output
from decisiongraph_service.cli.group import Group
from decisiongraph_service.cli.options import AsJson

if TYPE_CHECKING:
    from decisiongraph_service.runtime.settings_sources import Setting

app = Group(help="The settings that commands and servers find here.")


@app.named("show")
def show(
    changed: Annotated[
        bool, typer.Option("--changed", help="Only settings that are not left at their default.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check the settings, and show each with its value and where it comes from. Starts nothing.

    Sources: `environment`, `file` (the settings file, --config or DG_CONFIG_FILE), `default`, and `database_url_file`
    for an address that was read from there. Secrets are masked, and passwords within addresses too. A variable that
    begins with DG_ and is no setting, such as a misspelt one, is named in a warning.

    With --json an object: `config_file`, `settings` (an array of name, variable, value, source) and `warnings`.

    Exit codes: 0 the settings are valid; 1 one is wrong, or the settings file cannot be used.
    """
    from decisiongraph_service.runtime import settings_sources

    settings = configuration.settings()
    rows = [one for one in settings_sources.list_settings(settings) if not changed or one.source != "default"]
    warnings = [
        f"{one.name} in the environment is no setting{one.meant}" for one in settings_sources.unknown_variables()
    ]
    for warning in warnings:
        output.print_failure(f"warning: {warning}")
    if as_json:
        file = settings.config_file
        output.print_json(
            {
                "config_file": None if file is None else str(file),
                "settings": [asdict(row) for row in rows],
                "warnings": warnings,
            }
        )
    else:
        output.print_table(map(_row, rows), ("setting", "value", "source"))


def _row(setting: "Setting") -> dict[str, str]:
    return {"setting": setting.name, "value": _text(setting.value), "source": setting.source}


def _text(value: object) -> str:
    if value is None:
        return "-"
    return output.json_text(value) if isinstance(value, (bool, dict)) else str(value)
