"""The small part of a record as plain JSON values and back: who, when, with what, and what the contract's requests showed. Pure.

Dataclasses are written field by field and read by their annotations; unknown fields and wrong kinds are refused, so that a record of a
later version is not half understood.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from accuracy.contract import Facts
from accuracy.golden.items import plain as plain_item
from accuracy.golden.items import read as read_item
from accuracy.golden.sets import digest
from accuracy.types import Capabilities, Fingerprint, GoldenSet, Mode

if TYPE_CHECKING:
    from accuracy.record import Record

VERSION = 1


def write(record: Record) -> dict[str, Any]:
    """Everything but what stands in columns: ids of prompts and continuations, scores, texts."""
    facts = record.facts
    if facts is not None:
        facts = replace(facts, items=tuple(replace(i, prompt_ids=()) for i in facts.items))
    return {
        "version": VERSION,
        "model": record.model,
        "mode": record.mode.value,
        "topK": record.top_k,
        "made": record.made,
        "seed": record.seed,
        "fingerprint": _plain(record.fingerprint),
        "golden": [list(g) for g in record.golden],
        "policyDigest": record.policy_digest,
        "items": [i.item for i in record.items],
        **({"good": [i.good for i in record.items]} if any(i.good is not None for i in record.items) else {}),
        "noise": [[i.noise_kl, i.noise_sq] for i in record.items],
        "facts": _plain(facts),
        "capabilities": _plain(record.capabilities),
        "sets": [{"name": s.name, "items": [plain_item(i) for i in s.items]} for s in record.sets],
    }


def read(head: Mapping[str, Any], rendered: Sequence[Sequence[int]]) -> dict[str, Any]:
    """The arguments of `Record` but its items. `rendered`: prompt ids of the facts' items. Raises ValueError and its kind."""
    if head["version"] != VERSION:
        raise ValueError(f"version {head['version']!r}, this program reads {VERSION}")
    if len(set(head["items"])) != len(head["items"]):
        raise ValueError("an item stands twice")
    facts: Facts | None = _read(Facts | None, head["facts"], "facts")
    if facts is not None:
        facts = replace(facts, items=tuple(replace(i, prompt_ids=tuple(ids)) for i, ids in zip(facts.items, rendered, strict=True)))
    sets = []
    for stored in head["sets"]:
        items = tuple(read_item(v, f"golden set {stored['name']}") for v in stored["items"])
        sets.append(GoldenSet(name=_read(str, stored["name"], "sets"), digest=digest(items), items=items))
    return {
        "model": _read(str, head["model"], "model"),
        "mode": Mode(head["mode"]),
        "top_k": _read(int, head["topK"], "topK"),
        "made": _read(str, head["made"], "made"),
        "seed": _read(int, head["seed"], "seed"),
        "fingerprint": _read(Fingerprint, head["fingerprint"], "fingerprint"),
        "golden": tuple((str(name), str(named)) for name, named in head["golden"]),
        "policy_digest": _read(str, head["policyDigest"], "policyDigest"),
        "facts": facts,
        "capabilities": _read(Capabilities, head["capabilities"], "capabilities"),
        "sets": tuple(sets),
    }


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(v) for f in fields(value) if (v := getattr(value, f.name)) is not None and v != ()}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value


def _read(kind: Any, value: Any, at: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        arms = get_args(kind)
        if value is None and type(None) in arms:
            return None
        return _read(next(a for a in arms if a is not type(None)), value, at)
    if origin is tuple and isinstance(value, list):
        return tuple(_read(get_args(kind)[0], v, at) for v in value)
    if origin is Mapping and isinstance(value, dict):
        return {k: _read(get_args(kind)[1], v, f"{at}.{k}") for k, v in value.items()}
    if is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        unknown = sorted(set(value) - set(hints))
        if unknown:
            raise ValueError(f"{at}: unknown field {unknown[0]!r}")
        return kind(**{k: _read(hints[k], v, f"{at}.{k}") for k, v in value.items()})  # type: ignore[operator]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not (isinstance(kind, type) and isinstance(value, kind)) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{at}: {value!r}, must be {getattr(kind, '__name__', kind)}")
    return value
