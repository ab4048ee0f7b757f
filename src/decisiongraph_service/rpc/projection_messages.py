"""Projections, rows of the graph, failures and replay jobs as messages of the contract."""

import json
from collections.abc import Sequence

from decisiongraph.v1 import graph_pb2, precedent_pb2, projection_pb2, query_service_pb2, replay_pb2
from decisiongraph_service.domain import precedent_search, timestamps
from decisiongraph_service.domain.context_graph import EdgeRow, NodeRow
from decisiongraph_service.domain.precedent_search import Term
from decisiongraph_service.domain.replay import ReplayJob
from decisiongraph_service.queries.health import Health, ProjectionHealth
from decisiongraph_service.queries.ranked_precedents import RankedPage
from decisiongraph_service.rpc import messages, struct_json
from decisiongraph_service.storage.precedent_documents import RankedHit
from decisiongraph_service.storage.precedent_index import PrecedentHit
from decisiongraph_service.storage.projection_failures import ProjectionFailure


def _time(micros: int | None) -> str | None:
    return None if micros is None else timestamps.format_micros(micros)


def job_to_message(job: ReplayJob, tenant_id: str) -> replay_pb2.ReplayJob:
    """A job as it stands."""
    request = job.request
    message = replay_pb2.ReplayJob(
        job_id=job.job_id,
        tenant_id=tenant_id,
        projection=request.projection,
        mode=request.mode,
        status=job.status,
        requested_at=timestamps.format_micros(job.requested_at_micros),
        started_at=_time(job.started_at_micros),
        finished_at=_time(job.finished_at_micros),
        since_log_seq=request.since_log_seq,
        until_log_seq=request.until_log_seq,
        processed_events=job.processed_events,
        last_log_seq=job.last_log_seq,
        error_code=job.error_code,
        error_message=job.error_message,
        reason=request.reason,
        requested_by=job.requested_by,
        verify_results=[
            replay_pb2.VerifyResult(
                projection=result.projection,
                matches=result.matches,
                log_seq=result.log_seq,
                live_digest=result.live_digest,
                expected_digest=result.expected_digest,
                first_difference=result.first_difference,
            )
            for result in job.verify_results
        ],
        progress=replay_pb2.ReplayProgress(
            done_events=job.processed_events,
            total_events=job.total_events,
            events_per_second=job.events_per_second,
            seconds_left=job.seconds_left,
        ),
    )
    message.metadata.SetInParent()
    struct_json.fill(message.metadata, json.loads(request.metadata))
    return message


def health_to_message(health: ProjectionHealth) -> projection_pb2.ProjectionHealth:
    """How one projection stands."""
    digest = health.digest
    return projection_pb2.ProjectionHealth(
        projection=health.live.projection,
        log_seq=health.live.log_seq,
        lag_events=health.lag_events,
        lag_seconds=health.lag_seconds,
        state=health.state,
        generation=health.live.generation,
        digest=None if digest is None else digest.digest,
        digest_log_seq=None if digest is None else digest.log_seq,
        open_failures=health.open_failures,
        running_job_id=health.running_job_id,
        moved_at=_time(health.live.moved_at_micros),
    )


def health_to_response(health: Health) -> query_service_pb2.GetProjectionHealthResponse:
    """How all projections of a tenant stand."""
    return query_service_pb2.GetProjectionHealthResponse(
        head_log_seq=health.head_log_seq,
        projections=[health_to_message(one) for one in health.projections],
        full_digest=health.full_digest,
        # Positions have no gaps.
        event_count=health.head_log_seq,
        trace_count=health.trace_count,
    )


def node_to_message(row: NodeRow) -> graph_pb2.ContextNode:
    """A node of the context graph."""
    message = graph_pb2.ContextNode(
        node_id=row.node_id,
        node_type=row.node_type,
        trace_id=row.trace_id,
        log_seq=row.log_seq,
        created_at=row.created_at,
    )
    message.attrs.SetInParent()
    return message


def edge_to_message(row: EdgeRow) -> graph_pb2.ContextEdge:
    """An edge of the context graph."""
    message = graph_pb2.ContextEdge(
        edge_id=row.edge_id,
        edge_type=row.edge_type,
        from_node_id=row.from_node_id,
        to_node_id=row.to_node_id,
        trace_id=row.trace_id,
        log_seq=row.log_seq,
        created_at=row.created_at,
    )
    message.attrs.SetInParent()
    return message


def precedent_to_message(hit: PrecedentHit) -> precedent_pb2.Precedent:
    """A finished trace that matches."""
    return precedent_pb2.Precedent(
        trace_id=hit.trace_id,
        workflow=hit.workflow,
        title=hit.title,
        outcome=hit.outcome,
        finished_at=hit.finished_at,
        policy_id=hit.policy_id,
        policy_version=hit.policy_version,
    )


def ranked_page_to_response(page: RankedPage) -> query_service_pb2.FindPrecedentsResponse:
    """A page of a ranked search, each hit with what matched."""
    keys = [term.key for term in page.terms]
    return query_service_pb2.FindPrecedentsResponse(
        precedents=[_ranked_to_message(hit, page.terms, keys) for hit in page.hits],
        next_page_token=page.next_page_token,
        position=messages.position_to_message(page.position),
    )


def _ranked_to_message(hit: RankedHit, terms: Sequence[Term], keys: Sequence[int]) -> precedent_pb2.Precedent:
    return precedent_pb2.Precedent(
        trace_id=hit.document.trace_id,
        workflow=hit.workflow,
        title=hit.title,
        outcome=hit.outcome,
        finished_at=hit.finished_at,
        policy_id=hit.policy_id,
        policy_version=hit.policy_version,
        score=hit.score,
        features=[
            precedent_pb2.PrecedentFeature(feature=term.feature, value=term.shown, weight=term.weight, result=result)
            for term, result in precedent_search.matches(terms, keys, hit.document)
        ],
    )


def failure_to_message(failure: ProjectionFailure) -> projection_pb2.ProjectionFailure:
    """An event that could not be applied."""
    return projection_pb2.ProjectionFailure(
        projection=failure.projection,
        log_seq=failure.log_seq,
        trace_id=failure.trace_id,
        event_id=failure.event_id,
        category=failure.category,
        message=failure.message,
        recoverable=failure.recoverable,
        retry_count=failure.retry_count,
        failed_at=timestamps.format_micros(failure.failed_at_micros),
        resolved_at=_time(failure.resolved_at_micros),
    )
