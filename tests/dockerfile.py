"""What deploy/Dockerfile says, for tests that do the same without a container engine."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PATH: Final = ROOT / "deploy" / "Dockerfile"


@dataclass(frozen=True)
class Instruction:
    """One instruction, its lines joined."""

    stage: int
    name: str
    rest: str


def instructions() -> list[Instruction]:
    """The instructions in their order; the first stage is 0."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", PATH.read_text(), flags=re.MULTILINE))
    found: list[Instruction] = []
    stage = -1
    for line in joined.splitlines():
        name, _, rest = line.partition(" ")
        stage += name == "FROM"
        if name:
            found.append(Instruction(stage, name, rest))
    return found


def copied() -> list[str]:
    """What the first stage copies out of the checkout."""
    return [
        source for one in instructions() if one.stage == 0 and one.name == "COPY" for source in one.rest.split()[:-1]
    ]


def environment() -> dict[str, str]:
    """The variables of the image."""
    last = instructions()[-1].stage
    return dict(
        pair.split("=", 1)
        for one in instructions()
        if one.stage == last and one.name == "ENV"
        for pair in one.rest.split()
    )


def installing() -> list[str]:
    """The command that installs the service, in the first stage."""
    commands = [one.rest for one in instructions() if one.stage == 0 and one.name == "RUN"]
    return commands[-1].split()
