"""Random logs: ranked precedents and lists of traces are those of a plain model, also while the log grows."""

import itertools
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.calling import as_json
from tests.log_models import Texts, checked, valid_log
from tests.ranked_model import TIMES, Log, Row, listed, ranked, traces_of
from tests.replaying import Projections

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import freshness, paging, ranked_precedents, trace_list
from decisiongraph_service.rpc import messages, projection_messages
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database
from decisiongraph_service.storage.precedent_index import PrecedentFilter

# --- logs ---

# Few values, so that traces have much in common; colons, so that different pairs are written alike.
_WORDS: Final = st.sampled_from(["tea", "TEA", "caf\u00e9", "cafe\u0301", "x1", "\ufb01", "fi", "n3", "n64"])
_FEW: Final = st.lists(_WORDS, min_size=1, max_size=4).map("-".join)
_MANY: Final = st.sampled_from([12, 13, 66]).map(lambda count: " ".join(f"n{n}" for n in range(count)))
_TEXTS: Final = _FEW | _FEW | _FEW | _MANY
_MAYBE: Final = st.none() | st.just("") | _TEXTS
_TRACE_IDS: Final = st.sampled_from(["t0", "t1", "t2", "t3", "t4"])
# Of traces, and what filters ask for.
_VALUES: Final[dict[str, Texts]] = {
    "workflow": st.sampled_from(["w", "W"]),
    "outcome": st.sampled_from(["success", "failure", "abandoned"]),
    "entity_type": st.sampled_from(["o", "o:a"]),
    "entity_id": st.sampled_from(["a", "a:a", "b"]),
    "policy_id": st.sampled_from(["p", "p:1"]),
    "policy_version": st.sampled_from(["1", "1:1", "2"]),
}
# One instant in different words, others a microsecond away, and two far away; only their order counts.
_AT: Final = st.sampled_from([*TIMES])


def _fields(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Row]:
    return st.fixed_dictionaries(fields)


def _exception(policy: Row, reason: str) -> Row:
    return {"exception_id": policy["policy_id"], "policy": policy, "reason": reason}


def _action(action_type: str) -> Row:
    target = {"entity_type": "o", "entity_id": "a"}
    payload = {"action_id": action_type, "action_type": action_type, "target_entity": target}
    return {**payload, "target_system": "s", "changes": []}


_POLICY: Final = _fields(policy_id=_VALUES["policy_id"], policy_version=_VALUES["policy_version"])
_ENTITY: Final = _fields(entity_type=_VALUES["entity_type"], entity_id=_VALUES["entity_id"])
_SUBJECT_TYPES: Final = st.sampled_from(["exception", "exception", "exception", "action"])
_SUBJECT: Final = _fields(subject_type=_SUBJECT_TYPES, subject_id=_VALUES["policy_id"])
_APPROVER: Final = _fields(actor_type=st.sampled_from(["person", "role"]), actor_id=st.sampled_from(["x", "y"]))
_PAY: Final = st.sampled_from(["pay", "mail"])
_DECISIONS: Final = st.sampled_from(["allow", "deny", "require_exception"])
_APPROVALS: Final = st.sampled_from(["approved", "rejected"])
_STATUSES: Final = st.sampled_from(["success", "failure", "partial"])
_STARTED: Final = _fields(workflow=_VALUES["workflow"], title=_TEXTS, primary_entity=_ENTITY)
_PAYLOADS: Final = {
    "EntityObserved": _fields(entity=_ENTITY, role=st.just("related"), facts=st.just([])),
    "PolicyEvaluated": _fields(policy=_POLICY, inputs=st.just([]), decision=_DECISIONS),
    "ExceptionRequested": st.builds(_exception, _POLICY, _TEXTS),
    "ApprovalRecorded": _fields(
        approval_id=st.just("ap"), subject=_SUBJECT, approver=_APPROVER, decision=_APPROVALS, reason=_MAYBE
    ),
    "PrecedentCited": _fields(cited_trace_id=_TRACE_IDS, reason=_TEXTS),
    "ActionProposed": st.builds(_action, _PAY),
    "ActionCommitted": _fields(action_id=_PAY, status=_STATUSES),
    "TraceFinished": _fields(outcome=_VALUES["outcome"], summary=_MAYBE),
}
# Results need two events that name the same.
_OFTEN: Final = [
    "PolicyEvaluated",
    *["ExceptionRequested", "ApprovalRecorded", "ActionProposed", "ActionCommitted"] * 2,
]
_TYPES: Final = [*_PAYLOADS, *_OFTEN, "TraceFinished", "TraceFinished"]
_ONE: Final = st.sampled_from(_TYPES).flatmap(lambda name: st.tuples(st.just(name), _PAYLOADS[name]))
# More values of one feature than look for others.
_BURST: Final = st.just([("ActionProposed", _action(f"k{n}")) for n in range(9)])


def _steps(trace_id: str, started: Row, others: Sequence[tuple[str, Row]], occurred_at: str) -> list[Row]:
    common = {"trace_id": trace_id, "started": started, "id": "e", "occurred_at": occurred_at, "actor": ("agent", "a")}
    return [{**common, "other": other} for other in others]


_EVENTS: Final = st.integers(0, 19).flatmap(lambda n: st.lists(_ONE, min_size=1, max_size=4) if n else _BURST)
_TURNS: Final = st.lists(st.builds(_steps, _TRACE_IDS, _STARTED, _EVENTS, _AT), min_size=15, max_size=35)
LOGS: Final = _TURNS.map(lambda turns: valid_log([*itertools.chain(*turns)], many_traces=True))

# --- the service ---

Page = tuple[list[Row], str | None]
Search = tuple[str, str, dict[str, str]]
"""Query, id of a trace and filters."""
Question = Search | dict[str, str]
"""The filters of a list, or a search."""
_TOKENS: Final = paging.PageTokens(b"k" * 32)
_NEEDS: Final = {"entity_id": "entity_type", "policy_version": "policy_id", "primary_entity_id": "primary_entity_type"}
_LIST_VALUES: Final[dict[str, Texts]] = {
    **{name: _VALUES[name] for name in ("workflow", "outcome")},
    **{f"primary_{name}": _VALUES[name] for name in ("entity_type", "entity_id")},
    **{f"since_{name}_at": _AT.filter(lambda time: TIMES[time] <= 0) for name in ("started", "finished")},
    **{f"until_{name}_at": _AT.filter(lambda time: TIMES[time] >= 0) for name in ("started", "finished")},
    "status": st.sampled_from(["open", "finished"]),
    "query": _FEW,
}


def _filters(values: Mapping[str, Texts], most: int) -> st.SearchStrategy[dict[str, str]]:
    """Up to so many filters, each with what it cannot be without."""
    return st.lists(st.sampled_from([*values]), max_size=most, unique=True).flatmap(
        lambda names: _fields(**{one: values[one] for name in names for one in (_NEEDS.get(name, name), name)})
    )


_LISTS: Final = _filters(_LIST_VALUES, 3)
_LIKE: Final = st.builds("{}{}".format, _TRACE_IDS, st.sampled_from(["", "", "+", "++"]))
_SEARCHES: Final = st.tuples(st.just("") | _FEW, st.just("") | _LIKE, _filters(_VALUES, 2)).filter(
    lambda search: bool(search[0] or search[1])
)
_CHECKS: Final = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.fixture
async def projections(own_database: Database, own_database_url: str) -> AsyncIterator[Projections]:
    made = Projections(own_database, CommitSignal(own_database_url))
    yield made
    await made.stop()


@dataclass(frozen=True)
class Asking:
    """Questions to the service about one tenant, and what the model answers."""

    tenant_id: TenantId
    ranking: ranked_precedents.RankedPrecedentQueries
    listing: trace_list.TraceList
    candidates: int
    size: int

    async def page(self, question: Question, token: str = "") -> Page:
        how: dict[str, Any] = {"page_size": self.size, "page_token": token, "freshness_wanted": freshness.Freshness()}
        if isinstance(question, dict):
            traces = await self.listing.list_traces(self.tenant_id, trace_list.TracesWanted(**question), **how)
            return [as_json(messages.trace_summary_to_message(one)) for one in traces.traces], traces.next_page_token
        likeness = ranked_precedents.Likeness(*question[:2])
        filters = PrecedentFilter(**{name: question[2].get(name, "") for name in _VALUES})
        hits = await self.ranking.find(self.tenant_id, likeness, filters, **how)
        return as_json(projection_messages.ranked_page_to_response(hits))["precedents"], hits.next_page_token

    async def whole(self, question: Question, first: Page | None = None) -> list[Row]:
        """All pages together: all but the last are full, and that is empty only if what was left ended meanwhile."""
        rows, token = first or await self.page(question)
        found = list(rows)
        while token is not None:
            assert len(rows) == self.size
            rows, token = await self.page(question, token)
            assert len(rows) <= self.size
            assert rows or first
            found.extend(rows)
        return found

    def modelled(self, question: Question, log: Log) -> list[Row]:
        return listed(log, question) if isinstance(question, dict) else ranked(log, *question, self.candidates)

    def modelled_from(self, first: Page, question: Question, before: Log, log: Log) -> list[Row]:
        """What a first page is part of when the log grows from `before` after it."""
        if not isinstance(question, dict):
            return self.modelled(question, before)
        by_start = list(traces_of(log))
        earlier = [] if first[1] is None else by_start[: by_start.index(first[0][-1]["trace_id"])]
        return [*first[0], *(row for row in listed(log, question) if row["trace_id"] in earlier)]

    async def assert_as_modelled(self, questions: Sequence[Question], log: Log) -> None:
        for question in questions:
            if is_known(question, log):
                assert await self.whole(question) == self.modelled(question, log)
            else:
                with pytest.raises(errors.NotFound):
                    await self.page(question)


def is_known(question: Question, log: Log) -> bool:
    return isinstance(question, dict) or question[1] in ("", *traces_of(log))


@given(
    log=LOGS,
    split=st.integers(10, 70),
    questions=st.lists(_SEARCHES | _LISTS, min_size=12, max_size=16),
    candidates=st.sampled_from([2, 3, 500]),
    size=st.integers(1, 3),
)
@settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=_CHECKS)
async def test_searches_and_lists_are_those_of_the_model_while_the_log_grows_and_after_a_rebuild(
    projections: Projections, log: Log, split: int, questions: list[Question], candidates: int, size: int
) -> None:
    tenant_id = await projections.make_tenant(f"ranked-{uuid.uuid4().hex}")
    wait = freshness.FreshnessWait(projections.database, projections.signal, wait_seconds=5)
    ranking = ranked_precedents.RankedPrecedentQueries(_TOKENS, wait, candidates_of_a_key=candidates)
    asking = Asking(tenant_id, ranking, trace_list.TraceList(_TOKENS, wait), candidates, size)
    events = [checked(sent, n) for n, sent in enumerate(log)]
    before = log[:split]
    await projections.append(tenant_id, events[:split])
    await projections.projector().catch_up(tenant_id)
    await asking.assert_as_modelled(questions, before)
    begun = [(question, await asking.page(question)) for question in questions if is_known(question, before)]
    await projections.append(tenant_id, events[split:])
    await projections.projector().catch_up(tenant_id)
    for question, first in begun:
        assert await asking.whole(question, first) == asking.modelled_from(first, question, before, log)
    await asking.assert_as_modelled(questions, log)
    runner = projections.start_runner()
    assert (await projections.run_job(tenant_id, "rebuild")).status == "completed"
    await runner.stop()
    await asking.assert_as_modelled(questions, log)
