"""The keys of tokens that the settings name."""

import time

from decisiongraph_service.access import keys
from decisiongraph_service.access.key_ring import KeyRing
from decisiongraph_service.runtime.settings import Settings


def token_keys(settings: Settings) -> KeyRing:
    """The keys that sign and verify tokens; in the development profile one is made on first use if none is configured.

    Raises:
        ValueError: none is configured in the production profile, or a file is missing or holds no Ed25519 key.
    """
    first = None
    if settings.token_key_file is not None:
        first = keys.load(settings.token_key_file)
    elif settings.token_keys_dir is None:
        if settings.profile == "production":
            raise ValueError(
                "neither DG_TOKEN_KEYS_DIR nor DG_TOKEN_KEY_FILE is set; in the production profile keys are not made "
                "by themselves"
            )
        first = keys.load_or_create(settings.data_dir / "token-key.pem")
    return KeyRing(
        settings.token_keys_dir, first=first, grace_seconds=settings.token_key_grace_seconds, clock=time.time
    )
