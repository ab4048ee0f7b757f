"""What tests of the client's outbox share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.outbox_files import BIG

from decisiongraph_client._outbox import Outbox


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "outbox.db"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    opened = Outbox(path, max_bytes=BIG)
    yield opened
    opened.close()
