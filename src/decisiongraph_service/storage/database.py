"""The connections of one server: a bounded pool, and transactions that are each bound to one tenant.

Every statement inside a tenant transaction gets the tenant as `$1`, so that one without a tenant cannot be written by
accident. Instants travel as integers: microseconds since 1970-01-01T00:00:00Z.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, cast

import asyncpg

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.vocabulary import TenantId

RUNTIME_ROLE: Final = "decisiongraph_runtime"
"""The database role that a server works as: it may insert into and read the log, and not change it."""

_TENANT_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_POSTGRES_EPOCH_MICROS: Final = 946_684_800_000_000
_STATEMENT_TIMEOUT_SECONDS: Final = 10
_ACQUIRE_TIMEOUT_SECONDS: Final = 5
_ITERATION_TIMEOUT_SECONDS: Final = 600
_ROWS_AT_ONCE: Final = 500

_PLANNER: Final = {
    # Every statement of the service is a walk along keys. Plans are cached, and one that was made while a table was
    # nearly empty would go on reading the whole table when it is large. Plans for single values are worse at it: they
    # follow the statistics of the moment, take another index from one run to the next, and cost planning each time.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    # Rows come in the order of an index, so that a limit ends the walk. To gather all of a key and sort them looks as
    # good to a plan that does not know how many there are.
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
}

_NOTHING: Final = "SELECT 1"
_IS_SHARDED: Final = "SELECT current_setting('citus.propagate_set_commands', true) = 'local'"

_OUTAGE: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    # What asyncpg says of a connection that the server ended between two statements.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    # The database was dropped, or not yet restored.
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.ReadOnlySQLTransactionError,
)


@contextlib.contextmanager
def _outage_as_storage_unavailable() -> Iterator[None]:
    try:
        yield
    except asyncpg.UndefinedTableError as error:
        raise errors.StorageUnavailable("the database is not migrated; run `decisiongraph migrate` first") from error
    except _OUTAGE as error:
        if isinstance(error, ValueError):
            raise  # asyncpg's word for an argument of the wrong type: our mistake, not an outage
        raise errors.StorageUnavailable(
            "the database cannot be reached or is overloaded; send the request again, with the same idempotency key"
        ) from error


def _slug(tenant_id: str) -> str:
    """The id as it may stand in a SET, which takes no parameters."""
    if not _TENANT_ID.fullmatch(tenant_id):
        raise ValueError("a tenant id is a slug of 1 to 63 characters")
    return tenant_id


class _Connection(asyncpg.Connection):
    """A connection that knows which tenant's rows it sees: row-level security shows it no others."""

    __slots__ = ("_entered", "_sharded")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._entered: str | None = None
        self._sharded = False

    @property
    def sharded(self) -> bool:
        """Whether its tenants are spread over nodes, which learn the tenant in a transaction only (`SET LOCAL`)."""
        return self._sharded

    async def prepare_for_shards(self) -> None:
        """Find out whether the database is one that `decisiongraph db distribute` has worked on."""
        self._sharded = bool(await self.fetchval(_IS_SHARDED))
        if self._sharded:
            # A function is sent to its tenant's node only by a plan that was made for that tenant.
            await self.execute("SET plan_cache_mode = 'auto'")

    async def enter(self, tenant_id: str) -> None:
        """See the rows of this tenant from now on, of no other; an empty id: of none."""
        if self._sharded:
            if self._entered is None:
                # Ends what a statement that was cut off may have left.
                await self.execute(_NOTHING)
                self._entered = ""
            return
        if self._entered != tenant_id:
            # Should the statement be cut off, it is not known what the session sees.
            self._entered = None
            await self.execute(f"SET dg.tenant_id = '{_slug(tenant_id) if tenant_id else ''}'")
            self._entered = tenant_id

    @contextlib.asynccontextmanager
    async def transaction_in(self, tenant_id: TenantId, **options: Any) -> AsyncIterator[None]:
        """A transaction that sees the rows of this tenant, which was entered before."""
        async with self.transaction(**options):
            if self._sharded:
                await self.execute(f"SET LOCAL dg.tenant_id = '{_slug(tenant_id)}'")
            yield

    def cut_off(self) -> None:
        """Take note that a statement may have been cut off, so that the next use begins with one that ends it.

        asyncpg prepares a statement without ending what the server takes for a transaction; running the statement does.
        What is cut off between the two would leave the next user of the connection inside.
        """
        self._entered = None


@dataclass(frozen=True, slots=True)
class TenantTransaction:
    """A transaction that sees and writes one tenant. Passes the tenant as `$1` of every statement."""

    tenant_id: TenantId
    _connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """All rows of `statement`, whose `$2` is the first of `arguments`."""
        return await self._connection.fetch(statement, self.tenant_id, *arguments)

    async def fetch_row(self, statement: str, *arguments: object) -> asyncpg.Record | None:
        """The first row of `statement`, or None."""
        return await self._connection.fetchrow(statement, self.tenant_id, *arguments)

    async def fetch_value(self, statement: str, *arguments: object) -> Any:
        """The first column of the first row of `statement`, or None."""
        return await self._connection.fetchval(statement, self.tenant_id, *arguments)

    async def iterate(self, statement: str, *arguments: object) -> AsyncIterator[asyncpg.Record]:
        """The rows of `statement` a few hundred at a time. Only inside a transaction; sorting may take its time."""
        prepared = await self._connection.prepare(statement, timeout=_ITERATION_TIMEOUT_SECONDS)
        async for row in prepared.cursor(
            self.tenant_id, *arguments, prefetch=_ROWS_AT_ONCE, timeout=_ITERATION_TIMEOUT_SECONDS
        ):
            yield row

    async def execute(self, statement: str, *arguments: object) -> None:
        """Run `statement` for its effect."""
        await self._connection.execute(statement, self.tenant_id, *arguments)


@dataclass(frozen=True, slots=True)
class InstallationTransaction:
    """A transaction on what belongs to the installation: tenants themselves, accounts, keys."""

    _connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """All rows of `statement`."""
        return await self._connection.fetch(statement, *arguments)

    async def fetch_row(self, statement: str, *arguments: object) -> asyncpg.Record | None:
        """The first row of `statement`, or None."""
        return await self._connection.fetchrow(statement, *arguments)

    async def fetch_value(self, statement: str, *arguments: object) -> Any:
        """The first column of the first row of `statement`, or None."""
        return await self._connection.fetchval(statement, *arguments)

    async def execute(self, statement: str, *arguments: object) -> None:
        """Run `statement` for its effect."""
        await self._connection.execute(statement, *arguments)

    async def in_tenant(self, tenant_id: TenantId) -> TenantTransaction:
        """The same transaction, from now on inside a tenant, e.g. for what belongs into its audit log."""
        await self._connection.execute(f"SET LOCAL dg.tenant_id = '{_slug(tenant_id)}'")
        return TenantTransaction(tenant_id, self._connection)


@dataclass(frozen=True, slots=True)
class Connections:
    """The connections of a pool."""

    opened: int
    busy: int
    limit: int
    """How many there can be."""


class Database:
    """A pool of connections to one database, working as the runtime role."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    @classmethod
    async def open(cls, database_url: str, *, pool_size: int) -> Self:
        """Connect.

        Raises:
            StorageUnavailable: the database cannot be reached, refuses the account, is not migrated, or takes no
                writes. A standby, or one that is being restored, lets itself be read while it lacks what was
                acknowledged.
        """
        try:
            pool = await asyncpg.create_pool(
                database_url,
                target_session_attrs=asyncpg.connect_utils.SessionAttribute.read_write,
                min_size=min(2, pool_size),
                max_size=pool_size,
                connection_class=_Connection,
                init=_prepare_connection,
                reset=_leave_as_it_is,
                command_timeout=_STATEMENT_TIMEOUT_SECONDS,
                timeout=_ACQUIRE_TIMEOUT_SECONDS,
                server_settings={"application_name": "decisiongraph", "role": RUNTIME_ROLE, **_PLANNER},
            )
        except asyncpg.InvalidParameterValueError as error:
            raise errors.StorageUnavailable(
                f"the database is not migrated ({error}); run `decisiongraph migrate` first"
            ) from error
        except asyncpg.TargetServerAttributeNotMatched as error:
            raise errors.StorageUnavailable(
                "the database is a standby, still recovers, or is set to be read only; wait, or name the one that "
                "takes writes"
            ) from error
        except (*_OUTAGE, asyncpg.PostgresError) as error:
            raise errors.StorageUnavailable(f"the database cannot be opened: {error}") from error
        return cls(pool)

    @property
    def connections(self) -> Connections:
        """Those of the pool as it is now."""
        opened = self._pool.get_size()
        return Connections(opened, opened - self._pool.get_idle_size(), self._pool.get_max_size())

    async def close(self) -> None:
        """Close all connections; those in use are given three seconds."""
        try:
            async with asyncio.timeout(3):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    @contextlib.asynccontextmanager
    async def _connected(self, tenant_id: str) -> AsyncIterator["asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"]:
        """A connection of the pool that sees the rows of this tenant; an empty id: of none."""
        with _outage_as_storage_unavailable():
            async with self._pool.acquire(timeout=_ACQUIRE_TIMEOUT_SECONDS) as connection:
                own = _of(connection)
                await own.enter(tenant_id)
                # Of the connection itself: when that breaks, its proxy lets go of it.
                cut_off = own.cut_off
                try:
                    yield connection
                except errors.DecisionGraphError:
                    raise
                except BaseException:
                    cut_off()
                    raise

    @contextlib.asynccontextmanager
    async def tenant_transaction(
        self, tenant_id: TenantId, *, isolation: Literal["read_committed", "repeatable_read"] = "read_committed"
    ) -> AsyncIterator[TenantTransaction]:
        """A transaction for one tenant: commits at the end of the block, rolls back if the block raises.

        Raises:
            StorageUnavailable: the database cannot be reached or has no connection free within five seconds.
        """
        async with (
            self._connected(tenant_id) as connection,
            _of(connection).transaction_in(tenant_id, isolation=isolation),
        ):
            yield TenantTransaction(tenant_id, connection)

    @contextlib.asynccontextmanager
    async def tenant_statements(self, tenant_id: TenantId) -> AsyncIterator[TenantTransaction]:
        """Statements for one tenant, each a transaction of its own: saves the round trips of BEGIN and COMMIT.

        Where tenants are sharded they are one transaction all the same, since only in one do shards learn the tenant.
        So a block must not count on what it wrote being visible to others before its end.

        Raises:
            StorageUnavailable: the database cannot be reached or has no connection free within five seconds.
        """
        async with self._connected(tenant_id) as connection:
            if _of(connection).sharded:
                async with _of(connection).transaction_in(tenant_id):
                    yield TenantTransaction(tenant_id, connection)
            else:
                yield TenantTransaction(tenant_id, connection)

    @contextlib.asynccontextmanager
    async def tenant_snapshot(self, tenant_id: TenantId) -> AsyncIterator[TenantTransaction]:
        """A read-only transaction for one tenant whose statements all see the same state.

        Raises:
            StorageUnavailable: the database cannot be reached or has no connection free within five seconds.
        """
        async with (
            self._connected(tenant_id) as connection,
            _of(connection).transaction_in(tenant_id, isolation="repeatable_read", readonly=True),
        ):
            yield TenantTransaction(tenant_id, connection)

    @contextlib.asynccontextmanager
    async def installation_transaction(self) -> AsyncIterator[InstallationTransaction]:
        """A transaction on the installation: commits at the end of the block, rolls back if the block raises.

        Raises:
            StorageUnavailable: the database cannot be reached or has no connection free within five seconds.
        """
        async with self._connected("") as connection, connection.transaction():
            yield InstallationTransaction(connection)

    async def fetch_installation_rows(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Rows that belong to the installation: only where something runs for all tenants.

        Raises:
            StorageUnavailable: the database cannot be reached.
        """
        async with self._connected("") as connection:
            return await connection.fetch(statement, *arguments, timeout=_ACQUIRE_TIMEOUT_SECONDS)

    async def fetch_installation_value(self, statement: str, *arguments: object) -> Any:
        """One value that belongs to the installation and to no tenant.

        Raises:
            StorageUnavailable: the database cannot be reached.
        """
        async with self._connected("") as connection:
            return await connection.fetchval(statement, *arguments, timeout=_ACQUIRE_TIMEOUT_SECONDS)


def _of(connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> _Connection:
    """The pool's connection as what it is: its proxy hands on every method."""
    return cast("_Connection", connection)


async def _leave_as_it_is(connection: object) -> None:
    """Spare a round trip for each use of a connection: no statement of the service changes the session.

    An open transaction is rolled back by the pool all the same.
    """


async def _prepare_connection(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await cast("_Connection", connection).prepare_for_shards()
    # Python's datetime ends at the years 1 and 9999; an instant with an offset may lie beyond either.
    await connection.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        format="tuple",
        encoder=lambda micros: (micros - _POSTGRES_EPOCH_MICROS,),
        decoder=lambda parts: parts[0] + _POSTGRES_EPOCH_MICROS,
    )
