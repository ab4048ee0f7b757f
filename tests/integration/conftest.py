"""What tests of the parts share."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the account of Postgres can enter, unlike pytest's own."""
    made = Path(tempfile.mkdtemp(prefix="decisiongraph-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)
