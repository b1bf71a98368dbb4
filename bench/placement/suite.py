"""`suite`: runs every measurement in a process of its own and keeps the lines in bench/results/placement.json, section by section.

A section replaces only itself, line by line, so that long ones can be run one at a time (`--only`), and one that is cut short keeps what it
has. `--quick` runs a small subset of each; the file says of each section whether it was quick or cut short, and the report repeats it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.placement import peers
from bench.placement.openb import DATA
from bench.placement.peers import Line, command_line
from tools.paths import ROOT

RESULTS = ROOT / "bench/results/placement.json"
LOOSE_AND_SCARCE = ("small_loose", "small_scarce", "mid_loose", "mid_scarce", "mid_severe")
LARGE = ("large_loose", "large_scarce", "xl_loose", "xl_scarce")


# A shorter measurement says so by its counts: seeds of the smaller fleets, steps of the loops on small_* and on the others.
SEEDS, STEPS, SCARCE_STEPS, MID_STEPS, CHANGES = (
    "BENCH_SEEDS",
    "BENCH_STEPS",
    "BENCH_SCARCE_STEPS",
    "BENCH_MID_STEPS",
    "BENCH_CHANGES",
)


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name, str(default)))


def fleets(quick: bool) -> Iterator[Line]:
    seeds = range(_number(SEEDS, 3))
    names = [("tiny", 0), *((n, s) for n in LOOSE_AND_SCARCE for s in seeds), *((n, 0) for n in ("openb_loose", "openb_scarce", *LARGE))]
    for name, seed in [("tiny", 0), ("small_loose", 0), ("mid_loose", 0)] if quick else names:
        yield {"instance": name, "seed": seed, **command_line("fleet", "--instance", name, "--seed", str(seed))}


def deep(quick: bool) -> Iterator[Line]:
    for name in ("small_loose",) if quick else ("small_loose", "small_scarce", "mid_loose", "mid_scarce"):
        yield {"instance": name, "seed": 0, **command_line("fleet", "--instance", name, "--effort", "deep")}


def loops(quick: bool) -> Iterator[Line]:
    drift = ["--steps", "30" if quick else str(_number(STEPS, 10000))]
    scarce = ["--steps", "30" if quick else str(_number(SCARCE_STEPS, _number(STEPS, 10000)))]
    mid = ["--steps", "3" if quick else str(_number(MID_STEPS, 200))]
    large = ["--steps", "12"]
    runs: list[list[str]] = [
        ["small_loose", *drift],
        ["small_scarce", *scarce],
        ["small_loose", "--noise", *mid],
        ["small_scarce", "--noise", *mid],
        ["mid_loose", "--kappa", "0", *mid],
        ["mid_loose", "--kappa", "0.3", *mid],
        ["mid_loose", "--kappa", "1", *mid],
    ]
    if not quick:
        runs += [
            ["mid_loose", "--t", "1.6", "--kappa", "0", *mid],
            ["mid_loose", "--t", "1.6", *mid],
            ["mid_scarce", *mid],
            ["mid_loose", "--noise", *mid],
            ["large_loose", "--kappa", "0", *large],
            ["large_loose", *large],
        ]
    for name, *rest in runs:
        yield command_line("loop", "--instance", name, *rest)


def changes(quick: bool) -> Iterator[Line]:
    runs: list[list[str]] = [["small_loose"]] if quick else [["mid_loose"], ["mid_loose", "--t", "1.6"], ["large_loose"]]
    for name, *rest in runs:
        count = "10" if quick or name.startswith("large") else str(_number(CHANGES, 100))
        yield command_line("change", "--instance", name, "--changes", count, *rest)


def repeats(quick: bool) -> Iterator[Line]:
    """The same command twice, with different hash seeds: are the bytes the same?"""
    data = DATA / "services"
    with tempfile.TemporaryDirectory() as folder:
        for name in peers.KEPT[: 2 if quick else 4]:
            found = []
            for hash_seed in ("1", "2"):
                out = Path(folder) / f"{name}.{hash_seed}.csv"
                words = ["solve", "--services", str(data / f"{name}.csv.gz"), "--stock", str(data / f"{name}.stock.csv"), "--out", str(out)]
                _again(words, hash_seed)
                found.append(hashlib.sha256(out.read_bytes()).hexdigest())
            yield {"what": f"solve {name}", "same": found[0] == found[1]}
    for name in ("small_loose",) if quick else ("small_loose", "mid_loose", "mid_scarce"):
        digests = [_again(["fleet", "--instance", name], hash_seed)["digest"] for hash_seed in ("1", "2")]
        yield {"what": f"fleet {name}", "same": digests[0] == digests[1]}


def _again(words: list[str], hash_seed: str) -> Line:
    env = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-m", "bench.placement", *words], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    found: Line = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def fragments(quick: bool) -> Iterator[Line]:
    words = ["fragmentation", *(["--quick"] if quick else [])]
    done = subprocess.run([sys.executable, "-m", "bench.placement", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    yield from (json.loads(text) for text in done.stdout.strip().splitlines())


SECTIONS: dict[str, Callable[[bool], Iterator[Line]]] = {
    "fleets": fleets,
    "deep": deep,
    "baselines": peers.fleets,
    "services": peers.services,
    "aibrix": peers.one_model,
    "melange": peers.sweep,
    "loops": loops,
    "changes": changes,
    "repeats": repeats,
    "fragmentation": fragments,
}


def load() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"sections": {}}
    return found


def _store(name: str, lines: list[Line], *, quick: bool, partial: bool) -> None:
    """The section as it is so far; one that was cut short says so."""
    results = load()
    machine = f"{len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    date = time.strftime("%Y-%m-%d", time.gmtime())
    results["sections"][name] = {"quick": quick, "partial": partial, "machine": machine, "date": date, "lines": lines}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def command(only: list[str] | None, quick: bool) -> int:
    if unknown := sorted(set(only or ()) - SECTIONS.keys()):
        print(f"error: --only {unknown[0]!r}: no such section, allowed are {', '.join(SECTIONS)}", file=sys.stderr)
        return 1
    for name, section in SECTIONS.items():
        if only and name not in only:
            continue
        lines: list[Line] = []
        for line in section(quick):
            print(json.dumps({"section": name, **line}, ensure_ascii=False), flush=True)
            lines.append(line)
            _store(name, lines, quick=quick, partial=True)  # hours of measuring are not lost with the last line
        _store(name, lines, quick=quick, partial=False)
    return 0
