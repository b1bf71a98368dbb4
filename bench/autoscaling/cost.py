"""What one decision costs: CPU milliseconds of `decide` per model and tick, on the looks of a replayed load (target: below 5 ms).

The looks and memories are recorded first, so that neither the simulated fleet nor building a look is counted.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from autoscaling.decide import decide
from autoscaling.memory import Memory
from autoscaling.replay.fleet import View
from autoscaling.replay.harness import run
from autoscaling.replay.loads import load
from autoscaling.replay.shipped import GOALS, Shipped
from autoscaling.types import Look


class Recorded(Shipped):
    """The shipped decision, and what it was given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.given: list[tuple[Memory | None, Look]] = []

    def __call__(self, view: View) -> int:
        self.given.append((self.memory, self.look(view)))
        return super().__call__(view)


def measure(name: str, folder: Path, cold_start_s: float, seed: int) -> dict[str, float | int | str]:
    """Each tick is decided again three times, and the fastest counts: what else runs on the machine is not the decision's."""
    of = load(name, folder, seed)
    policy = Recorded(GOALS[name], cold_start_s)
    run(of, policy, cold_start_s=cold_start_s, seed=seed)
    spent = []
    for memory, look in policy.given:
        tries = []
        for _ in range(3):
            began = time.process_time_ns()
            decide(memory, look)
            tries.append((time.process_time_ns() - began) / 1e6)
        spent.append(min(tries))
    return {
        "load": name,
        "ticks": len(spent),
        "replicas_most": max(len(look.replicas) for _, look in policy.given),
        "median_cpu_ms": round(float(np.median(spent)), 3),
        "p99_cpu_ms": round(float(np.percentile(spent, 99.0)), 3),
        "worst_cpu_ms": round(max(spent), 3),
    }


def command(name: str, folder: Path, cold_start_s: float, seed: int) -> int:
    print(json.dumps(measure(name, folder, cold_start_s, seed)))
    return 0
