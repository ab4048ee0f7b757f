"""The files under deploy/ as tests read them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from tests.dockerfile import ROOT

DEPLOY: Final = ROOT / "deploy"
KUBERNETES: Final = DEPLOY / "kubernetes"
_CUSTOM: Final = {"Kustomization", "ServiceMonitor"}


@cache
def compose() -> dict[str, Any]:
    """compose.yaml. Anchors are resolved, variables are not."""
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


def services() -> dict[str, dict[str, Any]]:
    """The services of compose.yaml by name."""
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


@dataclass(frozen=True)
class Manifest:
    """One object for Kubernetes, and the file it is in."""

    path: Path
    content: dict[str, Any]

    @property
    def kind(self) -> str:
        """What it is."""
        return str(self.content["kind"])

    @property
    def name(self) -> str:
        """How it is called."""
        return str(self.content["metadata"]["name"])

    @property
    def is_built_in(self) -> bool:
        """Whether Kubernetes itself knows the kind."""
        return self.kind not in _CUSTOM

    @property
    def pod(self) -> dict[str, Any] | None:
        """The specification of its pods, if it makes any."""
        template = self.content.get("spec", {}).get("template")
        return None if template is None else template["spec"]


@cache
def manifests() -> tuple[Manifest, ...]:
    """All of deploy/kubernetes."""
    return tuple(
        Manifest(path, content)
        for path in sorted(KUBERNETES.rglob("*.yaml"))
        for content in yaml.safe_load_all(path.read_text())
    )


def manifest(kind: str, name: str) -> dict[str, Any]:
    """The content of the one that is called so."""
    (found,) = (one for one in manifests() if one.kind == kind and one.name == name)
    return found.content


def pods() -> dict[str, dict[str, Any]]:
    """The specifications of pods by the name of what makes them."""
    return {one.name: one.pod for one in manifests() if one.pod is not None}


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """All containers, those that come first included."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def seconds(duration: str) -> int:
    """A duration of compose.yaml, as `30s` or `2m`."""
    found = re.fullmatch(r"(\d+)([sm])", duration)
    assert found, duration
    return int(found[1]) * {"s": 1, "m": 60}[found[2]]


def variables(node: Any) -> Iterator[tuple[str, Any]]:
    """Every variable that is named in a file's content, with its value if it has one."""
    if isinstance(node, dict):
        for key, value in node.items():
            if isinstance(key, str) and key.startswith("DG_"):
                yield key, value
            yield from variables(value)
        if str(node.get("name", "")).startswith("DG_"):
            yield node["name"], node.get("value")
    elif isinstance(node, list):
        for value in node:
            yield from variables(value)
