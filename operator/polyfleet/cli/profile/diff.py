"""`polyfleet profile diff A [B]`: two profiles field by field, with the origin of each number. Ends with 2 where they differ."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationError

from hwprofiles import HardwareProfileSpec
from hwprofiles.model import Provenance
from hwprofiles.shipped_profiles import load_objects
from polyfleet.cli.failure import CHANGES, FINE, Failure, listed, nearest
from polyfleet.cli.profile import fields as profile_fields
from polyfleet.cli.profile import files as profile_files
from polyfleet.cli.profile.show import origins
from polyfleet.cli.profile.source import Profiles, profiles
from polyfleet.cli.profile.terms import engine_text, grid, layout_text, load_text, machine, style, width
from polyfleet.cli.text import Column, count, wrap


@dataclass(frozen=True, slots=True)
class Side:
    label: str  # shipped/nvidia-l20, file x.yaml, live/nvidia-l20
    name: str
    spec: HardwareProfileSpec


@dataclass(frozen=True, slots=True)
class Difference:
    """One field. None = it is absent on that side."""

    field: str
    left: str | None
    right: str | None
    left_origin: str
    right_origin: str


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    fleet = _Fleet(chosen)
    left = _side(chosen.left, fleet)
    right = _side(chosen.right, fleet) if chosen.right else _counterpart(left, fleet)
    found = differences(left.spec, right.spec)
    code = CHANGES if found else FINE
    if chosen.output in ("json", "yaml"):
        rows = [{name: getattr(item, name) for name in ("field", "left", "right", "left_origin", "right_origin")} for item in found]
        clean = [{_camel(name): value for name, value in row.items() if value} for row in rows]
        body = {"left": left.label, "right": right.label, "differences": clean, "exitCode": code}
        print(machine(body, chosen.output), file=out)
        return code
    title = f"{left.label} → {right.label}: {count(len(found), 'difference') if found else 'no difference'}"
    print(f"### {title}" if chosen.output == "md" else style(out).bold(title), file=out)
    if found:
        for line in _lines(found, chosen.output, width(out)):
            print(line, file=out)
    return code


class _Fleet:
    """The profiles of the cluster or snapshot, read once and only if somebody asks."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self._chosen = chosen
        self._found: Profiles | None = None

    @property
    def word(self) -> str:
        return "snapshot" if self._chosen.snapshot else "live"

    def __call__(self) -> Profiles:
        if self._found is None:
            self._found = profiles(self._chosen)
        return self._found


def _side(given: str, fleet: _Fleet) -> Side:
    if given.startswith("shipped/"):
        return _shipped(given.removeprefix("shipped/"))
    if given == "-" or Path(given).is_file() or given.endswith((".yaml", ".yml", ".json")):
        return _file(given)
    name = given.removeprefix("live/").removeprefix("hwp/")
    item = fleet().find(name)
    if item.parsed is None:
        raise Failure(f"profile {name} does not fit the schema", item.fault, f"kubectl edit hwp {name}")
    return Side(f"{fleet.word}/{name}", name, item.parsed)


def _shipped(name: str) -> Side:
    known = load_objects()
    if name not in known:
        near = nearest(name, sorted(known), 1)
        next_ = f"repeat with shipped/{near[0]}" if near else "polyfleet profile list --shipped"
        raise Failure(f"no shipped profile named {name}", f"shipped: {listed(sorted(known))}", next_)
    return Side(f"shipped/{name}", name, HardwareProfileSpec.parse(known[name]["spec"]))


def _file(path: str) -> Side:
    found = list(profile_files.documents(path))
    bad = next((item for item in found if isinstance(item, str)), None)
    if bad is not None or len(found) != 1:
        why = bad or f"it holds {len(found)} profiles, a diff is of two"
        raise Failure(f"cannot compare {path}", str(why), f"polyfleet profile validate {path}")
    item = found[0]
    assert isinstance(item, profile_files.Document)
    try:
        spec = HardwareProfileSpec.parse(item.body["spec"])
    except ValidationError as error:
        field, text = profile_fields.faults(error)[0]
        raise Failure(f"cannot compare {path}", f"{field}: {text}", f"polyfleet profile validate {path}") from error
    return Side("standard input" if path == "-" else path, str(item.body["metadata"]["name"]), spec)


def _counterpart(left: Side, fleet: _Fleet) -> Side:
    """A file is compared with the cluster's profile of its name, the cluster's with the shipped one."""
    return _shipped(left.name) if left.label.startswith((f"{fleet.word}/", "live/")) else _side(left.name, fleet)


def differences(left: HardwareProfileSpec, right: HardwareProfileSpec) -> list[Difference]:
    """Every field whose value or origin differs, in a fixed order. Defaults count as given: what the API server stores is compared."""
    one, two = dict(_flat(left)), dict(_flat(right))
    from_one, from_two = _origins(left), _origins(right)
    found = []
    for field in sorted({*one, *two}):
        a, b = one.get(field), two.get(field)
        origin_a, origin_b = from_one.get(field, ""), from_two.get(field, "")
        if a != b or origin_a != origin_b:
            found.append(Difference(field, a, b, origin_a if a is not None else "", origin_b if b is not None else ""))
    return found


def _origins(spec: HardwareProfileSpec) -> dict[str, str]:
    found = {number.path: _origin(number.origin) for number in origins(spec)}
    for entry, key in _keyed(spec):
        found[f"throughput[{key}]"] = f"{entry.evidence} {entry.date}, {entry.source}"
    return found


def _origin(entry: Provenance | None) -> str:
    return f"{entry.evidence} {entry.date}, {entry.source}" if entry is not None else "no provenance"


def _keyed(spec: HardwareProfileSpec) -> Iterator[tuple[Any, str]]:
    """Throughput entries by what they are about, not by their place in the list."""
    seen: dict[str, int] = {}
    for entry in spec.throughput:
        key = " ".join(
            filter(
                None, (entry.model, entry.precision, engine_text(entry), layout_text(entry.parallelism), load_text(entry), entry.evidence)
            )
        )
        seen[key] = seen.get(key, 0) + 1
        yield entry, key if seen[key] == 1 else f"{key} #{seen[key]}"


def _flat(spec: HardwareProfileSpec) -> Iterator[tuple[str, str]]:
    whole = spec.dump()
    whole.pop("provenance", None)  # it shows as the origin of what it covers
    whole.pop("throughput", None)
    yield from _leaves(whole, "")
    for entry, key in _keyed(spec):
        words = [f"{entry.output_tokens_per_second} tok/s" if entry.output_tokens_per_second else "no rate"]
        rest = (("TTFT", entry.ttft), ("ITL", entry.itl), ("footprint", entry.footprint), ("cold start", entry.cold_start))
        words += [f"{name} {value}" for name, value in rest if value]
        yield f"throughput[{key}]", ", ".join(words)


def _leaves(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        if not value and path:
            yield path, "{}"
        for key, part in sorted(value.items()):
            yield from _leaves(part, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    elif isinstance(value, list):
        if value:
            yield path, "[" + ", ".join(map(str, value)) + "]"
    elif value is not None:
        yield path, str(value)


_COLUMNS = (Column("FIELD"), Column("A"), Column("B"), Column("ORIGIN"))


def _lines(found: list[Difference], form: str, room: int) -> Iterator[str]:
    """Two lines for each field, so that nothing has to be cut; with -o wide and md a table."""
    if form in ("wide", "md"):
        yield from grid(_COLUMNS, [[item.field, _side_text(item.left), _side_text(item.right), _from(item)] for item in found], form, room)
        return
    for item in found:
        values = f"{_side_text(item.left)} → {_side_text(item.right)}" if item.left != item.right else f"{item.left}, of another origin"
        yield from wrap(f"{item.field}: {values}", room, first=" ", rest="   ")
        if origin := _from(item):
            yield from wrap(origin, room, first="   ")


def _side_text(value: str | None) -> str:
    return "absent" if value is None else value


def _from(item: Difference) -> str:
    one, two = item.left_origin, item.right_origin
    if one == two or not one or not two:
        return one or two
    return f"{one} → {two}"


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
