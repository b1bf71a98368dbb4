"""AIBrix 0.8.0, its own package in its own environment (`.bench/aibrix`, ignored by git). Nothing of it is imported here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.placement.onemodel import Case
from tools.paths import ROOT

HOME = ROOT / ".bench" / "aibrix"
PYTHON = HOME / "bin" / "python"
PINS = ("aibrix[gpu-optimizer]==0.8.0", "pulp==2.8.0", "numpy==1.26.4")  # its own pins; they need Python below 3.13
CHILD = Path(__file__).with_name("aibrix_child.py")


def install() -> None:
    """Makes the environment; does nothing if it is there."""
    if PYTHON.exists():
        return
    if sys.version_info >= (3, 13):
        raise SystemExit("error: AIBrix 0.8.0 needs a Python below 3.13; run this command with 3.11 or 3.12")
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, HOME], check=True)
    subprocess.run([uv, "pip", "install", "-q", "--python", PYTHON, *PINS], check=True)


def solve(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Per case: `raw` and `deployed` replicas per type (None = no answer), and their CPU seconds."""
    if not PYTHON.exists():
        raise SystemExit("error: AIBrix is not installed; run `python -m bench.placement install`")
    # -P: the folder of the script must not hide the package of the same name.
    done = subprocess.run([PYTHON, "-P", CHILD], input=json.dumps([c.as_json() for c in cases]), capture_output=True, text=True, check=True)
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers
