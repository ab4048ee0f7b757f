"""What the landing page asks: states without reasons, from a database that may say nothing."""

import asyncio
from unittest.mock import Mock

import pytest

from decisiongraph_service.queries import readiness
from decisiongraph_service.queries.readiness import Readiness
from decisiongraph_service.storage.database import Database


async def test_a_silent_database_is_failing_and_is_asked_once_however_many_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_STATES_SECONDS", 0.05)
    answers, asked = asyncio.Event(), 0

    async def fetch(*_: object) -> str:
        nonlocal asked
        asked += 1
        await answers.wait()
        return "7"

    database = Mock(spec=Database, fetch_installation_value=fetch)
    ready = Readiness(database, needed_revision="7", projector_follows=lambda: True)
    found = await asyncio.gather(*(ready.states() for _ in range(20)))
    assert found == [{"database": "failing", "migrations": "unknown", "projector": "ok"}] * 20
    assert await ready.states() == found[0]
    assert asked == 1
    answers.set()
    assert await ready.states() == {"database": "ok", "migrations": "ok", "projector": "ok"}


async def test_what_nobody_expected_is_not_taken_for_a_state() -> None:
    async def fail(*_: object) -> str:
        raise RuntimeError("nobody expected this")

    ready = Readiness(
        Mock(spec=Database, fetch_installation_value=fail), needed_revision="7", projector_follows=lambda: True
    )
    with pytest.raises(RuntimeError):
        await ready.states()


async def test_a_projector_of_another_process_is_not_asked_for() -> None:
    async def fetch(*_: object) -> str:
        return "7"

    database = Mock(spec=Database, fetch_installation_value=fetch)
    ready = Readiness(database, needed_revision="7", projector_follows=None)
    assert await ready.check() == ["database", "migrations"]
    assert await ready.states() == {"database": "ok", "migrations": "ok", "projector": "elsewhere"}
