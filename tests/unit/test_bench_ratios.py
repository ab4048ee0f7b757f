"""The check for regressions finds what is worse, and nothing else."""

from pathlib import Path

import pytest
from bench.ratios import ACCEPTED, Ratio, Ratios


@pytest.mark.parametrize(
    ("ratio", "as_good", "worse"),
    [
        (Ratio(0.5, "higher"), 0.34, 0.31),
        (Ratio(2.0, "lower"), 2.6, 2.8),
        (Ratio(1_000, "lower", "bytes"), 1_090, 1_110),
    ],
)
def test_what_is_beyond_the_tolerance_of_its_kind_is_worse(ratio: Ratio, as_good: float, worse: float) -> None:
    accepted = Ratios(a=ratio)
    better = ratio.value * (10 if ratio.better == "higher" else 0.1)
    for value in (ratio.value, as_good, better):
        assert accepted.regressions({"a": Ratio(value, ratio.better)}) == []
    (found,) = accepted.regressions({"a": Ratio(worse, ratio.better)})
    assert found.line().startswith(f"a: {worse:.3g}; at ")


def test_what_is_no_longer_measured_is_told_unless_it_was_not_asked_for() -> None:
    accepted = Ratios({"costs: x": Ratio(1, "lower"), "growth: y": Ratio(1, "lower")})
    now = {"costs: x": Ratio(1, "lower")}
    assert [one.name for one in accepted.regressions(now)] == ["growth: y"]
    assert "was not measured" in accepted.regressions(now)[0].line()
    assert accepted.regressions(now, measured=["costs"]) == []


def test_ratios_are_kept_in_a_file(tmp_path: Path) -> None:
    ratios = Ratios(a=Ratio(0.25, "higher"), b=Ratio(2_000, "lower", "bytes"))
    ratios.write(tmp_path / "ratios.json")
    assert Ratios.read(tmp_path / "ratios.json") == ratios
    (tmp_path / "ratios.json").write_text('{"a": {"worth": 1}}')
    with pytest.raises(ValueError, match=r"ratios\.json"):
        Ratios.read(tmp_path / "ratios.json")


def test_there_are_accepted_ratios() -> None:
    assert {name.partition(": ")[0] for name in Ratios.read(ACCEPTED)} == {
        "ingestion",
        "costs",
        "memory",
        "growth",
        "observability",
    }
