"""The digest of a stored event: covers every column, so that one that was changed by hand is found out.

It lies beside the columns in the log and is no part of the contract.
"""

import hashlib

from decisiongraph_service.domain import canonical
from decisiongraph_service.domain.events import StoredEvent


def digest(stored: StoredEvent, occurred_at_micros: int) -> bytes:
    """32 bytes, SHA-256 over the canonical JSON array of all columns."""
    return hashlib.sha256(
        canonical.canonical_json(
            [
                stored.tenant_id,
                stored.log_seq,
                stored.event_id,
                stored.trace_id,
                stored.trace_seq,
                stored.event_type,
                stored.occurred_at,
                occurred_at_micros,
                stored.source.producer_id,
                stored.source.system,
                stored.source.subsystem,
                stored.actor.actor_type,
                stored.actor.actor_id,
                stored.idempotency_key,
                # Covers the payload itself, which is checked against it.
                stored.payload_hash,
                stored.correlation_id,
                stored.causation_event_id,
                stored.schema_version,
                list(stored.tags),
                stored.recorded_at_micros,
            ]
        ).encode()
    ).digest()
