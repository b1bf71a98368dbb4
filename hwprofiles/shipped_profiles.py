"""Reads profile files: whole HardwareProfile objects in YAML, as the chart's ConfigMap carries them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hwprofiles.model import HardwareProfileSpec
from hwprofiles.schema import SchemaError

SHIPPED = Path(__file__).parent / "shipped"
API_VERSION = "polyfleet.io/v1alpha1"


def load_objects(folder: Path = SHIPPED) -> dict[str, dict[str, Any]]:
    """Raw objects by name, of every *.yaml in the folder."""
    objects: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            documents = [item for item in yaml.safe_load_all(path.read_text(encoding="utf-8")) if item is not None]
        except yaml.YAMLError as error:
            raise SchemaError(f"{path.name}: not YAML: {error}") from error
        for item in documents:
            if not isinstance(item, dict) or item.get("kind") != "HardwareProfile" or item.get("apiVersion") != API_VERSION:
                raise SchemaError(f"{path.name}: every document must be a HardwareProfile of {API_VERSION}")
            name = (item.get("metadata") or {}).get("name")
            if not isinstance(name, str) or not name:
                raise SchemaError(f"{path.name}: metadata.name is missing")
            if name in objects:
                raise SchemaError(f"{path.name}: HardwareProfile {name} is defined twice in {folder.name}")
            objects[name] = item
    return objects


def load_profiles(folder: Path) -> dict[str, HardwareProfileSpec]:
    """Specs by name, of every *.yaml in the folder."""
    specs: dict[str, HardwareProfileSpec] = {}
    for name, item in load_objects(folder).items():
        try:
            specs[name] = HardwareProfileSpec.parse(item.get("spec"))
        except ValidationError as error:
            lines = "; ".join(f"spec.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
            raise SchemaError(f"HardwareProfile {name}: {lines}") from error
    return specs


def load_shipped(*, sandbox: bool = True) -> dict[str, HardwareProfileSpec]:
    """The profiles that come with polyfleet, by name; `sandbox=False` leaves the sandbox-* profiles out."""
    specs = load_profiles(SHIPPED)
    return {name: spec for name, spec in specs.items() if sandbox or not name.startswith("sandbox-")}
