"""The figures that are comparable from machine to machine, and whether one has become worse than what was accepted.

Times and rates belong to a machine and its day. A ratio of two figures of one run does not: what makes one slower makes
the other slower. Bytes per event belong to no machine.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self, TypeAlias

ACCEPTED: Final = Path(__file__).parent / "accepted_ratios.json"
"""The ratios that later runs are compared with."""

_TOLERANCES: Final = {"time": 0.35, "bytes": 0.1}
"""By kind, how much worse a ratio may be than the accepted one. Ratios of times scatter by this much between runs of
the same code on the machines that we measure on; smaller changes are found by looking at the spread of a run."""

Kind: TypeAlias = Literal["time", "bytes"]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure that does not belong to a machine."""

    value: float
    better: Literal["higher", "lower"]
    kind: Kind = "time"

    @property
    def bound(self) -> float:
        """The worst value that still counts as no worse."""
        tolerance = _TOLERANCES[self.kind]
        return self.value * (1 - tolerance) if self.better == "higher" else self.value * (1 + tolerance)

    def is_worse(self, value: float) -> bool:
        """Whether a later value is beyond the bound."""
        return value < self.bound if self.better == "higher" else value > self.bound


@dataclass(frozen=True, slots=True)
class Regression:
    """A ratio that has become worse, or is no longer measured."""

    name: str
    accepted: Ratio
    now: float | None

    def line(self) -> str:
        """What is wrong, for reading."""
        if self.now is None:
            return f"{self.name}: is accepted at {self.accepted.value:.3g}, and was not measured"
        bound = f"{'at least' if self.accepted.better == 'higher' else 'at most'} {self.accepted.bound:.3g}"
        return f"{self.name}: {self.now:.3g}; {bound} is wanted ({self.accepted.value:.3g} accepted)"


class Ratios(dict[str, Ratio]):
    """Ratios by name."""

    @classmethod
    def read(cls, file: Path = ACCEPTED) -> Self:
        """Those of a file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not what `write` writes.
        """
        try:
            return cls({name: Ratio(**ratio) for name, ratio in json.loads(file.read_text()).items()})
        except (TypeError, AttributeError) as error:
            raise ValueError(f"{file} does not hold ratios: {error}") from error

    def write(self, file: Path = ACCEPTED) -> None:
        """Keep them in a file."""
        rows = {
            name: {"value": float(f"{ratio.value:.4g}"), "better": ratio.better, "kind": ratio.kind}
            for name, ratio in sorted(self.items())
        }
        file.write_text(json.dumps(rows, indent=1) + "\n")

    def regressions(self, now: Mapping[str, Ratio], *, measured: Sequence[str] | None = None) -> list[Regression]:
        """Which of these have become worse.

        `measured`: prefixes of the names that were to be measured this time; None: all.
        """
        found = []
        for name, accepted in self.items():
            if measured is not None and not name.startswith(tuple(f"{prefix}: " for prefix in measured)):
                continue
            value = now[name].value if name in now else None
            if value is None or accepted.is_worse(value):
                found.append(Regression(name, accepted, value))
        return found
