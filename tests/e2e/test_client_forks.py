"""Forks: parent and children both go on, with one client and one outbox, or are told why not; nobody waits for ever."""

import asyncio
from pathlib import Path

import pytest
from tests.calling import Service, Tenant
from tests.fork_programs import assert_recorded, run, succeeds


@pytest.fixture(params=["", "1"], ids=["as it is", "GRPC_ENABLE_FORK_SUPPORT=1"])
def support(request: pytest.FixtureRequest) -> str:
    """What the environment says of forks."""
    return str(request.param)


async def test_parent_and_children_go_on(service: Service, tenant: Tenant, support: str) -> None:
    program = """
        client = make()
        record(client)
        children = [fork(record, client, 3) for _ in range(5)]
        record(client, 3)
        wait(children)
        record(client)
        client.close()
    """
    await succeeds(program, service, tenant, GRPC_ENABLE_FORK_SUPPORT=support)
    await assert_recorded(service, tenant, 1 + 15 + 3 + 1)


async def test_a_fork_among_calls_of_other_threads(service: Service, tenant: Tenant, support: str) -> None:
    """One of them watches, which has no end."""
    program = """
        client = make()
        stop, recorded, seen = threading.Event(), [], []

        def work():
            while not stop.is_set():
                record(client)
                recorded.append(1)

        def watch():
            try:
                for event in client.watch(since_log_seq=0):
                    seen.append(event.log_seq)
            except errors.ClientClosed:
                pass

        threads = [threading.Thread(target=work) for _ in range(4)]
        watching = threading.Thread(target=watch)
        for thread in (*threads, watching):
            thread.start()
        time.sleep(0.5)
        children = []
        for _ in range(6):
            children.append(fork(record, client, 2))
            time.sleep(0.1)
        wait(children)
        stop.set()
        for thread in threads:
            thread.join()
        while len(seen) < 3 * (len(recorded) + 12):
            time.sleep(0.05)
        client.close()
        watching.join()
        assert seen == list(range(1, len(seen) + 1))
        print(len(recorded) + 12)
    """
    recorded = int(await succeeds(program, service, tenant, GRPC_ENABLE_FORK_SUPPORT=support))
    await assert_recorded(service, tenant, recorded)


async def test_a_fork_while_another_thread_begins_a_stream(service: Service, tenant: Tenant, support: str) -> None:
    """The stream is not there yet when the fork looks for streams, and is when the process forks."""
    program = """
        from decisiongraph_client._transports import SyncTransport

        begins, opened = threading.Event(), SyncTransport._open

        def open_slowly(transport):
            begins.set()
            time.sleep(0.1)
            return opened(transport)

        client = make()
        record(client)
        SyncTransport._open = open_slowly
        seen = []

        def watch():
            for event in client.watch(since_log_seq=0):
                seen.append(event.log_seq)
                if len(seen) == 6:
                    return

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        assert begins.wait(20)
        SyncTransport._open = opened
        wait([fork(record, client)])
        watching.join(20)
        assert seen == [1, 2, 3, 4, 5, 6], seen
        client.close()
    """
    await succeeds(program, service, tenant, GRPC_ENABLE_FORK_SUPPORT=support)
    await assert_recorded(service, tenant, 2)


async def test_children_of_multiprocessing(service: Service, tenant: Tenant) -> None:
    program = """
        import multiprocessing
        client = make()
        record(client)
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=record, args=(client, 2)) for _ in range(3)]
        for child in children:
            child.start()
        record(client)
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0, 0, 0]

        def work(number):
            record(client)
            return number

        with context.Pool(2) as pool:
            assert pool.map(work, range(4)) == [0, 1, 2, 3]
        record(client)
        client.close()
    """
    await succeeds(program, service, tenant)
    await assert_recorded(service, tenant, 1 + 6 + 1 + 4 + 1)


async def test_children_that_end_in_order(service: Service, tenant: Tenant, support: str) -> None:
    """By sys.exit and not by os._exit: everything that they inherited is taken apart."""
    program = """
        client = make()
        record(client)
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                record(client)
                sys.exit(0)
            children.append(child)
        wait(children)
        record(client)
    """
    await succeeds(program, service, tenant, GRPC_ENABLE_FORK_SUPPORT=support)
    await assert_recorded(service, tenant, 5)


@pytest.mark.parametrize("outbox", [False, True], ids=["direct", "outbox"])
async def test_a_client_that_is_made_before_the_fork_and_used_after_it(
    service: Service, tenant: Tenant, outbox: bool, tmp_path: Path
) -> None:
    """As servers do that load the application and then fork their workers."""
    program = """
        client = make(**({"outbox": sys.argv[1]} if sys.argv[1:] else {}))

        def work():
            record(client, 5)
            assert client.close(20)

        wait([fork(work) for _ in range(4)])
    """
    await succeeds(program, service, tenant, *([str(tmp_path / "outbox.db")] if outbox else []))
    await assert_recorded(service, tenant, 20)


async def test_parent_and_children_share_an_outbox(
    service: Service, tenant: Tenant, support: str, tmp_path: Path
) -> None:
    program = """
        client = make(outbox=sys.argv[1])
        record(client, 5)

        def work(closes):
            record(client, 5)
            if closes:
                assert client.close(20)

        # In the middle of the parent's delivery; some leave what they recorded to the parent.
        children = [fork(work, n % 2) for n in range(4)]
        record(client, 5)
        wait(children)
        assert client.flush(20)
        assert client.outbox_status().refused == 0
        assert client.close(20)
    """
    await succeeds(program, service, tenant, str(tmp_path / "outbox.db"), GRPC_ENABLE_FORK_SUPPORT=support)
    await assert_recorded(service, tenant, 5 + 20 + 5)


async def test_a_child_delivers_when_its_parent_is_gone(service: Service, tenant: Tenant, tmp_path: Path) -> None:
    """The turn to deliver is the parent's, and a child must not hold it beyond its end."""
    program = """
        client = make(outbox=sys.argv[1])
        record(client, 2)
        assert client.flush(20)
        parent = os.getpid()

        def work():
            while os.getppid() == parent:
                time.sleep(0.02)
            record(client, 2)
            assert client.close(20)
            open(sys.argv[2], "w").close()

        fork(work)
        os._exit(0)
    """
    done = tmp_path / "done"
    await succeeds(program, service, tenant, str(tmp_path / "outbox.db"), str(done))
    async with asyncio.timeout(30):
        while not done.exists():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)
    await assert_recorded(service, tenant, 4)


async def test_an_async_client_that_is_made_before_the_fork_and_used_after_it(service: Service, tenant: Tenant) -> None:
    program = """
        client = AsyncClient(producer="fork")
        wait([fork(lambda: asyncio.run(record_async(client, 2))) for _ in range(3)])
        asyncio.run(record_async(client))
    """
    await succeeds(program, service, tenant)
    await assert_recorded(service, tenant, 6 + 1)


async def test_a_fork_after_an_async_client_was_closed(service: Service, tenant: Tenant) -> None:
    program = """
        async def main():
            async with AsyncClient(producer="fork") as client:
                await record_async(client)

        asyncio.run(main())
        blocking = make()
        wait([fork(lambda: asyncio.run(main())) for _ in range(3)] + [fork(record, blocking) for _ in range(3)])
        asyncio.run(main())
    """
    await succeeds(program, service, tenant)
    await assert_recorded(service, tenant, 1 + 3 + 3 + 1)


async def test_a_fork_while_an_async_client_is_connected_is_warned_of(service: Service, tenant: Tenant) -> None:
    """The library works on a thread that cannot be stopped for the fork; the child may crash, and cannot call."""
    program = """
        blocking = make(timeout=5)

        def work():
            for attempt in (lambda: record(blocking), lambda: asyncio.run(record_async(AsyncClient(producer="fork")))):
                asyncio.events._set_running_loop(None)
                try:
                    attempt()
                except errors.ConfigurationError as error:
                    assert "AsyncClient" in str(error) and "spawn" in str(error), error
                else:
                    raise AssertionError("nothing was told")

        async def main():
            async with AsyncClient(producer="fork") as client:
                watching = asyncio.create_task(anext(aiter(client.watch(since_log_seq=0))))
                await asyncio.sleep(0.5)
                for child in [fork(work) for _ in range(5)]:
                    status = await asyncio.to_thread(os.waitpid, child, 0)
                    code = os.waitstatus_to_exitcode(status[1])
                    assert code <= 0, code
                await record_async(client)
                assert (await watching).log_seq == 1

        asyncio.run(main())
    """
    code, _, err = await asyncio.to_thread(run, program, service, tenant)
    assert code == 0, err
    assert "forks while an AsyncClient is connected" in err
    await assert_recorded(service, tenant, 1)


async def test_a_child_is_told_where_forks_are_switched_off(service: Service, tenant: Tenant) -> None:
    program = """
        client = make(timeout=5)
        record(client)

        def work():
            try:
                record(client)
            except errors.ConfigurationError as error:
                assert "GRPC_ENABLE_FORK_SUPPORT" in str(error), error
            else:
                raise AssertionError("nothing was told")

        wait([fork(work)])
        record(client)
    """
    await succeeds(program, service, tenant, GRPC_ENABLE_FORK_SUPPORT="0")
    await assert_recorded(service, tenant, 2)


async def test_a_call_that_the_library_cannot_end_is_ended(service: Service, tenant: Tenant) -> None:
    """Another part of the program has used the library, and forks are switched off: its own deadlines do not work."""
    program = """
        import grpc
        from decisiongraph.v1 import system_service_pb2, system_service_pb2_grpc

        channel = grpc.insecure_channel(os.environ["DG_SERVER"])
        stub = system_service_pb2_grpc.SystemServiceStub(channel)
        stub.GetReadiness(system_service_pb2.GetReadinessRequest(), timeout=5)
        client = make(timeout=1.5)

        def work():
            begin = time.monotonic()
            try:
                record(client)
            except errors.TryAgain as error:
                assert "spawn" in str(error), error
            assert time.monotonic() - begin < 10

        wait([fork(work)])
    """
    await succeeds(program, service, tenant, GRPC_ENABLE_FORK_SUPPORT="0")


async def test_subprocesses_are_no_forks(service: Service, tenant: Tenant) -> None:
    program = """
        import subprocess
        client = make()
        stop, failed = threading.Event(), []

        def work():
            while not stop.is_set():
                record(client)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            subprocess.run(["true"], check=True)
        stop.set()
        for thread in threads:
            thread.join()
        client.close()
    """
    await succeeds(program, service, tenant)
