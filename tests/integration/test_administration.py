"""Acts on tenants, accounts and keys: all or nothing with their audit entry, and never without somebody who may act."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, cast

import asyncpg
import pytest
from tests.accounts import SYSTEM, Connection

from decisiongraph_service.access import revocations, tokens
from decisiongraph_service.access.administration import Administration, NewKey
from decisiongraph_service.access.revocations import Revocations
from decisiongraph_service.access.tokens import Caller
from decisiongraph_service.domain import errors
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import server
from decisiongraph_service.storage import accounts, audit
from decisiongraph_service.storage.accounts import Account
from decisiongraph_service.storage.audit import Act
from decisiongraph_service.storage.database import Database

_ACT: Final = Act("tester", "test", "to see", "request-1")
_NUMBERS: Final = itertools.count()


class Told:
    """Counts how often servers are told to look again."""

    def __init__(self) -> None:
        self.times = 0
        self.outage = False

    async def __call__(self) -> None:
        self.times += 1
        if self.outage:
            raise errors.StorageUnavailable("no answer")


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def owner(own_database_url: str) -> AsyncIterator[Connection]:
    """The owner of a database in which nobody may manage access yet."""
    opened = await asyncpg.connect(own_database_url)
    await opened.execute("UPDATE service_accounts SET disabled_at = now()")
    yield opened
    await opened.close()


@pytest.fixture
def administration(own_database: Database, owner: Connection, told: Told) -> Administration:
    return Administration(own_database, clock=server.clock_micros, revoked=told)


async def make(administration: Administration, *permissions: str, roles: tuple[str, ...] = ("admin",)) -> str:
    """A new account in the installation's own tenant."""
    name = f"administered-{next(_NUMBERS)}"
    made = await administration.create_account(Account(name, name, [SYSTEM], roles, permissions), _ACT)
    return made.account_id


async def enabled_managers(owner: Connection) -> set[str]:
    rows = await owner.fetch(
        "SELECT account_id FROM service_accounts WHERE disabled_at IS NULL AND 'access_manage' = ANY (permissions)"
    )
    return {row["account_id"] for row in rows}


# Somebody must be able to manage access


async def test_the_last_account_that_may_manage_access_cannot_be_disabled(
    administration: Administration, owner: Connection, told: Told
) -> None:
    first = await make(administration, "access_manage")
    powerless = await make(administration, "audit_read", roles=("admin", "reader"))
    with pytest.raises(errors.FailedPrecondition, match=first):
        await administration.disable_account(first, _ACT)
    assert told.times == 0
    await administration.disable_account(powerless, _ACT)
    second = await make(administration, "access_manage")
    await administration.disable_account(first, _ACT)
    await administration.disable_account(first, _ACT)
    with pytest.raises(errors.FailedPrecondition, match=second):
        await administration.disable_account(second, _ACT)
    await administration.enable_account(first, _ACT)
    await administration.disable_account(second, _ACT)
    assert await enabled_managers(owner) == {first}


async def test_of_several_that_are_disabled_at_once_one_stays(
    administration: Administration, owner: Connection
) -> None:
    for count in (2, 2, 3, 5):
        await owner.execute("UPDATE service_accounts SET disabled_at = now()")
        names = [await make(administration, "access_manage") for _ in range(count)]
        outcomes = await asyncio.gather(
            *(administration.disable_account(name, _ACT) for name in names), return_exceptions=True
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert [type(refusal) for refusal in refused] == [errors.FailedPrecondition]
        assert len(await enabled_managers(owner)) == 1


async def first_administrator(
    database: Database, name: str, tenant_ids: Sequence[str], permissions: Sequence[str], *, clock: Callable[[], int]
) -> NewKey:
    async def nothing() -> None:
        return None

    administration = Administration(database, clock=clock, revoked=nothing)
    return await administration.bootstrap(name, tenant_ids, permissions, Act("local", "bootstrap", "first", "r"))


async def test_the_first_administrator_is_made_once(own_database: Database, owner: Connection) -> None:
    name = f"administered-{next(_NUMBERS)}"

    async def bootstrap(account_id: str) -> NewKey:
        return await first_administrator(
            own_database, account_id, [SYSTEM], tokens.PERMISSIONS, clock=server.clock_micros
        )

    made = await bootstrap(name)
    assert await enabled_managers(owner) == {name}
    assert made.key.account_id == name
    for again in (name, f"{name}-again"):
        with pytest.raises(errors.FailedPrecondition):
            await bootstrap(again)
    assert await enabled_managers(owner) == {name}


async def test_who_lost_every_key_gets_in_again(own_database: Database, owner: Connection) -> None:
    names = [f"administered-{next(_NUMBERS)}" for _ in range(3)]
    await owner.execute("UPDATE service_accounts SET disabled_at = now()")
    made = await first_administrator(own_database, names[0], [SYSTEM], ["access_manage"], clock=server.clock_micros)
    with pytest.raises(errors.FailedPrecondition, match=names[0]):
        await first_administrator(own_database, names[1], [SYSTEM], ["access_manage"], clock=server.clock_micros)
    await owner.execute("UPDATE api_keys SET revoked_at = now() WHERE key_id = $1", made.key.key_id)
    made = await first_administrator(own_database, names[1], [SYSTEM], ["access_manage"], clock=server.clock_micros)
    await owner.execute("UPDATE api_keys SET expires_at = now() WHERE key_id = $1", made.key.key_id)
    await first_administrator(own_database, names[2], [SYSTEM], ["access_manage"], clock=server.clock_micros)


async def test_of_two_first_administrators_at_once_one_is_made(own_database: Database, owner: Connection) -> None:
    names = [f"administered-{next(_NUMBERS)}" for _ in range(2)]
    outcomes = await asyncio.gather(
        *(first_administrator(own_database, name, [SYSTEM], ["access_manage"], clock=lambda: 0) for name in names),
        return_exceptions=True,
    )
    assert len([outcome for outcome in outcomes if isinstance(outcome, NewKey)]) == 1
    assert len(await enabled_managers(owner)) == 1


async def test_a_first_administrator_whose_key_cannot_be_made_is_not_made(
    own_database: Database, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise OSError("the connection broke")

    name = f"administered-{next(_NUMBERS)}"
    with monkeypatch.context() as broken:
        broken.setattr(accounts, "create_key", fail)
        with pytest.raises(errors.StorageUnavailable):
            await first_administrator(own_database, name, [SYSTEM], ["access_manage"], clock=lambda: 0)
    assert await enabled_managers(owner) == set(), "nobody has its key, and it stands in the way of another"
    made = await first_administrator(own_database, name, [SYSTEM], ["access_manage"], clock=lambda: 0)
    assert made.key.account_id == name


# An act and its audit entry

_Run = Callable[[Administration, str, str], Awaitable[object]]
_ACTS: Final[dict[str, tuple[_Run, str, bool]]] = {
    "create_tenant": (lambda a, name, _: a.create_tenant(TenantId(f"{name}-t"), "", _ACT), "tenant {name}-t", False),
    "disable_tenant": (lambda a, name, _: a.disable_tenant(TenantId(name), _ACT), "tenant {name}", True),
    "enable_tenant": (lambda a, name, _: a.enable_tenant(TenantId(f"{name}-off"), _ACT), "tenant {name}-off", True),
    "create_account": (
        lambda a, name, _: a.create_account(Account(f"{name}-a", "", [SYSTEM], ["reader"], []), _ACT),
        "service account {name}-a",
        False,
    ),
    "disable_account": (lambda a, name, _: a.disable_account(name, _ACT), "service account {name}", True),
    "enable_account": (lambda a, name, _: a.enable_account(f"{name}-off", _ACT), "service account {name}-off", True),
    "create_key": (lambda a, name, _: a.create_key(name, None, _ACT), "key ", False),
    "revoke_key": (lambda a, name, key: a.revoke_key(name, key, _ACT), "key {key} of {name}", True),
}


async def prepared(administration: Administration) -> tuple[str, str]:
    """A name under which a tenant and an account are, both also disabled as `<name>-off`, and a key of the account."""
    name = f"administered-{next(_NUMBERS)}"
    for each in (name, f"{name}-off"):
        await administration.create_tenant(TenantId(each), "", _ACT)
        await administration.create_account(Account(each, "", [each], ["reader"], []), _ACT)
    await administration.disable_tenant(TenantId(f"{name}-off"), _ACT)
    await administration.disable_account(f"{name}-off", _ACT)
    return name, (await administration.create_key(name, None, _ACT)).key.key_id


async def state(owner: Connection) -> list[str]:
    """Everything that acts can change, and the audit log."""
    tables = ("tenants", "log_heads", "projection_generations", "service_accounts", "api_keys", "audit_entries")
    rows: list[str] = []
    for table in (*tables, "audit_heads"):
        rows.extend(row[0] for row in await owner.fetch(f"SELECT '{table}' || t::text FROM {table} AS t"))  # noqa: S608
    return sorted(rows)


def test_every_act_of_administration_is_in_the_table() -> None:
    # The first administrator is made by other acts of the table.
    assert {*_ACTS, "bootstrap"} == {name for name in vars(Administration) if not name.startswith("_")}


@pytest.mark.parametrize("act", _ACTS)
async def test_an_act_leaves_its_entry_and_tells_the_servers_what_was_switched(
    administration: Administration, owner: Connection, told: Told, act: str
) -> None:
    name, key = await prepared(administration)
    told.times, told.outage = 0, True
    run, target, tells = _ACTS[act]
    before = await owner.fetchval("SELECT max(audit_seq) FROM audit_entries WHERE tenant_id = $1", SYSTEM)
    await run(administration, name, key)
    entries = await owner.fetch("SELECT * FROM audit_entries WHERE tenant_id = $1 AND audit_seq > $2", SYSTEM, before)
    assert len(entries) == 1
    assert entries[0]["target"].startswith(target.format(name=name, key=key))
    assert (entries[0]["outcome"], entries[0]["account_id"], entries[0]["reason"]) == ("done", "tester", "to see")
    assert told.times == tells, "and that they did not hear of it makes no failure of it"


@pytest.mark.parametrize("act", _ACTS)
async def test_an_act_that_cannot_be_put_on_record_is_not_done(
    administration: Administration, owner: Connection, told: Told, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    name, key = await prepared(administration)
    before, told.times = await state(owner), 0
    with monkeypatch.context() as broken:
        broken.setattr(audit, "append", fail)
        with pytest.raises(errors.StorageUnavailable):
            await _ACTS[act][0](administration, name, key)
    assert await state(owner) == before
    assert told.times == 0
    await _ACTS[act][0](administration, name, key)
    assert await state(owner) != before


# What a server knows of revocations, and for how long

_CALLER: Final = Caller("account", (TenantId("t"),), frozenset(), frozenset(), 0, "key")


class Outage:
    """A database that answers a revoked key, fails, or takes its time, as it is told."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.ids: list[str] = []
        self.before: Callable[[], Awaitable[None]] | None = None

    async def fetch_installation_rows(self, *_: object) -> list[dict[str, str]]:
        answer = [{"kind": "key", "id": one} for one in self.ids]
        if self.before is not None:
            await self.before()
        return answer

    def known(self) -> Revocations:
        """What a server knows that looks into this database, with a clock that stands still."""
        return Revocations(cast("Database", self), clock=lambda: 10**15, monotonic=lambda: self.seconds)


async def _no_answer() -> None:
    raise errors.StorageUnavailable("no answer")


async def test_who_did_not_look_yet_lets_nobody_in() -> None:
    with pytest.raises(errors.StorageUnavailable):
        Outage().known().require_valid(_CALLER)


async def test_who_cannot_look_for_five_seconds_lets_nobody_in() -> None:
    database = Outage()
    known = database.known()
    await known.refresh()
    database.seconds += 5
    known.require_valid(_CALLER)
    database.before = _no_answer
    with pytest.raises(errors.StorageUnavailable):
        await known.refresh()
    known.require_valid(_CALLER)
    database.seconds += 0.001
    with pytest.raises(errors.StorageUnavailable):
        known.require_valid(_CALLER)
    database.before = None
    await known.refresh()
    known.require_valid(_CALLER)


async def test_the_five_seconds_begin_with_the_question_and_not_with_the_answer() -> None:
    database = Outage()

    async def slowly() -> None:
        database.seconds += 4

    database.before = slowly
    known = database.known()
    await known.refresh()
    database.seconds += 1
    known.require_valid(_CALLER)
    database.seconds += 0.001
    with pytest.raises(errors.StorageUnavailable):
        known.require_valid(_CALLER)


async def test_a_closed_database_lets_nobody_in_after_five_seconds(own_database_url: str) -> None:
    seconds = [0.0]
    database = await Database.open(own_database_url, pool_size=1)
    known = Revocations(database, clock=server.clock_micros, monotonic=lambda: seconds[0])
    await known.refresh()
    await database.close()
    with pytest.raises(errors.StorageUnavailable):
        await known.refresh()
    known.require_valid(_CALLER)
    seconds[0] = 5.001
    with pytest.raises(errors.StorageUnavailable):
        known.require_valid(_CALLER)


async def _unthought_of() -> None:
    raise asyncpg.InvalidPasswordError("the password was changed")


@pytest.mark.parametrize("failure", [_no_answer, _unthought_of])
async def test_who_could_not_look_looks_again(
    failure: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "_LOOK_EVERY_SECONDS", 0.01)
    database, looked = Outage(), asyncio.Event()

    async def fail() -> None:
        looked.set()
        await failure()

    known = database.known()
    await known.start()
    try:
        database.before = fail
        await asyncio.wait_for(looked.wait(), 5)
        database.before, database.ids = None, ["key"]
        await asyncio.sleep(0.2)
        with pytest.raises(errors.Unauthenticated):
            known.require_valid(_CALLER)
    finally:
        with contextlib.suppress(asyncpg.InvalidPasswordError):
            await known.stop()


async def test_a_look_that_is_overtaken_does_not_bring_back_what_was_revoked_meanwhile() -> None:
    database = Outage()
    known = database.known()
    answered = asyncio.Event()

    async def late() -> None:
        await answered.wait()

    database.before = late
    overtaken = asyncio.create_task(known.refresh())
    await asyncio.sleep(0)
    database.before, database.ids = None, ["key"]
    database.seconds += 0.1
    await known.refresh()
    answered.set()
    await overtaken
    with pytest.raises(errors.Unauthenticated):
        known.require_valid(_CALLER)
