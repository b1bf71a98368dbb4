"""Command line: `python -m bench.placement COMMAND`. Each figure of docs/benchmarks.md names the command that makes it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench.placement", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)

    one = commands.add_parser("solve", help="a services instance to an answer file and one JSON line")
    one.add_argument("--services", type=Path, required=True, metavar="NAME.csv.gz")
    one.add_argument("--stock", type=Path, required=True, metavar="NAME.stock.csv")
    one.add_argument("--out", type=Path, required=True, metavar="plan.csv")
    _effort(one)

    one = commands.add_parser("draw", help="a services instance of the family, made by seed")
    one.add_argument("--services", type=int, required=True, help="how many")
    one.add_argument("--load", type=float, default=1.0)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--out", type=Path, required=True, metavar="NAME", help="writes NAME.csv.gz and NAME.stock.csv")

    one = commands.add_parser("judge", help="an answer file against its instance: the independent checker")
    one.add_argument("--services", type=Path, required=True, metavar="NAME.csv.gz")
    one.add_argument("--stock", type=Path, required=True, metavar="NAME.stock.csv")
    one.add_argument("--answer", type=Path, required=True, metavar="plan.csv")

    one = commands.add_parser("fleet", help="one plan of a synthetic fleet as one JSON line")
    one.add_argument("--instance", metavar="NAME")
    for name, kind in (("nodes", int), ("models", int), ("types", int), ("subcells", int), ("t", float)):
        one.add_argument(f"--{name}", type=kind)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--start-price", type=float, default=0.0, help="price of a start (kappa); 0 = judged by cost alone")
    _effort(one)

    one = commands.add_parser("loop", help="a fleet planned again and again while demand drifts")
    one.add_argument("--instance", metavar="NAME", required=True)
    one.add_argument("--t", type=float, help="another load than the instance's")
    one.add_argument("--steps", type=int, default=12)
    one.add_argument("--kappa", type=float, default=1.0, help="price of a start; 0 = neither starts nor stops have a price")
    one.add_argument("--noise", action="store_true", help="+-5 %% noise instead of drift")
    one.add_argument("--within", type=float, metavar="S", help="end after this many CPU seconds; the line says how many steps were made")
    one.add_argument("--seed", type=int, default=0)
    _effort(one)

    one = commands.add_parser("change", help="one model changes at a time: fast step, warm re-plan, explanations")
    one.add_argument("--instance", metavar="NAME", required=True)
    one.add_argument("--t", type=float)
    one.add_argument("--changes", type=int, default=100)
    one.add_argument("--kappa", type=float, default=1.0)
    one.add_argument("--seed", type=int, default=0)
    _effort(one)

    one = commands.add_parser("shortfalls", help="are all shortfalls explained, and do the suggested fixes hold?")
    one.add_argument("--instance", metavar="NAME", required=True)
    one.add_argument("--asked", type=int, default=5, help="models per instance for which the smallest fix is searched")
    one.add_argument("--seed", type=int, default=0)

    one = commands.add_parser("peers", help="polyfleet beside other planners")
    one.add_argument("--only", choices=["services", "aibrix", "melange", "baselines"])
    one.add_argument("--quick", action="store_true")

    commands.add_parser("install", help="makes AIBrix' own environment in .bench/aibrix")

    one = commands.add_parser("fragmentation", help="what the choice of the node does to whole free nodes")
    one.add_argument("--quick", action="store_true")

    one = commands.add_parser("suite", help="measures and writes bench/results/placement.json")
    one.add_argument("--only", action="append", metavar="SECTION")
    one.add_argument("--match", metavar="TEXT", default="", help="of the sections in --only measure only the commands that contain this")
    one.add_argument("--quick", action="store_true")
    commands.add_parser("report", help="writes docs/benchmarks.md from bench/results/placement.json")
    return top


def _effort(one: argparse.ArgumentParser) -> None:
    one.add_argument("--effort", choices=["default", "deep"], default="default")


def main(argv: list[str] | None = None) -> int:
    top = parser()
    args = top.parse_args(argv)
    # Imported late: `solve` counts the CPU seconds of its whole process.
    if args.command == "solve":
        from bench.placement import solve

        return solve.command(args.services, args.stock, args.out, args.effort)
    if args.command in ("draw", "judge"):
        from bench.placement import files

        if args.command == "draw":
            return files.draw(args.services, args.load, args.seed, args.out)
        return files.judge(args.services, args.stock, args.answer)
    if args.command == "fleet":
        from bench.placement import fleet
        from bench.placement.instances import Recipe

        given = (args.nodes, args.models, args.types, args.subcells, args.t)
        if (args.instance is None) == (None in given):
            top.error("fleet: either --instance NAME, or all of --nodes, --models, --types, --subcells and --t")
        recipe = None if args.instance is not None else Recipe(*given)
        return fleet.command(args.instance, recipe, args.seed, args.effort, args.start_price)
    if args.command == "loop":
        from bench.placement import loop

        return loop.command(args.instance, args.t, args.steps, args.kappa, args.noise, args.seed, args.effort, args.within)
    if args.command == "change":
        from bench.placement import change

        return change.command(args.instance, args.t, args.changes, args.kappa, args.seed, args.effort)
    if args.command == "shortfalls":
        from bench.placement import shortfalls

        return shortfalls.command(args.instance, args.asked, args.seed)
    if args.command == "peers":
        from bench.placement import peers

        return peers.command(args.only, args.quick)
    if args.command == "install":
        from bench.placement import aibrix

        aibrix.install()
        return 0
    if args.command == "fragmentation":
        from bench.placement import fragmentation

        return fragmentation.command(args.quick)
    if args.command == "suite":
        from bench.placement import suite

        return suite.command(args.only, args.quick, args.match)
    from bench.placement import report

    return report.command()


if __name__ == "__main__":
    sys.exit(main())
