"""What an estimate costs: `python -m bench.hardware.estimator [--loads 4] [--runs 5]` prints one JSON object.

Every model of the catalogue on every shipped profile in every legal size, under a few loads with and without an SLO (with one, the
largest concurrency that keeps it is searched). CPU microseconds per (model, profile, size, load): through the vectorised door, the lowest
of `--runs`; beside it the scalar door, one question at a time, and how many answers are refusals. The target is 50 us vectorised.

`--entries` prints instead how the closed form, without derate, stands to every throughput entry of the shipped profiles whose model is in
the catalogue and whose lengths are stated: most of them took no part in the choice of its parameters.
"""

from __future__ import annotations

import argparse
import json
import platform

import numpy as np

from bench.hardware.timing import least
from hwprofiles import Layout, catalogue, load_shipped
from hwprofiles.estimate import Estimate, Load, Question, Slo, estimate, estimate_many, hardware_of, speed_of_light

TARGET_US = 50.0
LOADS = ((Load(3500, 1500), Slo(5.0, 0.05)), (Load(1024, 256), Slo()), (Load(512, 128, 32), Slo()), (Load(8000, 500), Slo(itl_s=0.03)))


def questions(loads: int) -> list[Question]:
    """All combinations, in a fixed order."""
    made = []
    for profile, spec in sorted(load_shipped(sandbox=False).items()):
        hardware = hardware_of(spec, "vllm", profile=profile)
        for entry in catalogue.entries():
            for size in hardware.sizes:
                for load, slo in LOADS[:loads]:
                    made.append(Question(entry.shape, hardware, Layout(tensor=size), entry.precision, load, slo, model=entry.model))
    return made


def measure(loads: int, runs: int) -> dict[str, object]:
    asked = questions(loads)
    answers = estimate_many(asked)
    numbers = sum(isinstance(one, Estimate) for one in answers)

    def singly() -> list[object]:
        return [estimate(q.shape, q.hardware, q.layout, q.precision, q.load, q.slo, model=q.model) for q in asked]

    vector = least(runs, lambda: estimate_many(asked)) / len(asked) * 1e6
    answered = [q for q, one in zip(asked, answers, strict=True) if isinstance(one, Estimate)]
    return {
        "items": len(asked),
        "estimates": numbers,
        "refusals": len(asked) - numbers,
        "vectorised_us_per_item": round(vector, 1),
        "vectorised_us_per_estimate": round(least(runs, lambda: estimate_many(answered)) / len(answered) * 1e6, 1),
        "scalar_us_per_item": round(least(1, singly) / len(asked) * 1e6, 1),
        "same_bits": singly() == answers,
        "target_us": TARGET_US,
        "met": vector <= TARGET_US,
        "machine": f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}",
    }


def entries() -> None:
    """One line per entry: estimate / entry, and the entry's share of the speed of light."""
    inside = total = 0
    for profile, spec in sorted(load_shipped(sandbox=False).items()):
        for entry in spec.throughput:
            known = catalogue.find(entry.model)
            if known is None or entry.output_tokens_per_second is None or entry.input_tokens is None or entry.output_tokens is None:
                continue
            hardware, load = hardware_of(spec, entry.engine), Load(entry.input_tokens, entry.output_tokens, entry.concurrency)
            found = estimate(known.shape, hardware, entry.parallelism, entry.precision, load)
            bound = speed_of_light(known.shape, hardware, entry.parallelism, entry.precision, load)
            rate = float(entry.output_tokens_per_second)
            name = f"{profile:20} {entry.model:38} {load.input_tokens:5}/{load.output_tokens:<5} c{entry.concurrency or '-':<4}"
            if not isinstance(found, Estimate):
                print(f"{name} {entry.evidence:9} {rate:8.1f}  {found.reason}")
                continue
            ratio, total = found.underated / rate, total + 1
            inside += 1 / 1.4 <= ratio <= 1.4
            print(
                f"{name} {entry.evidence:9} {rate:8.1f}  estimate / entry {ratio:4.2f}  share of light {rate / bound if bound else 0:4.2f}"
            )
    print(f"{inside} of {total} within 1/1.4 to 1.4")


def main() -> int:
    parser = argparse.ArgumentParser(description="cost of an estimate")
    parser.add_argument("--loads", type=int, default=len(LOADS), choices=range(1, len(LOADS) + 1), help="how many of the four loads")
    parser.add_argument("--runs", type=int, default=5, help="runs of each measurement; the lowest counts (default 5)")
    parser.add_argument("--entries", action="store_true", help="the closed form beside the entries of the shipped profiles")
    args = parser.parse_args()
    if args.entries:
        entries()
        return 0
    print(json.dumps(measure(args.loads, args.runs), indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
