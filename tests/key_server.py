"""An issuer that publishes its keys at an address, and signs tokens with one of them."""

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.certificates import Pem

_RSA: Final = rsa.generate_private_key(65537, 2048)
_EC: Final = ec.generate_private_key(ec.SECP256R1())
_PUBLISHED: Final = {
    "keys": [
        # Issuers publish more than this service takes; none of it may spoil the rest.
        {"kty": "OKP", "crv": "X25519", "kid": "exchange", "x": "A" * 43},
        {**RSAAlgorithm.to_jwk(_RSA.public_key(), as_dict=True), "kid": "RS256", "use": "sig"},
        {**ECAlgorithm.to_jwk(_EC.public_key(), as_dict=True), "kid": "ES256", "alg": "ES256"},
    ]
}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/realm/keys?v=1"
        body = json.dumps(_PUBLISHED).encode() if found else b""
        self.send_response(200 if found else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - named by the library
        pass


@contextlib.contextmanager
def key_server(pem: Pem | None = None) -> Iterator[str]:
    """Publish the keys; yields their address. `pem`: the certificate that is shown, None for no TLS."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    if pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem.cert, pem.key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"{'http' if pem is None else 'https'}://localhost:{server.server_port}/realm/keys?v=1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def token_of(algorithm: str, *, issuer: str, audience: str, **claims: Any) -> str:
    """A token of that issuer, signed with its key for `RS256` or `ES256`."""
    content = {"iss": issuer, "aud": audience, "sub": "alice", "exp": int(time.time()) + 300, **claims}
    return jwt.encode(content, _RSA if algorithm == "RS256" else _EC, algorithm=algorithm, headers={"kid": algorithm})
