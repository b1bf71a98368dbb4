"""The same input gives the same bytes in every process, whatever the seed of Python's hashes: both engines, a plan and one after it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

PROGRAM = """
import hashlib
import placement
from placement.types import DEEP, Effort
from tests.unit.placement.fleet import applied
from tests.unit.placement.instances import instance, wide

digest = hashlib.sha256()
for seed, make in ((3, instance), (6, instance), (10, instance), (20_003, wide), (20_014, wide)):
    snapshot, demand = make(seed)
    for effort in (Effort(), Effort(exact_size=0, deep_rounds=2)):
        plan, warm = placement.plan(snapshot, demand, effort=effort)
        after, _ = placement.plan(applied(snapshot, plan), demand, effort=effort, warm=warm)
        for each in (plan, after):
            text = placement.to_json(each)
            digest.update(text.encode())
        print(len(plan.starts), end=" ")
print(digest.hexdigest())
"""


def said(hash_seed: str) -> str:
    """What the program prints with this seed."""
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    ).stdout


def test_hash_seeds_and_processes_change_no_byte() -> None:
    first = said("0")
    *starts, digest = first.split()
    assert len(digest) == 64
    assert any(int(n) for n in starts)
    assert [said(seed) for seed in ("1", "4242")] == [first, first]
