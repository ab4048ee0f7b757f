"""What must be true after a run: pure judgements over what callers were told and what the database holds."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from torture.history import History

MOST_NAMED: Final = 5
ALLOWED_ERRORS: Final = frozenset(
    {
        "UNAVAILABLE STORAGE_UNAVAILABLE",
        "RESOURCE_EXHAUSTED RATE_LIMITED",
        "DEADLINE_EXCEEDED ",
        "ABORTED PROJECTION_OUT_OF_DATE",
        # The connection broke under the call; no server is there to say more.
        "UNAVAILABLE ",
    }
)
"""Code and reason of what a fault may look like to a caller."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as the log holds it."""

    log_seq: int
    event_id: str
    trace_id: str
    trace_seq: int
    key: str


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What is there when everything is up again."""

    logs: Mapping[str, Sequence[Stored]]
    """By tenant, in the order of the log."""
    damages: Mapping[str, Sequence[str]]
    """What a check of every stored hash found, by tenant."""
    differing_projections: Sequence[str]
    """Projections that are not what their log says."""
    heads: Mapping[str, int]


Check: TypeAlias = Callable[[History, Aftermath], list[str]]


def acknowledged_is_stored_once(history: History, after: Aftermath) -> list[str]:
    """Every acknowledged event is in the log, once, where its receipt says."""
    found = []
    by_key = {tenant: Counter(event.key for event in log) for tenant, log in after.logs.items()}
    for (tenant, key), place in history.acknowledged.items():
        log = after.logs[tenant]
        stored = log[place.log_seq - 1] if 0 < place.log_seq <= len(log) else None
        if stored is None or (stored.key, stored.event_id, stored.trace_seq) != (key, place.event_id, place.trace_seq):
            found.append(f"{tenant} {key}: acknowledged at {place.log_seq}, where the log has {stored}")
        elif by_key[tenant][key] != 1:
            found.append(f"{tenant} {key}: is in the log {by_key[tenant][key]} times")
    return found


def positions_are_complete(history: History, after: Aftermath) -> list[str]:
    """Positions are 1..N without gaps, the head counts them, and so are positions within traces."""
    found = []
    for tenant, log in after.logs.items():
        if [event.log_seq for event in log] != list(range(1, len(log) + 1)):
            found.append(f"{tenant}: positions are not 1 to {len(log)}")
        if after.heads[tenant] != len(log):
            found.append(f"{tenant}: the head says {after.heads[tenant]}, the log has {len(log)} events")
        lengths: dict[str, int] = defaultdict(int)
        for event in log:
            if event.trace_seq != lengths[event.trace_id]:
                found.append(f"{tenant} {event.trace_id}: {event.trace_seq} follows {lengths[event.trace_id] - 1}")
            lengths[event.trace_id] = event.trace_seq + 1
    return found


def nothing_is_damaged(history: History, after: Aftermath) -> list[str]:
    """Every stored event is what was stored: hashes, columns, traces."""
    return [f"{tenant}: {damage}" for tenant, damages in after.damages.items() for damage in damages]


def nothing_came_from_nowhere(history: History, after: Aftermath) -> list[str]:
    """The log holds nothing that nobody sent, and nothing of another tenant or trace than it was sent for."""
    return [
        f"{tenant} {event.key}: was never sent there"
        for tenant, log in after.logs.items()
        for event in log
        if history.sent.get((tenant, event.key)) != event.trace_id
    ]


def batches_are_whole(history: History, after: Aftermath) -> list[str]:
    """A batch without an answer is in the log whole, or not at all."""
    keys = {tenant: {event.key for event in log} for tenant, log in after.logs.items()}
    found = []
    for batch in history.unanswered:
        there = sum(key in keys[tenant] for tenant, key in batch)
        if there not in (0, len(batch)):
            found.append(f"{there} of the {len(batch)} events of {batch[0]} are there")
    return found


def projections_are_what_the_log_says(history: History, after: Aftermath) -> list[str]:
    """Made anew from the log, every projection has the digest of the live one."""
    return list(after.differing_projections)


def watches_saw_each_event_once_in_order(history: History, after: Aftermath) -> list[str]:
    """Every watcher saw every event of its tenant, once, in the order of the log."""
    found = []
    for name, seen in history.watched.items():
        tenant = name.partition("/")[0]
        expected = [(event.log_seq, event.event_id) for event in after.logs[tenant]]
        if seen != expected:
            pairs = zip(seen, expected, strict=False)
            first = next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(seen), len(expected)))
            found.append(
                f"{name}: at place {first + 1} of {len(expected)} it saw {seen[first : first + 1]} "
                f"and the log has {expected[first : first + 1]}"
            )
    return found


def callers_saw_no_contradiction(history: History, after: Aftermath) -> list[str]:
    """No answer contradicted another, no read missed what was acknowledged before it, nobody saw another tenant."""
    return list(history.faults)


def errors_were_typed(history: History, after: Aftermath) -> list[str]:
    """What a fault looked like is one of the reasons that the contract has for it."""
    return [f"{count} times {error}" for error, count in history.errors.items() if error not in ALLOWED_ERRORS]


def it_recovered_by_itself(history: History, after: Aftermath) -> list[str]:
    """After each fault appends and fresh reads work again, without a hand."""
    return [f"{fault}: not within the time" for fault, seconds in history.recoveries.items() if seconds < 0]


CHECKS: Final[tuple[Check, ...]] = (
    acknowledged_is_stored_once,
    positions_are_complete,
    nothing_is_damaged,
    nothing_came_from_nowhere,
    batches_are_whole,
    projections_are_what_the_log_says,
    watches_saw_each_event_once_in_order,
    callers_saw_no_contradiction,
    errors_were_typed,
    it_recovered_by_itself,
)


def verdicts(history: History, after: Aftermath) -> dict[str, list[str]]:
    """What each check found, by its name; nothing: it holds."""
    return {check.__name__: check(history, after) for check in CHECKS}
