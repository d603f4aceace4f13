"""compose.yaml as Docker Compose reads it (anchors, merges, variables), the Dockerfile's lines, and .env.example."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE, DOCKERFILE, EXAMPLE = ROOT / "compose.yaml", ROOT / "Dockerfile", ROOT / ".env.example"
# $$, ${NAME}, ${NAME:-default}, ${NAME:?what to do}
_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?::(?P<how>[-?])(?P<rest>[^{}]*))?\})")


class MissingVariable(Exception):
    """A variable that compose.yaml demands isn't set: Compose starts nothing then."""


def uninterpolated() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return found


def load(values: Mapping[str, str]) -> dict[str, Any]:
    """The file with its variables filled in. MissingVariable where a demanded one is not set or empty."""
    return _fill(uninterpolated(), values)  # type: ignore[no-any-return]


def _fill(node: Any, values: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _fill(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill(value, values) for value in node]
    return _VARIABLE.sub(lambda found: _value(found, values), node) if isinstance(node, str) else node


def _value(found: re.Match[str], values: Mapping[str, str]) -> str:
    if found["dollar"]:
        return "$"
    value = values.get(found["name"], "")
    if not value and found["how"] == "?":
        raise MissingVariable(f"{found['name']}: {found['rest']}")
    return value or (found["rest"] if found["how"] == "-" else "")


def variables() -> dict[str, tuple[str, str]]:
    """Every variable of compose.yaml: what follows its name, `-` or `?` and the default or message."""
    text = "\n".join(line.split(" #")[0] for line in COMPOSE.read_text(encoding="utf-8").splitlines())
    found = [m for m in _VARIABLE.finditer(text) if m["name"]]
    # What the expression doesn't match would go unnoticed: $NAME, ${NAME-default}, nested ones.
    assert text.count("$") == len(found), "a $ in compose.yaml is of no form that support/compose.py knows"
    return {m["name"]: (m["how"] or "", m["rest"] or "") for m in found}


def example(uncommented: bool = False) -> dict[str, str]:
    """NAME=value lines of .env.example; with `uncommented` those behind a # too."""
    pattern = rf"(?m)^{'#?' if uncommented else ''}([A-Z_]+)=(.*)$"
    return dict(re.findall(pattern, EXAMPLE.read_text(encoding="utf-8")))


def environment(service: Mapping[str, Any]) -> dict[str, str]:
    """What Compose sets in a service; YAML's numbers as text."""
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def instructions() -> Iterator[tuple[str, str]]:
    """The Dockerfile's (instruction, rest), with continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text(encoding="utf-8"))
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            instruction, rest = line.split(maxsplit=1)
            yield instruction, rest


def image_environment() -> dict[str, str]:
    pairs = [shlex.split(rest) for instruction, rest in instructions() if instruction == "ENV"]
    return dict(pair.split("=", 1) for line in pairs for pair in line)


def image_copies() -> dict[str, str]:
    """Each path of the repository that is copied, and where to."""
    lines = [shlex.split(rest) for instruction, rest in instructions() if instruction == "COPY"]
    return {source: target for *_, source, target in lines}


def memory(limit: str) -> int:
    """Compose's sizes: 512m, 2g."""
    return int(float(limit[:-1]) * {"m": 2**20, "g": 2**30}[limit[-1]])
