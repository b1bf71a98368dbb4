"""`polyfleet model list | show`: the models whose shape is known, and the `spec.model.shape` of one that is not. Needs no cluster."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any, TextIO

from polyfleet.cli import options

KINDS = ("Text", "Embedding", "Vision")  # hwprofiles.catalogue.KINDS; a test compares
_MODULES = {"list": "listing", "show": "show"}  # by verb


def add(subparsers: Any) -> None:
    family = subparsers.add_parser("model", help="the model catalogue: list, show; reads a config.json too")
    verbs = family.add_subparsers(dest="verb", required=True, metavar="VERB")

    listing = verbs.add_parser("list", help="every model of the catalogue with its parameters, layers, cache and context")
    listing.add_argument("words", metavar="WORD", nargs="*", help="only models whose name has all of these words, in any case")
    listing.add_argument("--kind", choices=KINDS, default="", help="only this kind")
    listing.add_argument("--names", action="store_true", help="also quantised twins and other names of the same weights")
    options.output(listing)

    show = verbs.add_parser("show", help="one model with all its numbers, and as spec.model.shape")
    show.add_argument("model", metavar="NAME", nargs="?", default="", help="as in its URI: Qwen/Qwen3-32B")
    show.add_argument(
        "--config", metavar="FILE", default="", help="a model's config.json, or the folder that has it; - reads standard input"
    )
    options.output(show)


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    return int(import_module(f"polyfleet.cli.model.{_MODULES[chosen.verb]}").run(chosen, out, err))
