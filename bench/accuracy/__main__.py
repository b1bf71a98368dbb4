"""Command line: `python -m bench.accuracy COMMAND`. `suite` measures (minutes), `report` writes docs/benchmarks-accuracy.md from it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.accuracy import report, suite, warm


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench.accuracy", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("suite", help="operating characteristics of the gate on both models")
    one.add_argument("--only", action="append", choices=sorted(suite.PARTS), help="a part; may be given again")
    one.add_argument("--runs", type=int, default=500, help="seeded runs of each variant")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--out", type=Path, default=suite.RESULTS)
    commands.add_parser("warm", help="computes the variants of SmolLM2 into the cache (an hour)")
    commands.add_parser("report", help=f"writes {report.PAGE.name} from bench/results/accuracy.json")
    return top


def main(arguments: list[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    if chosen.command == "suite":
        return suite.command(chosen.only, chosen.runs, chosen.seed, chosen.out)
    return warm.command() if chosen.command == "warm" else report.command()


if __name__ == "__main__":
    sys.exit(main())
