"""Where the service is, and who calls: what a client is told, completed from the environment."""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import grpc.experimental

from decisiongraph_client.errors import ConfigurationError

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
_VERSION_OPTION: Final = "decisiongraph-python"

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.primary_user_agent", _VERSION_OPTION),
    # Streams are read on the thread that asks for it: one of the library's own would be in the way of forks.
    (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1),
    # A forked child must not be given a connection of its parent's, which channels share unless told otherwise.
    ("grpc.use_local_subchannel_pool", 1),
    # A connection that swallows everything is noticed within 40 seconds of a call: the library asks for a sign of life
    # and waits this long for it. The last of these holds for the questions that it asks for reasons of its own.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    # After an outage the service is tried again soon, not after two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # In spite of its name: how long a connection may take until it stands. Far away it takes several round trips.
    ("grpc.min_reconnect_backoff_ms", 5_000),
)

# A name or an IPv4 address, or an IPv6 address in brackets.
_HOST_AND_PORT: Final = re.compile(r"([\w.-]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tls:
    """How the service is known, and how the client shows who it is."""

    ca_file: Path | None = None
    """Authorities of the service's certificate, PEM. None: those of the gRPC library."""
    cert_file: Path | None = None
    """Certificate chain that the client shows, PEM. Goes with `key_file`."""
    key_file: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel.

        Raises:
            ConfigurationError: a file cannot be read, or one of a pair is missing.
        """
        return grpc.ssl_channel_credentials(*self.contents())

    def contents(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Authorities, key and certificate.

        Raises:
            ConfigurationError: a file cannot be read, or one of a pair is missing.
        """
        if (self.cert_file is None) != (self.key_file is None):
            raise ConfigurationError("Tls: cert_file and key_file go together; set both, or neither")
        try:
            return _content(self.ca_file), _content(self.key_file), _content(self.cert_file)
        except OSError as error:
            raise ConfigurationError(f"Tls: {error.filename} cannot be read: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a service, and whether the way there is encrypted."""

    target: str
    tls: Tls | None
    """None: plain text."""

    @property
    def options(self) -> list[tuple[str, int | str]]:
        """Options of a channel to it."""
        proxy: list[tuple[str, int | str]] = [("grpc.enable_http_proxy", 0)] if is_loopback(self.target) else []
        return [*_OPTIONS, *proxy]


def endpoint(server: str | None, tls: Tls | None, environment: Mapping[str, str] = os.environ) -> Endpoint:
    """Where the service is.

    Args:
        server: `host:port`, `https://host:port` or `http://host:port`. Without a scheme: TLS, but for this machine
            (loopback) plain text. None: `DG_SERVER`.
        tls: How the service is known; asks for TLS whatever the address says. None: by the address.
        environment: Where `DG_SERVER` and `DG_TLS_CA_FILE` are looked up.

    Raises:
        ConfigurationError: no address, one that cannot be understood, or a file of TLS that cannot be read.
    """
    address = server or environment.get("DG_SERVER", "")
    if not address:
        raise ConfigurationError("name the service: Client('host:port') or the variable DG_SERVER")
    scheme, separator, target = address.rpartition("://")
    scheme, target = scheme.lower(), target.rstrip("/")
    if separator and scheme not in ("http", "https"):
        raise ConfigurationError(f"the address {address!r} must be host:port, http://host:port or https://host:port")
    parts = _HOST_AND_PORT.fullmatch(target)
    if parts is None or not 0 < int(parts[2]) < 65_536:
        raise ConfigurationError(
            f"the address {address!r} must name host and port, e.g. decisions.internal:443 or [2001:db8::1]:443"
        )
    if tls is None and (scheme == "https" or (not separator and not is_loopback(target))):
        ca_file = environment.get("DG_TLS_CA_FILE")
        tls = Tls(ca_file=Path(ca_file) if ca_file else None)
    if tls is not None and scheme == "http":
        raise ConfigurationError(f"the address {address!r} says plain text, and tls asks for encryption; leave one out")
    if tls is not None:
        # Read again for each channel: certificates are replaced.
        tls.contents()
    return Endpoint(target, tls)


def _content(file: Path | None) -> bytes | None:
    return None if file is None else Path(file).read_bytes()


def is_loopback(target: str) -> bool:
    """Whether `host:port` is on this machine."""
    host = target.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
