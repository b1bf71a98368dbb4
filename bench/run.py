"""`make bench`: the ground floor's figures, held against bench/ranges.json, written to bench/results/ground.json.

Times depend on the machine and are recorded with it; counts (writes at rest, pods on their planned nodes, devices held twice) do not.
Two clusters are used, one after the other: real (or process) nodes for what users wait for, 100 virtual nodes for scale.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from bench import engine, rest, scale
from tools.paths import ROOT

RANGES = ROOT / "bench/ranges.json"
RESULTS = ROOT / "bench/results/ground.json"


def verdicts(figures: dict[str, float], ranges: dict[str, Any]) -> list[tuple[str, float, str, bool]]:
    """(name, value, allowed, inside) for each figure. One that has a range and was not measured is an error of the bench itself."""
    rows = []
    for name, value in sorted(figures.items()):
        limits = ranges.get(name, {})
        inside = value <= limits.get("max", float("inf")) and value >= limits.get("min", float("-inf"))
        allowed = " ".join(f"{k} {v}" for k, v in sorted(limits.items())) or "recorded"
        rows.append((name, value, allowed, inside))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--only", choices=["engine", "rest", "scale"])
    parser.add_argument("--seconds", type=int, default=60, help="how long the converged cluster is watched for writes")
    args = parser.parse_args()
    figures: dict[str, float] = {}
    if args.only in (None, "engine"):
        figures |= engine.measure()
    if args.only in (None, "rest"):
        figures |= rest.measure(args.seconds)
    if args.only in (None, "scale"):
        figures |= scale.measure()
    rows = verdicts(figures, json.loads(RANGES.read_text()))
    asked = {name for name in json.loads(RANGES.read_text()) if args.only is None and name != "calibration"}
    if lost := sorted(asked - figures.keys()):
        print(f"not measured: {', '.join(lost)}; nothing is written")
        return 1
    for name, value, allowed, inside in rows:
        print(f"{'ok  ' if inside else 'OVER'}  {name:38} {value:10.2f}  {allowed}")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    old = json.loads(RESULTS.read_text())["figures"] if RESULTS.exists() else {}
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    stamp = time.strftime("%Y-%m-%d", time.gmtime())
    RESULTS.write_text(json.dumps({"machine": machine, "date": stamp, "figures": {**old, **figures}}, indent=1, sort_keys=True) + "\n")
    print(f"written to {Path(RESULTS).relative_to(ROOT)}")
    return 0 if all(inside for *_, inside in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
