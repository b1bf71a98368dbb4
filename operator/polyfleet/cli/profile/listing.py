"""`polyfleet profile list`: the columns of `kubectl get hwp`, and how many entries of which evidence stand behind each profile."""

from __future__ import annotations

import argparse
from typing import Any, TextIO

from polyfleet.cli.failure import FINE
from polyfleet.cli.profile.source import Profile, Profiles, profiles
from polyfleet.cli.profile.terms import UNKNOWN, age, best, counts, grid, machine, oldest, style, width
from polyfleet.cli.text import Column, count, pad, wrap


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    found = profiles(chosen)
    if chosen.output in ("json", "yaml"):
        print(machine(document(found), chosen.output), file=out)
        return FINE
    room = width(out)
    if chosen.output != "md":
        title = count(len(found.items), "profile")
        print(style(out).bold(pad(title, max(len(title) + 2, room - len(found.source) - 1))) + found.source, file=out)
    rows = [_row(item, found, chosen.output) for item in found.items.values()]
    for line in grid(_columns(found, chosen.output), rows, chosen.output, room, _DROP):
        print(line, file=out)
    if chosen.output == "table":
        hint = f"M/P/E: entries Measured, Published, Estimated · polyfleet profile show NAME{found.option}"
        print("\n".join(wrap(hint, room, first=" ")), file=out)
    for item in found.items.values():
        if item.fault:
            print(f"{item.name} does not fit the schema and is not used: {item.fault}", file=err)
    return FINE


_DROP = ("OLDEST", "VENDOR", "ALIGN", "FAMILY", "DATA")  # where the terminal is narrow; M/P/E says what DATA says


def _columns(found: Profiles, form: str) -> list[Column]:
    """Without a fleet there are no devices to count, and a table that is too wide leaves columns out (`_DROP`)."""
    fleet = [Column("NODES", right=True), Column("DEVICES", right=True), Column("FREE", right=True)] if found.fleet else []
    full = [Column("OLDEST"), Column("AGE", right=True)] if form != "table" else [Column("OLDEST")]
    named = [Column("NAME"), Column("VENDOR"), Column("FAMILY")]
    sizes = [Column("MEM", right=True), Column("ALIGN", right=True), *fleet, Column("COST/DEV-H", right=True)]
    return [*named, *sizes, Column("DATA"), Column("M/P/E", right=True), *full]


def _row(item: Profile, found: Profiles, form: str) -> list[str]:
    if item.parsed is None:
        blank = [UNKNOWN] * (len(_columns(found, form)) - 1)
        return [item.name, *blank]
    spec = item.parsed
    devices = item.status.get("devices") or {}
    fleet = [_known(item.status.get("nodes")), _known(devices.get("total")), _known(devices.get("free"))] if found.fleet else []
    price = f"{spec.cost.per_device_hour} {spec.cost.currency}" if spec.cost is not None else UNKNOWN
    first = oldest(spec)
    full = [first or UNKNOWN, age(first, found.today) if first else UNKNOWN] if form != "table" else [first or UNKNOWN]
    numbers = "/".join(str(number) for number in counts(spec).values())
    named = [item.name, spec.vendor, spec.family, spec.unit.memory, str(spec.allocation.align_to)]
    return [*named, *fleet, price, best(spec), numbers, *full]


def _known(value: object) -> str:
    return UNKNOWN if value is None else str(value)


def document(found: Profiles) -> dict[str, Any]:
    rows = []
    for item in found.items.values():
        row: dict[str, Any] = {"name": item.name}
        if item.parsed is None:
            row["fault"] = item.fault
        else:
            spec = item.parsed
            row |= {"vendor": spec.vendor, "family": spec.family, "memory": spec.unit.memory, "alignTo": spec.allocation.align_to}
            if spec.cost is not None:
                row |= {"perDeviceHour": spec.cost.per_device_hour, "currency": spec.cost.currency}
            row |= {"data": best(spec), "evidence": {word.lower(): number for word, number in counts(spec).items()}}
            if first := oldest(spec):
                row["oldestEvidence"] = first
        row |= {name: item.status[name] for name in ("nodes", "devices") if name in item.status}
        rows.append(row)
    return {"source": found.source, "asOf": found.today, "profiles": rows}
