"""Makes the blocking client, src/decisiongraph_client/_sync, of the one for asyncio, _async. `--check`: only compare.

One source, so that the two cannot differ: what awaits in the one simply returns in the other.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

_CLIENT = Path(__file__).parents[1] / "src" / "decisiongraph_client"
_NAMES = {
    "_async": "_sync",
    "AsyncTransport": "SyncTransport",
    "aclosing": "closing",
    **{f"Async{name}": name for name in ("Client", "Fetch", "Pages", "Reads", "Session", "Sink", "Trace", "Watch")},
}
_HEAD = "# Made of ../_async by tools/make_blocking_client.py: change it there.\n"
_PACKAGE = '"""The client that blocks, made of `_async` by `tools/make_blocking_client.py`."""\n'


def _make(target: Path) -> None:
    rule = unasync.Rule(fromdir="/_async/", todir="/_sync/", additional_replacements=_NAMES)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "_async"
        shutil.copytree(_CLIENT / "_async", source, ignore=shutil.ignore_patterns("__pycache__"))
        unasync.unasync_files([str(path) for path in source.glob("*.py")], [rule])
        target.mkdir(exist_ok=True)
        for path in sorted((Path(folder) / "_sync").glob("*.py")):
            text = path.read_text().replace("`async with` block", "`with` block")
            (target / path.name).write_text(_PACKAGE if path.name == "__init__.py" else _HEAD + text)
    ruff = [str(Path(sys.executable).with_name("ruff")), "--quiet"]
    subprocess.run([*ruff, "check", "--fix-only", "--select", "I", str(target)], check=True)
    subprocess.run([*ruff, "format", str(target)], check=True)


def _check() -> int:
    # Inside the project, so that its rules of format apply.
    with tempfile.TemporaryDirectory(dir=_CLIENT) as folder:
        made = Path(folder) / "_sync"
        _make(made)
        expected = {path.name: path.read_text() for path in made.glob("*.py")}
    found = {path.name: path.read_text() for path in (_CLIENT / "_sync").glob("*.py")}
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if differing:
        print(f"_sync is not what _async gives ({', '.join(differing)}); run `make generate`")
    return 1 if differing else 0


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if something would change")
    if parser.parse_args().check:
        sys.exit(_check())
    _make(_CLIENT / "_sync")


if __name__ == "__main__":
    main()
