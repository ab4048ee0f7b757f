"""The Ed25519 keys that sign and verify tokens, and their PEM files."""

import base64
import contextlib
import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_MAX_FILE_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key that verifies tokens and makes none."""

    public: Ed25519PublicKey

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


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that makes tokens. Its public part verifies them."""

    private: Ed25519PrivateKey

    @property
    def verifying(self) -> VerifyingKey:
        """The same key without the part that signs."""
        return VerifyingKey(self.public)

    @property
    def public(self) -> Ed25519PublicKey:
        """The part that may be published."""
        return self.private.public_key()

    @property
    def public_base64url(self) -> str:
        """The public key's 32 bytes, as a JSON Web Key writes them."""
        return self.verifying.public_base64url

    @property
    def key_id(self) -> str:
        """The key's JWK thumbprint (RFC 7638): the `kid` of its tokens."""
        return self.verifying.key_id


def load(path: Path) -> SigningKey:
    """Read a key from a PEM file.

    Raises:
        ValueError: the file is missing or holds no Ed25519 private key.
    """
    try:
        return _private(path.read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} holds no private key that signs tokens: {error}") from error


def load_either(path: Path) -> SigningKey | VerifyingKey:
    """Read a private or a public key (SubjectPublicKeyInfo) from a PEM file of at most 16,384 bytes.

    Raises:
        ValueError: the file is missing or holds no Ed25519 key.
    """
    try:
        pem = _bounded(path)
        return _private(pem) if b"PRIVATE KEY" in pem else _public(pem)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} holds no key that signs or verifies tokens: {error}") from error


def load_or_create(path: Path) -> SigningKey:
    """Read the key from a PEM file, or make one there that only the owner can read. Safe with several processes.

    Raises:
        ValueError: the file exists and holds no Ed25519 private key.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # another process was faster: its key is the one
            create(path)
    return load(path)


def create(path: Path) -> SigningKey:
    """Make a key and its PEM file, mode 0600. The file appears at once and whole.

    Raises:
        FileExistsError: there is such a file; it is left as it is.
        OSError: the folder cannot be written to.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    temporary = _written_beside(path, pem)
    try:
        os.link(temporary, path)
    finally:
        temporary.unlink()
    return SigningKey(key)


def replace_by_public(path: Path, key: SigningKey) -> None:
    """Put the key's public part, in PEM, mode 0600, in the place of the file that held the whole key.

    Raises:
        OSError: the folder cannot be written to; the file is left as it is.
    """
    pem = key.public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    temporary = _written_beside(path, pem)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise


def _bounded(path: Path) -> bytes:
    found = path.stat()
    # Before it is opened: opening a pipe would wait for somebody to write to it.
    if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_FILE_BYTES:
        raise ValueError(f"it is no file of at most {_MAX_FILE_BYTES} bytes")
    return path.read_bytes()


def _private(pem: bytes) -> SigningKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("it is not Ed25519; make one with `openssl genpkey -algorithm ed25519`")  # noqa: TRY004
    return SigningKey(key)


def _public(pem: bytes) -> VerifyingKey:
    key = serialization.load_pem_public_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("it is not Ed25519")  # noqa: TRY004
    return VerifyingKey(key)


def _written_beside(path: Path, content: bytes) -> Path:
    handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(handle)
    except OSError:
        Path(name).unlink()
        raise
    return Path(name)
