"""`decisiongraph doctor`: what a set-up lacks, step by step, and what to do about it."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import typer

from decisiongraph_service.cli import configuration, database_url, output, service_connection
from decisiongraph_service.cli.options import AsJson, Server, Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from decisiongraph_service.cli.checkup.finding import Finding
    from decisiongraph_service.cli.service_connection import Place
    from decisiongraph_service.runtime.settings import Settings

_CALL_SECONDS: Final = 5.0
_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(server: Server = None, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Look step by step what a set-up lacks, and say what to do.

    This machine: Python, packages, data folder, disk space, ports of `run`. The database, if DG_DATABASE_URL is set or
    `run` runs: reachable, migrated, durable, its clock. The service, if one is named or runs here: address, connection,
    TLS, readiness, token or key, roles, tenant, clock. Changes nothing.

    With --json an array of findings: name, status (ok, warn or fail), message, hint.

    Exit codes: 0 nothing fails; 1 something does.
    """
    settings = configuration.settings()
    failed = False
    findings = []
    for finding in _look(settings, server, tenant):
        failed = failed or finding.status == "fail"
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        output.print_json([asdict(finding) for finding in findings])
    if failed:
        raise typer.Exit(1)


def _look(settings: "Settings", server: str | None, tenant: str | None) -> "Iterator[Finding]":
    from decisiongraph_service.cli.checkup import machine
    from decisiongraph_service.cli.checkup.finding import fail, warn

    yield from machine.look(settings)
    yield from _database(settings)
    try:
        place = service_connection.look(server, anonymous=True)
    except service_connection.NoService as error:
        if machine.is_running(settings.data_dir):
            yield fail("address", str(error), "wait until `decisiongraph run` is ready, or start it again")
        else:
            yield warn("address", str(error), "nothing to do, if you only want to run a service here")
        return
    yield from _service(place, tenant)


def _database(settings: "Settings") -> "Iterator[Finding]":
    import asyncio

    from decisiongraph_service.cli.checkup import database

    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
    else:
        try:
            url = (settings.data_dir / database_url.FILE).read_text().strip()
        except OSError:
            # `run` makes one.
            return

    async def collect() -> "list[Finding]":
        return [finding async for finding in database.look(url)]

    yield from asyncio.run(collect())


def _service(place: "Place", tenant: str | None) -> "Iterator[Finding]":
    from decisiongraph_client import Client, RetryPolicy, _settings, errors
    from decisiongraph_service.cli.checkup import connection, identity
    from decisiongraph_service.cli.checkup.finding import fail, ok, warn

    try:
        endpoint = _settings.endpoint(place.server, None)
        with Client(
            place.server,
            **service_connection.identity(place, "reader"),
            tenant=tenant,
            timeout=_CALL_SECONDS,
            retries=RetryPolicy(attempts=1),
        ) as client:
            yield _address(place, is_plain=endpoint.tls is None and not _settings.is_loopback(endpoint.target))
            for finding in connection.look(endpoint, client):
                yield finding
                if finding.status == "fail":
                    return
            if not place.has_identity:
                yield warn("token", "it is not known who calls", "set DG_API_KEY or DG_TOKEN")
                return
            if place.api_key:
                before = time.time()
                token = service_connection.issue_token(place, _CALL_SECONDS)
                after = time.time()
                yield ok("api key", "the service gives a token for it")
                yield identity.issued(identity.claims_of(token) or {}, before, after)
            else:
                token = place.token("reader") or ""
            yield from identity.of_token(token, tenant, all_roles=None if place.token("") else tuple(place.tokens))
            yield from identity.accepted(client)
    except errors.ConfigurationError as error:
        yield fail("settings", str(error), "mend what it names")
    except errors.ServiceError as error:
        yield fail("api key", f"{error.code.name}: {error.message}", "set DG_API_KEY to a valid key of the account")


def _address(place: "Place", *, is_plain: bool) -> "Finding":
    from decisiongraph_service.cli.checkup.finding import ok, warn

    said = f"{place.name}{', of the `decisiongraph run` in this folder' if place.of_run else ''}"
    if is_plain:
        return warn("address", f"{said}, without encryption", "use https:// unless nobody else is on the network")
    return ok("address", said)


def _print(finding: "Finding") -> None:
    from rich.text import Text

    console = output.console()
    console.print(
        Text.assemble(
            (f"{finding.status:<5}", _STYLES[finding.status]),
            f" {finding.name:<15} {output.plain(finding.message)}",
        )
    )
    if finding.hint:
        console.print(Text(f"      {'':<15} {output.plain(finding.hint)}", "bold"))
