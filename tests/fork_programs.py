"""Programs that fork, each a process of its own.

What a fork does depends on everything that a process has done before.
"""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap

from tests.calling import Service, Tenant
from tests.clients import all_of, client_of, token_of

PRELUDE = """
import asyncio, faulthandler, json, os, sys, threading, time, traceback

# A child that hangs says where, and fails; registered first, so that it counts in what others do after a fork.
# (Its parent must not do the same: that does not survive a fork.)
os.register_at_fork(after_in_child=lambda: faulthandler.dump_traceback_later(30, exit=True))

from decisiongraph_client import AsyncClient, Client, errors

def record(client, count=1):
    for _ in range(count):
        with client.trace(workflow="w", title="t", primary_entity=("order", "1")) as trace:
            trace.evaluate_policy(("p", "1"), "allow")

async def record_async(client, count=1):
    for _ in range(count):
        async with client.trace(workflow="w", title="t", primary_entity=("order", "1")) as trace:
            await trace.evaluate_policy(("p", "1"), "allow")

def fork(work, *arguments):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(*arguments)
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return child

def wait(children):
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert set(codes) <= {0}, codes

def make(**given):
    return Client(producer="fork", **given)
"""


def run(program: str, service: Service, tenant: Tenant, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the program; whatever it has started is gone then."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("DG_", "GRPC_"))}
    variables |= {"DG_SERVER": service.grpc, "DG_TOKEN": token_of(service, tenant)}
    variables |= {name: value for name, value in environment.items() if value}
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(program), *arguments]
    with subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        try:
            out, err = running.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            out, err = running.communicate()
        return running.returncode, out, err


async def assert_recorded(service: Service, tenant: Tenant, traces: int) -> None:
    """All of them are in the log, whole, and nothing else."""
    async with client_of("asyncio", service, tenant) as client:
        events = await all_of(client.list_events())
    assert len({event.trace_id for event in events}) == traces
    assert len(events) == 3 * traces, "an event is missing or there twice"
    places: dict[str, int] = {}
    for event in events:
        assert event.trace_seq == places.get(event.trace_id, 0)
        places[event.trace_id] = event.trace_seq + 1


async def succeeds(program: str, service: Service, tenant: Tenant, *arguments: str, **environment: str) -> str:
    code, out, err = await asyncio.to_thread(run, program, service, tenant, *arguments, **environment)
    assert code == 0, err
    return out
