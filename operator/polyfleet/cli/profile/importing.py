"""`polyfleet profile import --from FORMAT FILE --profile NAME`: what another tool measured or priced, as a patch or applied.

Nothing is imported blind: every entry goes through the same checks as shipped ones (roofline at its own load, order among devices),
together with all profiles that are known. A failing entry is shown, and left out unless --keep-faulty. The patch goes to standard output,
everything else to standard error, so that `> patch.yaml` gives a patch.

Ends with 0 when everything of the file is in the patch or in the cluster, with 3 when faulty entries were left out, with 1 on an error.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationError

from hwprofiles import HardwareProfileSpec
from hwprofiles.model import Throughput
from hwprofiles.schema import DATE_PATTERN, SchemaError
from hwprofiles.trust import Fault, trusted
from hwprofiles.words import doubt
from polyfleet.api.objects import describe
from polyfleet.cli.failure import FINE, SHORT, Failure, usage
from polyfleet.cli.profile.performance import layout_of
from polyfleet.cli.profile.source import Profile, Profiles, day, profiles, read_text
from polyfleet.cli.profile.terms import machine, width
from polyfleet.cli.text import count, plain, wrap
from polyfleet.errors import ApiError, Conflict, Forbidden, NotFound
from polyfleet.profiledata.entry import Given, Imported, date_of, decimal_text
from polyfleet.profiledata.fields import MOST_MIB, ReadError
from polyfleet.profiledata.formats import READERS
from polyfleet.profiledata.merge import describe as entry_text
from polyfleet.profiledata.merge import key_of, merge_entries, merge_price
from polyfleet.profiledata.write import Change, write_spec


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    if chosen.apply and (chosen.shipped or chosen.snapshot):
        raise usage(
            "--apply needs the cluster",
            "shipped profiles and snapshots cannot be written",
            "leave --apply out, or --shipped and --snapshot",
        )
    given = given_of(chosen)
    text = read_text(chosen.file, sys.stdin, MOST_MIB)
    try:
        imported = READERS[chosen.format](text, given)
    except ReadError as error:
        raise _failure(error, chosen) from error
    found = profiles(chosen)
    item = found.find(chosen.profile)
    if item.parsed is None:
        raise Failure(f"profile {item.name} does not fit the schema", item.fault, f"kubectl edit hwp {item.name}")
    result = judge(item, found, imported, given, keep=chosen.keep_faulty)
    room = width(err)
    for note in imported.notes:
        _say(f"note: {note}", err, room)
    listed = item.parsed.dtypes or {}
    for word in sorted({entry.precision for entry in imported.entries if entry.precision and entry.precision not in listed}):
        if text := doubt(word):
            _say(f"warning: precision {word}: {text}", err, room)
    for objection in result.objections:
        _say(objection, err, room)
    if result.left_out and not result.kept and imported.price is None:
        why = f"{count(result.left_out, 'entry fails', 'entries fail')} the checks (above)"
        raise Failure("nothing was imported", why, "correct the options (devices, precision, output tokens), or add --keep-faulty")
    if chosen.apply:
        changes = _apply(item.name, result, chosen)
        for change in changes or ["nothing: all of it is there already"]:
            for line in wrap(f"{'' if not changes else 'written: '}{change}", width(out), rest="  "):
                print(line, file=out)
    else:
        for change in result.changes or ["nothing to change: all of it is there already"]:
            _say(change, err, room)
        # With the version that it is based on the API server refuses the patch where somebody wrote in the meantime.
        basis = {"metadata": {"resourceVersion": item.version}} if item.version else {}
        print(machine({**basis, "spec": result.patch}, chosen.output), file=out)
        if result.changes:
            for text in _next(item, found, result.patch):
                _say(text, err, room)
    return SHORT if result.left_out else FINE


def _next(item: Profile, found: Profiles, patch: Mapping[str, Any]) -> Iterator[str]:
    """What to do with the patch. One that is not based on the cluster would delete what only the cluster has."""
    if item.version:
        yield f"next: kubectl patch hwp {item.name} --type merge --patch-file FILE; or repeat with --apply"
        return
    lists = " and ".join(f"spec.{name}" for name in ("throughput", "provenance") if name in patch)
    if lists:
        yield (
            f"warning: the patch replaces the whole list {lists} and is based on {found.source}: entries that only the cluster has,"
            " measured ones among them, would be deleted"
        )
    yield f"next: repeat without{found.option} for a patch that is based on the cluster, or add --apply to that"


@dataclass(frozen=True, slots=True)
class Result:
    change: Change  # to be applied to whatever the cluster holds then
    kept: int  # entries
    left_out: int
    objections: tuple[str, ...]
    changes: tuple[str, ...]
    patch: Mapping[str, Any]  # the top-level fields of the spec that change


def judge(item: Profile, found: Profiles, imported: Imported, given: Given, *, keep: bool) -> Result:
    """Checks the entries as part of the profile and beside all others, then lays the good ones (or all) over it."""
    faulty, objections = _faulty(item, found, imported.entries)
    kept = [entry for index, entry in enumerate(imported.entries) if keep or index not in faulty]
    price = _price(item, imported, given)

    def change(spec: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        after, changes = merge_entries(spec, kept) if kept else (dict(spec), [])
        if price is not None:
            after, more = merge_price(after, *price)
            changes += more
        return after, changes

    try:
        after, changes = change(item.spec)
    except SchemaError as error:
        raise Failure(
            f"profile {item.name} cannot take these entries", str(error), f"polyfleet profile show {item.name}{found.option}"
        ) from error
    _parsed(item.name, after)
    patch = {name: value for name, value in sorted(after.items()) if item.spec.get(name) != value}
    return Result(change, len(kept), 0 if keep else len(faulty), tuple(objections), tuple(changes), patch)


def _faulty(item: Profile, found: Profiles, entries: Sequence[Throughput]) -> tuple[set[int], list[str]]:
    """Which of the entries a check objects to, and every objection in words; also what they would put in doubt elsewhere."""
    if not entries:
        return set(), []
    try:
        merged, _ = merge_entries(item.spec, entries)
    except SchemaError as error:
        raise Failure(f"profile {item.name} cannot take these entries", str(error), "import one of them at a time") from error
    keys = [key_of(entry.dump_set()) for entry in entries]
    places = {index: keys.index(key) for index, row in enumerate(merged["throughput"]) if (key := key_of(row)) in keys}
    before = {(fault.profile, fault.field, fault.reason) for fault in trusted(found.specs, today=found.today).faults}
    after = trusted({**found.specs, item.name: _parsed(item.name, merged)}, today=found.today).faults
    faulty: set[int] = set()
    words: list[str] = []
    for fault in after:
        place = places.get(_index(fault)) if fault.profile == item.name else None
        if place is not None:
            faulty.add(place)
            words.append(f"faulty: {entry_text(entries[place].dump_set())}: {fault.reason}: {fault.message}")
        elif (fault.profile, fault.field, fault.reason) not in before:
            words.append(f"puts hwp/{fault.profile} {fault.field} in doubt: {fault.reason}: {fault.message}")
    return faulty, words


def _index(fault: Fault) -> int:
    head = fault.field.removeprefix("throughput[").split("]")[0]
    return int(head) if fault.field.startswith("throughput[") and head.isdigit() else -1


def _parsed(name: str, spec: Mapping[str, Any]) -> HardwareProfileSpec:
    try:
        return HardwareProfileSpec.parse(dict(spec))
    except ValidationError as error:
        raise Failure(
            f"profile {name} would not fit the schema", describe(error, "spec")[:600], "polyfleet profile validate FILE"
        ) from error


def _price(item: Profile, imported: Imported, given: Given) -> tuple[str, str, dict[str, Any]] | None:
    if imported.price is None:
        return None
    price = imported.price
    try:
        date = date_of("WVA", given, price.date)
    except ReadError as error:
        raise Failure(error.what, error.why, error.next) from error
    currency = str((item.spec.get("cost") or {}).get("currency") or "USD")
    origin = {"fields": ["cost"], "evidence": "Published", "confidence": price.confidence, "source": price.source, "date": date}
    return decimal_text(price.per_device_hour), currency, origin


def given_of(chosen: argparse.Namespace) -> Given:
    for flag, value in (
        ("--input-tokens", chosen.input_tokens),
        ("--output-tokens", chosen.output_tokens),
        ("--concurrency", chosen.concurrency),
    ):
        if value is not None and value < 1:
            raise usage(f"{flag} {value}", "it must be at least 1", f"give {flag} N")
    if chosen.date and (re.fullmatch(DATE_PATTERN, chosen.date) is None or chosen.date > day(chosen.today)[: len(chosen.date)]):
        raise usage(
            f"--date {chosen.date}", f"it must be YYYY-MM or YYYY-MM-DD, up to {day(chosen.today)}", "give the day of the measurement"
        )
    return Given(
        file="standard input" if chosen.file == "-" else Path(chosen.file).name,
        model=chosen.model or None,
        precision=chosen.precision or None,
        engine=chosen.engine or None,
        engine_version=chosen.engine_version or None,
        layout=layout_of(chosen),
        input_tokens=chosen.input_tokens,
        output_tokens=chosen.output_tokens,
        concurrency=chosen.concurrency,
        date=chosen.date or None,
        confidence=chosen.confidence or None,
        source=chosen.source or None,
        accelerator=chosen.accelerator or None,
        measured_here=chosen.measured_here,
    )


def _failure(error: ReadError, chosen: argparse.Namespace) -> Failure:
    what = f"cannot import {chosen.file}: {error.what}"
    return Failure(what, error.why, error.next or f"check that the file is of {chosen.format}: polyfleet profile import --help")


def _say(text: str, err: TextIO, room: int) -> None:
    for line in wrap(plain(text), room, rest="  "):
        print(line, file=err)


def _apply(name: str, result: Result, chosen: argparse.Namespace) -> tuple[str, ...]:
    from polyfleet.cli import connect
    from polyfleet.client import Client

    async def write() -> tuple[str, ...]:
        connection = await connect.connect(chosen.kubeconfig, chosen.context)
        async with Client(connection.configuration) as client:
            return (await write_spec(client, name, result.change)).changes

    try:
        return asyncio.run(write())
    except Forbidden as error:
        next_ = f"kubectl auth can-i patch hwp/{name}; ask for the verbs get and patch on hardwareprofiles"
        raise Failure(f"these credentials may not write profile {name}", error.message, next_) from error
    except NotFound as error:
        raise Failure(f"profile {name} is gone", error.message, "kubectl get hwp") from error
    except Conflict as error:
        raise Failure(f"profile {name} changes all the time", error.message, "repeat the command; nothing was written") from error
    except ApiError as error:
        raise Failure(f"the API server refuses the change of {name}", error.message, "nothing was written; correct the options") from error
    except SchemaError as error:
        raise Failure(f"profile {name} cannot take these entries", str(error), f"polyfleet profile show {name}") from error
