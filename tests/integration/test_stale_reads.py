"""An answer stands at one position, also where the log is ahead of the projection."""

import uuid

import pytest
from tests import samples
from tests.asking import Queries
from tests.replaying import Projections

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries.freshness import Freshness, ReadPosition
from decisiongraph_service.queries.trace_list import TracesWanted
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database

STALE = Freshness(allow_stale=True)


@pytest.fixture
def projections(own_database: Database, own_database_url: str) -> Projections:
    return Projections(own_database, CommitSignal(own_database_url))


@pytest.fixture
async def behind(projections: Projections) -> TenantId:
    """A tenant whose trace `t` is projected up to its second event and finished by its third; `u` starts after that."""
    tenant_id = await projections.make_tenant(f"stale-{uuid.uuid4().hex[:12]}")
    await projections.append(tenant_id, [samples.start("t"), samples.checked(key="t/1", trace_id="t")])
    await projections.projector().catch_up(tenant_id)
    finish = samples.checked("TraceFinished", key="t/2", trace_id="t")
    await projections.append(tenant_id, [finish, samples.start("u")])
    return tenant_id


@pytest.fixture
def queries(projections: Projections) -> Queries:
    return Queries.of(projections.database, projections.signal, wait_seconds=0.1)


@pytest.mark.parametrize("freshness", [STALE, Freshness(min_log_seq=2)])
async def test_a_trace_is_told_as_it_stood_at_the_position_of_the_answer(
    queries: Queries, behind: TenantId, freshness: Freshness
) -> None:
    found = await queries.traces.get_trace(behind, "t", as_of_log_seq=None, freshness_wanted=freshness)
    assert found.position == ReadPosition(2, 4)
    assert (found.summary.outcome, found.event_count, found.last_log_seq) == (None, 2, 2)
    assert [event.log_seq for event in found.timeline.events] == [1, 2]


async def test_so_are_those_of_a_list(queries: Queries, behind: TenantId) -> None:
    page = await queries.trace_list.list_traces(
        behind, TracesWanted(), page_size=None, page_token="", freshness_wanted=STALE
    )
    assert page.position == ReadPosition(2, 4)
    assert [(one.summary.trace_id, one.event_count, one.last_log_seq) for one in page.traces] == [("t", 2, 2)]


async def test_a_trace_that_starts_after_the_position_is_not_there_yet(queries: Queries, behind: TenantId) -> None:
    with pytest.raises(errors.NotFound):
        await queries.traces.get_trace(behind, "u", as_of_log_seq=None, freshness_wanted=STALE)


async def test_the_past_is_told_from_the_log_and_waits_for_no_projection(queries: Queries, behind: TenantId) -> None:
    found = await queries.traces.get_trace(behind, "t", as_of_log_seq=3, freshness_wanted=Freshness())
    assert (found.summary.outcome, found.event_count, found.position) == ("success", 3, ReadPosition(3, 4))
