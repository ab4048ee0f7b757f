"""Documents of finished traces and their postings: what a ranked search for precedents looks up."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg
import orjson

from decisiongraph_service.domain.precedent_search import DocumentRow, Feature, Term
from decisiongraph_service.storage.database import TenantTransaction

CANDIDATES_OF_A_KEY: Final = 150
"""Of each term and each filter so many traces are looked at, those that finished last."""

# Ranges of the primary key of the postings, backwards, so many rows as hold the wanted number of positions; the
# documents by their primary key, each a range of one value in order, which only the primary key gives. The summaries
# and the row of the policy only of what is answered.
_RANKED: Final = """
    SELECT score, finished_log_seq, trace_id, features, keys, workflow, title, outcome, finished_at, policy_id,
           policy_version, bytes
    FROM (
        SELECT sized.*, sum(bytes) OVER (ORDER BY score DESC, finished_log_seq DESC) - bytes AS bytes_before
        FROM (
            SELECT hit.score, hit.finished_log_seq, hit.trace_id, hit.features, hit.keys,
                   summary.workflow, summary.title, summary.outcome, summary.finished_at,
                   precedent.policy_id, precedent.policy_version,
                   octet_length(hit.features) + 8 * cardinality(hit.keys) + octet_length(summary.title)
                       + octet_length(summary.workflow) AS bytes
            FROM (
                SELECT scored.*
                FROM (
                    SELECT document.*,
                           (
                               SELECT coalesce(sum(term.weight), 0)
                               FROM unnest($7::bigint[], $8::integer[]) AS term (key, weight)
                               WHERE term.key = ANY (document.keys)
                           ) AS score
                    FROM (
                        SELECT DISTINCT posting.finished_log_seq
                        FROM unnest($7::bigint[] || $6::bigint[]) AS wanted (key)
                        CROSS JOIN LATERAL (
                            SELECT position.finished_log_seq
                            FROM (
                                SELECT until_log_seq, finished_log_seqs
                                FROM precedent_postings
                                WHERE tenant_id = $1 AND generation = $2 AND key = wanted.key
                                ORDER BY precedent_postings.until_log_seq DESC
                                LIMIT 1000000000
                            ) AS of_batch
                            CROSS JOIN LATERAL unnest(of_batch.finished_log_seqs) AS position (finished_log_seq)
                            WHERE position.finished_log_seq <= $4
                            ORDER BY of_batch.until_log_seq DESC, position.finished_log_seq DESC
                            LIMIT $5
                        ) AS posting
                    ) AS candidate
                    CROSS JOIN LATERAL (
                        SELECT finished_log_seq, trace_id, features, keys
                        FROM precedent_documents
                        WHERE tenant_id = $1 AND generation = $2
                          AND finished_log_seq >= candidate.finished_log_seq
                          AND finished_log_seq <= candidate.finished_log_seq
                        ORDER BY precedent_documents.finished_log_seq
                        LIMIT 1
                    ) AS document
                    WHERE document.keys @> $6::bigint[] AND document.trace_id <> $9
                    -- A fence: the score is worked out once, not for each of its uses.
                    OFFSET 0
                ) AS scored
                WHERE scored.score > 0 AND (scored.score, scored.finished_log_seq) < ($10::bigint, $11::bigint)
                ORDER BY scored.score DESC, scored.finished_log_seq DESC
                LIMIT $12
            ) AS hit
            CROSS JOIN LATERAL (
                SELECT *
                FROM trace_summaries
                WHERE tenant_id = $1 AND generation = $3 AND trace_id >= hit.trace_id AND trace_id <= hit.trace_id
                ORDER BY trace_summaries.trace_id
                LIMIT 1
            ) AS summary
            LEFT JOIN LATERAL (
                SELECT policy_id, policy_version
                FROM (
                    SELECT policy_id, policy_version, exception_id, log_seq
                    FROM precedents
                    WHERE tenant_id = $1 AND generation = $2 AND trace_id = hit.trace_id
                      AND policy_id = $13 AND ($14::text IS NULL OR policy_version = $14)
                    ORDER BY precedents.log_seq
                    LIMIT 1000000000
                ) AS of_trace
                ORDER BY exception_id IS NULL, log_seq DESC
                LIMIT 1
            ) AS precedent ON true
        ) AS sized
    ) AS answered
    WHERE bytes_before <= $15
    ORDER BY score DESC, finished_log_seq DESC
"""

# The natural order: a range of the primary key.
_ROWS: Final = """
    SELECT finished_log_seq, trace_id, features, keys
    FROM precedent_documents
    WHERE tenant_id = $1 AND generation = $2
    ORDER BY finished_log_seq
"""


@dataclass(frozen=True, slots=True)
class RankedSearch:
    """What a ranked search looks for."""

    terms: Sequence[Term]
    filter_keys: Sequence[int]
    """Keys that a document must have, all of them."""
    policy_id: str | None
    """The policy to name in the hits; None: none was asked for."""
    policy_version: str | None
    besides_trace_id: str
    """A trace that is no hit; empty: none."""
    until_log_seq: int
    """Only traces that finished up to here."""


@dataclass(frozen=True, slots=True)
class RankedHit:
    """A finished trace that matches, with its document."""

    score: int
    document: DocumentRow
    workflow: str
    title: str
    outcome: str
    finished_at: str
    policy_id: str | None
    policy_version: str | None
    stored_bytes: int
    """Of its texts and its document."""


def columns(tenant_id: str, generation: int, rows: Iterable[DocumentRow]) -> list[tuple[object, ...]]:
    """Rows of `precedent_documents`, in the order of its columns."""
    return [
        (tenant_id, generation, row.finished_log_seq, row.trace_id, _json(row.features), list(row.keys)) for row in rows
    ]


async def find_ranked(
    transaction: TenantTransaction,
    generation: int,
    summary_generation: int,
    search: RankedSearch,
    *,
    after: tuple[int, int],
    limit: int,
    max_bytes: int,
    candidates_of_a_key: int = CANDIDATES_OF_A_KEY,
) -> list[RankedHit]:
    """The best hits below `after`, a score and the position of a finish: by descending score, then position.

    At most `limit`, and none behind the one with which their texts together exceed `max_bytes`.
    """
    rows = await transaction.fetch(
        _RANKED,
        generation,
        summary_generation,
        search.until_log_seq,
        candidates_of_a_key,
        list(search.filter_keys),
        [term.key for term in search.terms],
        [term.weight for term in search.terms],
        search.besides_trace_id,
        *after,
        limit,
        search.policy_id,
        search.policy_version,
        max_bytes,
    )
    return [RankedHit(row["score"], _document(row), *row[5:]) for row in rows]


async def iterate(transaction: TenantTransaction, generation: int) -> AsyncIterator[DocumentRow]:
    """The documents of a generation by position."""
    async for row in transaction.iterate(_ROWS, generation):
        yield _document(row)


def _json(features: Iterable[Feature]) -> str:
    return orjson.dumps([list(feature) for feature in features]).decode()


def _document(row: asyncpg.Record) -> DocumentRow:
    features = [Feature(*feature) for feature in orjson.loads(row["features"])]
    return DocumentRow(row["finished_log_seq"], row["trace_id"], features, row["keys"])
