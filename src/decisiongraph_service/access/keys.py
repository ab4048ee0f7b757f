"""The Ed25519 keys that sign and verify tokens."""

import base64
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that makes tokens. Its public part verifies them."""

    private: Ed25519PrivateKey

    @property
    def public(self) -> Ed25519PublicKey:
        """The part that may be published."""
        return self.private.public_key()

    @property
    def public_base64url(self) -> str:
        """The public key's 32 bytes, as a JSON Web Key writes them."""
        raw = self.public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    @property
    def key_id(self) -> str:
        """The key's JWK thumbprint (RFC 7638): the `kid` of its tokens."""
        members = f'{{"crv":"Ed25519","kty":"OKP","x":"{self.public_base64url}"}}'
        return base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).decode().rstrip("=")


def load(path: Path) -> SigningKey:
    """Read a key from a PEM file.

    Raises:
        ValueError: the file is missing or holds no Ed25519 private key.
    """
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} holds no readable private key in PEM ({error})") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(  # noqa: TRY004 - it is the file's content that is wrong
            f"{path} holds a key that is not Ed25519; make one with `openssl genpkey -algorithm ed25519`"
        )
    return SigningKey(key)


def load_or_create(path: Path) -> SigningKey:
    """Read the key from a PEM file, or make one there that only the owner can read. Safe with several processes.

    Raises:
        ValueError: the file exists and holds no Ed25519 private key.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        handle, temporary = tempfile.mkstemp(dir=path.parent)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(pem)
            os.link(temporary, path)  # fails if another process was faster: its key is the one
        except FileExistsError:
            pass
        finally:
            Path(temporary).unlink()
    return load(path)
