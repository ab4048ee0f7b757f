"""The client of DecisionGraph: record the decisions of agents and automation, and ask what was decided, why, and how.

    from decisiongraph_client import Client

    with Client("localhost:50051", api_key="...", producer="refund-agent") as client:
        with client.trace(workflow="refund", title="Refund order A-1", primary_entity=("order", "A-1")) as trace:
            trace.evaluate_policy(("refund-limit", "7"), "allow")

`AsyncClient` has the same methods for asyncio. Errors are in `decisiongraph_client.errors`, the parts of payloads in
`decisiongraph_client.payloads`.
"""

from decisiongraph_client import errors, payloads
from decisiongraph_client._async.client import AsyncClient
from decisiongraph_client._async.trace import AsyncTrace
from decisiongraph_client._async.watch import AsyncWatch
from decisiongraph_client._outbox_status import OutboxStatus, RefusedEvent
from decisiongraph_client._recorded import Recorded
from decisiongraph_client._retries import RetryPolicy
from decisiongraph_client._settings import Tls
from decisiongraph_client._sync.client import Client
from decisiongraph_client._sync.trace import Trace
from decisiongraph_client._sync.watch import Watch

__all__ = [
    "AsyncClient",
    "AsyncTrace",
    "AsyncWatch",
    "Client",
    "OutboxStatus",
    "Recorded",
    "RefusedEvent",
    "RetryPolicy",
    "Tls",
    "Trace",
    "Watch",
    "errors",
    "payloads",
]
