"""`polyfleet bench`: drive a real endpoint and write what it does into a HardwareProfile; or learn it from traffic that is there anyway.

This module only describes the command line; `benching` runs it.
"""

from __future__ import annotations

import argparse
from typing import Any, TextIO

from polyfleet.cli import options

_EXAMPLES = """\
examples:
  polyfleet bench --profile nvidia-l40s --model Qwen/Qwen3-8B --url http://10.0.0.7:8000/v1 --until-slo --ttft 2s --itl 60ms
  polyfleet bench --profile huawei-910c-752 --model Qwen/Qwen3-32B mdep/qwen3-32b --concurrency 8,32 --apply
  polyfleet bench --observe mdep/qwen3-32b --for 15m
"""


def add(subparsers: Any) -> None:
    bench = subparsers.add_parser(
        "bench",
        help="measure what a model does on a profile: a throughput entry with its source",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    bench.add_argument("target", metavar="mdep/NAME", nargs="?", default="", help="a model of the cluster: one of its replicas is measured")
    bench.add_argument("--url", metavar="URL", default="", help="an OpenAI-compatible endpoint instead: http://HOST:PORT/v1")
    bench.add_argument("--observe", metavar="mdep/NAME", default="", help="send nothing; learn from the live traffic of its replicas")
    bench.add_argument("--for", dest="observe_for", metavar="DURATION", default="15m", help="how long to observe (default 15m)")

    what = bench.add_argument_group("what is measured")
    what.add_argument("--profile", metavar="NAME", default="", help="its hardware; with mdep/NAME it is found, and compared with this")
    what.add_argument("--model", metavar="NAME", default="", help="as throughput entries write it: Qwen/Qwen3-32B")
    what.add_argument("--served-name", metavar="NAME", default="", help="name under which the endpoint serves it (default: --model)")
    what.add_argument("--precision", metavar="WORD", default="", help="number format of the weights")
    what.add_argument("--engine", metavar="WORD", default="", help="vllm, sglang, ...; asked from the endpoint where it tells")
    what.add_argument("--engine-version", metavar="WORD", default="", help="asked from the endpoint where it tells")
    for name, text in (("tensor", "tensor parallel size"), ("pipeline", "pipeline stages"), ("data", "data parallel groups")):
        what.add_argument(f"--{name}", metavar="N", type=int, help=f"{text} of the replica")
    what.add_argument("--expert", metavar="N", type=int, help="expert parallel size")
    what.add_argument("--span", metavar="N", type=int, help="nodes of one replica")

    load = bench.add_argument_group("load")
    load.add_argument(
        "--input", "--input-tokens", dest="input", metavar="TOKENS", type=_tokens, default=512, help="input tokens (default 512)"
    )
    load.add_argument(
        "--output", "--output-tokens", dest="tokens", metavar="TOKENS", type=_tokens, default=128, help="output tokens (default 128)"
    )
    load.add_argument(
        "--lengths", metavar="FILE", default="", help="lines INPUT,OUTPUT in tokens, drawn at random, instead of the two above"
    )
    load.add_argument("--concurrency", metavar="N,N", default="", help="requests in flight, one stage each (default 1,2,4,8)")
    load.add_argument("--until-slo", action="store_true", help="double them until the SLO breaks, then close in on the limit")
    load.add_argument("--ttft", metavar="DURATION", default="", help="SLO: time to the first token, for example 2s")
    load.add_argument("--itl", metavar="DURATION", default="", help="SLO: time between tokens, for example 60ms")
    load.add_argument("--percentile", metavar="N", type=int, default=95, help="percentile that must hold (default 95)")
    load.add_argument(
        "--mode",
        choices=("arrivals", "concurrency"),
        default="arrivals",
        help="arrivals (default): waiting times under random arrivals; concurrency: only with a fixed number in flight, half the time",
    )
    load.add_argument("--duration", metavar="DURATION", default="30s", help="least time of a phase (default 30s; up to four times)")
    load.add_argument("--limit", metavar="DURATION", default="1h", help="of the whole test (default 1h)")
    load.add_argument("--stall", metavar="DURATION", default="60s", help="a request without a byte for so long has failed (default 60s)")
    load.add_argument("--max-requests", metavar="N", type=int, default=100_000, help="of the whole test (default 100000)")
    load.add_argument("--max-concurrency", metavar="N", type=int, default=256, help="with --until-slo (default 256)")
    load.add_argument("--seed", metavar="N", type=int, default=1, help="of lengths and arrivals (default 1)")
    load.add_argument("--api-key-env", metavar="NAME", default="", help="environment variable that holds the endpoint's key")

    options.connection(bench)
    bench.add_argument("-n", "--namespace", metavar="NAME", default="", help="of mdep/NAME (default: that of the context)")
    bench.add_argument(
        "-o", "--format", dest="form", choices=("table", "yaml", "json"), default="table", help="table (default), yaml, json"
    )
    bench.add_argument("--apply", action="store_true", help="write the entries into the HardwareProfile of the cluster")
    bench.add_argument("--yes-it-serves", action="store_true", help="also a replica that takes users' traffic, which the test slows down")


def _tokens(text: str) -> int:
    if text in ("table", "yaml", "json"):
        raise argparse.ArgumentTypeError(f"{text} is a format, which is -o {text} here")
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of tokens") from None


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    from polyfleet.cli.bench.benching import run as start

    return start(chosen, out, err)
