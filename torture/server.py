"""The server as it is tortured: `decisiongraph serve`, with a clock that can be moved and, if asked for, a planted bug.

    python -m torture.server [--planted NAME] serve

The bugs are known ones of systems of this kind. Each must be found by a check; the suite is worth what it finds.
"""

import argparse
import asyncio
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

CLOCK_VARIABLE: Final = "TORTURE_CLOCK_FILE"
"""A file that holds the seconds by which the server's clock is wrong."""


def _move_clock(path: Path) -> None:
    """Let the server's clock differ by what the file says."""
    real, real_ns = time.time, time.time_ns
    looked, offset = 0.0, 0.0

    def wrong_by() -> float:
        nonlocal looked, offset
        if time.monotonic() - looked > 0.1:
            looked = time.monotonic()
            try:
                offset = float(path.read_text())
            except (OSError, ValueError):
                offset = 0.0
        return offset

    time.time = lambda: real() + wrong_by()
    time.time_ns = lambda: real_ns() + int(wrong_by() * 1e9)


def _plant(where: Any, name: str, what: object) -> None:
    """Put something wrong in the place of what is right."""
    if not hasattr(where, name):
        raise AttributeError(f"{where} has no {name}: the bug cannot be planted, and would be missed")
    setattr(where, name, what)


def _early_acknowledgement() -> None:
    """Answers before the commit is on the disk."""
    from decisiongraph_service.storage import database

    database._PLANNER["synchronous_commit"] = "off"
    os.environ["DG_ALLOW_UNSAFE_DATABASE"] = "true"  # a server would not start with it


def _missing_tenant_predicate() -> None:
    """Now and then a call acts in another tenant of its caller's."""
    from decisiongraph_service.access import authorization

    right = authorization.resolve_tenant

    def wrong(caller: Any, requested: str | None) -> Any:
        tenant_id = right(caller, requested)
        return random.choice(caller.tenant_ids) if random.random() < 0.02 else tenant_id  # noqa: S311 - a planted bug

    _plant(authorization, "resolve_tenant", wrong)


def _skipped_batch() -> None:
    """The projector loses the edges of a batch now and then."""
    from decisiongraph_service.projection import passes

    right = passes.make

    async def wrong(batch: Any, projections: Any) -> Any:
        changes = await right(batch, projections)
        if random.random() < 0.1:  # noqa: S311 - a planted bug
            changes.graph.edges.clear()
        return changes

    _plant(passes, "make", wrong)


def _batch_by_pieces() -> None:
    """A batch is committed event by event."""
    from decisiongraph_service.ingestion.append import Appender

    async def wrong(self: Any, tenant_id: Any, events: Any) -> Any:
        placed = []
        for event, violations in list(events):
            placed.append(await self.append(tenant_id, event, payload_violations=violations))
            await asyncio.sleep(0.02)
        return placed

    _plant(Appender, "append_all", wrong)


def _stale_reads() -> None:
    """Reads do not wait for their projection."""
    from decisiongraph_service.queries import freshness

    async def wrong(snapshot: Any, projections: Sequence[str]) -> Any:
        reading = await right(snapshot, projections)
        position = freshness.ReadPosition(reading.position.log_seq, reading.position.log_seq)
        return freshness.Reading(reading.snapshot, position, reading.generations)

    right = freshness._look
    _plant(freshness, "_look", wrong)


def _watch_with_a_hole() -> None:
    """A watch loses an event now and then."""
    from decisiongraph_service.queries import event_pages, watch

    class Wrong(event_pages.ForwardRead):
        async def next_page(self, *args: Any, **kwargs: Any) -> Any:
            page = await super().next_page(*args, **kwargs)
            return page[1:] if len(page) > 1 and random.random() < 0.1 else page  # noqa: S311 - a planted bug

    _plant(watch, "ForwardRead", Wrong)


def _untyped_outage() -> None:
    """An outage of the database looks like a fault of the service."""
    from decisiongraph_service.storage import database

    _plant(database, "_OUTAGE", (ZeroDivisionError,))


def _no_way_back() -> None:
    """A server that has seen an outage never uses its database again."""
    from decisiongraph_service.domain import errors
    from decisiongraph_service.ingestion.group_commit import GroupCommitter

    right: Callable[..., Any] = GroupCommitter._commit
    broken = False

    async def wrong(self: Any, tenant_id: Any, batch: Any) -> Any:
        nonlocal broken
        if broken:
            raise errors.StorageUnavailable("planted")
        try:
            return await right(self, tenant_id, batch)
        except errors.StorageUnavailable:
            broken = True
            raise

    _plant(GroupCommitter, "_commit", wrong)


def _payload_other_than_hashed() -> None:
    """What is stored is not what was hashed."""
    from decisiongraph_service.storage import event_log

    right = event_log._row

    def wrong(row: Any) -> Any:
        columns = list(right(row))
        if random.random() < 0.01:  # noqa: S311 - a planted bug
            columns[14] = str(columns[14]).replace("{", "{ ", 1)
        return tuple(columns)

    _plant(event_log, "_row", wrong)


def _forgotten_keys() -> None:
    """A repeated event is taken for a new one: it gets a new key and is stored again."""
    from decisiongraph_service.ingestion.append import Appender

    right = Appender.check
    seen: set[str] = set()

    def wrong(self: Any, event: Any, *args: Any) -> Any:
        import dataclasses

        if event.idempotency_key in seen:
            event = dataclasses.replace(event, idempotency_key=f"{event.idempotency_key} again")
        seen.add(event.idempotency_key)
        return right(self, event, *args)

    _plant(Appender, "check", wrong)


SEQUENCE: Final = "sequence_instead_of_head_lock"
SEQUENCE_SQL: Final = (
    "CREATE SEQUENCE planted",
    "GRANT USAGE ON SEQUENCE planted TO decisiongraph_runtime",
    """
    CREATE OR REPLACE FUNCTION append_events(tenant text, expected_head bigint, new_events events[]) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
    DECLARE
        one events;
    BEGIN
        FOREACH one IN ARRAY new_events LOOP
            one.log_seq := nextval('planted');
            INSERT INTO events SELECT one.*;
            UPDATE log_heads SET log_seq = greatest(log_seq, one.log_seq) WHERE tenant_id = tenant;
        END LOOP;
        RETURN expected_head;
    END
    $$
    """,
)
"""Positions from a sequence, committed in any order: the best-known fault of event stores on Postgres."""


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug that can be planted."""

    plant: Callable[[], None]
    shown_by: tuple[str, ...] = ("kill_server",)
    """Faults that it shows under; most need none but the load."""


BUGS: Final[dict[str, Bug]] = {
    "early_acknowledgement": Bug(_early_acknowledgement, ("kill_postgres", "kill_postgres", "kill_postgres")),
    SEQUENCE: Bug(lambda: None),
    "missing_tenant_predicate": Bug(_missing_tenant_predicate),
    "skipped_batch": Bug(_skipped_batch),
    "batch_by_pieces": Bug(_batch_by_pieces, ("kill_both_servers", "overload", "kill_both_servers")),
    "stale_reads": Bug(_stale_reads),
    "watch_with_a_hole": Bug(_watch_with_a_hole),
    "untyped_outage": Bug(_untyped_outage, ("restart_postgres",)),
    "no_way_back": Bug(_no_way_back, ("restart_postgres",)),
    "payload_other_than_hashed": Bug(_payload_other_than_hashed),
    "forgotten_keys": Bug(_forgotten_keys),
}


def main() -> None:
    """Run the server."""
    parser = argparse.ArgumentParser(description="The server as it is tortured.")
    parser.add_argument("--planted", choices=BUGS)
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if clock := os.environ.get(CLOCK_VARIABLE):
        _move_clock(Path(clock))
    if arguments.planted is not None:
        BUGS[arguments.planted].plant()
    from decisiongraph_service.cli import main as command

    sys.argv = ["decisiongraph", *arguments.rest]
    command.main()


if __name__ == "__main__":
    main()
