"""The services format: services with candidates, and a stock per device type, as two small tables. Reader and writer.

`NAME.csv[.gz]` has the columns of `COLUMNS`, one row per candidate; `NAME.stock.csv` has device_type and devices. Every fault of a file is
an error that names file, line, column, value and what is allowed; nothing is guessed or skipped.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

COLUMNS = (
    "service",
    "priority",
    "demand_req_per_min",
    "accelerator",
    "device_type",
    "devices_per_replica",
    "replica_req_per_min",
    "replica_cost_cents_per_hour",
    "replicas_if_alone",
)
STOCK_COLUMNS = ("device_type", "devices")
ANSWER_COLUMNS = ("service", "accelerator", "replicas")
OPTIONAL = "replicas_if_alone"  # follows from the others, read and forgotten


class ServicesError(ValueError):
    """A file that is no services instance: names file, line, column and value."""


@dataclass(frozen=True, slots=True)
class Candidate:
    accelerator: str
    device_type: str
    devices: int
    rate: float  # requests per minute of one replica; 0 = cannot meet the latency target
    cost: float  # cents per hour of one replica

    def replicas(self, demand: float) -> int:
        """How many cover the demand alone; the rate must be above 0."""
        return max(1, math.ceil(demand / self.rate - 1e-9))


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    priority: int  # 1 = first
    demand: float  # requests per minute; 0 = placed without replicas
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Instance:
    services: tuple[Service, ...]
    stock: dict[str, int]

    @property
    def candidates(self) -> int:
        return sum(len(s.candidates) for s in self.services)


def read(services: Path, stock: Path) -> Instance:
    """Both files. ServicesError for what is unreadable, missing, not a number, out of range, doubled or contradictory."""
    return Instance(_services(services), _stock(stock))


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        return raw.decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ServicesError(f"{path}: cannot be read ({error}); expected UTF-8 CSV, plain or gzip") from error


Row = tuple[int, dict[str, str]]  # line, values


def _rows(path: Path, columns: Sequence[str], optional: str = "") -> list[Row]:
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    rows: list[Row] = []
    try:
        header = next(reader, None)
        if header is None:
            raise ServicesError(f"{path}: line 1: the file is empty, expected the header {','.join(columns)}")
        for column in columns:
            if column not in header and column != optional:
                raise ServicesError(f"{path}: line 1: column {column!r} is missing, expected {','.join(columns)}")
        if unknown := [c for c in header if c not in columns]:
            raise ServicesError(f"{path}: line 1: column {unknown[0]!r} is unknown, expected {','.join(columns)}")
        if len(set(header)) != len(header):
            raise ServicesError(f"{path}: line 1: a column appears twice in {','.join(header)}")
        for values in reader:
            if not values:
                continue
            if len(values) != len(header):
                raise ServicesError(f"{path}: line {reader.line_num}: {len(values)} values, the header has {len(header)} columns")
            rows.append((reader.line_num, dict(zip(header, values, strict=True))))
    except csv.Error as error:
        raise ServicesError(f"{path}: line {reader.line_num}: no CSV ({error})") from error
    return rows


def _name(path: Path, row: Row, column: str) -> str:
    value = row[1][column]
    if not value.strip():
        raise ServicesError(f"{path}: line {row[0]}: column {column!r} is empty, expected a name")
    return value


def _real(path: Path, row: Row, column: str) -> float:
    text = row[1][column]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise ServicesError(f"{path}: line {row[0]}: column {column!r} has {text!r}, expected a finite number of at least 0")
    return value


def _whole(path: Path, row: Row, column: str, least: int) -> int:
    text = row[1][column].strip()
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise ServicesError(f"{path}: line {row[0]}: column {column!r} has {row[1][column]!r}, expected a whole number of at least {least}")
    return int(text)


def _services(path: Path) -> tuple[Service, ...]:
    heads: dict[str, tuple[int, float]] = {}
    found: dict[str, dict[str, Candidate]] = {}
    for row in _rows(path, COLUMNS, OPTIONAL):
        name, accelerator = _name(path, row, "service"), _name(path, row, "accelerator")
        head = (_whole(path, row, "priority", 1), _real(path, row, "demand_req_per_min"))
        for i, column in enumerate(("priority", "demand_req_per_min")):
            if heads.setdefault(name, head)[i] != head[i]:
                raise ServicesError(
                    f"{path}: line {row[0]}: column {column!r} has {row[1][column]!r}, but {name!r} has {heads[name][i]:g} above"
                )
        mine = found.setdefault(name, {})
        if accelerator in mine:
            raise ServicesError(f"{path}: line {row[0]}: column 'accelerator' has {accelerator!r} a second time for {name!r}")
        mine[accelerator] = Candidate(
            accelerator,
            _name(path, row, "device_type"),
            _whole(path, row, "devices_per_replica", 1),
            _real(path, row, "replica_req_per_min"),
            _real(path, row, "replica_cost_cents_per_hour"),
        )
    return tuple(Service(n, *heads[n], tuple(found[n][a] for a in sorted(found[n]))) for n in sorted(found))


def _stock(path: Path) -> dict[str, int]:
    stock: dict[str, int] = {}
    for row in _rows(path, STOCK_COLUMNS):
        kind = _name(path, row, "device_type")
        if kind in stock:
            raise ServicesError(f"{path}: line {row[0]}: column 'device_type' has {kind!r} a second time")
        stock[kind] = _whole(path, row, "devices", 0)
    return dict(sorted(stock.items()))


def write(instance: Instance, services: Path, stock: Path) -> None:
    """The same two files: gzip where the name ends in .gz, without a time stamp, so that the bytes are those of the content."""
    rows: list[tuple[object, ...]] = []
    for s in instance.services:
        for c in s.candidates:
            alone = c.replicas(s.demand) if c.rate > 0 else 0
            rows.append(
                (s.name, s.priority, f"{s.demand:.12g}", c.accelerator, c.device_type, c.devices, f"{c.rate:.12g}", f"{c.cost:.12g}", alone)
            )
    _put(services, _csv(COLUMNS, rows))
    _put(stock, _csv(STOCK_COLUMNS, list(instance.stock.items())))


def write_answer(path: Path, replicas: Iterable[tuple[str, str, int]]) -> None:
    """service, accelerator, replicas: sorted, only counts above 0."""
    _put(path, _csv(ANSWER_COLUMNS, sorted(r for r in replicas if r[2] > 0)))


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue().encode("utf-8")


def _put(path: Path, body: bytes) -> None:
    try:
        path.write_bytes(gzip.compress(body, mtime=0) if path.suffix == ".gz" else body)
    except OSError as error:
        raise ServicesError(f"{path}: cannot be written ({error})") from error
