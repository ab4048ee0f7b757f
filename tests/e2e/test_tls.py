"""TLS towards callers and between Envoy and server, with certificates that change while both run."""

import asyncio
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml
from tests.calling import AUDIENCE, ISSUER, Service, Tenant
from tests.certificates import Authority, Pem
from tests.own_ports import own_port

from decisiongraph.v1 import system_service_pb2, system_service_pb2_grpc
from decisiongraph_service.access import keys
from decisiongraph_service.runtime import children, config_template, edge_config, envoy
from decisiongraph_service.runtime.assets import asset
from decisiongraph_service.runtime.edge_config import Certificate, EdgeTls
from decisiongraph_service.runtime.gate import Gate
from decisiongraph_service.runtime.server_tls import ServerTls


@dataclass(frozen=True)
class Secured:
    """A server that wants client certificates, behind an Envoy with TLS on both sides."""

    rest: str
    grpc: str
    outer: Authority
    """Of what callers of Envoy are shown."""
    inner: Authority
    """Of server and clients."""
    client: Pem


@pytest.fixture(scope="module")
async def secured(service: Service, database_url: str) -> AsyncIterator[Secured]:
    folder = Path(tempfile.mkdtemp(prefix="decisiongraph-test-"))
    outer, inner = Authority(folder / "outer", "outer"), Authority(folder / "inner", "inner")
    edge, server, client = outer.sign("edge"), inner.sign("server"), inner.sign("client")
    grpc_port = own_port()
    rest_port = own_port()
    admin_port = own_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DG_")},
        "DG_DATABASE_URL": database_url,
        "DG_DATA_DIR": str(folder),
        "DG_TOKEN_KEY_FILE": str(service.folder / "token-key.pem"),
        "DG_GRPC_PORT": str(grpc_port),
        "DG_SHUTDOWN_GRACE_SECONDS": "1",
        "DG_ALLOW_UNSAFE_DATABASE": "true",
        "DG_TLS_CERT_FILE": str(server.cert),
        "DG_TLS_KEY_FILE": str(server.key),
        "DG_TLS_CLIENT_CA_FILE": str(inner.file),
    }
    files = edge_config.render(
        folder,
        listen=("127.0.0.1", rest_port),
        servers=[("127.0.0.1", grpc_port)],
        admin_port=admin_port,
        gate=Gate(ISSUER, AUDIENCE, own_port()),
        tls=EdgeTls(Certificate(edge.cert, edge.key), inner.file, Certificate(client.cert, client.key)),
    )
    for name, text in files.items():
        (folder / name).write_text(text)
    running = children.Children(folder / "logs", folder / "children.json")
    serve = (sys.executable, "-m", "decisiongraph_service.cli.main", "serve")
    made = Secured(f"https://127.0.0.1:{rest_port}", f"127.0.0.1:{grpc_port}", outer, inner, client)
    try:
        await running.start(children.ChildSpec("server", serve, env=environment))
        await running.start(children.ChildSpec("envoy", envoy.command(folder / edge_config.CONFIG, concurrency=1)))
        await running.during(_until(lambda: _alive(made, made.client)))
        await running.during(envoy.wait_ready(admin_port, timeout_seconds=20))
        yield made
    finally:
        await running.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def _until(look: Callable[[], Any], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await look():  # noqa: ASYNC110 - another process makes it so
            await asyncio.sleep(0.1)


async def _alive(secured: Secured, client: Pem | None) -> bool:
    """Whether the server answers a client with this certificate."""
    shown = () if client is None else (client.key.read_bytes(), client.cert.read_bytes())
    credentials = grpc.ssl_channel_credentials(secured.inner.file.read_bytes(), *shown)
    async with grpc.aio.secure_channel(secured.grpc, credentials) as channel:
        stub: Any = system_service_pb2_grpc.SystemServiceStub(channel)
        try:
            await stub.GetLiveness(system_service_pb2.GetLivenessRequest(), timeout=5)
        except grpc.aio.AioRpcError:
            return False
        return True


def _trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.file))


async def test_callers_reach_the_server_through_tls_on_both_sides(secured: Secured) -> None:
    async with httpx.AsyncClient(base_url=secured.rest, verify=_trusting(secured.outer), trust_env=False) as client:
        response = await client.get("/api/readyz")
    assert response.status_code == 200, response.text
    assert response.headers["strict-transport-security"].startswith("max-age=")


async def test_the_gate_stands_behind_tls(secured: Secured, service: Service, tenant: Tenant) -> None:
    async with httpx.AsyncClient(base_url=secured.rest, verify=_trusting(secured.outer), trust_env=False) as client:
        for token, status in (
            (tenant.tokens["reader"], 404),
            (service.token(tenant_ids=[tenant.tenant_id], roles=["reader"], audience="other"), 401),
            ("garbage", 401),
        ):
            response = await client.get("/api/v1/events/e", headers={"authorization": f"Bearer {token}"})
            assert response.status_code == status, response.text
            assert response.headers["strict-transport-security"].startswith("max-age=")


async def test_nobody_is_served_without_tls(secured: Secured) -> None:
    plain = secured.rest.replace("https", "http")
    async with httpx.AsyncClient(base_url=plain, trust_env=False) as client:
        with pytest.raises(httpx.HTTPError):
            await client.get("/api/healthz")
    async with grpc.aio.insecure_channel(secured.grpc) as channel:
        stub: Any = system_service_pb2_grpc.SystemServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GetLiveness(system_service_pb2.GetLivenessRequest(), timeout=3)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_versions_of_tls_are_refused(secured: Secured) -> None:
    context = _trusting(secured.outer)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with httpx.AsyncClient(base_url=secured.rest, verify=context, trust_env=False) as client:
        with pytest.raises(httpx.HTTPError):
            await client.get("/api/healthz")


async def test_the_server_takes_certificates_of_its_authority_only(secured: Secured) -> None:
    assert await _alive(secured, secured.client)
    assert not await _alive(secured, None)
    assert not await _alive(secured, secured.outer.sign("stranger"))


async def test_new_certificates_are_taken_without_a_restart(secured: Secured) -> None:
    before = await _shown(secured)
    secured.outer.sign("edge")
    secured.inner.sign("server")

    async def changed() -> bool:
        now = await _shown(secured)
        return now[0] != before[0] and now[1] != before[1]

    # Envoy hears of it when a file is moved into its place, as tools that renew certificates do it.
    for name in ("edge-cert.pem", "edge-key.pem"):
        file = secured.outer.file.parent / name
        moved = file.with_suffix(".new")
        moved.write_bytes(file.read_bytes())
        moved.replace(file)
    await _until(changed, 20)
    # Connections are shared among several listeners: each of them must have taken the new one.
    assert before[1] not in {(await _shown(secured))[1] for _ in range(40)}
    assert await _alive(secured, secured.client)
    async with httpx.AsyncClient(base_url=secured.rest, verify=_trusting(secured.outer), trust_env=False) as client:
        assert (await client.get("/api/readyz")).status_code == 200


async def _shown(secured: Secured) -> tuple[bytes, bytes]:
    """The certificates of Envoy and server, as they are shown to a new connection."""
    found = []
    for address in (secured.rest.removeprefix("https://"), secured.grpc):
        host, _, port = address.partition(":")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(secured.client.cert, secured.client.key)
        _, writer = await asyncio.open_connection(host, int(port), ssl=context)
        found.append(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        writer.close()
    return found[0], found[1]


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda pem, other: pem.cert.unlink(), "cannot be read"),
        (lambda pem, other: pem.cert.write_text("nothing"), "DG_TLS_CERT_FILE"),
        (lambda pem, other: pem.key.write_text("nothing"), "DG_TLS_KEY_FILE"),
        (lambda pem, other: pem.key.write_bytes(other.key.read_bytes()), "not that of the certificate"),
    ],
    ids=["missing", "no certificate", "no key", "another key"],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, break_it: Callable[[Pem, Pem], object], said: str) -> None:
    authority = Authority(tmp_path, "authority")
    pem = authority.sign("server")
    break_it(pem, authority.sign("other"))
    with pytest.raises(ValueError, match=said):
        ServerTls(pem.cert, pem.key, authority.file)


def test_half_written_files_leave_the_certificate_that_works(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    pem = authority.sign("server")
    changed = ServerTls(pem.cert, pem.key, None).follow()
    assert changed() is None
    pem.cert.write_text("half")
    assert changed() is None
    authority.sign("server")
    assert changed() is not None
    assert changed() is None


def test_every_port_is_told_of_a_new_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    pem = authority.sign("server")
    tls = ServerTls(pem.cert, pem.key, None)
    ports_of_it = [tls.follow() for _ in range(3)]
    authority.sign("server")
    assert all(changed() is not None for changed in ports_of_it)
    assert [changed() for changed in ports_of_it] == [None] * 3


def _envoy_config(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "decisiongraph_service.cli.main", "envoy-config", *arguments)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DG_")}
    return subprocess.run(
        command, env={**inherited, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def _issuers(folder: Path, **changes: object) -> Path:
    """A file with two issuers, one with its keys in a file and one with them at an address."""
    public = keys.load_or_create(folder / "key.pem").public_base64url
    (folder / "keys.json").write_text(json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": public, "kid": "a"}]}))
    entry = {"audience": "theirs", "algorithms": ["EdDSA"]}
    path = folder / "issuers.json"
    path.write_text(
        json.dumps(
            [
                {**entry, "name": "file", "issuer": "https://file", "jwks_file": "keys.json", **changes},
                {**entry, "name": "address", "issuer": "https://address", "jwks_url": "https://login.example.com/keys"},
            ]
        )
    )
    return path


def test_the_command_writes_what_envoy_takes(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certificates", "authority")
    pem = authority.sign("edge")
    shown = ("--cert", str(pem.cert), "--key", str(pem.key), "--server-ca", str(authority.file))
    client = ("--client-cert", str(pem.cert), "--client-key", str(pem.key))
    issuers = ("--issuers", str(_issuers(tmp_path)), "--token-issuer", "us", "--token-audience", "ours")
    ended = _envoy_config(
        *(str(tmp_path / "edge"), "--server", "10.0.0.1:50051", "--server", "db:50051", *shown, *client, *issuers),
        # The authorities of the system are not there on every machine.
        SSL_CERT_FILE=str(authority.file),
    )
    assert ended.returncode == 0, ended.stderr
    config = Path(ended.stdout.strip())
    assert str(asset("envoy")) not in config.read_text(), "the folder is not all that Envoy needs"
    checked = subprocess.run(
        (*envoy.command(config), "--mode", "validate"), capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_the_command_takes_issuers_from_the_settings_of_the_servers(tmp_path: Path) -> None:
    ended = _envoy_config(
        *(str(tmp_path), "--server", "a:1", "--keys-port", "7", "--token-audience", "option"),
        DG_TOKEN_ISSUER="setting",
        DG_TOKEN_AUDIENCE="setting",
        DG_EXTERNAL_ISSUERS=str(_issuers(tmp_path)),
    )
    assert ended.returncode == 0, ended.stderr
    config = yaml.safe_load(Path(ended.stdout.strip()).read_text())
    gate = config_template.http_filter(config_template.listener(config, "public"), "envoy.filters.http.jwt_authn")
    assert {name: (one["issuer"], one["audiences"]) for name, one in gate["providers"].items()} == {
        "decisiongraph": ("setting", ["option"]),
        "issuer-file": ("https://file", ["theirs"]),
        "issuer-address": ("https://address", ["theirs"]),
    }
    assert gate["providers"]["issuer-file"]["local_jwks"]["filename"] == str(tmp_path / "keys.json")
    assert config_template.listener(config, "keys")["address"]["socket_address"]["port_value"] == 7


def test_the_command_names_what_is_wrong_with_an_issuer(tmp_path: Path) -> None:
    path = _issuers(tmp_path, algorithms=["HS256"])
    for file, said in ((path, "[0].algorithms[0]"), (tmp_path / "none.json", "cannot be read")):
        ended = _envoy_config(str(tmp_path / "edge"), "--server", "a:1", "--issuers", str(file))
        assert ended.returncode == 1
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr
        assert not (tmp_path / "edge").exists()


def test_certificates_are_named_where_they_are_mounted(tmp_path: Path) -> None:
    """A mounted secret is a link into a folder that is replaced when the secret changes."""
    authority = Authority(tmp_path / "..2026_03_01", "authority")
    pem = authority.sign("edge")
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for file in (pem.cert, pem.key):
        (mounted / file.name).symlink_to(file)
    certificate = Certificate(mounted / pem.cert.name, mounted / pem.key.name)

    files = edge_config.render(
        tmp_path,
        listen=("127.0.0.1", 1),
        servers=[("db", 1)],
        admin_port=2,
        gate=Gate(ISSUER, AUDIENCE, 3),
        tls=EdgeTls(certificate),
    )

    secret = yaml.safe_load(files["listener-certificate.yaml"])["resources"][0]["tls_certificate"]
    assert secret["certificate_chain"]["filename"] == str(certificate.cert_file)
    assert secret["private_key"]["filename"] == str(certificate.key_file)
    assert secret["watched_directory"]["path"] == str(mounted)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--server", "nowhere"), "host:port"),
        (("--server", "x:1", "--keys-port", "9901"), "three different ports"),
        (("--server", "x:1", "--cert", __file__), "go together"),
        (("--server", "x:1", "--cert", "/no/such", "--key", "/no/such"), "is no file"),
        (("--server", "x:1", "--client-cert", __file__, "--client-key", __file__), "authority"),
    ],
)
def test_the_command_says_what_does_not_go_together(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    ended = _envoy_config(str(tmp_path / "edge"), *arguments)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "edge").exists()
