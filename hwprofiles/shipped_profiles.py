"""Reads profile files: whole HardwareProfile objects in YAML, as the chart's ConfigMap carries them.

A file is refused as a whole, with its name, the field, the value and what is allowed. Names must be unique in a folder, and a key
unique in its mapping: YAML parsers take the last of two equal keys in silence, which loses a block that somebody pasted twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import ValidationError

from hwprofiles.explain import explain
from hwprofiles.model import HardwareProfileSpec
from hwprofiles.schema import SchemaError

SHIPPED = Path(__file__).parent / "shipped"
API_VERSION = "polyfleet.io/v1alpha1"
# libyaml reads ten times as fast; a build of PyYAML without it is only slower.
_Base: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Loader(_Base):  # type: ignore[misc]
    """Safe YAML whose mappings have no key twice, and in which an unquoted date stays the text that it is, as with kubectl."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, Any]]]] = {
        first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:timestamp"]
        for first, rules in _Base.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice in one mapping", key.start_mark)
                seen.add(key.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return found


def load_objects(folder: Path = SHIPPED) -> dict[str, dict[str, Any]]:
    """Raw objects by name, of every *.yaml in the folder. Raises SchemaError that names the file."""
    return read_objects((path.name, path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.yaml")))


def read_objects(files: Iterable[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """Raw objects by name, of (file name, text). Raises SchemaError that names the file, and both files where a name is defined twice."""
    objects: dict[str, dict[str, Any]] = {}
    origin: dict[str, str] = {}
    for where, text in files:
        try:
            documents = [item for item in yaml.load_all(text, Loader=Loader) if item is not None]
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            # ValueError: an integer of more digits than Python reads.
            raise SchemaError(f"{where}: not YAML: {error}") from error
        for item in documents:
            if not isinstance(item, dict) or item.get("kind") != "HardwareProfile" or item.get("apiVersion") != API_VERSION:
                raise SchemaError(f"{where}: every document must be a HardwareProfile of {API_VERSION}")
            metadata = item.get("metadata")
            name = metadata.get("name") if isinstance(metadata, dict) else None
            if not isinstance(name, str) or not name:
                raise SchemaError(f"{where}: metadata.name is missing; allowed: a DNS name such as nvidia-h100-sxm")
            if name in objects:
                raise SchemaError(
                    f"{where}: HardwareProfile {name} is defined twice, first in {origin[name]}; rename or remove one of them"
                )
            objects[name], origin[name] = item, where
    return objects


def parse_profile(name: str, item: dict[str, Any]) -> HardwareProfileSpec:
    """The spec of one raw object. Raises SchemaError with every field that does not fit, its value and what is allowed."""
    try:
        return HardwareProfileSpec.parse(item.get("spec"))
    except ValidationError as error:
        raise SchemaError(f"HardwareProfile {name}: {'; '.join(explain(error, 'spec'))}") from error


def load_profiles(folder: Path) -> dict[str, HardwareProfileSpec]:
    """Specs by name, of every *.yaml in the folder."""
    return {name: parse_profile(name, item) for name, item in load_objects(folder).items()}


def load_shipped(*, sandbox: bool = True) -> dict[str, HardwareProfileSpec]:
    """The profiles that come with polyfleet, by name; `sandbox=False` leaves the sandbox-* profiles out."""
    specs = load_profiles(SHIPPED)
    return {name: spec for name, spec in specs.items() if sandbox or not name.startswith("sandbox-")}
