"""AdminService: acts of operators in, jobs and failures out. Rpcs that are not here are not implemented yet."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from google.protobuf import struct_pb2

from decisiongraph.v1 import admin_service_pb2
from decisiongraph_service.access import authorization
from decisiongraph_service.access.administration import Administration
from decisiongraph_service.domain import errors
from decisiongraph_service.domain.replay import ReplayRequest
from decisiongraph_service.projection.replays import ReplayPowers, Replays
from decisiongraph_service.queries.access import AccessQueries
from decisiongraph_service.queries.audit import AuditQueries, AuditWanted
from decisiongraph_service.queries.health import HealthQueries
from decisiongraph_service.queries.jobs import JobQueries
from decisiongraph_service.rpc import access_messages, projection_messages, struct_json
from decisiongraph_service.rpc.access_rpcs import AccessRpcs
from decisiongraph_service.rpc.interceptors import call

_Context = grpc.aio.ServicerContext[Any, Any]
_MAX_METADATA_BYTES: Final = 8 * 1024


class AdminServicer(AccessRpcs):
    """Answers AdminService."""

    def __init__(
        self,
        replays: Replays,
        jobs: JobQueries,
        health: HealthQueries,
        administration: Administration,
        access: AccessQueries,
        audit: AuditQueries,
        *,
        rebuild_enabled: bool,
    ) -> None:
        self._replays = replays
        self._administration = administration
        self._access = access
        self._audit = audit
        self._jobs = jobs
        self._health = health
        self._rebuild_enabled = rebuild_enabled

    async def StartReplay(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.StartReplayRequest, context: _Context
    ) -> admin_service_pb2.StartReplayResponse:
        """Queue a job."""
        job = await self._replays.start(
            call.tenant(),
            ReplayRequest(
                projection=request.projection,
                mode=request.mode,
                reason=request.reason,
                since_log_seq=request.since_log_seq if request.HasField("since_log_seq") else 0,
                until_log_seq=request.until_log_seq if request.HasField("until_log_seq") else None,
                metadata=_metadata(request.metadata),
            ),
            call.act("StartReplay", request.reason),
            self._powers(),
        )
        return admin_service_pb2.StartReplayResponse(job=projection_messages.job_to_message(job, call.tenant()))

    async def GetReplay(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.GetReplayRequest, context: _Context
    ) -> admin_service_pb2.GetReplayResponse:
        """One job."""
        job = await self._replays.get(call.tenant(), request.job_id, self._powers())
        return admin_service_pb2.GetReplayResponse(job=projection_messages.job_to_message(job, call.tenant()))

    async def ListReplays(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.ListReplaysRequest, context: _Context
    ) -> admin_service_pb2.ListReplaysResponse:
        """A page of jobs, newest first."""
        page = await self._jobs.list_jobs(
            call.tenant(),
            projection=request.projection,
            status=request.status,
            modes=self._powers().modes,
            page_size=request.page_size if request.HasField("page_size") else None,
            page_token=request.page_token,
        )
        return admin_service_pb2.ListReplaysResponse(
            jobs=[projection_messages.job_to_message(job, call.tenant()) for job in page.jobs],
            next_page_token=page.next_page_token,
        )

    async def WatchReplay(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.WatchReplayRequest, context: _Context
    ) -> AsyncIterator[admin_service_pb2.WatchReplayResponse]:
        """A job whenever it has changed, until its end."""
        watch = self._replays.watch(call.tenant(), request.job_id, self._powers())
        async with contextlib.aclosing(watch) as jobs:
            async for job in jobs:
                message = projection_messages.job_to_message(job, call.tenant())
                yield admin_service_pb2.WatchReplayResponse(job=message)

    async def CancelReplay(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.CancelReplayRequest, context: _Context
    ) -> admin_service_pb2.CancelReplayResponse:
        """End an active job."""
        act = call.act("CancelReplay", request.reason)
        job = await self._replays.cancel(call.tenant(), request.job_id, act, self._powers())
        return admin_service_pb2.CancelReplayResponse(job=projection_messages.job_to_message(job, call.tenant()))

    async def ListProjectionFailures(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.ListProjectionFailuresRequest, context: _Context
    ) -> admin_service_pb2.ListProjectionFailuresResponse:
        """A page of events that could not be applied."""
        page = await self._health.list_failures(
            call.tenant(),
            projection=request.projection,
            include_resolved=request.include_resolved,
            page_size=request.page_size if request.HasField("page_size") else None,
            page_token=request.page_token,
        )
        return admin_service_pb2.ListProjectionFailuresResponse(
            failures=[projection_messages.failure_to_message(failure) for failure in page.failures],
            next_page_token=page.next_page_token,
        )

    async def RetryProjection(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.RetryProjectionRequest, context: _Context
    ) -> admin_service_pb2.RetryProjectionResponse:
        """Let a stopped projection try again."""
        await self._replays.retry(call.tenant(), request.projection, call.act("RetryProjection", request.reason))
        health = await self._health.get_health(call.tenant())
        chosen = next(one for one in health.projections if one.live.projection == request.projection)
        return admin_service_pb2.RetryProjectionResponse(projection=projection_messages.health_to_message(chosen))

    async def ListAuditEntries(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.ListAuditEntriesRequest, context: _Context
    ) -> admin_service_pb2.ListAuditEntriesResponse:
        """A page of the audit log."""
        page = await self._audit.list_entries(
            call.tenant(),
            AuditWanted(
                account_id=request.account_id,
                action=request.action,
                outcome=request.outcome,
                since_recorded_at=request.since_recorded_at,
                until_recorded_at=request.until_recorded_at,
            ),
            page_size=request.page_size if request.HasField("page_size") else None,
            page_token=request.page_token,
        )
        return admin_service_pb2.ListAuditEntriesResponse(
            entries=[access_messages.audit_entry_to_message(entry, call.tenant()) for entry in page.entries],
            next_page_token=page.next_page_token,
        )

    def _powers(self) -> ReplayPowers:
        caller = call.current().caller
        permissions = frozenset[str]() if caller is None else caller.permissions
        return ReplayPowers(authorization.replay_modes(permissions), self._rebuild_enabled)


def _metadata(struct: struct_pb2.Struct) -> str:
    """The metadata as JSON text.

    Raises:
        InvalidArgument: it is too long, or holds what JSON does not: a value without a kind, NaN, an infinity.
    """
    try:
        text = json.dumps(struct_json.to_object(struct), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise _bad_metadata("holds a value that is not JSON; send an object of JSON values") from error
    if len(text.encode()) > _MAX_METADATA_BYTES:
        raise _bad_metadata(f"is longer than {_MAX_METADATA_BYTES} bytes as JSON; keep the facts elsewhere")
    return text


def _bad_metadata(what: str) -> errors.InvalidArgument:
    return errors.InvalidArgument([errors.Violation("metadata", "INVALID", what)])
