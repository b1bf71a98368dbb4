"""Command line: `python -m bench.autoscaling COMMAND`. `calibrate` compares the replay with the two earlier ones."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from autoscaling.replay.loads import LoadError
from bench.autoscaling import calibration


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench.autoscaling", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("calibrate", help="fixed sizes and the clairvoyant beside the figures of the design")
    one.add_argument("--trace-dir", type=Path, default=calibration.DATA)
    one.add_argument("--seed", type=int, default=0)
    return top


def main(arguments: list[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    try:
        return calibration.command(chosen.trace_dir, chosen.seed)
    except LoadError as fault:
        print(fault, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
