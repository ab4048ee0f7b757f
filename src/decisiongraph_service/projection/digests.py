"""Digests of stored projections: streamed row by row, remembered with their position; and comparing two generations."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from decisiongraph_service.domain import projection_digest, vocabulary
from decisiongraph_service.domain.projection_digest import DigestText
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import (
    context_graph,
    precedent_documents,
    precedent_index,
    projection_digests,
    projection_state,
    trace_summary,
)
from decisiongraph_service.storage.database import Database, TenantTransaction
from decisiongraph_service.storage.projection_digests import ComputedDigest
from decisiongraph_service.storage.projection_state import Generation

_Rows = Callable[[TenantTransaction, int], AsyncIterator[Any]]


@dataclass(frozen=True, slots=True)
class _Section:
    """One kind of rows of a projection, in the order of the digest's text."""

    rows: _Rows
    key: Callable[[Any], Any]
    text: Callable[[Any], str] | None
    """How a row stands in the digest's text; None if it takes no part."""
    before: str
    """What stands before the section in the digest's text."""


# Where a row has columns for looking it up, they are compared with it and take no part in the text.
_SECTIONS: Final[dict[str, Sequence[_Section]]] = {
    vocabulary.CONTEXT_GRAPH: (
        _Section(
            context_graph.iterate_edges,
            lambda stored: stored[0].edge_id,
            lambda stored: projection_digest.edge_json(stored[0]),
            before='{"edges":[',
        ),
        _Section(
            context_graph.iterate_nodes,
            lambda stored: stored[0].node_id,
            lambda stored: projection_digest.node_json(stored[0]),
            before='],"nodes":[',
        ),
    ),
    vocabulary.TRACE_SUMMARY: (
        _Section(trace_summary.iterate, lambda row: row.trace_id, projection_digest.summary_json, before="["),
    ),
    vocabulary.PRECEDENT_INDEX: (
        _Section(
            precedent_index.iterate_precedents,
            lambda stored: stored[0].source_event_id,
            lambda stored: projection_digest.precedent_json(stored[0]),
            before="[",
        ),
        _Section(precedent_index.iterate_evaluations, lambda row: row.log_seq, None, before=""),
        _Section(precedent_documents.iterate, lambda row: row.finished_log_seq, None, before=""),
    ),
}
_CLOSING: Final = {
    vocabulary.CONTEXT_GRAPH: "]}",
    vocabulary.TRACE_SUMMARY: "]",
    vocabulary.PRECEDENT_INDEX: "]",
}


async def compute(snapshot: TenantTransaction, generation: Generation) -> ComputedDigest:
    """The digest of one generation, as it stands in the snapshot."""
    text = DigestText("")
    for section in _SECTIONS[generation.projection]:
        text.write(section.before)
        if section.text is not None:
            async for row in section.rows(snapshot, generation.generation):
                text.row(section.text(row))
    digest = text.close(_CLOSING[generation.projection])
    return ComputedDigest(generation.projection, generation.generation, generation.log_seq, digest)


async def compute_live(
    database: Database, tenant_id: TenantId, projections: Sequence[str], *, clock: Callable[[], int]
) -> dict[str, ComputedDigest]:
    """Compute and remember the digests of live projections; of all three also the combined one.

    Raises:
        StorageUnavailable: the database failed.
    """
    async with database.tenant_snapshot(tenant_id) as snapshot:
        live = {one.projection: one for one in await projection_state.fetch_live(snapshot)}
        found = {name: await compute(snapshot, live[name]) for name in projections}
    if set(found) == set(vocabulary.PROJECTIONS):
        combined = projection_digest.full({name: one.digest for name, one in found.items()})
        position = min(one.log_seq for one in found.values())
        found[vocabulary.FULL_PROJECTION] = ComputedDigest(vocabulary.FULL_PROJECTION, 0, position, combined)
    async with database.tenant_transaction(tenant_id) as transaction:
        await projection_digests.remember(transaction, list(found.values()), now_micros=clock())
    return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two generations of a projection have in common."""

    live_digest: str
    built_digest: str
    first_difference: str | None
    """Key of the first row that differs in any column, also in one outside the digest."""


async def compare(
    live_snapshot: TenantTransaction, live: Generation, built_snapshot: TenantTransaction, built: Generation
) -> Comparison:
    """Walk through both in the digest's order, in constant memory."""
    texts = DigestText(""), DigestText("")
    difference: str | None = None
    for section in _SECTIONS[live.projection]:
        for text in texts:
            text.write(section.before)
        left = section.rows(live_snapshot, live.generation)
        right = section.rows(built_snapshot, built.generation)
        found = await _compare_section(section, left, right, texts)
        difference = found if difference is None else difference
    closing = _CLOSING[live.projection]
    return Comparison(texts[0].close(closing), texts[1].close(closing), difference)


async def _compare_section(
    section: _Section, left: AsyncIterator[Any], right: AsyncIterator[Any], texts: tuple[DigestText, DigestText]
) -> str | None:
    difference: str | None = None

    async def following(rows: AsyncIterator[Any], text: DigestText) -> Any:
        row = await anext(rows, None)
        if row is not None and section.text is not None:
            text.row(section.text(row))
        return row

    one, other = await following(left, texts[0]), await following(right, texts[1])
    while one is not None or other is not None:
        if one != other and difference is None:
            difference = str(min(section.key(row) for row in (one, other) if row is not None))
        keys = [section.key(row) for row in (one, other) if row is not None]
        ahead_left = one is not None and section.key(one) == min(keys)
        ahead_right = other is not None and section.key(other) == min(keys)
        if ahead_left:
            one = await following(left, texts[0])
        if ahead_right:
            other = await following(right, texts[1])
    return difference
