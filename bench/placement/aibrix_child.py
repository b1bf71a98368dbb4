"""Runs AIBrix's own optimizer. Started by `aibrix.py` with the Python of AIBrix's environment: standard library and aibrix only.

Reads a JSON list of cases, writes a JSON list of answers: replicas per type of the raw solver (whole devices) and of the pipeline as
deployed, which plans in hundredths of a device and leaves each type's rounding up to that type's own autoscaler.
"""

import json
import logging
import math
import resource
import sys
from typing import Any


class Bucket:
    """One bucket of the grid with its rate, in the form that the optimizer asks for."""

    def __init__(self, signature: tuple[int, int], rate: float) -> None:
        self.signature = signature
        self.rate = rate

    def get_signature(self, indexes: Any, error_suppressor: Any = None) -> tuple[int, int]:
        return self.signature


def cpu_seconds() -> float:
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    return total


def run(case: dict[str, Any], fraction: int) -> tuple[dict[str, int] | None, float]:
    from aibrix.gpu_optimizer.optimizer import GPUProfile, Optimizer  # type: ignore[import-not-found]

    profiles = [
        GPUProfile(gpu=g, cost=case["costs"][i] / fraction, tputs=case["throughput"][i], indexes=[case["inputs"], case["outputs"]])
        for i, g in enumerate(case["gpus"])
    ]
    begin = cpu_seconds()
    optimizer = Optimizer(float(fraction), profiles)
    buckets = [Bucket((i, o), rate) for i, row in enumerate(case["rates"]) for o, rate in enumerate(row) if rate > 0]
    if not optimizer.set_workload_distribution(buckets, sum(b.rate for b in buckets)):
        return None, cpu_seconds() - begin
    answer = optimizer.run()
    took = cpu_seconds() - begin
    if answer is None:
        return None, took
    return {g: math.ceil(answer.get(g, 0) / fraction) for g in case["gpus"]}, took


def main() -> None:
    logging.disable(logging.CRITICAL)
    out = []
    for case in json.load(sys.stdin):
        raw, raw_seconds = run(case, 1)
        deployed, deployed_seconds = run(case, 100)
        out.append({"raw": raw, "raw_cpu": raw_seconds, "deployed": deployed, "deployed_cpu": deployed_seconds})
    json.dump(out, sys.stdout)


if __name__ == "__main__":
    main()
