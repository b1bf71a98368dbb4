"""Command line: `python -m bench.autoscaling COMMAND`. `replay` runs the shipped decision over one load and prints one JSON line."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from autoscaling.replay.loads import TRACES, LoadError
from bench.autoscaling import calibration, replay


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
    two = commands.add_parser("calibrate", help="fixed sizes and the clairvoyant beside the figures of the design")
    two.add_argument("--trace-dir", type=Path, default=calibration.DATA)
    two.add_argument("--seed", type=count, default=0)
    return top


def main(arguments: list[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    try:
        if chosen.command == "replay":
            return replay.command(chosen.load, chosen.trace_dir, chosen.cold_start, chosen.seed, chosen.passes)
        return calibration.command(chosen.trace_dir, chosen.seed)
    except LoadError as fault:
        print(fault, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
