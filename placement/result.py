"""The parts of a plan. Everything here is also in `placement.types`, which is where to import it from.

Frozen; lists are tuples in a documented order. Units as in `placement.types`: devices are schedulable units of the profile, money is per
hour in the fleet's currency, rates are work-seconds per second. `None` means unknown; unknown is never zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why replicas are missing, in the order of precedence that status uses (interface: condition `Placed`)."""

    NEVER_FITS = "NeverFits"
    POOL_RESTRICTED = "PoolRestricted"
    SHARED_DEVICES = "SharedDevices"
    BUDGET_EXCEEDED = "BudgetExceeded"
    QUOTA_EXCEEDED = "QuotaExceeded"
    SPREAD_UNSATISFIED = "SpreadUnsatisfied"
    SLO_UNREACHABLE = "SloUnreachable"
    DEVICES_UNAVAILABLE = "DevicesUnavailable"
    POOL_CORDONED = "PoolCordoned"
    SOLVER_TIMEOUT = "SolverTimeout"
    INVENTORY_UNKNOWN = "InventoryUnknown"
    NO_OPTION = "NoOption"  # the model has no compatible option; ProfilesResolved says why


class Outcome(StrEnum):
    OPTIMAL = "Optimal"
    FEASIBLE = "Feasible"  # a limit was reached; the gap is known
    GREEDY = "Greedy"  # no solver worked
    KEPT_OLD = "KeptOld"  # the new plan did not earn its moves, or could not be realised as a whole


@dataclass(frozen=True, slots=True)
class Assignment:
    """`replicas` of one option on one node; over several nodes (`Option.span`) `node` is their sorted names joined by commas."""

    model: str
    option: str
    cell: str
    node: str
    replicas: int


@dataclass(frozen=True, slots=True)
class Start:
    """A replica to start. `node` as in `Assignment`; so are `Replica.node` and `LadderStep.node`."""

    model: str
    option: str
    cell: str
    node: str
    after: tuple[str, ...] = ()  # replica ids whose devices must be free first


@dataclass(frozen=True, slots=True)
class PoolFree:
    """Numbers behind a shortfall, per pool."""

    pool: str
    need: int
    largest_free: int
    total_free: int
    largest_installed: int


@dataclass(frozen=True, slots=True)
class ShortfallReason:
    reason: Reason
    pools: tuple[str, ...] = ()
    missing: int = 0
    largest_free: int | None = None
    total_free: int | None = None
    message: str = ""
    hint: str = ""
    free: tuple[PoolFree, ...] = ()


@dataclass(frozen=True, slots=True)
class Shortfall:
    model: str
    replicas: int  # missing
    reasons: tuple[ShortfallReason, ...]  # by precedence, at most 8
    unmet_share: float = 0.0  # of the work that some option serves, 0 to 1


@dataclass(frozen=True, slots=True)
class Why:
    """Why one option's profile was taken or not, for `placements[].reason` and `rejected[]`."""

    model: str
    profile: str
    pool: str  # "" = the whole profile
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Route:
    """The share of one bucket of a model's work that an option takes: the proof that the replicas cover the demand."""

    model: str
    role: str
    bucket: int
    option: str
    share: float
    network: str = ""  # with `same_network`: the network domain of the replicas that take it


@dataclass(frozen=True, slots=True)
class RowPrice:
    """A row of the program that binds, with the price of one more unit in its LP relaxation (money per hour).

    Names: `bins/CELL/SIZE`, `limit/POOL`, `reserve/POOL`, `quota/TENANT[/PROFILE,...]`, `budget`, `moves`.
    """

    name: str
    slack: float
    price: float


@dataclass(frozen=True, slots=True)
class LadderStep:
    """The next replica more (+1) or less (-1) of a model, prepared so that scaling needs no solver."""

    model: str
    delta: int
    option: str
    cell: str
    node: str
    replica: str  # the one to stop; "" for a start
    work_per_s: float
    hourly_cost: float
    eta_seconds: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    assignments: tuple[Assignment, ...]  # the whole target, kept replicas included
    keep: tuple[str, ...]  # replica ids
    stop: tuple[str, ...]  # replica ids, in the order to stop
    starts: tuple[Start, ...]  # in the order to start
    shortfalls: tuple[Shortfall, ...]
    why: tuple[Why, ...]
    outcome: Outcome
    solver: str  # HiGHS, CBC, Greedy
    hourly_cost: float
    objective: float
    bound: float | None  # valid for all plans; None = none known
    gap: float | None  # relative, 0.0 = proven
    decided_by: str = "Effort"  # or Deadline
    message: str = ""
    engine: str = "General"  # General, Columns, Greedy
    pool_gap: float | None = None  # to the enumerated columns only: for logs, never published as the gap
    moves: int = 0  # replicas that stop while their model starts others
    routes: tuple[Route, ...] = ()  # for models with more than one bucket
    rows: tuple[RowPrice, ...] = ()  # that bind, highest price first
    ladder: tuple[LadderStep, ...] = ()
