"""How long a read takes that wants to see what its caller has just written."""

import time
import uuid
from typing import Final

from google.protobuf import json_format
from google.protobuf.message import Message

from bench.query_calls import GrpcCaller, figures
from decisiongraph.v1 import ingestion_service_pb2, query_service_pb2

ROUNDS: Final = 100


def measure(caller: GrpcCaller, rpc: str) -> dict[str, float]:
    """Append an event and at once read what comes of it, again and again, by `GetTrace` or `ListNodeEdges`.

    Returns:
        Figures of `own`, the first read after each append, and of `again`, the same read once more.

    Raises:
        CallFailed: a call was not answered with OK.
    """
    run = uuid.uuid4().hex[:8]
    own: list[float] = []
    again: list[float] = []
    for number in range(ROUNDS):
        name = f"fresh-{run}-{number}"
        stored = caller.append(_append(name)).event
        request = _read(rpc, name, stored.log_seq)
        for taken in (own, again):
            began = time.perf_counter()
            answer = caller.ask(rpc, request)
            taken.append(1000 * (time.perf_counter() - began))
            if not _has_something(answer):
                raise RuntimeError(f"{rpc} did not see the event at {stored.log_seq} that was written before it")
    return {**figures("own", sorted(own)), **figures("again", sorted(again))}


def _append(name: str) -> ingestion_service_pb2.AppendEventRequest:
    event = {
        "trace_id": name,
        "event_type": "TraceStarted",
        "occurred_at": "2026-03-20T10:00:00Z",
        "source": {"producer_id": "bench", "system": "bench"},
        "actor": {"actor_type": "agent", "actor_id": "agent-1"},
        "idempotency_key": name,
        "payload": {
            "workflow": "fresh",
            "title": "Written just now",
            "primary_entity": {"entity_type": "order", "entity_id": name},
        },
    }
    return json_format.ParseDict({"event": event}, ingestion_service_pb2.AppendEventRequest())


def _read(rpc: str, name: str, log_seq: int) -> Message:
    if rpc == "GetTrace":
        return query_service_pb2.GetTraceRequest(trace_id=name, min_log_seq=log_seq)
    return query_service_pb2.ListNodeEdgesRequest(node_type="entity", node_id=f"order:{name}", min_log_seq=log_seq)


def _has_something(answer: Message) -> bool:
    if isinstance(answer, query_service_pb2.GetTraceResponse):
        return len(answer.events) == 1
    return isinstance(answer, query_service_pb2.ListNodeEdgesResponse) and len(answer.edges) == 1
