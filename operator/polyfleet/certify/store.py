"""ConfigMaps of the checks: golden sets and records that are read, records and reports that are written.

What is written is gzip in `binaryData`, in as many ConfigMaps as it takes: NAME, NAME-1, ... The annotations of NAME tell how many there
are and the digest of the whole, so that a set that was written half is no set. A ConfigMap that is not ours is never written to.
Everything here is bounded, and what takes long happens off the event loop.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import gc
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from accuracy import golden
from accuracy import record as records
from accuracy.record import Record, RecordError
from accuracy.types import GoldenSet, Reason
from polyfleet import naming
from polyfleet.clearance.work import GoldenSource, RecordRef
from polyfleet.client import Client
from polyfleet.errors import ApiError, Conflict, Forbidden, NotFound
from polyfleet.resources import CONFIG_MAPS

RECORD_KEY = "record.gz"
REPORT_KEY = "report.json.gz"
STATE_KEY = "state"  # of a report: the evidence, which `status.resumeState` repeats
PARTS, DIGEST = "polyfleet.io/parts", "polyfleet.io/digest"  # annotations
# As base64, with the rest of the request, it stays below 1 MiB: what a ConfigMap holds, and what one write may send at once.
PART_BYTES = 700_000
MOST_PARTS = 8
STORED_TOP_K = 5
T = TypeVar("T")
_KEPT_SETS, _KEPT_RECORDS = 4, 2  # parsed ones that stay in memory while checks run


class SourceError(Exception):
    """A golden set or a record cannot be had: `reason` for the condition, and a message that says what to do."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


class TakenError(Exception):
    """A ConfigMap of that name belongs to somebody else."""


@dataclass(frozen=True, slots=True)
class Owner:
    """With this object the ConfigMap goes away."""

    kind: str
    name: str
    uid: str

    def reference(self) -> dict[str, Any]:
        return {"apiVersion": naming.API_VERSION, "kind": self.kind, "name": self.name, "uid": self.uid}


class Store:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._sets: OrderedDict[tuple[str, ...], GoldenSet] = OrderedDict()
        self._records: OrderedDict[tuple[str, ...], Record] = OrderedDict()
        self._parsing = asyncio.Lock()  # one at a time: checks that start together want the same record

    def forget(self) -> None:
        """Frees what is kept parsed, for times in which nothing is checked."""
        if self._records:
            gc.unfreeze()
        self._sets.clear()
        self._records.clear()

    # ---- reading

    async def golden(self, source: GoldenSource) -> GoldenSet:
        """A golden set; raises SourceError."""
        if source.builtin:
            try:
                return await asyncio.to_thread(golden.builtin, source.builtin)
            except ValueError as error:
                raise SourceError(Reason.REFERENCE_MISSING, str(error)) from error
        where = f"golden set {source.namespace}/{source.name}"
        found = await self._get(source.namespace, source.name, where)
        known = (*_identity(found), source.key)
        if known not in self._sets:
            content = _content(found, source.key, where)
            name = f"{source.namespace}/{source.name}"
            try:
                self._sets[known] = await asyncio.to_thread(golden.parse, name, content)
            except ValueError as error:
                raise SourceError(Reason.REFERENCE_MISSING, str(error)) from error
        return _recent(self._sets, known, _KEPT_SETS)

    async def record(self, ref: RecordRef) -> tuple[Record, str]:
        """A reference record and its digest; raises SourceError, also if it is not the one that is meant."""
        where = f"reference record {ref.namespace}/{ref.name}"
        found = await self._get(ref.namespace, ref.name, where)
        content = await self._whole(found, where)
        digest = records.digest(content)
        if ref.digest and digest != ref.digest:
            message = f"{where} has digest {digest}, wanted is {ref.digest}; it was captured again, or edited by hand"
            raise SourceError(Reason.REFERENCE_MISSING, message)
        known = (ref.namespace, ref.name, digest)
        async with self._parsing:
            if known not in self._records:
                try:
                    self._records[known] = await asyncio.to_thread(_decode, content)
                except RecordError as error:
                    raise SourceError(Reason.REFERENCE_MISSING, f"{where}: {error}") from error
            return _recent(self._records, known, _KEPT_RECORDS), digest

    async def report(self, namespace: str, name: str) -> tuple[bytes, str] | None:
        """The report of an earlier run as it was written, and its state; None if there is none that can be used."""
        try:
            found = await self._client.get(CONFIG_MAPS, name, namespace)
            content = await self._whole(found, f"report {namespace}/{name}")
        except (NotFound, SourceError):
            return None
        return content, str((found.get("data") or {}).get(STATE_KEY) or "")

    async def _get(self, namespace: str, name: str, where: str) -> dict[str, Any]:
        try:
            return await self._client.get(CONFIG_MAPS, name, namespace)
        except NotFound as error:
            message = f"{where}: there is no ConfigMap of that name; create it, or take it out of spec.accuracy"
            raise SourceError(Reason.REFERENCE_MISSING, message) from error
        except Forbidden as error:
            message = f"{where}: the operator may not read ConfigMaps there ({error.message}); watch that namespace, or move the ConfigMap"
            raise SourceError(Reason.REFERENCE_MISSING, message) from error
        except ApiError as error:
            raise SourceError(Reason.REFERENCE_UNAVAILABLE, f"{where}: {error}") from error

    async def _whole(self, head: Mapping[str, Any], where: str) -> bytes:
        """The content of a ConfigMap and its further parts, complete as its annotations say."""
        metadata = head["metadata"]
        notes = metadata.get("annotations") or {}
        text = str(notes.get(PARTS) or "1")
        count = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
        if not 1 <= count <= MOST_PARTS:
            raise SourceError(Reason.REFERENCE_MISSING, f"{where}: annotation {PARTS} is {text[:40]!r}, must be 1 to {MOST_PARTS}")
        pieces = [_content(head, "", where)]
        for part in range(1, count):
            found = await self._get(metadata["namespace"], part_name(metadata["name"], part), where)
            pieces.append(_content(found, "", where))
        content = b"".join(pieces)
        wanted = notes.get(DIGEST)
        if wanted and wanted != digest(content):
            raise SourceError(
                Reason.REFERENCE_MISSING, f"{where}: its parts do not make up {wanted}; it was written half, or edited by hand"
            )
        return content

    # ---- writing

    async def write_record(
        self, namespace: str, name: str, record: Record, owner: Owner, labels: Mapping[str, str], *, whole: bool = False
    ) -> str:
        """Stores a record, with at most `STORED_TOP_K` alternatives unless it is to be stored `whole`; returns its digest. Raises ApiError,
        TakenError, RecordError."""
        content = await asyncio.to_thread(lambda: records.encode(record if whole else records.reduced(record, STORED_TOP_K)))
        return await self._write(namespace, name, RECORD_KEY, content, owner, labels, {})

    async def write_report(
        self, namespace: str, name: str, pack: Callable[[], bytes], state: str, owner: Owner, labels: Mapping[str, str]
    ) -> str:
        """Stores what `pack` makes (off the loop); returns its digest. Raises ApiError, TakenError."""
        content = await asyncio.to_thread(pack)
        return await self._write(namespace, name, REPORT_KEY, content, owner, labels, {STATE_KEY: state} if state else {})

    async def clear(self, namespace: str, name: str, owner: Owner) -> None:
        """Empties a ConfigMap of ours that is not needed any more; it goes with its owner. Raises ApiError."""
        for part in range(MOST_PARTS):
            try:
                found = await self._client.get(CONFIG_MAPS, part_name(name, part), namespace)
            except NotFound:
                return
            metadata, keys = found["metadata"], found.get("binaryData") or {}
            if keys and owner.uid in {row.get("uid") for row in metadata.get("ownerReferences") or ()}:
                guard = {"uid": metadata["uid"], "annotations": {PARTS: None, DIGEST: None}}
                body = {"metadata": guard, "binaryData": dict.fromkeys(keys)}
                await self._client.merge_patch(CONFIG_MAPS, metadata["name"], body, namespace)

    async def _write(
        self, namespace: str, name: str, key: str, content: bytes, owner: Owner, labels: Mapping[str, str], data: Mapping[str, str]
    ) -> str:
        pieces = split(content)
        if len(pieces) > MOST_PARTS:
            raise RecordError(f"{name} has {len(content)} bytes; allowed: at most {MOST_PARTS * PART_BYTES}; use fewer items")
        named = digest(content)
        notes = {PARTS: str(len(pieces)), DIGEST: named}
        # The head comes last: whoever reads it finds all parts there, or a digest that does not fit.
        for part in range(len(pieces) - 1, -1, -1):
            body = {"binaryData": {key: base64.b64encode(pieces[part]).decode()}, "data": dict(data) if part == 0 else {}}
            await self._put(namespace, part_name(name, part), body, owner, labels, notes if part == 0 else {})
        return named

    async def _put(
        self, namespace: str, name: str, body: Mapping[str, Any], owner: Owner, labels: Mapping[str, str], notes: Mapping[str, str]
    ) -> None:
        metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": dict(labels), "ownerReferences": [owner.reference()]}
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**metadata, "annotations": dict(notes)}, **body}
        for _ in range(3):
            try:
                found = await self._client.get(CONFIG_MAPS, name, namespace)
            except NotFound:
                try:
                    await self._client.create(CONFIG_MAPS, manifest, namespace)
                except Conflict:
                    continue  # somebody was faster: look whose it is
                return
            seen = found["metadata"]
            if owner.uid not in {row.get("uid") for row in seen.get("ownerReferences") or ()}:
                raise TakenError(f"ConfigMap {namespace}/{name} belongs to somebody else; delete or rename it")
            gone = {part: {key: None for key in found.get(part) or {} if key not in body[part]} for part in ("binaryData", "data")}
            patch = {part: {**gone[part], **body[part]} for part in ("binaryData", "data")}
            guard = {"uid": seen["uid"], "resourceVersion": seen["resourceVersion"]}
            try:
                await self._client.merge_patch(
                    CONFIG_MAPS, name, {"metadata": {**guard, "labels": dict(labels), "annotations": dict(notes)}, **patch}, namespace
                )
            except (Conflict, NotFound):
                continue
            return
        raise Conflict(409, "Conflict", f"ConfigMap {namespace}/{name} changes all the time")


def _decode(content: bytes) -> Record:
    """A record is some 200,000 objects without a cycle. A collection that goes through them holds every thread for a tenth of a second and
    more, the event loop's too, so they are set apart until `Store.forget`."""
    gc.disable()
    try:
        found = records.decode(content)
        gc.freeze()
    finally:
        gc.enable()
    return found


def split(content: bytes, size: int = PART_BYTES) -> list[bytes]:
    """`content` in pieces of at most `size` bytes; at least one."""
    return [content[start : start + size] for start in range(0, max(1, len(content)), size)]


def part_name(name: str, part: int) -> str:
    return name if part == 0 else f"{name}-{part}"


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _identity(found: Mapping[str, Any]) -> tuple[str, ...]:
    metadata = found["metadata"]
    return metadata["uid"], metadata["resourceVersion"]


def _content(found: Mapping[str, Any], key: str, where: str) -> bytes:
    """The bytes under `key`; without a key the only ones there are (the texts beside binary data do not count)."""
    binary, text = found.get("binaryData") or {}, found.get("data") or {}
    if not key:
        keys = sorted(binary) or sorted(text)
        if len(keys) != 1:
            shown = ", ".join(keys[:5]) or "none"
            raise SourceError(Reason.REFERENCE_MISSING, f"{where}: the ConfigMap has keys {shown}; name the one that is meant in `key`")
        key = keys[0]
    if key in binary:
        try:
            return base64.b64decode(binary[key], validate=True)
        except (binascii.Error, ValueError) as error:
            raise SourceError(Reason.REFERENCE_MISSING, f"{where}: key {key} is not base64") from error
    if key in text:
        return str(text[key]).encode()
    shown = ", ".join([*sorted(binary), *sorted(text)][:5]) or "none"
    raise SourceError(Reason.REFERENCE_MISSING, f"{where}: no key {key}; the ConfigMap has {shown}")


def _recent(kept: OrderedDict[tuple[str, ...], T], key: tuple[str, ...], most: int) -> T:
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
    return kept[key]
