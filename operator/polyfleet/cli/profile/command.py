"""`polyfleet profile list | show | validate | diff | import`: what is known of the hardware, how sure it is, and how it gets in.

This module only describes the command line; each verb has a module that is imported when it runs.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any, TextIO

from polyfleet.cli import options

FORMATS = ("aibrix", "aiperf", "genai-perf", "inference-perf", "vllm", "wva")  # profiledata.formats.READERS; a test compares
_MODULES = {"list": "listing", "show": "show", "validate": "validate", "diff": "diff", "import": "importing"}  # by verb


def add(subparsers: Any) -> None:
    family = subparsers.add_parser("profile", help="hardware profiles: list, show, validate, diff, import")
    verbs = family.add_subparsers(dest="verb", required=True, metavar="VERB")

    listing = verbs.add_parser("list", help="every profile with its devices, its price and the evidence behind its numbers")
    _source(listing)
    options.output(listing)

    show = verbs.add_parser("show", help="one profile: every number with where it comes from, its entries, faults and assumptions")
    show.add_argument("name", metavar="NAME", help="name of the profile")
    _source(show)
    options.output(show)
    load = show.add_argument_group("what it does for one model")
    load.add_argument("--model", metavar="NAME", default="", help="as in its URI: Qwen/Qwen3-32B")
    _engine(load)
    _layout(load)
    _load(load)
    load.add_argument("--ttft", metavar="DURATION", default="", help="goal for the time to the first token, for example 2s")
    load.add_argument("--itl", metavar="DURATION", default="", help="goal for the time between tokens, for example 50ms")

    check = verbs.add_parser("validate", help="check profile files together with the shipped profiles; needs no cluster")
    check.add_argument("files", metavar="FILE", nargs="*", help="file, folder or pattern; - reads standard input; none = the shipped ones")
    check.add_argument("--strict", action="store_true", help="warnings fail too")
    _today(check)
    options.output(check)

    diff = verbs.add_parser("diff", help="two profiles field by field, with the origin of each number; ends with 2 where they differ")
    diff.add_argument("left", metavar="A", help="FILE, NAME, shipped/NAME, or - for standard input")
    diff.add_argument(
        "right", metavar="B", nargs="?", default="", help="the same; default: the profile of that name, live or in --snapshot"
    )
    options.snapshot(diff)
    options.connection(diff)
    options.output(diff)

    bring = verbs.add_parser("import", help="throughput or prices out of another tool's file; prints a patch, or applies it")
    bring.add_argument("file", metavar="FILE", help="file of the other tool; - reads standard input")
    bring.add_argument("--from", dest="format", choices=FORMATS, required=True, help=", ".join(FORMATS))
    bring.add_argument("--profile", metavar="NAME", required=True, help="profile that was measured")
    _source(bring)
    bring.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml", help="form of the patch (default yaml)")
    bring.add_argument("--apply", action="store_true", help="write to the cluster instead of printing a patch")
    bring.add_argument("--keep-faulty", action="store_true", help="also entries that fail the roofline or the monotony check")
    said = bring.add_argument_group("what the file does not say")
    said.add_argument("--model", metavar="NAME", default="", help="as in its URI: Qwen/Qwen3-32B")
    _engine(said)
    _layout(said)
    _load(said)
    said.add_argument("--accelerator", metavar="NAME", default="", help="wva: which of the file's accelerators")
    said.add_argument("--date", metavar="YYYY-MM-DD", default="", help="when it was measured")
    said.add_argument("--source", metavar="TEXT", default="", help="who says so (default: the tool and the file's name)")
    said.add_argument("--confidence", choices=("High", "Medium", "Low"), default="", help="default Low, with --measured-here Medium")
    said.add_argument("--measured-here", action="store_true", help="it was measured on this fleet: Measured instead of Published")


def _source(command: argparse.ArgumentParser) -> None:
    command.add_argument("--shipped", action="store_true", help="the profiles that come with polyfleet; no cluster")
    options.snapshot(command)
    options.connection(command)
    _today(command)


def _today(command: argparse.ArgumentParser) -> None:
    command.add_argument("--today", metavar="YYYY-MM-DD", default="", help="judge ages and dates as of this day (default: today)")


def _engine(group: Any) -> None:
    group.add_argument("--precision", metavar="WORD", default="", help="number format of the weights: bf16, fp8, w8a8, ...")
    group.add_argument("--engine", metavar="WORD", default="", help="serving engine: vllm, sglang, mindie, ...")
    group.add_argument("--engine-version", metavar="WORD", default="", help="version of the engine")


def _layout(group: Any) -> None:
    for name, what in (("tensor", "tensor parallel size"), ("pipeline", "pipeline stages"), ("data", "data parallel groups")):
        group.add_argument(f"--{name}", metavar="N", type=int, help=what)
    group.add_argument("--expert", metavar="N", type=int, help="expert parallel size")
    group.add_argument("--span", metavar="N", type=int, help="nodes of one replica")


def _load(group: Any) -> None:
    group.add_argument("--input-tokens", metavar="TOKENS", type=int, help="input tokens of a request")
    group.add_argument("--output-tokens", metavar="TOKENS", type=int, help="output tokens of a request")
    group.add_argument("--concurrency", metavar="N", type=int, help="requests in flight")


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    return int(import_module(f"polyfleet.cli.profile.{_MODULES[chosen.verb]}").run(chosen, out, err))
