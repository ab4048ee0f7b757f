"""The way to the service: its address, the connection, TLS, and whether it is ready."""

import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from decisiongraph_service.cli.checkup.finding import Finding, fail, ok, warn

if TYPE_CHECKING:
    from decisiongraph_client import Client
    from decisiongraph_client._settings import Endpoint

_SECONDS: Final = 5.0
_EXPIRES_SOON_SECONDS: Final = 14 * 24 * 3600


def look(endpoint: "Endpoint", client: "Client") -> Iterator[Finding]:
    """Everything, one after another; ends at what makes the rest impossible."""
    from decisiongraph_client import errors

    host, _, port = endpoint.target.rpartition(":")
    reached = reach(host.strip("[]"), int(port))
    yield reached
    if reached.status == "fail":
        return
    if endpoint.tls is not None:
        encrypted = tls(endpoint, host.strip("[]"), int(port))
        yield encrypted
        if encrypted.status == "fail":
            return
    try:
        version = client.get_liveness().version
        client.get_readiness()
    except errors.ServiceError as error:
        if endpoint.tls is None and speaks_tls(host.strip("[]"), int(port)):
            yield fail("service", "it speaks TLS, and was called without", "write https:// before its address")
        else:
            yield fail("service", f"not ready: {error.code.name}: {error.message}", "look at the log of the server")
        return
    yield ok("service", f"ready, version {version}")


def reach(host: str, port: int) -> Finding:
    """Whether something listens there."""
    name = "connection"
    try:
        socket.create_connection((host, port), timeout=_SECONDS).close()
    except socket.gaierror as error:
        return fail(name, f"{host}: {error.strerror}", "mend the name in DG_SERVER, or the name service")
    except TimeoutError:
        return fail(name, f"{host}:{port} does not answer", "a firewall in between? is the machine up?")
    except OSError as error:
        return fail(name, f"{host}:{port}: {error.strerror}", "start the service there, or mend the port in DG_SERVER")
    return ok(name, f"{host}:{port} takes connections")


def tls(endpoint: "Endpoint", host: str, port: int) -> Finding:
    """Whether the service shows a certificate that the client takes."""
    name, options = "tls", endpoint.tls
    try:
        context = ssl.create_default_context(cafile=options.ca_file if options is not None else None)
        if options is not None and options.cert_file is not None:
            context.load_cert_chain(options.cert_file, options.key_file)
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection((host, port), timeout=_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as encrypted,
        ):
            return expiry(encrypted.getpeercert() or {}, now=time.time())
    except ssl.SSLCertVerificationError as error:
        hint = "set DG_TLS_CA_FILE to the authority that signed it, or use the name that it is made for"
        return fail(name, f"its certificate is not trusted: {error.verify_message}", hint)
    except ssl.SSLError as error:
        if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return fail(name, "it speaks no TLS", "write http:// before its address, if the network is yours alone")
        return fail(name, f"no TLS: {error.reason}", "does it ask for a certificate of the client?")
    except OSError as error:
        return fail(
            name, f"no TLS: {error.strerror or error}", "does DG_TLS_CA_FILE exist? is the service still there?"
        )


def expiry(certificate: dict[str, Any], *, now: float) -> Finding:
    """How long a trusted certificate is still valid."""
    until = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    day = datetime.fromtimestamp(until, UTC).date()
    if until - now < _EXPIRES_SOON_SECONDS:
        return warn("tls", f"the certificate expires on {day}", "put a new one in its place")
    return ok("tls", f"the certificate is trusted and valid until {day}")


def speaks_tls(host: str, port: int) -> bool:
    """Whether the other end answers a TLS greeting, whoever it says it is."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return True
    except OSError:
        return False
