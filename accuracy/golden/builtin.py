"""The golden set that comes with polyfleet. `tools/make_golden.py` composes it; here it is only read and put together. Pure.

The file stores each passage of running text once and items as lists of passages, because long prompts share them; `skip`
says how many of their letters are left out in front.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from accuracy.golden.items import GoldenError, read
from accuracy.golden.sets import digest
from accuracy.types import GoldenSet, Item

NAMES = ("core",)


@cache
def builtin(name: str = "core") -> GoldenSet:
    """The set of this name. Raises GoldenError if none has it."""
    if name not in NAMES:
        raise GoldenError(f"builtin golden set {name!r} does not exist; allowed: {', '.join(NAMES)}, or a configMap with your own")
    return expand(name, resources.files("accuracy.golden").joinpath("data", f"{name}.json").read_text(encoding="utf-8"))


def by_digest(wanted: str) -> GoldenSet | None:
    """The built-in set with this content, if this version has it."""
    return next((s for s in map(builtin, NAMES) if s.digest == wanted), None)


def expand(name: str, stored: str) -> GoldenSet:
    """The stored form with every passage put in its place."""
    document: dict[str, Any] = json.loads(stored)
    passages: dict[str, str] = document["passages"]
    items: list[Item] = []
    for entry in document["items"]:
        use, skip = entry.pop("use", ()), entry.pop("skip", 0)
        if use:
            entry["text"] = "\n\n".join(passages[p] for p in use)[skip:] + entry["text"]
        items.append(read(entry, f"builtin {name}"))
    return GoldenSet(name=name, digest=digest(items), items=tuple(items), builtin=True)
