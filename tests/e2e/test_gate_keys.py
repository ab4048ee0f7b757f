"""Envoy's gate gets the keys that it verifies tokens with: from the servers, and from other issuers."""

import asyncio
import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest
from tests.another_server import another_server, callers_of
from tests.appending import started
from tests.bad_tokens import BAD_TOKENS
from tests.calling import BOTH_WAYS, Answer, Callers, Service, rest_answer
from tests.certificates import Authority
from tests.conftest import envoy_config
from tests.key_server import key_server, token_of
from tests.own_ports import own_port

from decisiongraph_service.runtime import children, envoy


async def get_event(behind: Callers, way: str, headers: Mapping[str, str]) -> Answer:
    """Call with these headers."""
    return await (behind.by_rest if way == "rest" else behind.by_grpc)("GetEvent", {"event_id": "e"}, headers)


class Switch:
    """A port that leads to the server when it is on, and where nobody listens when it is off."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.partition(":")
        self._port = int(port)
        self.port = own_port()
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def on(self) -> None:
        self._listener = await asyncio.start_server(self._join, "127.0.0.1", self.port)

    async def off(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        other_reader, other_writer = await asyncio.open_connection(self._host, self._port)
        try:
            await asyncio.gather(_copy(reader, other_writer), _copy(other_reader, writer))
        except (asyncio.CancelledError, OSError):
            pass
        finally:
            for one in (writer, other_writer):
                one.close()
            self._open.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def envoy_for(callers: Callers, grpc_port: int) -> AsyncIterator[Callers]:
    """Both ways through one more Envoy, in front of what listens on this port."""
    rest = own_port()
    admin = own_port()
    with tempfile.TemporaryDirectory(prefix="decisiongraph-test-") as name:
        folder = Path(name)
        config = folder / "envoy.yaml"
        config.write_text(envoy_config(rest, grpc_port, admin))
        running = children.Children(folder / "logs", folder / "children.json")
        try:
            await running.start(children.ChildSpec("envoy", envoy.command(config, concurrency=1)))
            await running.during(envoy.wait_ready(admin, timeout_seconds=20))
            async with (
                grpc.aio.insecure_channel(f"127.0.0.1:{rest}") as channel,
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{rest}", timeout=30, trust_env=False) as client,
            ):
                yield Callers(callers.tenant, channel, client)
        finally:
            await running.stop()


def assert_unavailable(answer: Answer) -> None:
    assert (answer.code, answer.reason, answer.category) == (14, "STORAGE_UNAVAILABLE", "storage"), answer.body
    assert answer.detail("RetryInfo")["retry_delay"] == "1s"
    assert answer.metadata["retry-after"] == "1"
    assert answer.http_status in (None, 503)


async def test_until_keys_are_known_nobody_passes_and_then_who_has_a_token(service: Service, callers: Callers) -> None:
    switch = Switch(service.grpc)
    async with envoy_for(callers, switch.port) as behind:
        good = {"authorization": f"Bearer {callers.tenant.tokens['reader']}"}
        # Nobody can tell whether these are good.
        forged = {"authorization": f"Bearer {BAD_TOKENS['tampered claims'](service)}"}
        for way in BOTH_WAYS:
            for headers in (good, forged):
                assert_unavailable(await get_event(behind, way, headers))
            # These are not, whoever signed them.
            for fault in ("expired", "wrong audience", "wrong issuer"):
                answer = await get_event(behind, way, {"authorization": f"Bearer {BAD_TOKENS[fault](service)}"})
                assert answer.reason == "UNAUTHENTICATED", answer.body
            assert (await get_event(behind, way, {})).reason == "UNAUTHENTICATED"
        await switch.on()
        async with asyncio.timeout(20):
            # Another process makes it so.
            while (await get_event(behind, "rest", good)).reason == "STORAGE_UNAVAILABLE":  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        for way in BOTH_WAYS:
            assert (await get_event(behind, way, good)).reason == "NOT_FOUND"
            assert (await get_event(behind, way, forged)).reason == "UNAUTHENTICATED"
        # The keys are kept when the servers go: bad tokens are told apart from a service that is away.
        await switch.off()
        for path in ("/api/v1/events/e", "/api/v1/events:watch"):
            away = rest_answer(await behind.client.get(path, headers=good))
            assert_unavailable(away)
            assert "reached" in away.body["message"], "the router said it, not the gate"
        written = {"authorization": f"Bearer {callers.tenant.tokens['writer']}"}
        assert_unavailable(rest_answer(await behind.client.post("/api/v1/events", json=started(), headers=written)))
        assert (await get_event(behind, "rest", forged)).reason == "UNAUTHENTICATED"


_CORP: Final[dict[str, Any]] = {
    "name": "corp",
    "issuer": "https://login.example.com/",
    "audience": "decisions",
    "algorithms": ["RS256", "ES256"],
}


def corp_token(callers: Callers, algorithm: str = "RS256", **claims: Any) -> str:
    granted = {"tenants": [callers.tenant.tenant_id], "roles": ["reader"], **claims}
    return token_of(algorithm, issuer=_CORP["issuer"], audience=_CORP["audience"], **granted)


@contextlib.asynccontextmanager
async def trusting(
    service: Service, database_url: str, callers: Callers, folder: Path, *issuers: Mapping[str, Any]
) -> AsyncIterator[Callers]:
    """Both ways through Envoy to one more server; both trust these issuers."""
    path = folder / "issuers.json"
    path.write_text(json.dumps(issuers))
    async with (
        another_server(service, database_url, DG_EXTERNAL_ISSUERS=str(path)) as server,
        callers_of(server, callers.tenant) as both,
        grpc.aio.insecure_channel(server.rest.removeprefix("http://")) as channel,
    ):
        yield Callers(both.tenant, channel, both.client)


@pytest.mark.parametrize("tls", [True, False], ids=["https", "http on this machine"])
async def test_keys_of_another_issuer_are_fetched_from_its_address(
    service: Service,
    database_url: str,
    callers: Callers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    tls: bool,
) -> None:
    authority = Authority(tmp_path, "authority")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with key_server(authority.sign("login") if tls else None) as address:
        issuer = {**_CORP, "jwks_url": address}
        async with trusting(service, database_url, callers, tmp_path, issuer) as behind:
            for way in BOTH_WAYS:
                for algorithm in ("RS256", "ES256"):
                    token = corp_token(callers, algorithm)
                    answer = await get_event(behind, way, {"authorization": f"Bearer {token}"})
                    assert answer.reason == "NOT_FOUND", answer.body
                own = {"authorization": f"Bearer {callers.tenant.tokens['reader']}"}
                assert (await get_event(behind, way, own)).reason == "NOT_FOUND"
                for token, said in (
                    (corp_token(callers, exp=int(time.time()) - 60), "has expired"),
                    (corp_token(callers, aud="decisiongraph"), "(`aud`)"),
                    (corp_token(callers, iss="https://login.example.com"), "not made by an issuer"),
                    (BAD_TOKENS["expired"](service), "has expired"),
                    (BAD_TOKENS["unknown key id"](service), "not ours"),
                ):
                    answer = await get_event(behind, way, {"authorization": f"Bearer {token}"})
                    assert answer.reason == "UNAUTHENTICATED"
                    assert said in answer.body["message"]


def test_envoy_takes_the_authorities_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    issuers, config = tmp_path / "issuers.json", tmp_path / "envoy.yaml"
    issuers.write_text(json.dumps([{**_CORP, "jwks_url": "https://login.example.com/keys"}]))
    config.write_text(envoy_config(1, 2, 3, external_issuers=issuers))
    checked = subprocess.run(
        [*envoy.command(config), "--mode", "validate"], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stderr


async def test_an_address_with_a_certificate_of_a_stranger_gives_no_keys(
    service: Service, database_url: str, callers: Callers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted, stranger = Authority(tmp_path, "trusted"), Authority(tmp_path, "stranger")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted.file))
    with key_server(stranger.sign("login")) as address:
        issuer = {**_CORP, "jwks_url": address}
        async with trusting(service, database_url, callers, tmp_path, issuer) as behind:
            for way in BOTH_WAYS:
                theirs = await get_event(behind, way, {"authorization": f"Bearer {corp_token(callers)}"})
                assert_unavailable(theirs)
                ours = {"authorization": f"Bearer {callers.tenant.tokens['reader']}"}
                assert (await get_event(behind, way, ours)).reason == "NOT_FOUND", "one issuer does not stop another"


async def test_an_issuer_beside_another_that_cannot_be_reached(
    service: Service, database_url: str, callers: Callers, tmp_path: Path
) -> None:
    closed = {**_CORP, "name": "away", "issuer": "https://away.example.com/"}
    closed["jwks_url"] = f"http://127.0.0.1:{own_port()}/keys"
    with key_server() as address:
        issuers = (closed, {**_CORP, "jwks_url": address})
        async with trusting(service, database_url, callers, tmp_path, *issuers) as behind:
            for way in BOTH_WAYS:
                theirs = await get_event(behind, way, {"authorization": f"Bearer {corp_token(callers)}"})
                assert theirs.reason == "NOT_FOUND", theirs.body
                token = corp_token(callers, iss=closed["issuer"])
                assert_unavailable(await get_event(behind, way, {"authorization": f"Bearer {token}"}))
