"""Command line: `python -m bench.accuracy COMMAND`. `suite` measures (minutes), `cost` and `real` measure on engines that run, `report`
writes docs/benchmarks-accuracy.md from all of it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.accuracy import cost, models, real, report, suite, warm


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench.accuracy", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("suite", help="operating characteristics of the gate on both models")
    one.add_argument("--only", action="append", choices=sorted(suite.PARTS), help="a part; may be given again")
    one.add_argument("--model", action="append", help=f"as its sections are called, such as {models.BYTE!r}; may be given again")
    one.add_argument("--runs", type=int, default=500, help="seeded runs of each variant")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--out", type=Path, default=suite.RESULTS)
    commands.add_parser("warm", help="computes the variants of SmolLM2 into the cache (an hour)")
    for name, cases, text in (
        ("cost", cost.CASES, "seconds, memory and lag of the checker on engines that run (ten minutes)"),
        ("real", real.CASES, "the llama.cpp server against numpy, by `polyfleet accuracy run` (half an hour)"),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("--only", action="append", choices=list(cases), help="a case; may be given again")
    commands.add_parser("report", help=f"writes {report.PAGE.name} from bench/results/accuracy.json")
    return top


def main(arguments: list[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    if chosen.command == "suite":
        return suite.command(chosen.only, chosen.runs, chosen.seed, chosen.out, chosen.model)
    if chosen.command in ("cost", "real"):
        return suite.on_engines(chosen.command, cost.measure if chosen.command == "cost" else real.measure, chosen.only)
    return warm.command() if chosen.command == "warm" else report.command()


if __name__ == "__main__":
    sys.exit(main())
