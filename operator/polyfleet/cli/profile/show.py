"""`polyfleet profile show NAME`: every number with where it comes from, the entries with their age, what is wrong, what is assumed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from hwprofiles.claims import numbers
from hwprofiles.model import HardwareProfileSpec, Provenance, Throughput
from hwprofiles.trust import Fault, trusted
from polyfleet.cli.failure import FINE, SHORT, Failure
from polyfleet.cli.profile.source import Profile, Profiles, profiles
from polyfleet.cli.profile.terms import UNKNOWN, age, engine_text, flow, grid, layout_text, load_text, machine, style, width
from polyfleet.cli.text import Column, Style, pad, wrap


@dataclass(frozen=True, slots=True)
class Number:
    """One claim of the profile and the narrowest provenance that covers it; None = nobody says where it comes from."""

    path: str
    value: str
    origin: Provenance | None


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    found = profiles(chosen)
    item = found.find(chosen.name)
    if item.parsed is None:
        raise Failure(f"profile {item.name} does not fit the schema and is not used", item.fault, f"kubectl edit hwp {item.name}")
    faults = [fault for fault in trusted(found.specs, today=found.today).faults if fault.profile == item.name]
    answer = None
    if chosen.model:
        from polyfleet.cli.profile import performance as profile_performance

        answer = profile_performance.ask(item, found, chosen)
    if chosen.output in ("json", "yaml"):
        body = document(item, found, faults)
        if answer is not None:
            body["performance"] = answer.document()
        print(machine(body, chosen.output), file=out)
    else:
        for line in render(item, found, faults, chosen.output, style(out), width(out)):
            print(line, file=out)
        if answer is not None:
            for line in answer.lines(style(out), width(out), chosen.output):
                print(line, file=out)
    return FINE if answer is None or answer.usable else SHORT


def origins(spec: HardwareProfileSpec) -> list[Number]:
    """Every number outside `throughput`, in the order of the schema's blocks."""
    return [Number(path, value, _origin(spec, path)) for path, value in numbers(spec).items()]


def _origin(spec: HardwareProfileSpec, path: str) -> Provenance | None:
    """The entry whose field names the most of the path; of two alike the first."""
    reach = [
        (len(field), entry)
        for entry in spec.provenance
        for field in entry.fields
        if path == field or path.startswith((f"{field}.", f"{field}["))
    ]
    return max(reach, key=lambda item: item[0])[1] if reach else None


def render(item: Profile, found: Profiles, faults: Sequence[Fault], form: str, style: Style, room: int) -> Iterator[str]:
    spec = item.parsed
    assert spec is not None
    if form == "md":
        yield f"### {item.name}"
    else:
        yield pad(item.name, max(len(item.name) + 2, room - len(found.source))) + found.source
    per = f", {spec.unit.per_card} per card" if spec.unit.per_card > 1 else ""
    node = f", {spec.unit.per_node} per node" if spec.unit.per_node else ""
    yield from wrap(
        f"{spec.display_name or spec.family} · {spec.vendor} {spec.family} · one device is one {spec.unit.kind}{per}{node}", room, first=" "
    )
    if item.status.get("devices"):
        devices = item.status["devices"]
        shown = ", ".join(f"{devices[name]} {name}" for name in ("total", "allocatable", "used", "free", "withdrawn") if name in devices)
        yield f" {item.status.get('nodes', UNKNOWN)} nodes, devices: {shown}"
    yield from _section("Numbers", form, style)
    yield from _numbers(origins(spec), found.today, form, room)
    yield from _section("Precisions", form, style)
    words = [f"{name} {support}" for name, support in sorted((spec.dtypes or {}).items())]
    yield from flow(words or ["unknown: none is excluded, none is promised"], room, first=" ")
    yield from _section("Throughput", form, style)
    if spec.throughput:
        yield from _entries(spec, faults, found.today, form, room)
    else:
        yield f" none: planning estimates; measure with polyfleet bench --profile {item.name}"
    if faults:
        yield from _section("Faults", form, style)
        for fault in faults:
            yield from wrap(
                f"{fault.field}: {fault.reason}: {fault.message} ({'left out of planning' if fault.ignored else 'used as it is'})",
                room,
                first=" ",
                rest="   ",
            )
    yield from _section("Assumptions", form, style)
    for text in assumptions(item):
        yield from wrap(text, room, first=" ", rest="   ")


def _section(title: str, form: str, style: Style) -> Iterator[str]:
    yield ""
    yield f"#### {title}" if form == "md" else style.bold(title)
    if form == "md":
        yield ""


def assumptions(item: Profile) -> list[str]:
    """What the estimator would put in place of what the profile does not know."""
    from hwprofiles.estimate import hardware_of

    spec = item.parsed
    assert spec is not None
    engines = sorted(spec.engines or {}) or ["vllm"]
    found = {engine: tuple(hardware_of(spec, engine).assumptions) for engine in engines}
    if len(set(found.values())) == 1:
        return list(found[engines[0]]) or ["none"]
    return [f"{engine}: {text}" for engine in engines for text in found[engine]]


def _numbers(found: Sequence[Number], today: str, form: str, room: int) -> Iterator[str]:
    """By origin, so that nothing has to be cut; with -o wide and md a row for each number."""
    if form in ("wide", "md"):
        yield from grid(_NUMBERS, [_number_row(number, today) for number in found], form, room)
        return
    groups: dict[str, list[str]] = {}
    for number in found:
        groups.setdefault(_origin_text(number.origin, today), []).append(f"{number.path} {number.value}")
    for origin, parts in groups.items():
        yield from wrap(origin, room, first=" ", rest="   ")
        yield from flow(parts, room, first="   ")


def _origin_text(origin: Provenance | None, today: str) -> str:
    if origin is None:
        return "no provenance: nobody says where these come from"
    return f"{origin.evidence}, confidence {origin.confidence}, {origin.date} ({age(origin.date, today)}): {origin.source}"


def _number_row(number: Number, today: str) -> list[str]:
    origin = number.origin
    if origin is None:
        return [number.path, number.value, "none", UNKNOWN, UNKNOWN, UNKNOWN, "nobody says where it comes from"]
    return [number.path, number.value, origin.evidence, origin.confidence, origin.date, age(origin.date, today), origin.source]


_NUMBERS = (
    Column("FIELD"), Column("VALUE"), Column("EVIDENCE"), Column("CONFIDENCE"), Column("DATE"), Column("AGE", right=True), Column("SOURCE"),
)  # fmt: skip


def _entries(spec: HardwareProfileSpec, faults: Sequence[Fault], today: str, form: str, room: int) -> Iterator[str]:
    """Under the name of their model, with their place in the list; a column that no entry fills is left out."""
    marked = {fault.field.split("]")[0] + "]" for fault in faults if fault.field.startswith("throughput[")}
    rows = [
        (entry.model, _entry_row(f"{index}{'!' if f'throughput[{index}]' in marked else ''}", entry, today))
        for index, entry in enumerate(spec.throughput)
    ]
    rows.sort(key=lambda row: row[0].casefold())
    filled = [any(row[place] != UNKNOWN for _, row in rows) for place in range(len(_ENTRIES))]
    columns = [column for column, used in zip(_ENTRIES, filled, strict=True) if used]
    body = [[cell for cell, used in zip(row, filled, strict=True) if used] for _, row in rows]
    if form == "md":
        columns.insert(1, Column("MODEL"))
        body = [[row[0], model, *row[1:]] for (model, _), row in zip(rows, body, strict=True)]
        yield from grid(columns, body, form, room)
        return
    head, *lines = grid(columns, body, form, room, _DROP)
    yield head
    before = ""
    for (model, _), line in zip(rows, lines, strict=True):
        if model != before:
            yield f" {model}"
            before = model
        yield line
    if not head.endswith("SOURCE") or any(line.endswith("…") for line in lines):
        yield " latencies and sources in full: -o wide"


_ENTRIES = (
    Column("#", right=True), Column("DTYPE"), Column("ENGINE", shrinks=True, least=11),
    Column("LAYOUT", shrinks=True, least=12), Column("IN/OUT xCONC"), Column("TOK/S", right=True), Column("TTFT", right=True),
    Column("ITL", right=True), Column("EVIDENCE"), Column("AGE", right=True), Column("SOURCE", shrinks=True, least=8),
)  # fmt: skip
_DROP = ("TTFT", "SOURCE", "ITL")  # where the terminal is narrow


def _entry_row(place: str, entry: Throughput, today: str) -> list[str]:
    return [
        place, entry.precision or UNKNOWN, engine_text(entry), layout_text(entry.parallelism), load_text(entry),
        entry.output_tokens_per_second or UNKNOWN, entry.ttft or UNKNOWN, entry.itl or UNKNOWN, entry.evidence, age(entry.date, today),
        entry.source,
    ]  # fmt: skip


def document(item: Profile, found: Profiles, faults: Sequence[Fault]) -> dict[str, Any]:
    spec = item.parsed
    assert spec is not None
    rows = []
    for number in origins(spec):
        row: dict[str, Any] = {"field": number.path, "value": number.value}
        if number.origin is not None:
            row |= number.origin.model_dump(mode="json", by_alias=True, exclude={"fields"})
        rows.append(row)
    return {
        "name": item.name,
        "source": found.source,
        "asOf": found.today,
        "spec": spec.dump_set(),
        "numbers": rows,
        "faults": [{"field": f.field, "reason": f.reason, "message": f.message, "ignored": f.ignored} for f in faults],
        "assumptions": assumptions(item),
    }
