"""`polyfleet model show NAME | --config FILE`: every number of a shape, and the block to paste into a ModelDeployment."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, TextIO

from hwprofiles import catalogue, config_json
from hwprofiles.catalogue import CatalogueEntry
from hwprofiles.schema import SchemaError
from hwprofiles.shape import Shape
from polyfleet.cli.failure import FINE, Failure, listed, nearest, usage
from polyfleet.cli.model.listing import document
from polyfleet.cli.model.terms import beyond, billions, block, kib, tokens
from polyfleet.cli.profile.terms import machine, style, width
from polyfleet.cli.text import wrap


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    if bool(chosen.model) == bool(chosen.config):
        given = "both were given" if chosen.model else "neither was given"
        raise usage(
            "model show wants a name or --config", given, "polyfleet model show Qwen/Qwen3-32B, or polyfleet model show --config FILE"
        )
    entry = _listed(chosen.model) if chosen.model else None
    shape, precision = (entry.shape, entry.precision) if entry is not None else _read(chosen.config)
    if chosen.output in ("json", "yaml"):
        body = document(entry) if entry is not None else {"precision": precision, "kvBytesPerToken": shape.kv_bytes_per_token()}
        print(machine({**body, "spec": {"model": _pasted(shape, precision)}}, chosen.output), file=out)
        return FINE
    name = entry.model if entry is not None else chosen.config
    print(style(out).bold(name), file=out)
    for title, value in _lines(entry, shape, precision):
        for line in wrap(value, width(out), first=f" {title:<14}"):
            print(line, file=out)
    print("", file=out)
    print(machine({"spec": {"model": _pasted(shape, precision)}}, "yaml"), file=out)
    if lost := beyond(shape):
        for line in wrap(lost, width(out), first="# ", rest="# "):
            print(line, file=out)
    return FINE


def _pasted(shape: Shape, precision: str | None) -> dict[str, Any]:
    return ({"precision": precision} if precision is not None else {}) | {"shape": block(shape)}


def _listed(name: str) -> CatalogueEntry:
    bare = name.split("://", 1)[-1]
    entry = catalogue.find(bare)
    if entry is not None:
        return entry
    near = nearest(bare, [item.model for item in catalogue.entries()])
    raise Failure(
        f"the catalogue has no model named {bare}",
        f"the nearest names are {listed(near)}" if near else "no name is near it",
        f"polyfleet model show {near[0]}" if near else "polyfleet model list, or polyfleet model show --config FILE",
    )


def _read(given: str) -> tuple[Shape, str | None]:
    again = f"polyfleet model show --config {given}"
    try:
        if given == "-":
            return config_json.parse(sys.stdin.read(config_json.MOST_BYTES + 1))
        path = Path(given)
        path = path / "config.json" if path.is_dir() else path
        with path.open("rb") as file:
            return config_json.parse(file.read(config_json.MOST_BYTES + 1))
    except OSError as error:
        raise Failure(f"{given} cannot be read", error.strerror or str(error), f"ls -l {Path(given).parent}") from error
    except SchemaError as error:
        raise Failure(
            f"{given} gives no shape",
            str(error).removeprefix("config.json: "),
            f"kubectl explain modeldeployment.spec.model.shape, or correct the file: {again}",
        ) from error


def _lines(entry: CatalogueEntry | None, shape: Shape, precision: str | None) -> list[tuple[str, str]]:
    dense = shape.active_params_b == shape.params_b
    kept = "" if shape.kv_lora else f", {shape.kv_heads} with keys and values"
    found = [
        ("same as", entry.same_as or "" if entry is not None else ""),
        ("kind", entry.kind if entry is not None else ""),
        ("parameters", f"{billions(shape.params_b)} billion" + ("" if dense else f", {billions(shape.active_params_b)} per token")),
        ("published as", f"{billions(entry.published_params_b)} billion" if entry is not None and entry.published_params_b else ""),
        ("format", precision or "not stated: bf16 is assumed, or set spec.model.precision"),
        ("layers", f"{shape.layers}, {shape.hidden} wide, {shape.heads} heads of {shape.head_dim}{kept}"),
        (
            "experts",
            f"{shape.experts}, {shape.experts_per_token} per token, {billions(shape.expert_params_b)} billion in all"
            if shape.experts
            else "",
        ),
        ("latent cache", f"{shape.kv_lora} numbers per token and layer" if shape.kv_lora else ""),
        ("window", f"{shape.window} tokens in {shape.window_layers} layers" if shape.window_layers else ""),
        ("no cache", f"{shape.stateless_layers} layers" if shape.stateless_layers else ""),
        ("cache", f"{kib(shape)} KiB per token at two bytes a number"),
        ("context", f"{tokens(shape.max_context)} tokens" if shape.max_context else ""),
        ("source", f"{entry.source}, {entry.date}" if entry is not None else ""),
    ]
    return [(title, value) for title, value in found if value]
