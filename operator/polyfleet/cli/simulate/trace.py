"""A trace of requests from a CSV file, plain or gzip: columns arrival_s, context_tokens, generated_tokens; others are not read.

Every fault names the row, the column, the value and the allowed range. A trace may have holes: nobody asks for anything meanwhile.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from polyfleet.cli.failure import Failure

COLUMNS = ("arrival_s", "context_tokens", "generated_tokens")
LONGEST_S = 31 * 86_400.0
MOST_TOKENS = 10_000_000
MOST_ROWS = 20_000_000
_RANGES = {
    "arrival_s": (0.0, LONGEST_S, f"a number of seconds from 0 to {LONGEST_S:.0f} (31 days), counted from the beginning of the trace"),
    "context_tokens": (0.0, MOST_TOKENS, f"a whole number from 0 to {MOST_TOKENS}"),
    "generated_tokens": (0.0, MOST_TOKENS, f"a whole number from 0 to {MOST_TOKENS}"),
}


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of arrival. `arrival` in s, the first at 0 or later; `prompt` and `output` in tokens, at least 1."""

    name: str
    arrival: Any
    prompt: Any
    output: Any

    @property
    def span_s(self) -> float:
        """From the beginning of the trace to the last arrival."""
        return float(self.arrival[-1])

    @property
    def mean(self) -> tuple[float, float]:
        """(prompt, output) tokens of a mean request."""
        return float(np.mean(self.prompt)), float(np.mean(self.output))


def read(name: str) -> Trace:
    """Of a file, or of standard input for `-`. Failure for what is no trace."""
    try:
        if name == "-":
            return _rows(sys.stdin, "standard input")
        path = Path(name)
        with path.open("rb") as probe:
            packed = probe.read(2) == b"\x1f\x8b"
        opener = gzip.open if packed else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            return _rows(file, path.name)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Failure(f"cannot read the trace {name}", why, f"head -2 {name}; the first line is {','.join(COLUMNS)}") from error


def _rows(file: IO[str] | io.TextIOBase, name: str) -> Trace:
    rows = csv.reader(file)
    try:
        header = [cell.strip() for cell in next(rows, [])]
        missing = [column for column in COLUMNS if column not in header]
        if missing:
            raise Failure(
                f"{name} has no column {missing[0]}",
                f"its first line is {','.join(header)[:200] or 'empty'}; needed are {', '.join(COLUMNS)}",
                f"name the columns {','.join(COLUMNS)}, as in examples/burst.csv",
            )
        places = tuple(header.index(column) for column in COLUMNS)
        found = [_row(row, places, name, rows.line_num) for row in rows if row]
    except csv.Error as error:
        raise Failure(f"{name} line {rows.line_num} is no CSV", str(error), "write one request per line") from error
    if not found:
        raise Failure(f"{name} holds no request", "there is no row below the first line", "take a trace with at least one request")
    if len(found) > MOST_ROWS:
        raise Failure(f"{name} holds {len(found)} requests", f"at most {MOST_ROWS} are simulated", "thin the trace out")
    table = np.array(found)
    table = table[np.argsort(table[:, 0], kind="stable")]
    return Trace(name, table[:, 0], np.maximum(table[:, 1].astype(np.int64), 1), np.maximum(table[:, 2].astype(np.int64), 1))


def _row(row: list[str], places: tuple[int, ...], name: str, line: int) -> tuple[float, float, float]:
    values = []
    for column, place in zip(COLUMNS, places, strict=True):
        text = row[place].strip() if place < len(row) else ""
        low, high, allowed = _RANGES[column]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or (column != "arrival_s" and value != int(value)):
            raise Failure(
                f"{name} line {line}: {column} is {text[:40]!r}",
                f"allowed: {allowed}",
                f"sed -n {line}p of the file; correct the value or leave the line out",
            )
        values.append(value)
    return values[0], values[1], values[2]
