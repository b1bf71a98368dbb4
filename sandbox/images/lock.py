"""The part of requirements.lock that an image needs: its roots and everything they pull in, hashes included. Pure.

The lock's own `# via` remarks are the dependency graph, so that no resolver runs and nothing outside the lock can get in.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sandbox.errors import SandboxError

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==")
_VIA = re.compile(r"^\s+#\s+(?:via\b)?\s*(?P<parent>[A-Za-z0-9][A-Za-z0-9._-]*)?")


def normal(name: str) -> str:
    """A distribution's name in its one normal spelling."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True)
class Pin:
    """One locked distribution."""

    name: str
    text: str
    """Its lines in the lock: version and hashes."""
    parents: frozenset[str]
    """Who requires it."""


def parse(text: str) -> Mapping[str, Pin]:
    """Read a lock as `uv pip compile --generate-hashes` writes it."""
    pins: dict[str, Pin] = {}
    name, lines, parents = "", list[str](), set[str]()

    def close() -> None:
        if name:
            pins[name] = Pin(name, "\n".join(lines), frozenset(parents))

    for line in text.splitlines():
        if found := _PIN.match(line):
            close()
            name, lines, parents = normal(found["name"]), [line], set()
        elif (remark := _VIA.match(line)) and name:
            if remark["parent"]:
                parents.add(normal(remark["parent"]))
        elif line.strip() and not line.startswith("#"):
            lines.append(line)
    close()
    return pins


def subset(text: str, roots: Collection[str], without: Collection[str] = ()) -> str:
    """Requirements text for these roots and all that they require, without the left-out ones (and what only those require)."""
    pins = parse(text)
    wanted = {normal(root) for root in roots}
    missing = sorted(wanted - pins.keys())
    if missing:
        raise SandboxError(f"requirements.lock does not pin {', '.join(missing)}. Make it anew: make lock")
    left_out = {normal(name) for name in without}
    while True:
        more = {pin.name for pin in pins.values() if pin.parents & wanted} - left_out - wanted
        if not more:
            return "".join(pins[name].text + "\n" for name in sorted(wanted))
        wanted |= more
