"""What breaks during a simulation: `--fail KIND=NAME@AT[+FOR]`, as in `pool=ppu-1@10m`, `node=h100-01@1h+30m`, `metrics@20m+10m`.

Devices of what fails are gone at once, with every request in flight there, and come back empty after FOR (without it they stay away). A
failure of `metrics` touches nothing but what the autoscaler can see.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from placement.types import Snapshot
from polyfleet.cli.failure import listed, nearest, usage

KINDS = ("pool", "node", "vendor", "profile", "metrics")
EXAMPLE = "--fail pool=ppu-1@10m+30m"
_FORM = re.compile(r"^(?P<kind>[a-z]+)(=(?P<name>[^@]+))?@(?P<at>[^+]+)(\+(?P<span>.+))?$")
_TIME = re.compile(r"^(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?$")
_UNITS = (86_400.0, 3600.0, 60.0, 1.0)


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    name: str
    begin: float  # s from the beginning of the trace
    end: float  # inf: it stays
    nodes: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        return f"{self.kind} {self.name}".strip()


def seconds(text: str, option: str) -> float:
    """Of `90s`, `10m`, `1h30m`, `1d`; a bare number is seconds."""
    found = _TIME.match(text.strip())
    if found and any(found.groups()):
        return sum(float(value) * unit for value, unit in zip(found.groups(), _UNITS, strict=True) if value)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise usage(
            f"{option}: {text!r} is no time",
            "allowed: 90s, 10m, 1h30m, 1d, or seconds as a number >= 0",
            EXAMPLE if option == "--fail" else f"{option} 120s",
        )
    return value


def parse(texts: Iterable[str], snapshot: Snapshot) -> tuple[Fault, ...]:
    """Of the options in order; usage failures name what is wrong and what there is."""
    return tuple(sorted((_one(text, snapshot) for text in texts), key=lambda item: (item.begin, item.kind, item.name)))


def _one(text: str, snapshot: Snapshot) -> Fault:
    found = _FORM.match(text.strip())
    if found is None:
        raise usage(f"--fail: {text!r} cannot be read", "allowed: KIND=NAME@AT or KIND=NAME@AT+FOR", EXAMPLE)
    kind, name = found["kind"], (found["name"] or "").strip()
    begin = seconds(found["at"], "--fail")
    span = seconds(found["span"], "--fail") if found["span"] else float("inf")
    if kind not in KINDS:
        raise usage(f"--fail: {kind!r} is no kind of failure", f"allowed: {', '.join(KINDS)}", EXAMPLE)
    if kind == "metrics":
        if name:
            raise usage(f"--fail: metrics takes no name, {name!r} was given", "all metrics of the model fail", "--fail metrics@10m+10m")
        return Fault(kind, "", begin, begin + span)
    known = _known(kind, snapshot)
    if name not in known:
        near = nearest(name, sorted(known), 1)
        again = f"--fail {kind}={near[0]}@{found['at']}" if near else EXAMPLE
        raise usage(f"--fail: no {kind} named {name!r}", f"there are: {listed(sorted(known))}", again)
    return Fault(kind, name, begin, begin + span, frozenset(known[name]))


def _known(kind: str, snapshot: Snapshot) -> dict[str, set[str]]:
    """Nodes by the name of what may fail."""
    cells = {cell.name: cell for cell in snapshot.cells}
    found: dict[str, set[str]] = {}
    for node in snapshot.nodes:
        cell = cells[node.cell]
        name = {"pool": cell.pool, "node": node.name, "vendor": cell.vendor, "profile": cell.profile}[kind]
        found.setdefault(name, set()).add(node.name)
    return found
