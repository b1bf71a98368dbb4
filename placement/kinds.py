"""Whether every field of a snapshot and a demand holds the kind of value that its annotation says. The first of all checks: the others
compare, sort and add. One field of all records at a time, so that a large fleet costs some hundredths of a second."""

from __future__ import annotations

import types as _types
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, Union, get_args, get_origin, get_type_hints

from placement.types import Demand, Snapshot

NAMES = ("name", "id", "tenant", "model")  # of a record, for the message
WORDS: dict[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def kind_faults(snapshot: Snapshot, demand: Demand) -> list[str]:
    """Field, value, what it must be; empty if all are of their kind."""
    return [*_records(Snapshot, [snapshot], ["snapshot"]), *_records(Demand, [demand], ["demand"])]


@lru_cache(maxsize=64)
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _records(kind: type, items: list[Any], at: list[str]) -> Iterable[str]:
    wrong = [f"{where}: {item!r}, must be a {kind.__name__}" for where, item in zip(at, items, strict=True) if not isinstance(item, kind)]
    if wrong:
        yield from wrong
        return
    for f in fields(kind):
        yield from _column(_hints(kind)[f.name], list(map(attrgetter(f.name), items)), at, f.name)


def _column(hint: Any, values: list[Any], at: list[str], field: str) -> Iterable[str]:
    """One field of records that are at `at`."""
    origin = get_origin(hint)
    if origin in (Union, _types.UnionType):
        hint = next(a for a in get_args(hint) if a is not type(None))
        given = [i for i, v in enumerate(values) if v is not None]
        yield from _column(hint, [values[i] for i in given], [at[i] for i in given], field)
    elif origin is tuple:
        wrong = _wrong(tuple, "a tuple", values, at, field)
        yield from wrong
        if not wrong and any(values):
            inner = get_args(hint)[0]
            each = [x for v in values for x in v]
            owner = [where for where, v in zip(at, values, strict=True) for _ in v]
            if is_dataclass(inner):
                owner = [_within(where, field, x) for where, x in zip(owner, each, strict=True)]
            yield from _of(inner, each, owner, field)
    else:
        yield from _of(hint, values, at, field)


def _of(hint: Any, values: list[Any], at: list[str], field: str) -> Iterable[str]:
    if is_dataclass(hint):
        assert isinstance(hint, type)  # not an instance of one
        return _records(hint, values, [field] * len(values) if at == ["snapshot"] else at)
    word = WORDS.get(hint) or "one of " + ", ".join(str(k.value) for k in hint)
    return _wrong(hint, word, values, at, field)


def _wrong(hint: Any, word: str, values: list[Any], at: list[str], field: str) -> list[str]:
    allowed = (int, float) if hint is float else (hint,)
    if set(map(type, values)) <= set(allowed):
        return []
    odd = [i for i, v in enumerate(values) if not isinstance(v, allowed) or (isinstance(v, bool) and hint is not bool)]
    return [f"{at[i]}.{field}: {values[i]!r}, must be {word}" for i in odd]


def _within(before: str, field: str, item: Any) -> str:
    """`cells[NAME]`, `policy.quotas[TENANT]`, `demand.models[MODEL]`: as in all other messages."""
    name = next((getattr(item, n) for n in NAMES if hasattr(item, n)), item)
    return f"{'' if before == 'snapshot' else before + '.'}{field}[{name}]"
