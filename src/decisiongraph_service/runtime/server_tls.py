"""TLS of the gRPC server: its certificate and the authority of its clients', both read anew when they change."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_log = structlog.get_logger("decisiongraph.tls")
_NAMES: Final = ("DG_TLS_CERT_FILE", "DG_TLS_KEY_FILE", "DG_TLS_CLIENT_CA_FILE")


class ServerTls:
    """Certificate and key of the server, and whom it takes client certificates from."""

    def __init__(self, cert_file: Path, key_file: Path, client_ca_file: Path | None) -> None:
        """`client_ca_file`: clients must show a certificate that one of these authorities has signed; None: need not.

        Raises:
            ValueError: a file is missing or holds something else, or the key is not that of the certificate.
        """
        self._files = tuple(file for file in (cert_file, key_file, client_ca_file) if file is not None)
        self._client_ca = client_ca_file is not None
        contents = _read(self._files)
        self._held = _Held(contents, _configuration(contents))

    def credentials(self) -> grpc.ServerCredentials:
        """What a port of one server is opened with. Each new connection gets what the files hold by then."""
        follow = self.follow()
        return grpc.dynamic_ssl_server_credentials(
            self._held.configuration,
            follow,  # type: ignore[arg-type] # None is an answer too: nothing has changed
            require_client_authentication=self._client_ca,
        )

    def follow(self) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
        """What a port asks before each connection: with what to make it, or None: as those before.

        Every port needs one of its own, as each has to be told of a change.
        """
        given = self._held

        def changed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            now = self._read_anew()
            if now.contents == given.contents:
                return None
            given = now
            return now.configuration

        return changed

    def _read_anew(self) -> "_Held":
        """What the files hold; what they held before, if that cannot be used."""
        held = self._held
        try:
            contents = _read(self._files)
            if contents == held.contents:
                return held
            self._held = held = _Held(contents, _configuration(contents))
        except ValueError as error:
            # Half-written or wrong: the certificate that works goes on.
            _log.warning("tls_files_unusable", cause=str(error))
            return held
        _log.info("tls_files_read_anew")
        return held


@dataclass(frozen=True, slots=True)
class _Held:
    """What the files held when they were last usable."""

    contents: tuple[bytes, ...]
    configuration: grpc.ServerCertificateConfiguration


def _read(files: Sequence[Path]) -> tuple[bytes, ...]:
    try:
        return tuple(file.read_bytes() for file in files)
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read ({error.strerror})") from error


def _configuration(contents: Sequence[bytes]) -> grpc.ServerCertificateConfiguration:
    certificate, key, *authorities = contents
    _check(certificate, key, authorities)
    return grpc.ssl_server_certificate_configuration([(key, certificate)], authorities[0] if authorities else None)


def _check(certificate: bytes, key: bytes, authorities: Sequence[bytes]) -> None:
    """Say what is wrong with a file: the gRPC library would only let connections fail."""
    of_certificate = _read_as(_NAMES[0], lambda: _first(certificate).public_key())
    of_key = _read_as(_NAMES[1], lambda: load_pem_private_key(key, password=None).public_key())
    for authority in authorities:
        _read_as(_NAMES[2], partial(x509.load_pem_x509_certificates, authority))
    if of_certificate != of_key:
        raise ValueError(f"the key of {_NAMES[1]} is not that of the certificate of {_NAMES[0]}")


def _read_as(name: str, read: Callable[[], object]) -> object:
    try:
        return read()
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} does not hold what it should, in PEM ({error})") from error


def _first(chain: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificates(chain)[0]
