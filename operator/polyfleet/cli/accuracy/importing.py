"""`polyfleet accuracy import FILE --name NAME`: a capture or a golden set as ConfigMaps on standard output, ready for `kubectl apply`.

The form is the one that the operator writes and reads: gzip in `binaryData`, in parts where one ConfigMap does not hold it.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import re
from typing import Any, TextIO

import yaml

from accuracy import golden
from accuracy import record as records
from accuracy.golden import GoldenError
from accuracy.record import Record, RecordError
from polyfleet.certify.store import DIGEST, MOST_PARTS, PART_BYTES, PARTS, RECORD_KEY, part_name, split
from polyfleet.certify.store import digest as digest_of
from polyfleet.cli.accuracy import asked
from polyfleet.cli.accuracy.running import say
from polyfleet.cli.failure import FINE, Failure, usage

GOLDEN_KEY = "items.jsonl"
_NAME = re.compile(r"^[a-z0-9]([a-z0-9.-]{0,240}[a-z0-9])?$")


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    for option, value in (("--name", chosen.name), ("--namespace", chosen.namespace)):
        if value and not _NAME.match(value):
            raise usage(f"{option} {value} is not right", "lower-case letters, digits, dots and dashes", f"{option} team-prompts")
    if not 1 <= chosen.top_k <= 20:
        raise usage(f"--top-k {chosen.top_k} is not right", "a whole number from 1 to 20", "--top-k 5")
    content = asked.content(chosen.file)
    try:
        record = records.decode(content)
    except RecordError as first:
        try:
            found = golden.parse(chosen.name, content)
        except GoldenError as second:
            raise Failure(
                f"{chosen.file} is neither a capture nor a golden set", f"{first}; {second}", "docs/accuracy.md, Your own prompts"
            ) from second
        bodies = _set(golden.dump(found.items), chosen.file)
        told = f"{len(found.items)} items, {found.digest}"
    else:
        bodies = _record(records.reduced(record, chosen.top_k), chosen.file)
        told = f"a capture of {record.model}, {len(record.items)} items, made {record.made}"
    manifests = [_manifest(chosen, number, len(bodies), body, notes) for number, (body, notes) in enumerate(bodies)]
    yaml.safe_dump_all(manifests, out, sort_keys=False, allow_unicode=True, width=10**6)
    what = "ConfigMap" if len(manifests) == 1 else "ConfigMaps"
    say(err, f"{told}, as {len(manifests)} {what}; next: kubectl apply -f FILE, then in spec.accuracy")
    say(err, f"goldenSets: [{{builtin: core}}, {{configMap: {{name: {chosen.name}}}}}]")
    return FINE


def _record(record: Record, name: str) -> list[tuple[dict[str, Any], dict[str, str]]]:
    content = records.encode(record)
    pieces = split(content)
    if len(pieces) > MOST_PARTS:
        allowed = f"{len(content)} bytes; at most {MOST_PARTS * PART_BYTES} can be stored"
        raise Failure(f"{name} is too large for ConfigMaps", allowed, "capture fewer items, or repeat with --top-k 1")
    notes = {PARTS: str(len(pieces)), DIGEST: digest_of(content)}
    return [
        ({"binaryData": {RECORD_KEY: base64.b64encode(piece).decode()}}, notes if number == 0 else {})
        for number, piece in enumerate(pieces)
    ]


def _set(lines: str, name: str) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """As text where that fits, because people read it there."""
    if len(lines.encode()) <= PART_BYTES:
        return [({"data": {GOLDEN_KEY: lines}}, {})]
    packed = gzip.compress(lines.encode(), 9, mtime=0)
    if len(packed) > PART_BYTES:
        raise Failure(
            f"{name} is too large for a ConfigMap",
            f"{len(packed)} bytes packed; at most {PART_BYTES}",
            "split it, and name both sets in goldenSets",
        )
    return [({"binaryData": {f"{GOLDEN_KEY}.gz": base64.b64encode(packed).decode()}}, {})]


def _manifest(chosen: argparse.Namespace, number: int, parts: int, body: dict[str, Any], notes: dict[str, str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": part_name(chosen.name, number)}
    if chosen.namespace:
        metadata["namespace"] = chosen.namespace
    if notes:
        metadata["annotations"] = notes
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "immutable": True, **body}
