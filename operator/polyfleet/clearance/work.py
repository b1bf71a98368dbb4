"""The checks that a cycle wants run, as values: the border between the pure decision and the runner that talks to engines.

Level-triggered like everything else: each cycle says all that is wanted now. A check that is already running goes on, one that is no
longer wanted is stopped, one whose result is known is not asked for again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from accuracy.policy import Formats, PairRule, Settings
from accuracy.types import Fingerprint


@dataclass(frozen=True, slots=True)
class Replica:
    """One engine, asked directly and never through the Service. `container` makes a restarted one another one."""

    pod: str
    uid: str
    container: str  # container id
    url: str  # http://IP:port
    node: str = ""


@dataclass(frozen=True, slots=True)
class GoldenSource:
    """`builtin`, or a ConfigMap with its key ("" = the only one)."""

    builtin: str = ""
    namespace: str = ""
    name: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class RecordRef:
    """Where a reference record lies, and what it must be. `imported`: captured elsewhere and given as a golden set."""

    namespace: str
    name: str
    digest: str = ""
    imported: bool = False


@dataclass(frozen=True, slots=True)
class Certify:
    """One AccuracyReport that has no verdict yet, or is due again."""

    namespace: str
    report: str  # name of the AccuracyReport
    report_uid: str
    model: str  # namespace/name of the ModelDeployment
    model_uid: str
    served_name: str
    profile: str
    variant: str
    engine: str
    reference_profile: str
    fingerprint: Fingerprint
    settings: Settings
    pairs: tuple[PairRule, ...]
    reference_formats: Formats
    candidate_formats: Formats
    golden: tuple[GoldenSource, ...]
    modalities: tuple[str, ...]
    replicas: tuple[Replica, ...]
    record: RecordRef | None = None  # what it is compared with; None: no record exists yet
    reference: tuple[Replica, ...] = ()  # live reference replicas, where the record is too old or stores too little
    # True: it is the reference itself (or its stand-in by SelfConsistency): judged by Contract, HardFaults and SelfConsistency, and then
    # the record is captured under this name.
    own_reference: bool = False
    capture_as: str = ""
    resume: str = ""  # stored state of an unfinished run of this fingerprint
    attempt: int = 0  # how many runs ended without a verdict: the pause grows with it
    recheck: bool = False  # a promoted pair, checked again: fresh evidence for Block only
    quote: bool = True  # worst outputs of built-in items may be stored


@dataclass(frozen=True, slots=True)
class Enter:
    """The entry check of one replica of a verified fingerprint."""

    namespace: str
    report: str
    model: str
    served_name: str
    replica: Replica
    settings: Settings
    pairs: tuple[PairRule, ...]
    reference_formats: Formats
    candidate_formats: Formats
    record: RecordRef
    golden: tuple[GoldenSource, ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that is wanted now, each sorted by (namespace, report, pod)."""

    certify: tuple[Certify, ...] = ()
    enter: tuple[Enter, ...] = ()


@dataclass(frozen=True, slots=True)
class Entered:
    """The result of one entry check."""

    pod: str
    container: str
    passed: bool | None  # None: it runs, or could not be run
    message: str = ""
    at: str = ""  # RFC 3339


@dataclass(frozen=True, slots=True)
class Finding:
    """What the runner knows of one AccuracyReport and the stored object may not say yet."""

    status: dict[str, object] = field(default_factory=dict)  # the report's status without `replicas` and `conditions`; {} = nothing new
    verified: tuple[str, str, str] = ("Unknown", "Running", "")  # status, reason, message of AccuracyVerified
    complete: tuple[str, str, str] = ("False", "Running", "")
    entered: tuple[Entered, ...] = ()
