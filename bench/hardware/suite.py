"""`make bench-hardware`: runs every measurement of this folder in a process of its own and writes bench/results/hardware.json.

`python -m bench.hardware.suite [--only PART] [--quick] [--out FILE]`. About ten minutes, eight of them for the predictions; `--quick` takes
a small subset of each in about two, and the file says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.hardware.results import RESULTS, store
from tools.paths import ROOT


def _profiles(quick: bool) -> dict[str, Any]:
    from bench.hardware import profiles

    return dict(profiles.measure(1 if quick else 5))


def _estimator(quick: bool) -> dict[str, Any]:
    from bench.hardware import estimator

    return dict(estimator.measure(1 if quick else len(estimator.LOADS), 1 if quick else 5))


def _inventory(quick: bool) -> dict[str, Any]:
    from bench.hardware import inventory

    nodes, pods, changes = (500, 1000, 20) if quick else (10_000, 20_000, 100)
    return {"nodes": nodes, "pods": pods, **inventory.measure(nodes, pods, changes, seed=5)}


def _predict(engine: str) -> Callable[[bool], dict[str, Any]]:
    def measure(quick: bool) -> dict[str, Any]:
        from bench.hardware import predict

        return predict.repeated(engine, 1 if quick else 5, 4.0 if quick else 2.0, 1 if quick else 6)

    return measure


PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "profiles": _profiles,
    "estimator": _estimator,
    "inventory": _inventory,
    "predict-byte": _predict("byte"),
    "predict-paced": _predict("paced"),
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.hardware.suite", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=sorted(PARTS), help="only this part; may be given more than once")
    parser.add_argument("--quick", action="store_true", help="a small subset of each")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help=f"default: {RESULTS.relative_to(ROOT)}")
    parser.add_argument("--alone", choices=sorted(PARTS), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.alone:
        store(args.alone, PARTS[args.alone](args.quick), args.out, quick=args.quick)
        return 0
    failed = []
    for name in PARTS:
        if args.only and name not in args.only:
            continue
        print(f"{name}: running", flush=True)
        # CPU seconds and caches of one measurement must not be those of another.
        command = [sys.executable, "-m", "bench.hardware.suite", "--alone", name, "--out", str(args.out.resolve())]
        if subprocess.run([*command, *(["--quick"] if args.quick else [])], cwd=ROOT, check=False).returncode:
            failed.append(name)
        else:
            print(f"{name}: {json.dumps(_short(args.out, name))}", flush=True)
    print(f"failed: {', '.join(failed)}" if failed else f"written to {args.out}")
    return 1 if failed else 0


def _short(path: Path, name: str) -> dict[str, Any]:
    figures = json.loads(path.read_text(encoding="utf-8"))[name]["figures"]
    return {key: value for key, value in figures.items() if not isinstance(value, list)}


if __name__ == "__main__":
    sys.exit(main())
