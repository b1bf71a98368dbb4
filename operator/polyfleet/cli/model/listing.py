"""`polyfleet model list`: one line per model of the catalogue."""

from __future__ import annotations

import argparse
from typing import Any, TextIO

from hwprofiles import catalogue
from hwprofiles.catalogue import CatalogueEntry
from polyfleet.cli.failure import FINE, Failure, listed, nearest
from polyfleet.cli.model.terms import billions, kib, tokens
from polyfleet.cli.profile.terms import grid, machine, style, width
from polyfleet.cli.text import Column, count


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    known = catalogue.entries()
    found = [entry for entry in known if _wanted(entry, chosen)]
    if not found:
        near = nearest(" ".join(chosen.words), [entry.model for entry in known])
        hint = f"the nearest names are {listed(near)}" if near else f"it lists {count(len(known), 'name')}"
        raise Failure(
            f"no model of the catalogue matches {' '.join(chosen.words) or chosen.kind}",
            hint,
            "polyfleet model show --config FILE  # prints spec.model.shape of a model outside the catalogue",
        )
    if chosen.output in ("json", "yaml"):
        print(machine({"models": [document(entry) for entry in found]}, chosen.output), file=out)
        return FINE
    if chosen.output != "md":
        print(style(out).bold(count(len(found), "model")), file=out)
    for line in grid(_columns(chosen.output), [_row(entry, chosen.output) for entry in found], chosen.output, width(out)):
        print(line, file=out)
    if chosen.output == "table":
        print(" KV/TOKEN: KiB at two bytes a number, growing layers only · polyfleet model show NAME", file=out)
    return FINE


def _wanted(entry: CatalogueEntry, chosen: argparse.Namespace) -> bool:
    if chosen.kind and entry.kind != chosen.kind:
        return False
    if entry.same_as is not None and not chosen.names:
        return False
    return all(word.lower() in entry.model.lower() for word in chosen.words)


def _columns(form: str) -> list[Column]:
    full = [Column("HEADS", right=True), Column("KV HEADS", right=True), Column("EXPERTS", right=True), Column("SOURCE"), Column("DATE")]
    return [
        Column("MODEL", shrinks=True, least=20),
        Column("KIND"),
        Column("PARAMS B", right=True),
        Column("ACTIVE B", right=True),
        Column("FORMAT"),
        Column("LAYERS", right=True),
        Column("KV/TOKEN", right=True),
        Column("CONTEXT", right=True),
        *(full if form != "table" else []),
    ]


def _row(entry: CatalogueEntry, form: str) -> list[str]:
    shape = entry.shape
    experts = f"{shape.experts_per_token}/{shape.experts}" if shape.experts else ""
    full = [str(shape.heads or ""), str(shape.kv_heads or ""), experts, entry.source, entry.date]
    return [
        entry.model,
        entry.kind,
        billions(shape.params_b),
        billions(shape.active_params_b),
        entry.precision or "",
        str(shape.layers or ""),
        kib(shape),
        tokens(shape.max_context),
        *(full if form != "table" else []),
    ]


def document(entry: CatalogueEntry) -> dict[str, Any]:
    """For programs: the entry with every number of its shape; what is unknown is absent."""
    shape = entry.shape
    numbers = {name: getattr(shape, name) for name in shape.__dataclass_fields__}
    body = {
        "model": entry.model,
        "sameAs": entry.same_as,
        "kind": entry.kind,
        "precision": entry.precision,
        "publishedParamsB": entry.published_params_b,
        "kvBytesPerToken": shape.kv_bytes_per_token(),
        "shape": {_camel(name): value for name, value in numbers.items() if value is not None},
        "source": entry.source,
        "date": entry.date,
    }
    return {name: value for name, value in body.items() if value is not None}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
