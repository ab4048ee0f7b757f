"""The digests that were computed last, with their positions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.storage.database import TenantTransaction

# Two computations may end in any order: the later position stays.
_REMEMBER: Final = """
    INSERT INTO projection_digests AS known (tenant_id, projection, generation, log_seq, digest, computed_at)
    SELECT $1, computed.*, $6
    FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::text[]) AS computed
    ON CONFLICT (tenant_id, projection) DO UPDATE
    SET generation = EXCLUDED.generation,
        log_seq = EXCLUDED.log_seq,
        digest = EXCLUDED.digest,
        computed_at = EXCLUDED.computed_at
    WHERE (known.log_seq, known.generation) <= (EXCLUDED.log_seq, EXCLUDED.generation)
"""

# A range of the primary key.
_FETCH: Final = """
    SELECT projection, generation, log_seq, digest
    FROM projection_digests
    WHERE tenant_id = $1
"""


@dataclass(frozen=True, slots=True)
class ComputedDigest:
    """The digest of a generation at a position. The combined one has the name `full_projection`."""

    projection: str
    generation: int
    log_seq: int
    digest: str


async def remember(transaction: TenantTransaction, digests: Sequence[ComputedDigest], *, now_micros: int) -> None:
    """Keep these as the last computed ones."""
    await transaction.execute(
        _REMEMBER,
        [digest.projection for digest in digests],
        [digest.generation for digest in digests],
        [digest.log_seq for digest in digests],
        [digest.digest for digest in digests],
        now_micros,
    )


async def fetch(transaction: TenantTransaction) -> dict[str, ComputedDigest]:
    """The last computed digests, by projection."""
    return {row["projection"]: ComputedDigest(*row) for row in await transaction.fetch(_FETCH)}
