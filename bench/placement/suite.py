"""`suite`: runs every measurement in a process of its own and keeps the lines in bench/results/placement.json, section by section.

A section replaces only itself, line by line, so that long ones can be run one at a time (`--only`), and one that is cut short keeps what it
has. `--match TEXT` measures only those commands of a section that contain the text and leaves its other lines as they are. `--quick` runs a
small subset of each; the file says of each section whether it was quick or cut short, and of each line at which commit it was measured; the
report repeats both.
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


# A shorter measurement says so by its counts: seeds of the smaller fleets, steps of the loops on small_* and on the others, and the CPU
# seconds after which a loop ends whatever its steps (0 = no end).
SEEDS, STEPS, SCARCE_STEPS, MID_STEPS, CHANGES, WITHIN = (
    "BENCH_SEEDS",
    "BENCH_STEPS",
    "BENCH_SCARCE_STEPS",
    "BENCH_MID_STEPS",
    "BENCH_CHANGES",
    "BENCH_LOOP_SECONDS",
)
# What a line is about: of two lines that agree in all of these the later one replaces the earlier.
ABOUT = ("instance", "seed", "t", "kappa", "mode", "size", "load", "baseline", "case", "types", "buckets", "rate", "slices", "what", "rule")


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name, str(default)))


def fleets(quick: bool) -> Iterator[tuple[str, ...]]:
    seeds = range(_number(SEEDS, 3))
    names = [("tiny", 0), *((n, s) for n in LOOSE_AND_SCARCE for s in seeds), *((n, 0) for n in ("openb_loose", "openb_scarce", *LARGE))]
    for name, seed in [("tiny", 0), ("small_loose", 0), ("mid_loose", 0)] if quick else names:
        yield ("fleet", "--instance", name, "--seed", str(seed))


def deep(quick: bool) -> Iterator[tuple[str, ...]]:
    for name in ("small_loose",) if quick else ("small_loose", "small_scarce", "mid_loose", "mid_scarce"):
        yield ("fleet", "--instance", name, "--seed", "0", "--effort", "deep")


def loops(quick: bool) -> Iterator[tuple[str, ...]]:
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
            ["mid_severe", *mid],
            ["mid_loose", "--noise", *mid],
            ["large_loose", "--kappa", "0", *large],
            ["large_loose", *large],
        ]
    for name, *rest in runs:
        yield ("loop", "--instance", name, *rest, *(["--within", os.environ[WITHIN]] if WITHIN in os.environ else []))


def changes(quick: bool) -> Iterator[tuple[str, ...]]:
    runs: list[list[str]] = [["small_loose"]] if quick else [["mid_loose"], ["mid_loose", "--t", "1.6"], ["large_loose"]]
    for name, *rest in runs:
        count = "10" if quick or name.startswith("large") else str(_number(CHANGES, 100))
        yield ("change", "--instance", name, "--changes", count, *rest)


def shortfalls(quick: bool) -> Iterator[tuple[str, ...]]:
    names = ("tiny",) if quick else ("tiny", "small_scarce", "openb_loose", "openb_scarce", "mid_scarce")
    for name in names:
        yield ("shortfalls", "--instance", name)


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


# Sections that are lists of commands, and those that make their lines themselves.
COMMANDS: dict[str, Callable[[bool], Iterator[tuple[str, ...]]]] = {
    "fleets": fleets,
    "deep": deep,
    "loops": loops,
    "changes": changes,
    "shortfalls": shortfalls,
}
OTHERS: dict[str, Callable[[bool], Iterator[Line]]] = {
    "baselines": peers.fleets,
    "services": peers.services,
    "aibrix": peers.one_model,
    "melange": peers.sweep,
    "repeats": repeats,
    "fragmentation": fragments,
}
SECTIONS = ("fleets", "deep", "baselines", "services", "aibrix", "melange", "loops", "changes", "shortfalls", "repeats", "fragmentation")


def measured(name: str, quick: bool, match: str = "") -> Iterator[Line]:
    """The lines of a section, one by one as they are measured; with `match` only of the commands that contain it."""
    if name in OTHERS:
        yield from OTHERS[name](quick)
        return
    for words in COMMANDS[name](quick):
        if match in " ".join(words):
            seed = {"seed": int(words[words.index("--seed") + 1])} if "--seed" in words else {}
            instance = words[words.index("--instance") + 1]
            yield {"instance": instance, **seed, **command_line(*words)}


def load() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"sections": {}}
    return found


def about(line: Line) -> tuple[Any, ...]:
    return tuple(line.get(key) for key in ABOUT)


def merged(kept: list[Line], new: list[Line]) -> list[Line]:
    """The kept lines with the new ones in the place of those about the same; what is new comes last."""
    by = {about(line): line for line in new}
    out = [by.pop(about(line), line) for line in kept]
    return [*out, *by.values()]


def commit() -> str:
    """Short name of the commit that is measured, with `+` if the placer differs from it; "" outside a repository."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "placement"], capture_output=True, check=False).returncode
    return head + "+" if head and changed else head


def _store(name: str, lines: list[Line], *, quick: bool, partial: bool) -> None:
    """The section as it is so far; one that was cut short says so."""
    results = load()
    machine = f"{len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    date = time.strftime("%Y-%m-%d", time.gmtime())
    results["sections"][name] = {"quick": quick, "partial": partial, "machine": machine, "date": date, "lines": lines}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def command(only: list[str] | None, quick: bool, match: str = "") -> int:
    if unknown := sorted(set(only or ()) - set(SECTIONS)):
        print(f"error: --only {unknown[0]!r}: no such section, allowed are {', '.join(SECTIONS)}", file=sys.stderr)
        return 1
    if match and not (only and set(only) <= COMMANDS.keys()):
        print(f"error: --match {match!r}: needs --only with sections of {', '.join(COMMANDS)}", file=sys.stderr)
        return 1
    for name in SECTIONS:
        if only and name not in only:
            continue
        before = load()["sections"].get(name, {"lines": [], "partial": False, "quick": quick}) if match else None
        lines: list[Line] = []
        for line in measured(name, quick, match):
            lines.append({**line, "commit": commit()})
            print(json.dumps({"section": name, **lines[-1]}, ensure_ascii=False), flush=True)
            kept = lines if before is None else merged(before["lines"], lines)
            _store(name, kept, quick=quick if before is None else before["quick"], partial=True)  # the last line loses nobody's hours
        if before is None:
            _store(name, lines, quick=quick, partial=False)
        elif lines:
            _store(name, merged(before["lines"], lines), quick=before["quick"], partial=before["partial"])
        else:
            print(f"error: --match {match!r}: no command of section {name} contains it", file=sys.stderr)
            return 1
    return 0
