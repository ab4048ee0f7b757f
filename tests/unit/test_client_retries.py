"""When a call is sent again: within its time, never what must not happen twice, never sooner than was asked for."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from decisiongraph_client import errors
from decisiongraph_client._retries import RetryPolicy

NEVER_AGAIN = [
    errors.InvalidArgument,
    errors.SchemaViolation,
    errors.PiiPolicyViolation,
    errors.Unauthenticated,
    errors.Forbidden,
    errors.NotFound,
    errors.IdempotencyConflict,
    errors.TraceFinished,
    errors.EventSequenceInvalid,
    errors.Unimplemented,
    errors.Internal,
]
AGAIN = [
    errors.ProjectionOutOfDate,
    errors.RateLimited,
    errors.StorageUnavailable,
    errors.Unreachable,
    errors.DeadlineExceeded,
]
SECONDS = st.floats(0, 1e6, allow_nan=False)
POLICIES = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 10**9),
    first_delay=st.floats(0, 100, allow_nan=False),
    longest_delay=st.floats(0, 1000, allow_nan=False),
)
ATTEMPTS = st.integers(1, 10**9)


@st.composite
def failures(draw: st.DrawFn) -> errors.ServiceError:
    kind = draw(st.sampled_from(AGAIN + NEVER_AGAIN))
    return kind("failed", retry_after=draw(st.none() | SECONDS))


@given(POLICIES, failures(), ATTEMPTS, st.booleans(), SECONDS)
@example(RetryPolicy(attempts=10**9), errors.Unreachable("down"), 5_000, True, 1e6)
def test_no_wait_leaves_the_bounds(
    policy: RetryPolicy, error: errors.ServiceError, attempt: int, repeatable: bool, left: float
) -> None:
    wait = policy.delay(error, attempt, repeatable=repeatable, left=left)
    if wait is None:
        return
    assert isinstance(error, errors.TryAgain)
    assert attempt < policy.attempts
    assert 0 <= wait < left
    backoff = min(policy.longest_delay, policy.first_delay * 2.0 ** min(attempt - 1, 60))
    asked = error.retry_after
    if asked is None:
        assert backoff / 2 <= wait <= backoff
    else:
        assert asked <= policy.longest_delay
        assert asked <= wait <= max(backoff, asked + backoff / 2)


@given(POLICIES, st.sampled_from(NEVER_AGAIN), ATTEMPTS, st.booleans())
def test_what_is_wrong_by_itself_is_not_sent_again(
    policy: RetryPolicy, kind: type[errors.ServiceError], attempt: int, repeatable: bool
) -> None:
    assert policy.delay(kind("no", retry_after=0.0), attempt, repeatable=repeatable, left=1e9) is None


@pytest.mark.parametrize("kind", AGAIN)
def test_what_must_not_happen_twice_is_sent_again_only_when_nothing_was_done(kind: type[errors.ServiceError]) -> None:
    wait = RetryPolicy().delay(kind("again"), 1, repeatable=False, left=100.0)
    assert (wait is not None) == (kind is errors.RateLimited)


@pytest.mark.parametrize("kind", AGAIN)
def test_what_may_be_repeated_is_sent_again(kind: type[errors.ServiceError]) -> None:
    assert RetryPolicy().delay(kind("again"), 1, repeatable=True, left=100.0) is not None


def test_clients_that_failed_together_do_not_come_back_together() -> None:
    for error in (errors.Unreachable("down"), errors.RateLimited("full", retry_after=1.0)):
        waits = {RetryPolicy().delay(error, 3, repeatable=True, left=100.0) for _ in range(50)}
        assert len(waits) > 40, error


def test_the_time_that_the_service_asks_for_is_respected() -> None:
    policy = RetryPolicy(longest_delay=3.0)
    within = policy.delay(errors.RateLimited("full", retry_after=3.0), 1, repeatable=True, left=100.0)
    assert within is not None
    assert within >= 3.0
    assert policy.delay(errors.RateLimited("full", retry_after=3.1), 1, repeatable=True, left=100.0) is None
    assert policy.delay(errors.RateLimited("full", retry_after=2.0), 1, repeatable=True, left=2.0) is None


def test_the_last_attempt_is_the_last() -> None:
    assert RetryPolicy(attempts=1).delay(errors.Unreachable("down"), 1, repeatable=True, left=100.0) is None


@pytest.mark.parametrize("seconds", [10.0, 60.0])
def test_with_the_defaults_it_is_the_time_that_ends_a_call(seconds: float) -> None:
    """A server that starts again refuses connections, and may take most of that time."""
    policy, left = RetryPolicy(), seconds
    for attempt in range(1, 100):
        wait = policy.delay(errors.Unreachable("refused"), attempt, repeatable=True, left=left)
        if wait is None:
            break
        left -= wait
    assert left <= policy.longest_delay


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"first_delay": -1.0}, {"longest_delay": float("nan")}, {"first_delay": float("inf")}]
)
def test_an_impossible_policy_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(errors.ConfigurationError, match=next(iter(wrong))):
        RetryPolicy(**wrong)  # type: ignore[arg-type]
