"""Everything that a run leaves behind, as one value: complete enough that its verdict can be computed again from it alone.

It names no address and holds no token: what is shown to a colleague must not open a door. Texts of prompts are not in it, and an
output only where the run was allowed to quote (`Worst.output`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from accuracy.layout import RULES
from accuracy.policy import Policy
from accuracy.types import Capabilities, Condition, Cost, Decision, Fingerprint, Mode, Sample, Suspect

VERSION = 1
MOST_WORST = 10  # items that a report names at most
MOST_OUTPUT = 400  # characters of a quoted output


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared. `name` is a label ("reference", "huawei-910c-752"), never an address."""

    name: str
    model: str = ""  # as the endpoint calls it
    fingerprint: Fingerprint = field(default_factory=Fingerprint)


@dataclass(frozen=True, slots=True)
class Worst:
    """One of the worst items: where the sides differ most."""

    item: str
    position: int | None = None  # in the continuation, from 0; None: the whole item
    kl: float = 0.0  # at that position, nats
    output: str = ""  # what the candidate said there, truncated; "" = not quoted


@dataclass(frozen=True, slots=True)
class Report:
    """One run. `samples` are in the order in which the decision read them; `gates` of the decision are those at its end."""

    made: str  # RFC 3339, UTC
    decision: Decision
    policy: Policy
    reference: Side
    candidate: Side
    golden: tuple[tuple[str, str, int], ...] = ()  # (name, digest, items) of each set
    mode: Mode | None = None  # None: the run ended before one was chosen
    declared: str = ""  # "bf16 -> w8a8"; "" = nothing is declared
    strata: tuple[tuple[str, int], ...] = ()  # (stratum, items that were planned), which the tests were laid out for
    noise: tuple[tuple[str, float | None, float | None], ...] = ()  # (stratum, mean KL, mean squared difference) of the reference's own
    samples: tuple[Sample, ...] = ()
    uncovered: tuple[str, ...] = ()  # what the run does not speak about, a sentence each
    suspects: tuple[Suspect, ...] = ()
    worst: tuple[Worst, ...] = ()
    cost: tuple[Cost, Cost] = (Cost(), Cost())  # reference, candidate
    capabilities: tuple[Capabilities, Capabilities] = (Capabilities(), Capabilities())  # reference, candidate
    own_reference: bool = False  # the candidate is the reference hardware or its stand-in: judged by its consistency with itself
    top_k: int = 0  # alternatives per position that both sides were asked for; 0 or 1: only the golden token's
    replicas: tuple[str, ...] = ()  # names of the candidate's replicas
    record_digest: str = ""  # of the stored form of the reference record; "" = it was not stored
    seed: int = 0
    version: int = VERSION
    conditions: tuple[Condition, ...] = ()  # of all prompts that were planned: the tests of the design's margins were laid out for them
    exhausted: bool = False  # nothing was left to ask when the decision fell
    rules: int = RULES  # `accuracy.layout`: what the samples were judged by
