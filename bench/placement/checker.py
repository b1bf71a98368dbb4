"""The referee of services answers: reads instance, stock and answer itself and recounts everything. It shares no code with any planner.

It keeps its own small reader on purpose: an error in the reader of the planner must not hide itself here.
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

SLACK = Fraction(1, 10**6)  # a service is placed when its replicas cover its demand up to this share


@dataclass(frozen=True, slots=True)
class Verdict:
    faults: tuple[str, ...]  # empty = a valid answer
    cost: float  # cents per hour, of all rows
    placed: int
    services: int
    placed_per_priority: dict[int, int]

    @property
    def ok(self) -> bool:
        return not self.faults


def _table(path: Path) -> list[dict[str, str]]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.name.endswith(".gz") else raw).decode()
    return list(csv.DictReader(text.splitlines()))


def judge(services: Path, stock: Path, answer: Path) -> Verdict:
    """What is wrong with the answer, and what it is worth. Numbers are exact fractions of what the files say."""
    faults: list[str] = []
    demand: dict[str, Fraction] = {}
    priority: dict[str, int] = {}
    candidate: dict[tuple[str, str], tuple[str, int, Fraction, Fraction]] = {}
    for row in _table(services):
        demand[row["service"]] = Fraction(row["demand_req_per_min"])
        priority[row["service"]] = int(row["priority"])
        candidate[row["service"], row["accelerator"]] = (
            row["device_type"],
            int(row["devices_per_replica"]),
            Fraction(row["replica_req_per_min"]),
            Fraction(row["replica_cost_cents_per_hour"]),
        )
    have = {row["device_type"]: int(row["devices"]) for row in _table(stock)}

    text = answer.read_text()
    lines = text.splitlines()
    if not text.startswith("service,accelerator,replicas\n"):
        faults.append(f"header {lines[:1]}, must be service,accelerator,replicas")
    rows = _table(answer)
    keys = [(r.get("service") or "", r.get("accelerator") or "") for r in rows]
    if keys != sorted(keys):
        faults.append("the rows are not sorted")
    faults += [f"{key}: listed {keys.count(key)} times" for key in sorted({k for k in keys if keys.count(k) > 1})]
    used: dict[str, int] = defaultdict(int)
    rate: dict[str, Fraction] = defaultdict(Fraction)
    cost = Fraction(0)
    for key, row in zip(keys, rows, strict=True):
        count = row.get("replicas") or ""
        if not count.isdigit() or int(count) < 1:
            faults.append(f"{key}: {count!r} replicas, must be a whole number above 0")
            continue
        if key not in candidate:
            faults.append(f"{key}: no such candidate")
            continue
        kind, devices, each, price = candidate[key]
        if each <= 0:
            faults.append(f"{key}: used, but its rate is 0")
        used[kind] += int(count) * devices
        rate[key[0]] += int(count) * each
        cost += int(count) * price
    faults += [f"{kind}: {n} devices used, {have.get(kind, 0)} in stock" for kind, n in sorted(used.items()) if n > have.get(kind, 0)]
    placed: dict[int, int] = dict.fromkeys(sorted(set(priority.values())), 0)
    for name in sorted(demand):
        if rate[name] >= demand[name] * (1 - SLACK):
            placed[priority[name]] += 1
        elif name in {service for service, _ in keys}:
            faults.append(f"{name}: {float(rate[name]):g} of {float(demand[name]):g} requests per minute, an unplaced service has no rows")
    return Verdict(tuple(faults), float(cost), sum(placed.values()), len(demand), placed)
