"""What a cycle sees of the autoscaler: per model the demand in force, what is told of it, and hardware that is not used for a while."""

from __future__ import annotations

from dataclasses import dataclass

from autoscaling.types import Costs, Demand, MetricState


@dataclass(frozen=True, slots=True)
class Reference:
    """The unit of a model's work: what a token costs, in seconds of a busy replica of the reference option. It is kept for the life of the
    model, so that a number of yesterday means the same today."""

    option: str
    costs: Costs
    basis: str  # how the costs of prompt and output were told apart: entries | estimator | default


@dataclass(frozen=True, slots=True)
class Told:
    """`status.autoscaler`: the last decision. It changes on decisions and never on samples."""

    direction: str  # Up | Down | Hold
    reason: str  # `autoscaling.types.Why`
    text: str  # the numbers of the moment
    at: str  # RFC 3339
    first: bool = False  # this process has decided nothing yet: what an earlier one told stands


@dataclass(frozen=True, slots=True)
class Exhausted:
    """A pool that did not give an option the devices it promised: nothing of it starts there until `until`."""

    option: str
    pool: str
    until: str  # RFC 3339
    why: str  # the scheduler's words


@dataclass(frozen=True, slots=True)
class Force:
    """Of one model; `Observed.scaling` has it under the model's key. Equal values cause no cycle, so nothing in it moves with a sample."""

    demand: Demand  # its live numbers are those of `since`
    since: str  # when work, bounds or `may_shrink` changed last, RFC 3339
    told: Told | None = None
    metrics: MetricState | None = None  # as told: a reading that fails once is no news. None: not read for long enough to say anything
    metrics_text: str = "the load was not read yet"
    stale: bool = False  # there was a reading once: what is unknown is MetricsStale and not MetricsMissing
    second: bool = False  # the load of some replicas is read from Prometheus, as they do not answer themselves
    too_fast: str = ""  # bursts are shorter than a cold start: the sentence for condition Degraded
    reference: Reference | None = None
    exhausted: tuple[Exhausted, ...] = ()
    starts: tuple[tuple[str, float], ...] = ()  # option -> P90 of its cold start with the entry check, s
    cache: tuple[tuple[str, float], ...] = ()  # option -> tokens of KV cache of one replica, as its engine says; options that ran only
    busy: tuple[tuple[str, float], ...] = ()  # pod uid -> requests in flight when it was decided to shrink: who leaves first
    wake_s: float | None = None  # P90 of the quickest option: what a request at zero waits for
    slowest_s: float | None = None  # P95 of the slowest option: for how long a request at zero must be held
    awake: str = ""  # why a model that may sleep would not, whoever is there
    wake_fault: str = ""  # why scale to zero is refused: it takes longer than `maxWakeSeconds`
    conflict: str = ""  # who else writes the sizes of the children; while it is set nothing is scaled
