"""Command line: `python -m bench.autoscaling COMMAND`. `replay` runs the shipped decision over one load and prints one JSON line.

`suite` measures everything that `report` writes to docs/benchmarks-autoscaling.md; `plot` draws one run; `calibrate` checks the replay.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from autoscaling.replay.baselines import BASELINES
from autoscaling.replay.harness import run
from autoscaling.replay.loads import TRACES, LoadError, load
from bench.autoscaling import calibration, cost, plots, replay, report, suite


def seconds(text: str) -> float:
    """A cold start: 0 to 3600 s."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 3600.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no cold start: give seconds from 0 to 3600, for example 120")
    return value


def count(text: str) -> int:
    """0 to 1,000,000."""
    if not text.isdigit() or int(text) > 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to 1000000")
    return int(text)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench.autoscaling", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("replay", help="the shipped decision over one load: one JSON line")
    one.add_argument("--load", required=True, choices=sorted(TRACES))
    one.add_argument("--trace-dir", type=Path, default=calibration.DATA, help="folder with the traces, named as in bench/data")
    one.add_argument("--cold-start", type=seconds, default=120.0, help="mean, s; every start is drawn within 20 %%")
    one.add_argument("--seed", type=count, default=0)
    one.add_argument("--passes", type=int, choices=(1, 2, 3), default=1, help="so often in a row with the learned state; the last counts")
    three = commands.add_parser("suite", help="targets, other autoscalers, outages: into bench/results (hours; --quick minutes)")
    three.add_argument("--only", action="append", choices=suite.PARTS, help="a part; may be given again")
    three.add_argument("--quick", action="store_true", help="one seed, cold start 120 s, defaults only")
    three.add_argument("--jobs", type=int, choices=range(1, 257), metavar="N", help="processes; default one per core")
    three.add_argument("--trace-dir", type=Path, default=calibration.DATA)
    three.add_argument("--out", type=Path, default=suite.RESULTS)
    commands.add_parser("report", help=f"writes {report.PAGE.name} from bench/results/autoscaling.json")
    four = commands.add_parser("plot", help="one run as a page of HTML: load, capacity, latency, decisions with reasons")
    four.add_argument("--load", required=True, choices=sorted(TRACES))
    four.add_argument("--policy", default="decide", choices=["decide", *(one.name for one in BASELINES)])
    four.add_argument("--cold-start", type=seconds, default=120.0)
    four.add_argument("--seed", type=count, default=0)
    four.add_argument("--trace-dir", type=Path, default=calibration.DATA)
    four.add_argument("--out", type=Path, required=True)
    five = commands.add_parser("cost", help="CPU of one decision per model and tick: one JSON line")
    five.add_argument("--load", default="conv3", choices=sorted(TRACES))
    five.add_argument("--trace-dir", type=Path, default=calibration.DATA)
    five.add_argument("--cold-start", type=seconds, default=120.0)
    five.add_argument("--seed", type=count, default=0)
    two = commands.add_parser("calibrate", help="fixed sizes and the clairvoyant beside the figures of the design")
    two.add_argument("--trace-dir", type=Path, default=calibration.DATA)
    two.add_argument("--seed", type=count, default=0)
    return top


def plot(chosen: argparse.Namespace) -> int:
    """One recorded run of the shipped decision, or of another policy at its default."""
    of = load(chosen.load, chosen.trace_dir, chosen.seed)
    if chosen.policy == "decide":
        result, _ = replay.passes(of, chosen.cold_start, chosen.seed, record=True)
    else:
        one = next(one for one in BASELINES if one.name == chosen.policy)
        result = run(of, one.make(one.default, chosen.cold_start), cold_start_s=chosen.cold_start, seed=chosen.seed, record=True)
    title = f"{chosen.policy} on {chosen.load}, cold start {chosen.cold_start:g} s, seed {chosen.seed}"
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(plots.page(of, result, title, replay.within(chosen.load)), encoding="utf-8")
    return 0


def main(arguments: list[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    try:
        if chosen.command == "replay":
            return replay.command(chosen.load, chosen.trace_dir, chosen.cold_start, chosen.seed, chosen.passes)
        if chosen.command == "suite":
            return suite.command(chosen.only, chosen.trace_dir, chosen.out, chosen.jobs, quick=chosen.quick)
        if chosen.command == "report":
            return report.command()
        if chosen.command == "cost":
            return cost.command(chosen.load, chosen.trace_dir, chosen.cold_start, chosen.seed)
        if chosen.command == "plot":
            return plot(chosen)
        return calibration.command(chosen.trace_dir, chosen.seed)
    except LoadError as fault:
        print(fault, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
