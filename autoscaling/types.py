"""The values that cross the autoscaler's border: what is seen of one model (`Look`) in, what it needs (`Demand`) out.

All are frozen. Times are seconds since 1970 from the injected clock, never this room's own. Work is in reference work-seconds: a
replica on the reference option that is busy all the time supplies 1.0 work/s, so work/s is "replicas of the reference option". Tokens
and requests are counters as the engines publish them. None means unknown, as each field says; unknown is never zero, and a true zero is
a number that was read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class ReplicaState(StrEnum):
    """Where a replica stands, as the autoscaler counts it."""

    LOADING = "Loading"  # on its way: counts as capacity that is coming
    READY = "Ready"  # serves
    DRAINING = "Draining"  # leaves: counts nothing, its load still counts as load
    CANDIDATE = "Candidate"  # under test, no verdict or entry check yet: counts nothing
    STUCK = "Stuck"  # not schedulable, or its image cannot be pulled, for too long: counts nothing and blocks nothing


class MetricState(StrEnum):
    """What is known of the load of a model."""

    VALUE = "Value"
    ZERO = "Zero"  # a true zero: counters present, fresh and flat, nothing runs and nothing waits
    PARTIAL = "Partial"  # some replicas unread, their part imputed
    UNKNOWN = "Unknown"
    FALLBACK = "Fallback"  # unknown for so long that `Fallback` applies
    RECOVERING = "Recovering"  # known again, windows not full yet: nothing goes down


class Direction(StrEnum):
    UP = "Up"
    DOWN = "Down"
    HOLD = "Hold"


class Why(StrEnum):
    """Machine-readable reason of a decision. Part of the interface: dashboards and alerts name them."""

    WITHIN_BAND = "WithinBand"  # capacity fits the need
    NEED_ABOVE_CAPACITY = "NeedAboveCapacity"
    STEP = "Step"  # the load jumped, and is followed at once
    BACKLOG = "Backlog"  # requests wait that the capacity will not clear in time
    SLO_GUARD = "SloGuard"  # the replicas say that they are overloaded, whatever the model says
    BURST_FLOOR = "BurstFloor"  # bursts shorter than a cold start: the floor that met the SLO lately
    SEASON = "Season"  # the same time of earlier days
    CRON_FLOOR = "CronFloor"
    MINIMUM = "Minimum"
    MAXIMUM = "AtMaximum"
    NEED_BELOW_CAPACITY = "NeedBelowCapacity"
    IDLE = "Idle"  # a true zero for `idle_after_s`: to zero
    WAKE = "Wake"  # something waits at zero
    # Hold, although the need is lower:
    WINDOW = "WindowNotOver"  # the need was higher within the scale-down window
    FIRST_WINDOW = "FirstWindow"  # just started or recovered: nothing goes down before the first window is full
    LOADING = "ReplicaLoading"
    EVENT_BUDGET = "EventBudget"
    CONSOLIDATION = "Consolidation"  # those who stay could not take over what waits and what is cached
    TOO_FEW_FRESH = "TooFewFresh"  # fewer than half of the replicas were read
    UNKNOWN_LOAD = "UnknownLoad"
    FALLBACK = "MetricsFallback"
    UNKNOWN_STOCK = "InventoryUnknown"


class Slice(StrEnum):
    """Role of the replicas of a split deployment; WHOLE serves requests from end to end."""

    WHOLE = ""
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Histogram:
    """Cumulative counts at ascending upper bounds in seconds; the last bound is infinity."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total: float  # sum of the observed values, s


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of one replica. Counters are since the engine's start; each field None if the engine does not publish it or the value
    was no finite number >= 0."""

    at: float  # stamp of the reading
    arrived: float | None = None  # requests that came in (counter); None where only `finished` is published
    finished: float | None = None  # requests that ended (counter)
    running: float | None = None
    waiting: float | None = None
    prompt_tokens: float | None = None  # prompt tokens processed (counter)
    output_tokens: float | None = None  # tokens generated (counter)
    cached_tokens: float | None = None  # prompt tokens found in the prefix cache (counter)
    queried_tokens: float | None = None  # prompt tokens looked up in it (counter)
    kv_used: float | None = None  # 0 to 1
    kv_capacity: float | None = None  # tokens
    ttft: Histogram | None = None
    itl: Histogram | None = None
    checker_requests: float | None = None  # of `arrived` or `finished`: the accuracy checker's own (counter), counted by the checker
    checker_prompt_tokens: float | None = None
    checker_output_tokens: float | None = None
    uncounted: bool = False  # the engine has no counter of requests: its tokens say whether somebody came
    every: float | None = None  # s between readings, where the source reads less often than the tick; None = it is read at every tick

    @property
    def counted(self) -> float | None:
        """Requests that have come in: published, else those that ended and those that are inside."""
        if self.arrived is not None:
            return self.arrived
        if self.finished is None or self.running is None or self.waiting is None:
            return None
        return self.finished + self.running + self.waiting

    @property
    def inside(self) -> float | None:
        """Requests in flight."""
        return None if self.running is None or self.waiting is None else self.running + self.waiting


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the gateway or the activator counts for the model, waiting and rejected requests included."""

    at: float
    arrived: float | None  # requests (counter)
    prompt_tokens: float | None = None  # of those requests (counter); None = not counted
    waiting: float | None = None  # requests held because nothing serves
    waiting_prompt_tokens: float | None = None
    only_at_zero: bool = False  # it stands in the way only while nothing serves: where replicas serve, their own counters count
    holds_s: float | None = None  # how long it promises to hold a request; None = it promises nothing


@dataclass(frozen=True, slots=True)
class Replica:
    id: str
    option: str  # of the placer: profile, variant, engine, size
    state: ReplicaState
    work_per_s: float | None  # what it supplies by the profile's data; None = unknown, counts as nothing
    since: float  # when it entered `state`
    eta: float | None = None  # of LOADING: when it is expected to serve; None = not known
    sample: Sample | None = None  # the newest reading, whatever its age
    failed: str = ""  # why the last poll gave no sample
    hourly_cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Costs:
    """Work of a token in reference work-seconds: one pair per (model, length bucket)."""

    prompt: float
    output: float

    def of(self, prompt_tokens: float, output_tokens: float) -> float:
        return self.prompt * prompt_tokens + self.output * output_tokens


@dataclass(frozen=True, slots=True)
class Slo:
    """The user's goal, and the only setting that the policy's head-room follows."""

    ttft_s: float | None = None  # None: `DEFAULT_TTFT_S` stands in for it
    itl_s: float | None = None
    percentile: float = 95.0
    slo_class: str = "Standard"  # Strict | Standard | Batch


@dataclass(frozen=True, slots=True)
class FallbackRule:
    replicas: int
    failure_threshold: int = 3
    behavior: str = "CurrentReplicasIfHigher"  # Static | CurrentReplicas | CurrentReplicasIfHigher


@dataclass(frozen=True, slots=True)
class SleepRule:
    """Scale to zero."""

    idle_after_s: float = 1800.0
    max_wake_s: float | None = None


@dataclass(frozen=True, slots=True)
class CronFloor:
    """An interval already worked out from the schedule: the floor holds while `begin <= now < end`."""

    begin: float
    end: float
    min_replicas: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one model. Bounds are counts of replicas and are enforced by the placer; the decision knows them to say what binds."""

    min_replicas: int = 1
    max_replicas: int = 1
    slo: Slo = Slo()
    metric: str = "Work"  # Work | RequestRate | InFlight | KVCacheUse
    target_per_replica: float | None = None  # of the metric, for one reference replica
    down_window_s: float | None = None  # None = max(180 s, 1.5 x horizon)
    down_events_per_hour: int | None = 6  # None = no limit
    up_window_s: float = 0.0
    up_events_per_hour: int | None = None
    fallback: FallbackRule | None = None
    sleep: SleepRule | None = None
    floors: tuple[CronFloor, ...] = ()
    burst_quantile: float | None = None  # FleetPolicy classes[].burstQuantile where somebody set it; None = floor by backtest
    utilization: float | None = None  # FleetPolicy classes[].utilization where somebody set it; None = from the load's own volatility
    max_horizon_s: float = 240.0  # bounds the extrapolation only
    hold_unknown_s: float = 300.0
    tick_s: float = 10.0
    prompt_tokens: float | None = None  # of a mean request, as the workload is stated: until requests were seen
    output_tokens: float | None = None
    progress_deadline_s: float = 1800.0  # a replica that loads for longer does not keep others from being stopped


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that `decide` may see of one model and role at one tick. `replicas` in any order."""

    now: float
    model: str  # namespace/name
    settings: Settings
    costs: Costs
    replicas: tuple[Replica, ...]
    gateway: Gateway | None = None
    role: Slice = Slice.WHOLE
    start_s: tuple[tuple[str, float], ...] = ()  # option -> P90 of its cold start, s; options that may be started only
    stock_known: bool = True  # False: the inventory cannot be read, so nothing grows and nothing shrinks
    smallest_stop: float | None = None  # work/s that the fleet loses with the next replica less, by the plan's ladder; None = the mean
    wake_s: float | None = None  # P95 of the slowest option's cold start, s: what a request at zero may wait for; None = not known
    season: float | None = None  # work/s at this time of earlier days, while its backtest wins; it may only raise
    aimed: int | None = None  # replicas that were aimed at last; fewer than run = a move brings new ones before the old ones go


@dataclass(frozen=True, slots=True)
class Demand:
    """What one model needs, as one number per length bucket that the placer covers, with its reason.

    `work_per_s` is held between decisions: it changes only on Up and Down, so an unchanged load gives an unchanged plan."""

    model: str
    role: Slice
    work_per_s: float  # that the placer covers
    bucket_work: tuple[float, ...]  # the same per length bucket; empty = one bucket
    min_replicas: int  # effective: `Settings.min_replicas`, cron floors, fallback; holds whatever the metrics say
    max_replicas: int
    may_shrink: bool  # False: the placer keeps at least the work of what runs, and its number where some of it has no known work
    kv_floor: float  # tokens of KV cache that must stay
    direction: Direction
    reason: Why
    message: str  # the numbers, for a person
    metrics: MetricState
    now_work: float | None  # measured level, work/s; None = unknown
    high_work: float | None  # with head-room: what a new fleet would be made for
    floor_work: float  # burst floor, season, cron: not below this
    ready_work: float  # capacity, work/s
    pending_work: float
    backlog_work: float | None  # work that waits, work-seconds
    horizon_s: float  # until a replica that is asked for now serves
    too_fast: str = ""  # not "": bursts are shorter than a cold start; the sentence for condition Degraded
    awake: str = ""  # why a model that may sleep would not, whoever is there: nobody would wake it in time; "" = nothing speaks against it
    prefill_ratio: tuple[float, float] | None = None  # reserved for split deployments: allowed prefill : decode, lowest and highest


@dataclass(frozen=True, slots=True)
class Decision:
    """One tick of one model: the demand, and what the next tick must be given. `learned_changed`: what survives a restart moved by more
    than 5 %, so it is worth writing."""

    demand: Demand
    memory: object  # `autoscaling.memory.Memory`
    learned_changed: bool = False
    extra: dict[str, float] = field(default_factory=dict)  # named intermediate values, for plots and `explain`; no decision rests on it
