"""Lays new throughput entries over those of a profile. Pure: the spec comes in as the API server gave it and goes out as a new dict.

`spec.throughput` is an atomic list: whoever writes it writes all of it. So everything that is already there stays, byte for byte and in
its place, also entries that this version does not understand, and only an entry of the *same key* is replaced.

    key = model, precision, engine, engineVersion, parallelism, inputTokens, outputTokens, concurrency, evidence, whether it states a rate

The evidence class is part of the key: a Measured entry does not overwrite the Published one of the same load. Both stay beside each other
and the order of trust (Measured, Published, Estimated) decides, so that deleting the measurement brings the published figure back.
An entry that holds only a footprint or a cold start is another thing than a rate and is never replaced by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from hwprofiles.model import Layout, Throughput
from hwprofiles.schema import SchemaError

MOST_ENTRIES = 128  # maxItems of HardwareProfile.spec.throughput
Key = tuple[object, ...]

_PLAIN = ("model", "precision", "engine", "engineVersion", "inputTokens", "outputTokens", "concurrency", "evidence")


def key_of(entry: Mapping[str, Any]) -> Key | None:
    """The key of an entry in API spelling; None if its parallelism cannot be read, in which case nothing ever replaces it."""
    try:
        layout = Layout.parse(entry.get("parallelism") or {})
    except ValidationError:
        return None
    states_rate = entry.get("outputTokensPerSecond") is not None
    return (*(entry.get(name) for name in _PLAIN), states_rate, layout.tensor, layout.pipeline, layout.data, layout.expert, layout.span)


def merge_entries(spec: Mapping[str, Any], new: Sequence[Throughput]) -> tuple[dict[str, Any], list[str]]:
    """The spec with the new entries, and what changed, one sentence each (empty: everything was there already).

    Replaced entries keep their place, others are appended in the order given; the same input gives the same bytes. Raises SchemaError
    where two of the new entries have one key, and where there would be more than 128.
    """
    entries: list[Any] = list(spec.get("throughput") or ())
    places = {key: index for index, item in enumerate(entries) if isinstance(item, Mapping) and (key := key_of(item)) is not None}
    seen: set[Key] = set()
    changes: list[str] = []
    for item in new:
        body = item.dump_set()
        key = key_of(body)
        assert key is not None  # it comes from a validated entry
        if key in seen:
            raise SchemaError(f"two of the new entries are for the same load: {describe(body)}; keep one of them")
        seen.add(key)
        place = places.get(key)
        if place is None:
            entries.append(body)
            changes.append(f"adds {describe(body)}")
        elif (old := _completed(entries[place])) != item.dump():
            changes.append(f"replaces throughput[{place}] {_difference(old, item.dump())}: {describe(body)}")
            entries[place] = body
    if len(entries) > MOST_ENTRIES:
        raise SchemaError(f"throughput would have {len(entries)} entries, at most {MOST_ENTRIES}; delete old ones first")
    return {**spec, "throughput": entries}, changes


def _completed(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entry with the defaults that the API server fills in, so that only real differences count."""
    try:
        return Throughput.parse(dict(entry)).dump()
    except ValidationError:
        return entry


def describe(entry: Mapping[str, Any]) -> str:
    """`Qwen/Qwen3-32B w8a8 on vllm 0.23.0, tensor 4, 3500 in, 1500 out, 76 at once: 1249 tok/s, Published 2026-08`."""
    engine = " ".join(str(entry[name]) for name in ("engine", "engineVersion") if entry.get(name))
    parts = [" ".join(str(part) for part in (entry.get("model"), entry.get("precision"), "on", engine) if part)]
    layout = entry.get("parallelism") or {}
    parts += [f"{name} {layout[name]}" for name in ("tensor", "pipeline", "data", "expert", "span") if layout.get(name) not in (None, 1)]
    words = (("inputTokens", "in"), ("outputTokens", "out"), ("concurrency", "at once"))
    parts += [f"{entry[name]} {word}" for name, word in words if entry.get(name) is not None]
    rate = entry.get("outputTokensPerSecond")
    return f"{', '.join(parts)}: {f'{rate} tok/s' if rate is not None else 'no rate'}, {entry.get('evidence')} {entry.get('date')}"


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The fields that differ: `(outputTokensPerSecond 1249 -> 1310, date 2026-08 -> 2026-11-24)`."""
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return "(" + ", ".join(f"{name} {_word(old.get(name))} -> {_word(new.get(name))}" for name in names) + ")"


def _word(value: object) -> str:
    return "none" if value is None else str(value)


def merge_price(spec: Mapping[str, Any], price: str, currency: str, provenance: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The spec with a price per device and hour (decimal string), and with `provenance` (of `cost`) in place of what covered it before."""
    before = spec.get("cost") or {}
    cost = {**before, "perDeviceHour": price, "currency": currency}
    rows = []
    for row in spec.get("provenance") or ():
        fields = [item for item in row.get("fields", ()) if item != "cost" and not str(item).startswith("cost.")]
        if fields:
            rows.append({**row, "fields": fields})
    rows.append(dict(provenance))
    changed = {**spec, "cost": cost, "provenance": rows}
    if cost == before and rows == list(spec.get("provenance") or ()):
        return changed, []
    old = f"{before['perDeviceHour']} {before.get('currency', 'USD')}" if before.get("perDeviceHour") else "none"
    return changed, [f"cost.perDeviceHour {old} -> {price} {currency}, {provenance['evidence']} {provenance['date']}"]
