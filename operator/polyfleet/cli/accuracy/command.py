"""`polyfleet accuracy run | report | compare | verify | capture | import`: whether a device gives the reference's outputs.

This module only describes the command line; each verb has a module that is imported when it runs.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any, TextIO

from polyfleet.cli import options

_MODULES = {
    "run": "running", "report": "reporting", "compare": "comparing", "verify": "verifying", "capture": "capturing", "import": "importing",
}  # fmt: skip
FORMS = ("text", "json", "md", "html", "junit")
_EXAMPLES = """\
examples:
  polyfleet accuracy run --reference http://10.0.0.7:8000/v1 --candidate http://10.0.1.9:8000/v1 --out h100-vs-910c
  polyfleet accuracy run --record reference.gz --candidate https://ppu.lab/v1 --ca-file lab.pem --candidate-token-env KEY --yes
  polyfleet accuracy run --reference http://a/v1 --candidate http://b/v1 --declare weights=w8a8 --level Critical --golden core,mine.jsonl
after Ctrl-C, the same command goes on where it was interrupted
exit codes: 0 Promote · 4 Block · 5 Inconclusive · 1 error or interrupted · 64 usage
"""


def add(subparsers: Any) -> None:
    family = subparsers.add_parser("accuracy", help="whether two endpoints answer alike: run, report, compare, verify, capture, import")
    verbs = family.add_subparsers(dest="verb", required=True, metavar="VERB")
    _run(verbs)

    report = verbs.add_parser("report", help="a finished run again, from its file or from the cluster, in another form")
    report.add_argument("what", metavar="FILE|mdep/NAME", help="report.json of a run, or a ModelDeployment")
    report.add_argument("-o", "--output", choices=FORMS, default="text", help="text (default), json, md, html, junit")
    report.add_argument("--profile", metavar="NAME", default="", help="mdep/NAME: only the report of this candidate profile")
    options.cluster(report)
    options.snapshot(report)

    compare = verbs.add_parser("compare", help="the first difference side by side: two endpoints, the worst items of a report, two reports")
    compare.add_argument("files", metavar="REPORT", nargs="*", help="report.json: its worst items; two of them: their figures")
    _sides(compare, needed=False)
    compare.add_argument("--prompt", metavar="TEXT", default="", help="ask this; default: a few items of the golden set")
    compare.add_argument("--item", metavar="ID", action="append", default=[], help="ask this item of the golden set; may be repeated")
    compare.add_argument("--tokens", metavar="N", type=int, default=64, help="tokens of each answer (default 64)")
    compare.add_argument("--count", metavar="N", type=int, default=5, help="items at most (default 5)")
    _golden(compare)

    verify = verbs.add_parser("verify", help="compute the verdict of a report again from its per-prompt numbers; no endpoint is asked")
    verify.add_argument("file", metavar="FILE", help="report.json of a run; - reads standard input")

    capture = verbs.add_parser(
        "capture", help="record the reference's answers, so that candidates can be judged where it cannot be reached"
    )
    capture.add_argument("--reference", metavar="URL", required=True, help="http(s)://HOST:PORT/v1")
    capture.add_argument(
        "--replicate", metavar="URL", default="", help="a second replica of the reference, for its noise (default: itself)"
    )
    _side(capture, "reference")
    _request(capture)
    _golden(capture)
    _policy(capture)
    capture.add_argument("--out", metavar="FILE", default="reference.gz", help="where to write it (default reference.gz)")
    capture.add_argument("--items", metavar="N", type=int, default=0, help="items at most (default: as many as a run can use)")
    capture.add_argument("--yes", action="store_true", help="do not ask before it starts; needed in scripts")

    bring = verbs.add_parser("import", help="a capture or a golden set as a ConfigMap, on standard output")
    bring.add_argument("file", metavar="FILE", help="file of `polyfleet accuracy capture`, or a golden set (JSON Lines)")
    bring.add_argument("--name", metavar="NAME", required=True, help="name of the ConfigMap")
    bring.add_argument("-n", "--namespace", metavar="NAME", default="", help="its namespace (default: none is written)")
    bring.add_argument("--top-k", metavar="N", type=int, default=5, help="alternatives per position that are kept (default 5)")


def _run(verbs: Any) -> None:
    run = verbs.add_parser(
        "run",
        help="is the candidate equivalent to the reference? Any two OpenAI-compatible endpoints; no cluster",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _sides(run, needed=True)
    run.add_argument("--record", metavar="FILE", default="", help="a capture of the reference, instead of or beside --reference")
    run.add_argument("--self", dest="own", action="store_true", help="no reference: only whether the candidate agrees with itself")
    _golden(run)
    _policy(run)
    run.add_argument(
        "--declare", metavar="NAME=FORMAT", action="append", default=[], help="weights, kv or activations of the candidate: w8a8"
    )
    run.add_argument("--declare-reference", metavar="NAME=FORMAT", action="append", default=[], help="the same of the reference (bf16)")
    run.add_argument("--modality", metavar="WORD", action="append", default=[], help="what the model takes beside text, such as Image")
    run.add_argument("--out", metavar="DIR", default="accuracy", help="folder for reports and the state of the run (default accuracy)")
    run.add_argument("--resume", action="store_true", help="fail unless --out holds an unfinished run (one there is always continued)")
    run.add_argument("--no-quote", action="store_true", help="no outputs of the worst items in the reports")
    run.add_argument("--yes", action="store_true", help="do not ask before it starts; needed in scripts")
    run.add_argument("-o", "--output", choices=FORMS, default="text", help="what goes to standard output (default text)")


def _sides(command: argparse.ArgumentParser, *, needed: bool) -> None:
    command.add_argument("--reference", metavar="URL", default="", help="http(s)://HOST:PORT/v1")
    command.add_argument(
        "--candidate", metavar="URL", action="append", required=needed, default=[], help="the same; repeat for more replicas"
    )
    _side(command, "reference")
    _side(command, "candidate")
    _request(command)


def _side(command: argparse.ArgumentParser, side: str) -> None:
    command.add_argument(f"--{side}-model", metavar="NAME", default="", help=f"served name on the {side} (default: the only one it lists)")
    command.add_argument(f"--{side}-name", metavar="NAME", default="", help=f"what reports call it, such as the device (default {side})")
    command.add_argument(f"--{side}-token-env", metavar="NAME", default="", help="environment variable that holds its token")


def _request(command: argparse.ArgumentParser) -> None:
    command.add_argument("--ca-file", metavar="FILE", default="", help="certificate authorities for https (default: the system's)")
    command.add_argument("--max-rps", metavar="N", type=float, help="requests per second to each endpoint at most (default: no limit)")
    command.add_argument("--timeout", metavar="DURATION", default="120s", help="for one request (default 120s)")


def _golden(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--golden", metavar="core|FILE", action="append", default=[], help="golden sets, with commas between or repeated (default core)"
    )


def _policy(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("how strictly")
    group.add_argument("--level", choices=("Quick", "Standard", "Critical"), default="Standard", help="fills what is not set (Standard)")
    group.add_argument("--strata", metavar="NAME,NAME", default="", help="kinds of prompts (default: all that the golden sets have)")
    group.add_argument("--mode", metavar="NAME,NAME", default="", help="PromptLogprobs, Stepwise, FreeRun, TextOnly: allowed, in order")
    group.add_argument("--max-prompts", metavar="N", type=int, help="prompts before giving up (600, Critical 2000)")
    group.add_argument("--positions", metavar="N", type=int, help="positions compared per prompt (48)")
    group.add_argument("--top-k", metavar="N", type=int, help="alternatives per position (20)")
    group.add_argument("--concurrency", metavar="N,N", default="", help="requests in flight under which prompts are sent (1,8,64)")
    group.add_argument("--noise-kl", metavar="NATS", type=float, help="the reference's noise, where it cannot be measured")
    group.add_argument("--seed", metavar="N", type=int, help="of order and continuations")


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    return int(import_module(f"polyfleet.cli.accuracy.{_MODULES[chosen.verb]}").run(chosen, out, err))
