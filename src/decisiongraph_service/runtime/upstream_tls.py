"""TLS from Envoy to others: who they must be, and what they are shown."""

import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

TYPES: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"


_BUNDLES: Final = tuple(
    map(
        Path,
        (
            "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Envoy's image
            "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
            "/etc/ssl/ca-bundle.pem",  # openSUSE
            "/etc/ssl/cert.pem",  # macOS
        ),
    )
)


def authorities_of_system() -> Path:
    """The file with the authorities of the system: the first one that is here, or where Envoy's image has it."""
    return next((path for path in _BUNDLES if path.is_file()), _BUNDLES[0])


def authorities_of_environment() -> Path | None:
    """The file of authorities that SSL_CERT_FILE names; None: those of the system."""
    named = os.environ.get("SSL_CERT_FILE")
    return Path(named) if named else None


def transport_socket(
    host: str, authorities: Path | None, *, alpn: Sequence[str], shown: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The transport socket for a cluster whose certificates are for `host`.

    `authorities`: PEM file of those that may sign them, None for those of the system; `shown`: where Envoy gets the
    certificate that it shows, None for none.
    """
    is_name = not _is_address(host)
    context: dict[str, Any] = {
        "alpn_protocols": list(alpn),
        "validation_context": {
            # By its file: Envoy takes `system_root_certs` for no authority at all.
            "trusted_ca": {"filename": str(authorities_of_system() if authorities is None else authorities.resolve())},
            "match_typed_subject_alt_names": [
                {"san_type": "DNS" if is_name else "IP_ADDRESS", "matcher": {"exact": host}}
            ],
        },
    }
    if shown is not None:
        context["tls_certificate_sds_secret_configs"] = [shown]
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{TYPES}.UpstreamTlsContext",
            # RFC 6066, section 3: names only.
            **({"sni": host} if is_name else {}),
            "common_tls_context": context,
        },
    }


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
