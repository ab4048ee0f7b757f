"""The request id: taken from the caller if it is sane, made otherwise; echoed, logged, and in error details."""

import re
import secrets
from typing import Final

HEADER: Final = "x-request-id"

_SANE: Final = re.compile(r"[\x21-\x7e]{1,128}")


def choose(sent: str | bytes | None) -> str:
    """The id for a call: `sent`, if it is 1 to 128 visible ASCII characters, or a new one."""
    if isinstance(sent, str) and _SANE.fullmatch(sent):
        return sent
    return secrets.token_hex(16)
