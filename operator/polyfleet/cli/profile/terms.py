"""What the profile commands share in speaking: ages, evidence, layouts, memory, the width of the terminal, JSON and YAML."""

from __future__ import annotations

import datetime
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import yaml

from hwprofiles import HardwareProfileSpec, Layout
from hwprofiles.model import Throughput
from polyfleet.cli.text import WIDTH, Column, Style, cells, markdown, table

UNKNOWN = "–"
EVIDENCE = ("Measured", "Published", "Estimated")
_LEAST, _MOST = 72, 160


def style(out: TextIO) -> Style:
    """Colour only on a terminal, and not where NO_COLOR (any value) or TERM=dumb asks for none."""
    return Style(colour=out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")


def width(out: TextIO) -> int:
    """Columns of the terminal, within reason; 100 where the output goes to a file or a pipe."""
    return min(_MOST, max(_LEAST, shutil.get_terminal_size((WIDTH, 24)).columns)) if out.isatty() else WIDTH


def counts(spec: HardwareProfileSpec) -> dict[str, int]:
    """Throughput entries by evidence."""
    return {word: sum(entry.evidence == word for entry in spec.throughput) for word in EVIDENCE}


def best(spec: HardwareProfileSpec) -> str:
    found = counts(spec)
    return next((word for word in EVIDENCE if found[word]), "None")


def oldest(spec: HardwareProfileSpec) -> str:
    """Date of the oldest figure, entries and provenance together; "" if there is none."""
    return min([entry.date for entry in spec.throughput] + [entry.date for entry in spec.provenance], default="")


def age(date: str, today: str) -> str:
    """`95d`, or `3mo` where only the month is known; `new` for today, `future` for what cannot be."""
    if date > today[: len(date)]:
        return "future"
    if len(date) < len("YYYY-MM-DD"):
        months = (int(today[:4]) - int(date[:4])) * 12 + int(today[5:7]) - int(date[5:7])
        return f"{months}mo" if months else "new"
    try:
        days = (datetime.date.fromisoformat(today) - datetime.date.fromisoformat(date)).days
    except ValueError:
        return UNKNOWN
    return f"{days}d" if days else "new"


def layout_text(layout: Layout) -> str:
    """`tp4`, `tp8 dp2`, `dp16 ep16`, `tp8 pp2 over 2 nodes`; `1 device` for the simplest."""
    sizes = (("tp", layout.tensor), ("pp", layout.pipeline), ("dp", layout.data), ("ep", layout.expert or 1))
    words = " ".join(f"{name}{size}" for name, size in sizes if size > 1) or "1 device"
    return f"{words} over {layout.span} nodes" if layout.span > 1 else words


def engine_text(entry: Throughput) -> str:
    return f"{entry.engine} {entry.engine_version}" if entry.engine_version else entry.engine


def load_text(entry: Throughput) -> str:
    """`3500/1500 x76`: input and output tokens, requests in flight; what is unknown shows as such."""
    return f"{_or(entry.input_tokens)}/{_or(entry.output_tokens)} x{_or(entry.concurrency)}"


def _or(value: object) -> str:
    return UNKNOWN if value is None else str(value)


def grid(columns: Sequence[Column], rows: Sequence[Sequence[str]], form: str, room: int, drop: Sequence[str] = ()) -> list[str]:
    """A table of at most `room` cells: columns named in `drop` go first, in that order, before anything is cut at the edge."""
    if form == "md":
        return markdown(columns, rows)
    if form == "wide":
        return table(columns, rows, 10_000)
    kept = list(range(len(columns)))
    for title in drop:
        if _needed([columns[i] for i in kept], [[row[i] for i in kept] for row in rows]) <= room:
            break
        kept = [i for i in kept if columns[i].title != title]
    return table([columns[i] for i in kept], [[row[i] for i in kept] for row in rows], room)


def _needed(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> int:
    """Cells that the table takes once every column that may shrink has shrunk."""
    full = [max(cells(column.title), *(cells(row[i]) for row in rows)) if rows else cells(column.title) for i, column in enumerate(columns)]
    least = [min(full[i], max(column.least, cells(column.title))) if column.shrinks else full[i] for i, column in enumerate(columns)]
    return 1 + sum(least) + 2 * (len(columns) - 1)


def flow(items: Sequence[str], room: int, *, first: str) -> list[str]:
    """Items with a dot between them, broken only between items."""
    lines, line = [], first
    for item in items:
        joined = line + (" · " if line.strip() else "") + item
        if cells(joined) > room - 2 and line.strip():
            lines.append(line + " ·")
            joined = first + item
        line = joined
    return [*lines, line]


def machine(body: Mapping[str, Any], form: str) -> str:
    """JSON or YAML with keys in the order given; numbers and texts as the API has them."""
    if form == "json":
        return json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False)
    return str(yaml.safe_dump(dict(body), sort_keys=False, allow_unicode=True, width=140)).rstrip("\n")
