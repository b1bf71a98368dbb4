"""Certifies one candidate against a reference over HTTP: gates G0 to G7 in order, one prompt after another until the decision falls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from accuracy.http.endpoint import Endpoint
from accuracy.types import Cost, Decision, Fingerprint, GoldenSet, Sample

if TYPE_CHECKING:
    from accuracy.policy import Policy
    from accuracy.record import Record
    from accuracy.report.model import Report


@dataclass(frozen=True, slots=True)
class Job:
    policy: Policy
    golden: tuple[GoldenSet, ...]
    candidates: tuple[Endpoint, ...]
    reference: Endpoint | None = None
    record: Record | None = None
    modalities: tuple[str, ...] = ("Text",)
    own_reference: bool = False
    recheck: bool = False
    resume: str = ""
    used: frozenset[str] = frozenset()
    fingerprint: Fingerprint = field(default_factory=Fingerprint)
    reference_fingerprint: Fingerprint = field(default_factory=Fingerprint)
    quote: bool = True
    earlier: tuple[Sample, ...] = ()  # of the run that `resume` continues, for the report


@dataclass(frozen=True, slots=True)
class Progress:
    decision: Decision
    state: str
    done: int
    total: int
    stratum: str = ""
    samples: tuple[Sample, ...] = ()
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    decision: Decision
    report: Report
    record: Record | None
    state: str


def estimate(job: Job) -> Cost:
    raise NotImplementedError


async def certify(job: Job, *, on_progress: Callable[[Progress], None] | None = None, clock: Callable[[], float] = time.monotonic, now: str) -> Outcome:
    raise NotImplementedError


_ = Mapping
