"""The ceiling of the database: the same rows with the same keys, written by nobody but this process."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.events import TAGS, RowMaker

if TYPE_CHECKING:
    import asyncpg

ROWS_PER_TRANSACTION: Final = 200

_MAKE_TABLE: Final = "CREATE TABLE IF NOT EXISTS bench_events (LIKE events INCLUDING ALL)"


def _statement() -> str:
    names = ", ".join(name for name, _ in RowMaker.columns)
    arrays = ", ".join(f"${number}::{kind}[]" for number, (_, kind) in enumerate(RowMaker.columns, 1))
    tags = ", ".join(f"'{tag}'" for tag in TAGS)
    # Constants of this project, nothing that somebody sends.
    return f"INSERT INTO bench_events ({names}, tags) SELECT *, ARRAY[{tags}] FROM unnest({arrays})"  # noqa: S608


@dataclass(frozen=True, slots=True)
class BareFigures:
    """What was seen."""

    rows_per_second: float
    transactions: int
    seconds: list[float]
    """Of each transaction, sorted."""


async def insert(
    connection: "asyncpg.Connection[asyncpg.Record]",
    *,
    run_id: str,
    seconds: float,
    rows_per_transaction: int = ROWS_PER_TRANSACTION,
) -> BareFigures:
    """Insert for so long, each statement a transaction. Making the rows is not counted."""
    await connection.execute(_MAKE_TABLE)
    statement = await connection.prepare(_statement())
    maker = RowMaker(run_id, f"bare-{run_id}")
    taken: list[float] = []
    total = 0.0
    while total < seconds:
        batches = [list(zip(*maker.rows(rows_per_transaction), strict=True)) for _ in range(10)]
        for columns in batches:
            began = time.perf_counter()
            await statement.fetch(*columns)
            taken.append(time.perf_counter() - began)
            total += taken[-1]
    return BareFigures(len(taken) * rows_per_transaction / total, len(taken), sorted(taken))
