"""What each image consists of. Data only; `build` turns it into archives."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from sandbox.images.lock import normal

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = "sandbox.polyfleet.io"
"""A name without a server: these images only ever come out of an archive."""
TAG = "dev"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def reference(name: str) -> str:
    """The name under which pods ask for an image."""
    return f"{REGISTRY}/{name}:{TAG}"


PAUSE = reference("pause")


@dataclass(frozen=True)
class Recipe:
    """One image that is built from a Dockerfile of the project."""

    name: str
    dockerfile: str
    requires: tuple[str, ...]
    """Third-party distributions by name; versions, hashes and what they pull in come from requirements.lock."""
    sources: tuple[tuple[str, str], ...]
    """(path in the checkout, path below `app/` of the build context)."""
    without: tuple[str, ...] = ()
    """Distributions that the lock would pull in and this image does not use."""
    weights: bool = False

    @property
    def reference(self) -> str:
        return reference(self.name)


def operator_requirements() -> tuple[str, ...]:
    """The project's own dependencies, from pyproject.toml: exactly what an installed polyfleet has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return tuple(sorted(normal(_NAME.match(spec)[0]) for spec in project["dependencies"]))  # type: ignore[index]


def recipes() -> tuple[Recipe, ...]:
    """All images but pause, smallest first."""
    return (
        Recipe(
            name="device-plugin",
            dockerfile="sandbox/deviceplugin/Dockerfile",
            requires=("grpcio", "protobuf"),
            sources=(("sandbox/__init__.py", "sandbox/__init__.py"), ("sandbox/deviceplugin", "sandbox/deviceplugin")),
        ),
        Recipe(
            name="operator",
            dockerfile="operator/Dockerfile",
            requires=operator_requirements(),
            sources=(
                ("operator/polyfleet", "polyfleet"),
                *((room, room) for room in ("placement", "hwprofiles", "accuracy", "autoscaling")),
            ),
        ),
        Recipe(
            name="engine",
            dockerfile="sandbox/engine/Dockerfile",
            requires=("aiohttp", "jinja2", "numpy", "prometheus-client", "tokenizers", "xllamacpp"),
            # Needed only to fetch a tokenizer by name from a hub, which the engine never does: 30 MB less.
            without=("huggingface-hub",),
            sources=(("sandbox/__init__.py", "sandbox/__init__.py"), ("sandbox/engine", "sandbox/engine")),
            weights=True,
        ),
    )
