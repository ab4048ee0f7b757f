"""The keys of other issuers: asked for off the event loop, within bounds, and never more often than agreed."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from decisiongraph_service.access import key_sets, key_sources
from decisiongraph_service.access.issuers import ExternalIssuer, IssuerSettings
from decisiongraph_service.access.key_sources import KeySetFile, KeySetUrl
from decisiongraph_service.access.keys import SigningKey
from decisiongraph_service.access.tokens import TokenVerifier
from decisiongraph_service.domain import errors

NOW = 1_800_000_000
ALGORITHMS = ("EdDSA",)
FIRST, SECOND = (SigningKey(Ed25519PrivateKey.generate()) for _ in range(2))


def key_set(*held: SigningKey) -> bytes:
    keys = [{"kty": "OKP", "crv": "Ed25519", "x": key.public_base64url, "kid": key.key_id} for key in held]
    return json.dumps({"keys": keys}).encode()


class Address:
    """What a fake fetcher answers, and how often and where it was asked."""

    def __init__(self, answer: bytes | ValueError) -> None:
        self.answer = answer
        self.asked = 0
        self.threads: set[int] = set()

    def __call__(self, url: str) -> bytes:
        self.asked += 1
        self.threads.add(threading.get_ident())
        if isinstance(self.answer, ValueError):
            raise self.answer
        return self.answer


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def following(
    address: Address,
    monkeypatch: pytest.MonkeyPatch,
    *,
    pause: float = 0.2,
    refresh: float = 60,
    clock: Clock | None = None,
) -> AsyncIterator[KeySetUrl]:
    monkeypatch.setattr(key_sources, "FETCH_PAUSE_SECONDS", pause)
    monkeypatch.setattr(key_sources, "REFRESH_SECONDS", refresh)
    source = KeySetUrl("https://x/keys", ALGORITHMS, fetch=address, monotonic=clock or Clock())
    await source.start()
    try:
        yield source
    finally:
        await source.stop()


async def until(reached: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not reached():  # noqa: ASYNC110 - what is waited for happens in other threads
            await asyncio.sleep(0.01)


def token(key: SigningKey, number: int = 0) -> str:
    claims = {"iss": "them", "aud": "here", "sub": f"a{number}", "exp": NOW + 60}
    return jwt.encode(claims, key.private, algorithm="EdDSA", headers={"kid": key.key_id})


def verifier(source: KeySetUrl | KeySetFile) -> TokenVerifier:
    settings = IssuerSettings(name="corp", issuer="them", audience="here", jwks_url="https://x/", algorithms=("EdDSA",))
    others = [ExternalIssuer(settings, source)]
    return TokenVerifier({}, issuer="us", audience="here", clock=lambda: NOW, others=others)


async def test_keys_are_fetched_at_the_start_in_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    address = Address(key_set(FIRST))
    async with following(address, monkeypatch) as source:
        assert source.find(FIRST.key_id) is not None
        assert threading.get_ident() not in address.threads
        await asyncio.sleep(0.3)
    assert address.asked == 1, "nothing new was wanted"


async def test_an_unknown_key_is_refused_and_asked_for_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    address = Address(key_set(FIRST))
    async with following(address, monkeypatch, pause=0.05) as source:
        checked = verifier(source)
        assert checked.verify(token(FIRST)).account_id == "corp:a0"
        address.answer = key_set(FIRST, SECOND)
        with pytest.raises(errors.Unauthenticated, match=r"corp is being asked; try again in"):
            checked.verify(token(SECOND))
        await until(lambda: address.asked == 2)
        await until(lambda: source.find(SECOND.key_id))
        assert checked.verify(token(SECOND)).account_id == "corp:a0"


async def test_a_flood_of_unknown_keys_does_not_ask_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    address = Address(key_set(FIRST))
    async with following(address, monkeypatch, pause=0.5) as source:
        checked = verifier(source)
        began = time.monotonic()
        number = 0
        while number <= 20 or time.monotonic() - began < 1.2:
            number += 1
            stranger = SigningKey(Ed25519PrivateKey.generate())
            with pytest.raises(errors.Unauthenticated):
                checked.verify(token(stranger, number))
            await asyncio.sleep(0.005)
        seconds = time.monotonic() - began
        assert address.asked <= 1 + seconds / 0.5
        assert address.asked >= 2


async def test_a_key_that_left_the_set_verifies_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    address = Address(key_set(FIRST, SECOND))
    async with following(address, monkeypatch) as source:
        checked = verifier(source)
        checked.verify(token(FIRST))
        address.answer = key_set(SECOND)
        await source.refresh()
        with pytest.raises(errors.Unauthenticated, match="not known here"):
            checked.verify(token(FIRST))
        assert checked.verify(token(SECOND)).account_id == "corp:a0"


async def test_keys_are_asked_for_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    address = Address(key_set(FIRST))
    async with following(address, monkeypatch, pause=0.05, refresh=0.1):
        await until(lambda: address.asked >= 3)


@pytest.mark.parametrize(
    "failure", [ValueError("no answer"), b"<html>", b'{"keys": 1}'], ids=["none", "html", "no list"]
)
async def test_while_the_address_fails_the_keys_are_kept_for_a_day(
    monkeypatch: pytest.MonkeyPatch, failure: bytes | ValueError
) -> None:
    address, clock = Address(key_set(FIRST)), Clock()
    async with following(address, monkeypatch, clock=clock) as source:
        address.answer = failure
        with structlog.testing.capture_logs() as logged:
            await source.refresh()
        assert [entry["event"] for entry in logged] == ["issuer_keys_unknown"]
        clock.now = key_sources.KEPT_SECONDS
        assert source.find(FIRST.key_id) is not None
        clock.now += 1
        assert source.find(FIRST.key_id) is None


async def test_an_address_that_fails_at_the_start_does_not_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    address = Address(ValueError("no answer"))
    async with following(address, monkeypatch, pause=0.05) as source:
        assert source.find(FIRST.key_id) is None
        address.answer = key_set(FIRST)
        await until(lambda: source.find(FIRST.key_id))


async def test_an_unforeseen_failure_does_not_end_the_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    address = Address(key_set(FIRST))
    async with following(address, monkeypatch, pause=0.05, refresh=0.1):
        address.answer = 5  # type: ignore[assignment]
        asked = address.asked
        await until(lambda: address.asked >= asked + 2)


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(FIRST))
    source = KeySetFile(path, ALGORITHMS)
    checked = verifier(source)
    checked.verify(token(FIRST))
    path.write_bytes(key_set(SECOND, FIRST))
    source.refresh()
    assert checked.verify(token(SECOND)).account_id == "corp:a0"
    path.write_bytes(b"{")
    with structlog.testing.capture_logs() as logged:
        source.refresh()
    assert [entry["event"] for entry in logged] == ["issuer_keys_ignored"]
    assert source.find(FIRST.key_id) is not None
    path.write_bytes(key_set(SECOND))
    source.refresh()
    with pytest.raises(errors.Unauthenticated, match="corp does not have"):
        checked.verify(token(FIRST))


async def test_a_file_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sources, "FILE_POLL_SECONDS", 0.02)
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(FIRST))
    source = KeySetFile(path, ALGORITHMS)
    await source.start()
    try:
        path.write_bytes(key_set(FIRST, SECOND))
        await until(lambda: source.find(SECOND.key_id))
    finally:
        await source.stop()


@pytest.mark.parametrize("content", [b"", b'{"keys": []}', b" " * 300_000], ids=["empty", "no keys", "oversized"])
def test_a_file_without_keys_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="key"):
        KeySetFile(path, ALGORITHMS)


class _Handler(BaseHTTPRequestHandler):
    """Answers by path: what the issuer's server may do wrong."""

    def do_GET(self) -> None:
        body = key_set(FIRST)
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("location", "/keys")
        else:
            self.send_response(500 if self.path == "/broken" else 200)
        if self.path == "/long":
            body = b" " * (key_sets.MAX_BYTES + 1)
        self.end_headers()
        with contextlib.suppress(OSError):
            if self.path == "/slow":
                for _ in range(100):
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    time.sleep(0.02)
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_document_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with serving() as address:
        assert key_sources.download(f"{address}/keys") == key_set(FIRST), "a proxy is not for this machine"


@pytest.mark.parametrize(
    ("path", "said"),
    [("broken", "HTTP 500"), ("elsewhere", "HTTP 302"), ("long", "longer than 262144 bytes"), ("slow", "takes longer")],
)
def test_a_bad_answer_is_refused(monkeypatch: pytest.MonkeyPatch, path: str, said: str) -> None:
    if path == "slow":
        monkeypatch.setattr(key_sources, "_TIMEOUT_SECONDS", 1.0)
    with serving() as address, pytest.raises(ValueError, match=said):
        key_sources.download(f"{address}/{path}")


def test_an_address_where_nobody_answers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no answer"):
        key_sources.download("http://127.0.0.1:9/keys")


def _own_certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "certificate.pem", folder / "key.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context


def test_the_certificate_of_the_address_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, context = _own_certificate(tmp_path)
    with serving(context) as address:
        with pytest.raises(ValueError, match="certificate verify failed"):
            key_sources.download(f"{address}/keys")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert key_sources.download(f"{address}/keys") == key_set(FIRST)
        with pytest.raises(ValueError, match="certificate"):
            key_sources.download(f"{address.replace('127.0.0.1', 'localhost')}/keys")
