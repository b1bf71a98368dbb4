"""The models whose shape is known without asking anybody: reduced published configurations under `models/`, one file per publisher.

A model is found by its id as publishers write it, `Qwen/Qwen3-32B`. The part before the slash in lower case names the file, so looking
up one model reads one small file, once per process. Quantised twins and other names of the same weights are listed in the files; nothing
is guessed from a name: an id that is not listed is not found. How a file is written stands in README.md beside this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from hwprofiles.config_json import shape_from_config
from hwprofiles.schema import SchemaError, decimal
from hwprofiles.shape import Shape

MODELS = Path(__file__).parent / "models"
KINDS = ("Text", "Embedding", "Vision")
_SAME = "same"  # an alias with the number format of the model that it names
_PUBLISHER = re.compile(r"[a-z0-9][a-z0-9._-]{0,95}")
# libyaml, a tenth of the time; absent from a PyYAML that was built without it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One model under one name."""

    model: str
    shape: Shape
    kind: str  # one of KINDS; rerankers count as Embedding
    precision: str | None  # number format of the published weights, a word of HardwareProfile.dtypes
    source: str  # whose configuration, and where it was read
    date: str  # when, YYYY-MM
    published_params_b: float | None  # billions as the publisher states them, None = not known; the shape's own number is counted
    same_as: str | None = None  # for an alias: the entry whose layers it has


def find(model_id: str) -> CatalogueEntry | None:
    """The entry of this id: exactly, else in any case of its letters; None if it is not listed."""
    publisher = model_id.partition("/")[0].lower()
    if "/" not in model_id or _PUBLISHER.fullmatch(publisher) is None:
        return None
    found = _publisher(publisher)
    return found.get(model_id) or _folded(publisher).get(model_id.lower())


def entries() -> tuple[CatalogueEntry, ...]:
    """All, aliases included, sorted by model."""
    found = (entry for name in publishers() for entry in _publisher(name).values())
    return tuple(sorted(found, key=lambda entry: entry.model))


@cache
def publishers() -> tuple[str, ...]:
    """Names of the files, sorted."""
    return tuple(sorted(path.stem for path in MODELS.glob("*.yaml")))


@cache
def _folded(publisher: str) -> dict[str, CatalogueEntry]:
    return {name.lower(): entry for name, entry in _publisher(publisher).items()}


@cache
def _publisher(publisher: str) -> Mapping[str, CatalogueEntry]:
    path = MODELS / f"{publisher}.yaml"
    if publisher not in publishers():
        return {}
    body = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    models: dict[str, Any] = body.get("models") or {}
    found: dict[str, CatalogueEntry] = {}
    for name in models:
        entry = _entry(name, models, body["date"])
        found[name] = entry
        for alias, precision in (models[name].get("aliases") or {}).items():
            found[alias] = _alias(entry, alias, precision)
    for alias, like in (body.get("aliases") or {}).items():
        known = find(like["model"])
        if known is None:
            raise SchemaError(f"{path.name}: {alias} names {like['model']}, which no file lists")
        found[alias] = _alias(known, alias, like.get("precision", _SAME))
    return found


def configuration(name: str, models: Mapping[str, Any]) -> dict[str, Any]:
    """The reduced config.json of one model of a file: its own fields over those of the model that it is `like`."""
    own: dict[str, Any] = models[name].get("config") or {}
    like = models[name].get("like")
    return {**(configuration(like, models) if like is not None else {}), **own}


def _entry(name: str, models: Mapping[str, Any], date: str) -> CatalogueEntry:
    stated = models[name]
    shape, precision = shape_from_config(configuration(name, models))
    if "active" in stated:
        # As the publisher counts it; publishers differ in whether the embedding table belongs to it.
        shape = replace(shape, active_params_b=float(decimal(stated["active"])))
    return CatalogueEntry(
        model=name,
        shape=shape,
        kind=stated.get("kind", KINDS[0]),
        precision=precision,
        source=f"config.json of {name}, read in: {stated['seen']}",
        date=date,
        published_params_b=float(decimal(stated["published"])) if "published" in stated else None,
    )


def _alias(entry: CatalogueEntry, alias: str, precision: str) -> CatalogueEntry:
    return replace(entry, model=alias, precision=entry.precision if precision == _SAME else precision, same_as=entry.model)
