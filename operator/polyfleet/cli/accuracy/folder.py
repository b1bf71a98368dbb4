"""The folder of one run: its state while it goes, its reports when it is over. Every file is written whole or not at all.

`state.json` holds where the evidence stands and what it stands on (policy, golden sets, served names), so that a run is only continued as
the same run. It goes away when the verdict is there; `record.gz` stays, because the next candidate can be judged by it. While the reference
is captured, `captured.gz` holds what it said so far.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accuracy.certify import Job, Progress
from accuracy.record import Record, RecordError, decode, encode
from accuracy.report import as_json, html, junit, markdown
from accuracy.report.as_json import ReportError
from accuracy.report.model import Report
from accuracy.types import Cost, Sample
from polyfleet.cli.failure import Failure

STATE, RECORD, CAPTURED = "state.json", "record.gz", "captured.gz"
REPORTS = ("report.html", "report.md", "report.json", "junit.xml")
_KIND = "polyfleet-accuracy-state 1"


@dataclass(frozen=True, slots=True)
class Saved:
    """An unfinished run."""

    state: str  # "" = no prompt was judged yet
    samples: tuple[Sample, ...]
    record: Record | None
    captured: Record | None = None
    spent: tuple[Cost, Cost] = (Cost(), Cost())


class Folder:
    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._record: Record | None = None

    def prepare(self) -> None:
        """Makes it, and makes sure that it can be written to: before the minutes of the run, not after them."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._write(".writable", b"")
            (self.path / ".writable").unlink()
        except OSError as error:
            raise Failure(f"cannot write to --out {self.path}", error.strerror or str(error), "give another folder with --out") from error

    def unfinished(self) -> bool:
        return (self.path / STATE).is_file()

    def load(self, job: Job) -> Saved:
        """The unfinished run, if it is the one that is asked for. Raises Failure."""
        where = self.path / STATE
        try:
            body = json.loads(where.read_text(encoding="utf-8"))
            if body["kind"] != _KIND:
                raise ValueError(f"kind {body['kind']!r}")
            if body["run"] != identity(job):
                raise Failure(
                    f"{where} is of another run",
                    "policy, golden sets, served names or declared formats differ from those it began with",
                    "repeat its command line, or begin anew in another --out",
                )
            samples = as_json.samples(body["samples"])
            state, spent = str(body["state"]), as_json.costs(body["spent"])
            if not state:
                return Saved("", (), None, decode((self.path / CAPTURED).read_bytes()), spent)
            return Saved(state, samples, decode((self.path / RECORD).read_bytes()), None, spent)
        except (OSError, ValueError, KeyError, TypeError, ReportError, RecordError) as error:
            raise Failure(f"{where} cannot be used", str(error)[:200], f"rm {where}  # begins anew") from error

    def save(self, job: Job, progress: Progress) -> None:
        """Where the run stands. The record is written once; what state.json rests on is there before it."""
        record = progress.record
        if record is not None and record is not self._record:
            self._write(RECORD, encode(record))
            self._record = record
        elif not progress.state and progress.captured is not None:
            self._write(CAPTURED, encode(progress.captured))
        body = {
            "kind": _KIND, "run": identity(job), "state": progress.state, "samples": as_json.plain(progress.samples),
            "spent": as_json.plain(progress.cost),
        }  # fmt: skip
        self._write(STATE, json.dumps(body, separators=(",", ":"), allow_nan=False).encode())
        if progress.state:
            (self.path / CAPTURED).unlink(missing_ok=True)

    def finish(self, report: Report, record: Record | None) -> None:
        pages = (html.render(report), markdown.render(report), as_json.dumps(report), junit.render(report))
        for name, text in zip(REPORTS, pages, strict=True):
            self._write(name, text.encode())
        if record is not None and record is not self._record:
            self._write(RECORD, encode(record))
        for name in (STATE, CAPTURED):
            (self.path / name).unlink(missing_ok=True)

    def _write(self, name: str, content: bytes) -> None:
        put(self.path / name, content)


def put(path: Path, content: bytes) -> None:
    """The whole file or none; readable as the umask says. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def identity(job: Job) -> str:
    """Names the run: what the tests were laid out from. Addresses and tokens are no part of it, so a moved endpoint goes on."""
    parts: list[Any] = [
        job.policy.digest,
        [(one.name, one.digest) for one in job.golden],
        [(one.label, one.model) for one in job.candidates],
        None if job.reference is None else [job.reference.label, job.reference.model],
        job.own_reference,
        list(job.modalities),
    ]
    return "sha256:" + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
