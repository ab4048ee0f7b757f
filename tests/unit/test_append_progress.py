"""Progress of an append: silent when it is soon over, and then a line now and then where nobody watches a bar."""

import pytest

from decisiongraph_service.cli.append_batches import Counts
from decisiongraph_service.cli.append_progress import AppendProgress, summary


def test_it_is_silent_for_two_seconds_and_speaks_seldom(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    with AppendProgress(1000, clock=lambda: now) as progress:
        for seconds, expected in (
            (1.9, ""),
            (2.0, "1,200 lines: 1,000 stored, 200 reused (25%), 600 lines/s\n"),
            (11.9, ""),
            (12.0, "1,200 lines: 1,000 stored, 200 reused (25%), 100 lines/s\n"),
        ):
            now = 100.0 + seconds
            progress.update(Counts(stored=1000, reused=200), 250)
            assert capsys.readouterr() == ("", expected)


def test_refused_lines_are_told_if_there_are_some() -> None:
    assert summary(Counts(stored=1, reused=2)) == "3 lines: 1 stored, 2 reused"
    assert summary(Counts(stored=1, reused=2, refused=1000)) == "1,003 lines: 1 stored, 2 reused, 1,000 refused"
