"""The Python client in tests: both kinds with the same `await`, made for a test's tenant."""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, Literal, TypeAlias

from decisiongraph.v1.event_pb2 import StoredEvent
from decisiongraph_client import AsyncClient, Client
from tests.calling import Service, Tenant

Kind: TypeAlias = Literal["blocking", "asyncio"]
KINDS: Final[tuple[Kind, ...]] = ("blocking", "asyncio")
PRODUCER: Final = "client-test"
_AT_ONCE: Final = {
    "trace",
    "resume_trace",
    "watch",
    "pages",
    "outbox_status",
    "delivery_error",
    "refused_events",
    "forget_refused_events",
}
_DONE: Final = object()


class InThread:
    """A blocking object with the surface of its asyncio twin: each call on a thread of its own."""

    def __init__(self, blocking: Any) -> None:
        self._blocking = blocking

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._blocking, name)
        if not inspect.ismethod(value):
            return value
        if name in _AT_ONCE or name.startswith(("list_", "find_")):
            return lambda *args, **kwargs: _wrapped(value(*args, **kwargs))

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(value, *args, **kwargs)

        return call

    async def __aenter__(self) -> Any:
        await asyncio.to_thread(self._blocking.__enter__)
        return self

    async def __aexit__(self, *ended: object) -> None:
        await asyncio.to_thread(self._blocking.__exit__, *ended)

    async def __aiter__(self) -> AsyncIterator[Any]:
        items: Iterator[Any] = iter(self._blocking)
        while (item := await asyncio.to_thread(next, items, _DONE)) is not _DONE:
            yield item


def _wrapped(value: Any) -> Any:
    ours = type(value).__module__.startswith("decisiongraph_client._sync")
    return InThread(value) if ours or inspect.isgenerator(value) else value


def make_client(kind: Kind, server: str, **given: Any) -> Any:
    """A client of either kind, with the surface of the one for asyncio."""
    given.setdefault("producer", PRODUCER)
    return AsyncClient(server, **given) if kind == "asyncio" else InThread(Client(server, **given))


def token_of(service: Service, tenant: Tenant) -> str:
    """A token that may read and write in the test's tenant."""
    return service.token(tenant_ids=[tenant.tenant_id], roles=["reader", "writer"], account_id="client-test")


@contextlib.asynccontextmanager
async def client_of(kind: Kind, service: Service, tenant: Tenant, /, **given: Any) -> AsyncIterator[Any]:
    """A client for the test's tenant."""
    given.setdefault("token", token_of(service, tenant))
    async with make_client(kind, given.pop("server", service.grpc), **given) as client:
        yield client


async def record_trace(client: Any, title: str = "Refund order A-1", steps: int = 1, **given: Any) -> str:
    """Record a finished trace with so many steps between its ends; its id."""
    async with client.trace(workflow="refund", title=title, primary_entity=("order", "A-1"), **given) as trace:
        for step in range(steps):
            await trace.evaluate_policy((f"policy-{step}", "1"), "allow")
    return str(trace.trace_id)


async def all_of(items: Any) -> list[Any]:
    """Everything that an iterator gives."""
    return [item async for item in items]


async def taken(items: Any, count: int, seconds: float = 30.0) -> list[Any]:
    """The first so many items."""
    found: list[Any] = []
    async with asyncio.timeout(seconds):
        async for item in items:
            found.append(item)
            if len(found) == count:
                break
    return found


def types_of(events: list[StoredEvent]) -> list[str]:
    """The types of events, in their order."""
    return [event.event_type for event in events]
