"""Runs the blocks of one page: one shell and one interpreter, in the folder of somebody who started `make run`."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.page_blocks import Block

_MOST_SECONDS: Final = 30
_DONE: Final = b"done\n"
# Each reads the path of a script on a line, runs it in the one session, and says when it is done. A shell ends at a
# failing command, and at the name of a variable that is not set; an interpreter at an exception.
_SHELL: Final = """
set -eu
while IFS= read -r script; do
  . "$script" >"$script.out" 2>"$script.err" </dev/null
  echo done
done
"""
_INTERPRETER: Final = """
import contextlib, sys, traceback
told, session = sys.stdout, {"__name__": "__main__"}
for script in map(str.rstrip, sys.stdin):
    with open(script) as file, open(script + ".out", "w") as out, open(script + ".err", "w") as err:
        with contextlib.redirect_stdout(out):
            try:
                exec(compile(file.read(), script, "exec"), session)
            except BaseException:
                traceback.print_exc(file=err)
                raise SystemExit(1)
    print("done", file=told, flush=True)
"""
_PROGRAMS: Final[Mapping[str, Sequence[str]]] = {
    "sh": ("bash", "--noprofile", "--norc", "-c", _SHELL),
    "python": (sys.executable, "-c", _INTERPRETER),
}


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a block."""

    failed: bool
    out: str
    err: str


class Session:
    """The shell and the interpreter of one page, each started when its first block comes."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """`folder` is the working directory, and `environment` all that the blocks find in theirs."""
        self._folder = folder
        self._environment = dict(environment)
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._count = 0

    async def run(self, block: Block) -> Ran:
        """Run a block in its session and wait for its end, half a minute at most."""
        process = await self._process(block.language)
        assert process.stdin is not None
        assert process.stdout is not None
        self._count += 1
        # Named after the block, which is what an interpreter names in what it complains about.
        script = self._folder / ".blocks" / f"{self._count:02}-{block.place.replace('/', '-')}"
        script.parent.mkdir(exist_ok=True)
        script.write_text(block.text)
        process.stdin.write(f"{script}\n".encode())
        said = b"too late"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MOST_SECONDS):
                said = await process.stdout.readline()
        late = f"\nnot done after {_MOST_SECONDS} s" if said == b"too late" else ""
        return Ran(said != _DONE, _text(f"{script}.out"), _text(f"{script}.err") + late)

    async def _process(self, language: str) -> asyncio.subprocess.Process:
        if language not in self._running:
            self._running[language] = await asyncio.create_subprocess_exec(
                *_PROGRAMS[language],
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,
            )
        return self._running[language]

    async def close(self) -> None:
        """Stop both, and what their blocks left running."""
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


@contextlib.asynccontextmanager
async def session(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Session]:
    """A session that ends with everything that it started."""
    opened = Session(folder, environment)
    try:
        yield opened
    finally:
        await opened.close()


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return ""
