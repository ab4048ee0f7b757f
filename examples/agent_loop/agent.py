"""An agent that looks at earlier decisions before it decides: refunds, each recorded step by step.

    DG_SERVER=127.0.0.1:50051 DG_API_KEY=... python agent.py               # the orders below
    DG_SERVER=127.0.0.1:50051 DG_API_KEY=... python agent.py A-1 A-2       # some of them

Beside a running `make run` no variable is needed: address and tokens are read from .run/service.json. The account needs
the roles reader and writer. A second run with the same RUN_ID changes nothing: every step is found as recorded already.
"""

import json
import os
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from decisiongraph.v1.event_pb2 import StoredEvent
from decisiongraph_client import Client, Recorded, Trace, errors, payloads

POLICY = ("refund-limit", "2026-01")
LIMIT = Decimal("100.00")
RUN_ID = os.environ.get("RUN_ID", "demo")


@dataclass(frozen=True)
class Order:
    """What the shop knows of an order."""

    order_id: str
    amount: Decimal
    reason: str


ORDERS = (
    Order("A-1", Decimal("40.00"), "arrived late"),
    Order("A-2", Decimal("240.00"), "arrived damaged"),
    Order("A-3", Decimal("310.00"), "arrived damaged, photo attached"),
)


class Refunds:
    """The agent. `reader` asks, `writer` records; one client would do for an account with both roles."""

    def __init__(self, reader: Client, writer: Client) -> None:
        self._reader = reader
        self._writer = writer

    def decide(self, order: Order) -> str:
        """Decide about one order and return the id of the trace that tells how."""
        trace_id = f"refund-{RUN_ID}-{order.order_id}"
        if self._recorded(trace_id, "TraceFinished"):
            return trace_id
        with self._writer.trace(
            workflow="refund",
            title=f"Refund order {order.order_id}: {order.reason}",
            primary_entity=("order", order.order_id),
            trace_id=trace_id,
            # Named keys make every step repeatable: after a crash the agent simply begins again.
            idempotency_key=f"{trace_id}/start",
        ) as trace:
            read = trace.observe_input(
                "shop",
                "order",
                order.order_id,
                facts={"amount": order.amount, "reason": order.reason},
                input_id="order",
                idempotency_key=f"{trace_id}/order",
            )
            if order.amount <= LIMIT:
                trace.evaluate_policy(POLICY, "allow", inputs=[read], idempotency_key=f"{trace_id}/policy")
            elif not self._exception_granted(trace, trace_id, order, read):
                trace.finish("failure", summary="Not refunded", idempotency_key=f"{trace_id}/end")
                return trace_id
            self._refund(trace, trace_id, order)
            trace.finish("success", summary="Refunded in full", idempotency_key=f"{trace_id}/end")
        return trace_id

    def _exception_granted(self, trace: Trace, trace_id: str, order: Order, read: Recorded) -> bool:
        trace.evaluate_policy(
            POLICY,
            "require_exception",
            inputs=[read],
            violations=[payloads.violation("OVER_LIMIT", f"{order.amount} is above {LIMIT}")],
            idempotency_key=f"{trace_id}/policy",
        )
        precedent = self._best_precedent(trace_id, order)
        if precedent is not None:
            trace.cite_precedent(precedent, "the same reason, refunded", idempotency_key=f"{trace_id}/precedent")
        asked = trace.request_exception(
            POLICY, order.reason, exception_id="over-limit", idempotency_key=f"{trace_id}/exception"
        )
        # A person would be asked here. Without a precedent this one wants to see a photo.
        approved = precedent is not None or "damaged" in order.reason
        trace.record_approval(
            "approved" if approved else "rejected",
            ("person", "maria"),
            exception=asked,
            reason="as in the cited case" if precedent else "looked at the case",
            approval_id="maria",
            idempotency_key=f"{trace_id}/approval",
        )
        return approved

    def _recorded(self, trace_id: str, event_type: str) -> StoredEvent | None:
        """The event of this type, if an earlier run of the agent recorded it: the log is its memory."""
        return next(iter(self._reader.list_events(trace_id=trace_id, event_type=event_type, page_size=1)), None)

    def _best_precedent(self, trace_id: str, order: Order) -> str | None:
        """The trace of the earlier refund that has most in common with this one."""
        cited = self._recorded(trace_id, "PrecedentCited")
        if cited is not None:
            # Begun before and cut off: what is found today may be another one.
            return str(cited.payload["cited_trace_id"])
        found = self._reader.find_precedents(
            query=order.reason, policy_id=POLICY[0], workflow="refund", outcome="success", page_size=20
        )
        # Each matching word is a feature; one word in common says little.
        return next((one.trace_id for one in found if len(one.features) >= 2), None)

    def _refund(self, trace: Trace, trace_id: str, order: Order) -> None:
        action = trace.propose_action(
            "refund",
            ("order", order.order_id),
            "payments",
            changes=[payloads.change("refunded", order.amount)],
            action_id="refund",
            idempotency_key=f"{trace_id}/proposal",
        )
        # The payment itself would happen here, with its own idempotency key.
        trace.commit_action(action, external_reference=f"pay-{order.order_id}", idempotency_key=f"{trace_id}/action")


def clients() -> tuple[Client, Client]:
    """A reading and a recording client: of the variables, or of the service that `make run` runs here."""
    if os.environ.get("DG_SERVER"):
        return Client(), Client(producer="refund-agent", system="support")
    running = json.loads(Path(".run/service.json").read_text())
    return (
        Client(running["grpc"], token=running["tokens"]["reader"]),
        Client(running["grpc"], token=running["tokens"]["writer"], producer="refund-agent", system="support"),
    )


def main() -> int:
    """Run the command line."""
    wanted = set(sys.argv[1:])
    reader, writer = clients()
    with reader, writer:
        refunds = Refunds(reader, writer)
        for order in ORDERS:
            if wanted and order.order_id not in wanted:
                continue
            try:
                trace_id = refunds.decide(order)
            except errors.ServiceError as error:
                print(f"order {order.order_id}: {error.reason}: {error}", file=sys.stderr)
                return 1
            summary = reader.get_trace(trace_id, view="SUMMARY").summary
            print(f"order {order.order_id}: {summary.outcome}, {summary.event_count} events in trace {trace_id}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
