"""Digests of projections, made row by row: constant memory, whatever the number of rows.

Source: docs/reference/PROJECTION_AND_REPLAY_SEMANTICS.md, digests. The text is canonical JSON in pure ASCII.
"""

import hashlib
from collections.abc import Callable, Mapping
from json import encoder
from typing import Final

from decisiongraph_service.domain import vocabulary
from decisiongraph_service.domain.context_graph import EdgeRow, NodeRow
from decisiongraph_service.domain.precedent_index import PrecedentRow
from decisiongraph_service.domain.trace_summary import TraceSummaryRow

_text: Final[Callable[[str], str]] = encoder.encode_basestring_ascii


def _optional(value: str | None) -> str:
    return "null" if value is None else _text(value)


def edge_json(row: EdgeRow) -> str:
    """The text of an edge inside the digest's text."""
    return (
        f'{{"attrs":{{}},"created_at":{_text(row.created_at)},"edge_id":{_text(row.edge_id)},'
        f'"edge_type":{_text(row.edge_type)},"from_node_id":{_text(row.from_node_id)},"log_seq":{row.log_seq},'
        f'"to_node_id":{_text(row.to_node_id)},"trace_id":{_text(row.trace_id)}}}'
    )


def node_json(row: NodeRow) -> str:
    """The text of a node inside the digest's text."""
    return (
        f'{{"attrs":{{}},"created_at":{_text(row.created_at)},"log_seq":{row.log_seq},"node_id":{_text(row.node_id)},'
        f'"node_type":{_text(row.node_type)},"trace_id":{_text(row.trace_id)}}}'
    )


def summary_json(row: TraceSummaryRow) -> str:
    """The text of a trace summary inside the digest's text; the entity's system is not in it."""
    return (
        f'{{"event_count":{row.event_count},"finished_at":{_optional(row.finished_at)},'
        f'"last_log_seq":{row.last_log_seq},"outcome":{_optional(row.outcome)},'
        f'"primary_entity_id":{_text(row.primary_entity_id)},"primary_entity_type":{_text(row.primary_entity_type)},'
        f'"started_at":{_text(row.started_at)},"title":{_text(row.title)},"trace_id":{_text(row.trace_id)},'
        f'"workflow":{_text(row.workflow)}}}'
    )


def precedent_json(row: PrecedentRow) -> str:
    """The text of a precedent row inside the digest's text."""
    return (
        f'{{"exception_id":{_optional(row.exception_id)},"log_seq":{row.log_seq},"policy_id":{_text(row.policy_id)},'
        f'"policy_version":{_text(row.policy_version)},"primary_entity_id":{_text(row.primary_entity_id)},'
        f'"primary_entity_system":{_optional(row.primary_entity_system)},'
        f'"primary_entity_type":{_text(row.primary_entity_type)},"source_event_id":{_text(row.source_event_id)},'
        f'"trace_id":{_text(row.trace_id)}}}'
    )


class DigestText:
    """The digest of a JSON text that is given piece by piece."""

    def __init__(self, opening: str) -> None:
        self._hash = hashlib.sha256(opening.encode("ascii"))
        self._first = True

    def row(self, text: str) -> None:
        """The next element of the array that is open."""
        self._hash.update(text.encode("ascii") if self._first else b"," + text.encode("ascii"))
        self._first = False

    def write(self, text: str) -> None:
        """Text between two arrays."""
        self._hash.update(text.encode("ascii"))
        self._first = True

    def close(self, text: str) -> str:
        """The digest, after the last text."""
        self._hash.update(text.encode("ascii"))
        return f"sha256:{self._hash.hexdigest()}"


def full(digests: Mapping[str, str]) -> str:
    """The combined digest of the three projections' digests."""
    joined = ":".join(digests[projection] for projection in vocabulary.PROJECTIONS)
    return f"sha256:{hashlib.sha256(joined.encode('ascii')).hexdigest()}"
