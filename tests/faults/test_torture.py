"""The short form of `make torture`: four faults under load, and everything that was promised holds afterwards.

And it would be noticed if it did not: with a bug planted into the servers, the check that is there for it finds it.
"""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest
from torture.checks import CHECKS
from torture.faults import FAULTS, SHORT
from torture.server import BUGS

_ROOT = Path(__file__).parents[2]


async def torture(*options: str) -> tuple[int, str]:
    """Exit code and output of a run."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DG_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "torture", *options),
        cwd=_ROOT,
        env={**environment, "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(300):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    return process.returncode or 0, output.decode()


async def test_everything_that_was_promised_holds_after_faults() -> None:
    code, output = await torture("--short")

    assert code == 0, output
    assert re.search(r"^seed \d+$", output, re.MULTILINE)
    for name in SHORT:
        assert re.search(rf"^{name} .* again after", output, re.MULTILINE), output
    verdicts = re.findall(r" (holds|BROKEN) *$", output, re.MULTILINE)
    assert verdicts == ["holds"] * len(CHECKS), output


@pytest.mark.parametrize("bug", ["forgotten_keys"])
async def test_a_planted_bug_is_found(bug: str) -> None:
    code, output = await torture("--planted", bug)

    assert code == 0, output
    assert "all were found" in output


def test_there_are_ten_bugs_to_find_and_faults_of_every_part() -> None:
    assert len(BUGS) >= 10
    names = {fault.name for fault in FAULTS}
    assert set(SHORT) <= names
    assert all(set(bug.shown_by) <= names for bug in BUGS.values())
    for part in ("server", "envoy", "postgres", "database", "rebuild", "clock", "pool", "overload", "disk", "backup"):
        assert any(part in name for name in names), part
