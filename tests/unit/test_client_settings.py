"""Where the service is and who calls: what is taken, what is refused, and when the way is encrypted."""

from pathlib import Path
from typing import Any

import pytest
from tests.certificates import Authority

from decisiongraph_client import AsyncClient, Client, RetryPolicy, Tls, _events, _settings, errors
from decisiongraph_client._async.session import AsyncSession
from decisiongraph_client._sync.session import Session

HERE = _settings.Endpoint("localhost:1", None)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVER", "TLS_CA_FILE", "API_KEY", "TOKEN", "TENANT", "PRODUCER", "SYSTEM"):
        monkeypatch.delenv(f"DG_{name}", raising=False)


@pytest.mark.parametrize(
    ("server", "target", "encrypted"),
    [
        ("localhost:50051", "localhost:50051", False),
        ("LocalHost:50051", "LocalHost:50051", False),
        ("127.0.0.1:50051", "127.0.0.1:50051", False),
        ("127.9.9.9:50051", "127.9.9.9:50051", False),
        ("[::1]:50051", "[::1]:50051", False),
        ("decisions.internal:443", "decisions.internal:443", True),
        ("10.0.0.7:50051", "10.0.0.7:50051", True),
        ("0.0.0.0:50051", "0.0.0.0:50051", True),
        ("[2001:db8::1]:443", "[2001:db8::1]:443", True),
        ("localhost.example.com:443", "localhost.example.com:443", True),
        ("127.0.0.1.example.com:443", "127.0.0.1.example.com:443", True),
        ("https://localhost:50051", "localhost:50051", True),
        ("https://decisions.internal:443/", "decisions.internal:443", True),
        ("http://decisions.internal:80", "decisions.internal:80", False),
        ("HTTPS://decisions.internal:443", "decisions.internal:443", True),
    ],
)
def test_address_and_encryption(server: str, target: str, encrypted: bool) -> None:
    found = _settings.endpoint(server, None, {})
    assert (found.target, found.tls is not None) == (target, encrypted)


@pytest.mark.parametrize(
    "server",
    [
        "localhost",
        "localhost:",
        ":50051",
        "localhost:0",
        "localhost:65536",
        "localhost:\N{FULLWIDTH DIGIT FIVE}0051",
        "localhost:5e3",
        "::1:50051",
        "[::1:50051",
        "local host:50051",
        " localhost:50051 x",
        "user@localhost:50051",
        "decisions.internal:443/path",
        "decisions.internal:443?query",
        "ftp://decisions.internal:443",
        "http://https://decisions.internal:443",
        "dns:///decisions.internal:443",
        "unix:/tmp/socket",
    ],
)
def test_an_address_that_is_none_is_refused(server: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="address"):
        _settings.endpoint(server, None, {})


def test_the_address_comes_from_the_environment() -> None:
    assert _settings.endpoint(None, None, {"DG_SERVER": "here.internal:443"}).target == "here.internal:443"
    assert _settings.endpoint("there.internal:443", None, {"DG_SERVER": "here.internal:443"}).target == (
        "there.internal:443"
    )
    with pytest.raises(errors.ConfigurationError, match="DG_SERVER"):
        _settings.endpoint(None, None, {"DG_SERVER": ""})


def test_the_authority_comes_from_the_environment_when_there_is_encryption(tmp_path: Path) -> None:
    file, other = Authority(tmp_path, "authority").file, Authority(tmp_path, "other").file
    environment = {"DG_TLS_CA_FILE": str(file)}
    assert _settings.endpoint("a.internal:443", None, environment).tls == Tls(ca_file=file)
    assert _settings.endpoint("localhost:443", None, environment).tls is None
    assert _settings.endpoint("localhost:443", Tls(ca_file=other), environment).tls == Tls(ca_file=other)


def test_plain_text_and_encryption_together_are_refused() -> None:
    with pytest.raises(errors.ConfigurationError, match="plain text"):
        _settings.endpoint("http://localhost:1", Tls(), {})


def test_the_files_of_tls_are_looked_at_when_a_client_is_made(tmp_path: Path) -> None:
    pem = Authority(tmp_path, "authority").sign("client")
    Tls(cert_file=pem.cert, key_file=pem.key).credentials()
    with pytest.raises(errors.ConfigurationError, match="go together"):
        Client("a.internal:1", token="t", tls=Tls(cert_file=pem.cert))
    with pytest.raises(errors.ConfigurationError, match=r"missing\.pem cannot be read"):
        Client("a.internal:1", token="t", tls=Tls(ca_file=tmp_path / "missing.pem"))
    with pytest.raises(errors.ConfigurationError, match=r"missing\.pem cannot be read"):
        _settings.endpoint("a.internal:1", None, {"DG_TLS_CA_FILE": str(tmp_path / "missing.pem")})


def test_this_machine_is_not_reached_through_a_proxy() -> None:
    assert ("grpc.enable_http_proxy", 0) in _settings.endpoint("localhost:1", None, {}).options
    assert ("grpc.enable_http_proxy", 0) not in _settings.endpoint("a.internal:1", None, {}).options


def session(environment: dict[str, str] | None = None, **given: Any) -> Session:
    """A session of that environment; nothing is called."""
    arguments = {"api_key": None, "token": None, "tenant": None, "timeout": 1.0, "retries": RetryPolicy(), **given}
    return Session(HERE, environment=environment or {}, **arguments)


def test_who_calls_comes_from_the_environment() -> None:
    by_key = session({"DG_API_KEY": "key", "DG_TENANT": "acme"})
    assert (by_key._api_key, by_key._given, by_key.tenant) == ("key", None, "acme")
    by_token = session({"DG_API_KEY": "key", "DG_TOKEN": "token"})
    assert (by_token._api_key, by_token._given) == (None, "token")
    given = session({"DG_TOKEN": "token", "DG_TENANT": "acme"}, api_key="key", tenant="other")
    assert (given._api_key, given._given, given.tenant) == ("key", None, "other")


def test_a_line_break_behind_a_secret_does_no_harm() -> None:
    assert session(token="token\n")._given == "token"
    assert session({"DG_API_KEY": " key\n"})._api_key == "key"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "DG_API_KEY"),
        ({"api_key": ""}, "DG_API_KEY"),
        ({"token": " "}, "DG_API_KEY"),
        ({"api_key": "key", "token": "token"}, "not both"),
        ({"token": "to\nken"}, "token"),
        ({"token": "tökén"}, "token"),
        ({"token": "t", "tenant": "Größe"}, "tenant"),
        ({"token": "t", "tenant": "a\nb"}, "tenant"),
        ({"token": "t", "timeout": 0.0}, "timeout"),
        ({"token": "t", "timeout": -1.0}, "timeout"),
        ({"token": "t", "timeout": float("inf")}, "timeout"),
        ({"token": "t", "timeout": float("nan")}, "timeout"),
        ({"token": b"t"}, "text"),
    ],
    ids=str,
)
def test_a_caller_that_cannot_be_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=says):
        session(**given)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_clients_are_told_at_once(kind: type[Client] | type[AsyncClient]) -> None:
    with pytest.raises(errors.ConfigurationError, match="DG_SERVER"):
        kind()
    with pytest.raises(errors.ConfigurationError, match="DG_API_KEY"):
        kind("localhost:1")
    with pytest.raises(errors.ConfigurationError, match="reads"):
        kind("localhost:1", token="t", reads="own-writes")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_nothing_is_called_when_a_client_is_made(kind: type[Client] | type[AsyncClient]) -> None:
    made = kind("localhost:1", api_key="key")
    assert made._session._transport._channel is None


def test_the_producer_comes_from_the_environment() -> None:
    environment = {"DG_PRODUCER": "agent", "DG_SYSTEM": "desk"}
    found = _events.Origin.of(None, None, "part", None, environment).source()
    assert (found.producer_id, found.system, found.subsystem) == ("agent", "desk", "part")
    alone = _events.Origin.of("other", None, None, None, {}).source()
    assert (alone.producer_id, alone.system, alone.HasField("subsystem")) == ("other", "other", False)
    with pytest.raises(errors.ConfigurationError, match="DG_PRODUCER"):
        _events.Origin.of(None, None, None, None, {}).source()


@pytest.mark.parametrize("timeout", [float("inf"), float("nan")])
def test_no_call_is_made_without_an_end(timeout: float) -> None:
    with Client("localhost:1", token="t") as client, pytest.raises(errors.ConfigurationError, match="timeout"):
        client.get_event("e", timeout=timeout)


def test_a_function_must_return_a_token() -> None:
    for wrong, says in ((lambda: None, "text"), (lambda: "to\nken", "printable")):
        with Client("localhost:1", token=wrong) as client, pytest.raises(errors.ConfigurationError, match=says):  # type: ignore[arg-type]
            client.get_event("e")


def test_both_sessions_take_the_same() -> None:
    made = AsyncSession(HERE, api_key=None, token="t", tenant=None, timeout=1, retries=RetryPolicy(), environment={})
    assert made.timeout == 1
