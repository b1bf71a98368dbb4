"""`polyfleet simulate --trace FILE`: autoscaler and placer over time on a fleet as it stands. Writes to no cluster."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Any, TextIO

from polyfleet.cli import options


def add(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "simulate", help="autoscaler and placer over time on a trace of requests: goals met, cost, decisions; with failures"
    )
    command.add_argument(
        "--trace", metavar="FILE", required=True, help="requests: arrival_s,context_tokens,generated_tokens as CSV, plain or gzip; - reads"
        " standard input",
    )  # fmt: skip
    command.add_argument("--model", metavar="mdep/NAME", default="", help="whose requests (default: the only model, or that of -f)")
    command.add_argument(
        "--fail", metavar="KIND=NAME@AT[+FOR]", action="append", default=[],
        help="pool=ppu-1@10m, node=h100-01@1h+30m, vendor=…, profile=…, metrics@20m+10m; may be repeated",
    )  # fmt: skip
    command.add_argument(
        "--policy", metavar="NAME", default="auto",
        help="auto: as the operator decides (default); static, static=N; hpa, keda, kpa, wva, dynamo at their documented defaults",
    )  # fmt: skip
    command.add_argument("--min", dest="least", metavar="N", type=int, default=None, help="instead of spec.scaling.minReplicas")
    command.add_argument("--max", dest="most", metavar="N", type=int, default=None, help="instead of spec.scaling.maxReplicas")
    command.add_argument("--cold-start", metavar="TIME", default="", help="of all (default: the profile's, else 240s)")
    command.add_argument("--seed", metavar="N", type=int, default=0, help="of the cold starts' spread (default 0)")
    command.add_argument("--report", metavar="FILE.html", default="", help="also write the report with plots, one HTML page")
    options.cluster(command)
    options.snapshot(command)
    options.files(command)
    command.add_argument("-o", "--output", choices=("table", "wide", "json", "md"), default="table", help="table (default), wide, json, md")


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    from polyfleet.cli import commands
    from polyfleet.cli.failure import FINE, SHORT
    from polyfleet.cli.simulate import data, faults, loop, page, policies, subject, text, trace
    from polyfleet.cli.source import situation

    cold = faults.seconds(chosen.cold_start, "--cold-start") if chosen.cold_start else None
    policies.check(chosen.policy)
    read = trace.read(chosen.trace)
    seen = situation(commands.where(chosen))
    key = subject.chosen(chosen.model, chosen.namespace, seen)
    about = subject.of(seen, key, _moment(seen.taken_at), least=chosen.least, most=chosen.most, cold_start_s=cold)
    struck = faults.parse(chosen.fail, about.snapshot)
    done = loop.run(about, read, policies.policy(chosen.policy, about), struck, seed=chosen.seed)
    if chosen.report:
        page.write(chosen.report, done)
    if chosen.output == "json":
        print(data.to_json(data.document(done)), file=out)
    else:
        for line in text.render(done, form=chosen.output, style=commands.style(out), report=chosen.report):
            print(line, file=out)
    return FINE if done.reached and not done.short_s else SHORT


def _moment(taken_at: str) -> float:
    """Seconds since 1970 at which the trace begins: when the fleet was read, so that cron floors fall where they fall."""
    return datetime.fromisoformat(taken_at).timestamp() if taken_at else 0.0
