"""What `decisiongraph doctor` says of what it sees."""

import base64
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.certificates import Authority
from tests.own_ports import own_port

from decisiongraph_client import Tls
from decisiongraph_client._settings import Endpoint
from decisiongraph_service.cli.checkup import clock, connection, database, identity, machine
from decisiongraph_service.cli.checkup.finding import Finding
from decisiongraph_service.runtime.settings import Settings

_DAY = 24 * 3600


def _token(**claims: Any) -> str:
    encoded = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{encoded}.c2ln"


# This machine


def test_a_python_that_is_too_old_is_told() -> None:
    assert machine.python((3, 10)).status == "fail"
    assert machine.python((3, 11)).status == "ok"


def test_space_becomes_scarce() -> None:
    free = (machine.LEAST_FREE_BYTES - 1, machine.LEAST_FREE_BYTES, machine.WANTED_FREE_BYTES)
    assert [machine.disk(one).status for one in free] == ["fail", "warn", "ok"]


def test_a_folder_that_is_not_there_yet_can_be_made_or_not(tmp_path: Path) -> None:
    assert next(finding.status for finding in machine.folder(tmp_path / "a" / "b")) == "ok"
    (tmp_path / "file").touch()
    assert next(finding.status for finding in machine.folder(tmp_path / "file" / "b")) == "warn"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"], "nothing is made"


def test_taken_ports_are_told_with_the_setting_that_changes_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        findings = list(machine.free_ports(Settings(rest_port=port, grpc_port=0)))
    assert [(one.name, one.status) for one in findings] == [(f"port {port}", "warn")]
    assert "DG_REST_PORT" in findings[0].hint


def test_a_run_is_known_by_its_lock(tmp_path: Path) -> None:
    import fcntl

    assert not machine.is_running(tmp_path)
    with (tmp_path / "lock").open("a+") as lock:
        assert not machine.is_running(tmp_path)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert machine.is_running(tmp_path)


# Clocks and database


@pytest.mark.parametrize(
    ("theirs", "status", "words"),
    [
        (100.0, "ok", ""),
        (96.0, "ok", ""),
        (106.9, "ok", ""),
        (110.0, "warn", "8 s ahead"),
        (40.0, "warn", "60 s behind"),
    ],
)
def test_a_clock_may_differ_by_the_leeway_of_tokens(theirs: float, status: str, words: str) -> None:
    found = clock.compare("clock", theirs, 100.0, 102.0)
    assert found.status == status
    assert words in found.message


def test_an_old_postgres_and_a_forgetful_one_are_told() -> None:
    assert [database.version(major).status for major in (14, 15)] == ["fail", "ok"]
    assert database.durability([]).status == "ok"
    forgetful = database.durability(["fsync = off"])
    assert (forgetful.status, "fsync = off" in forgetful.message) == ("warn", True)


# Who calls


@pytest.mark.parametrize(
    ("claims", "status", "words"),
    [
        ({"sub": "me", "exp": 1_000 + _DAY}, "ok", "me, valid until"),
        ({"exp": 1_000}, "fail", "expired"),
        ({"exp": 1_300}, "warn", "expires at"),
        ({"exp": 1_000 + _DAY, "nbf": 1_100}, "fail", "another 100 s"),
        ({"exp": "tomorrow"}, "fail", "how long"),
        ({}, "fail", "how long"),
    ],
)
def test_a_token_is_valid_for_a_while(claims: dict[str, Any], status: str, words: str) -> None:
    found = identity.validity(identity.claims_of(_token(**claims)), now=1_000)
    assert found.status == status
    assert words in found.message


@pytest.mark.parametrize("text", ["", "abc", "a.b.c", "Bearer e30.e30.e30x", "..", "a.W10.c", "a.\udcff.c"])
def test_what_is_no_token_is_told_without_repeating_it(text: str) -> None:
    found = identity.validity(identity.claims_of(text), now=0)
    assert found.status == "fail"
    assert "abc" not in found.message


def test_roles_that_are_granted_and_lacking_are_told() -> None:
    assert identity.roles({"roles": ["reader"]}).message == "reader; not writer, admin"
    assert identity.roles({"roles": ["admin", "writer", "reader"]}).message == "admin, writer, reader"
    assert identity.roles({"roles": []}).status == "fail"
    assert identity.roles({"groups": ["x"]}).status == "warn"


@pytest.mark.parametrize(
    ("allowed", "wanted", "status"),
    [
        (["a"], None, "ok"),
        (["a", "b"], None, "fail"),
        (["a", "b"], "b", "ok"),
        (["a"], "c", "fail"),
        ([], None, "fail"),
        (None, "c", "ok"),
    ],
)
def test_the_tenant_must_be_one_of_the_token(allowed: list[str] | None, wanted: str | None, status: str) -> None:
    assert identity.tenant({} if allowed is None else {"tenants": allowed}, wanted).status == status


def test_a_token_that_was_just_issued_tells_the_time_of_the_service() -> None:
    assert identity.issued({"iat": 99}, 99.9, 100.4).status == "ok"
    assert identity.issued({"iat": 100}, 99.9, 100.4).status == "ok"
    assert "20 s ahead" in identity.issued({"iat": 120}, 99.9, 100.4).message
    assert "behind" in identity.issued({"iat": 80}, 99.9, 100.4).message


# The way to the service


@contextmanager
def _greeted(context: ssl.SSLContext | None) -> Iterator[int]:
    """A port that takes connections, and greets by TLS if it is given a context."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closing = threading.Event()

        def serve() -> None:
            while not closing.is_set():
                connected, _ = listener.accept()
                with connected:
                    try:
                        if context is not None:
                            context.wrap_socket(connected, server_side=True).close()
                        else:
                            connected.recv(100)
                            connected.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    except OSError:
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        try:
            yield port
        finally:
            closing.set()
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()


def _encrypted(tmp_path: Path) -> tuple[Authority, ssl.SSLContext]:
    authority = Authority(tmp_path, "authority")
    pem = authority.sign("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem.cert, pem.key)
    return authority, context


def _look(port: int, ca_file: Path | None) -> Finding:
    return connection.tls(Endpoint(f"127.0.0.1:{port}", Tls(ca_file=ca_file)), "127.0.0.1", port)


def test_a_trusted_certificate_is_taken_and_a_foreign_one_is_not(tmp_path: Path) -> None:
    authority, context = _encrypted(tmp_path)
    foreign = Authority(tmp_path / "foreign", "foreign")
    with _greeted(context) as port:
        # The certificates of tests are valid for a day.
        assert _look(port, authority.file).status == "warn"
        refused = _look(port, foreign.file)
        assert connection.speaks_tls("127.0.0.1", port)
    assert (refused.status, "DG_TLS_CA_FILE" in refused.hint) == ("fail", True)
    assert _look(port, tmp_path / "missing.pem").status == "fail"


def test_a_port_without_tls_is_told() -> None:
    with _greeted(None) as port:
        found = _look(port, None)
        assert not connection.speaks_tls("127.0.0.1", port)
    assert (found.status, "http://" in found.hint) == ("fail", True)


def test_a_certificate_that_expires_soon_is_told() -> None:
    certificate = {"notAfter": "Jan 31 00:00:00 2026 GMT"}
    at = ssl.cert_time_to_seconds("Jan 31 00:00:00 2026 GMT")
    assert connection.expiry(certificate, now=at - 15 * _DAY).status == "ok"
    soon = connection.expiry(certificate, now=at - 13 * _DAY)
    assert (soon.status, "2026-01-31" in soon.message) == ("warn", True)


def test_a_place_where_nothing_listens_is_told() -> None:
    assert connection.reach("127.0.0.1", own_port()).status == "fail"
    assert connection.reach("no-such-host.invalid", 1).status == "fail"
