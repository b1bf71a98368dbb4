"""bench/results/hardware.json: one section per measurement, each with its date and machine; a section replaces only itself."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

from tools.paths import ROOT

RESULTS = ROOT / "bench/results/hardware.json"
Sections = dict[str, dict[str, Any]]


def load(path: Path = RESULTS) -> Sections:
    found: Sections = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def store(name: str, figures: dict[str, Any], path: Path = RESULTS, *, quick: bool = False) -> None:
    """`quick`: a small subset was measured; the report says so, and judges no target by it."""
    section = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "figures": figures,
        **({"quick": True} if quick else {}),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**load(path), name: section}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
