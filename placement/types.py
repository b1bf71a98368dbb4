"""The values that cross the placer's border: Snapshot and Demand in, Plan and Warm out.

All are frozen; lists are tuples in a documented order, so that the same input gives the same bytes. Names are strings here
(they are Kubernetes names and serve as keys); inside the solver everything is an index, never user text.

Units: `devices` are schedulable units of the profile (910C: one die), money is per hour in the fleet's currency, rates are
work-seconds per second. `None` means unknown or unlimited, as each field says; unknown is never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

SNAPSHOT_VERSION = 1


class Stock(StrEnum):
    """What is known of a cell's devices (three states: a node that is out counts through `Node.eligible`)."""

    KNOWN = "Known"
    UNKNOWN = "Unknown"  # list forbidden or failed: nothing there grows or shrinks


class ReplicaState(StrEnum):
    """Where a replica that already exists stands."""

    PENDING = "Pending"  # has devices reserved on a node (pinned), but is not bound yet
    STARTING = "Starting"  # bound, not serving yet
    SERVING = "Serving"
    DRAINING = "Draining"  # holds its devices, counts as no replica


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
class Cell:
    """A pool's nodes of one failure domain and one fast-network domain: one device type, one allocation rule."""

    name: str
    pool: str
    profile: str
    vendor: str
    sizes: tuple[int, ...]  # legal requests of one pod, ascending, under this pool's scheduler
    align_to: int = 1  # above size 1 a request takes whole aligned blocks of this many devices (A3: 2 dies = 1 card)
    per_node: int | None = None  # devices of a full node
    whole_node_only: bool = False  # above size 1 only whole nodes (A3 under the default scheduler)
    cost_per_device_hour: float = 0.0
    failure_domain: str = ""
    network_domain: str = ""
    limit_devices: int | None = None  # of the POOL, over all its cells; None = no limit
    reserve_devices: int = 0  # of the POOL, kept free
    schedulable: bool = True  # False = the pool is cordoned by its owner: no new replica, running ones stay
    stock: Stock = Stock.KNOWN
    shared: bool = False  # time-sliced or sliced devices: only for models with `shared_ok`
    exact_nodes: bool = True  # enforcement: Node


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    cell: str
    installed: int  # capacity of the node, withdrawn devices included
    allocatable: int
    held_by_others: int  # devices held by unfinished pods that are no `Replica` of this snapshot
    eligible: bool = True  # may take new replicas
    excluded_reason: str = ""  # NotReady, Cordoned, Tainted, DevicesMissing, DevicesWithdrawn, SharedDevices, ...
    free_blocks: int | None = None  # complete free aligned blocks if readable; None = derive (all free or none)


@dataclass(frozen=True, slots=True)
class Option:
    """One way to run one replica of a model: profile, variant, engine and size."""

    id: str
    model: str
    profile: str
    vendor: str
    variant: str
    engine: str
    devices: int  # per replica; on one node (span 1)
    pools: tuple[str, ...] = ()  # allow-list of pools; empty = every pool of the profile
    excluded_pools: tuple[str, ...] = ()
    work_per_s: float | None = None  # capacity of one replica at the SLO; None = unknown (only fixed sizes can use it)
    kv_tokens: float | None = None
    start_seconds: float | None = None
    eligible: bool = True  # verdict Promote, or a gate that does not block
    evidence: str = "Estimated"


@dataclass(frozen=True, slots=True)
class Model:
    name: str  # namespace/name
    priority: int = 0
    min_replicas: int = 1
    max_replicas: int = 1
    min_vendors: int = 1
    max_vendor_share_percent: int | None = None
    max_hourly_cost: float | None = None
    tenant: str = ""
    shared_ok: bool = False
    restricted: bool = False  # the user's allow-lists leave pools out (tells PoolRestricted from DevicesUnavailable)
    hold: bool = False  # sizes held and never grown (object invalid under today's rules, or paused)


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica that exists: its devices are held on `node` until it is gone."""

    id: str
    model: str
    option: str | None  # None: its option no longer exists; it counts and is kept, never grown
    node: str
    devices: int
    state: ReplicaState = ReplicaState.SERVING
    age_order: int = 0  # larger = younger; ties by id


@dataclass(frozen=True, slots=True)
class Policy:
    objective: str = "MinCost"
    max_hourly_cost: float | None = None
    min_saving_percent: float = 5.0
    max_moves: int | None = None
    time_limit_s: float = 10.0
    relative_gap: float = 0.0001
    preemption: bool = True  # a running replica may be stopped for a higher priority


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the placer may look at. Tuples are sorted by name (id); `normalised()` in `placement.snapshot` does it."""

    cells: tuple[Cell, ...]
    nodes: tuple[Node, ...]
    models: tuple[Model, ...]
    options: tuple[Option, ...]
    replicas: tuple[Replica, ...] = ()
    policy: Policy = field(default_factory=Policy)
    version: int = SNAPSHOT_VERSION


@dataclass(frozen=True, slots=True)
class ModelDemand:
    """What one model needs. A fixed size has work 0 and min = max replicas."""

    model: str
    work_per_s: float = 0.0
    may_shrink: bool = True
    reason: str = "FixedSize"


@dataclass(frozen=True, slots=True)
class Demand:
    models: tuple[ModelDemand, ...] = ()


@dataclass(frozen=True, slots=True)
class Assignment:
    """`replicas` of one option on one node."""

    model: str
    option: str
    cell: str
    node: str
    replicas: int


@dataclass(frozen=True, slots=True)
class Start:
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


@dataclass(frozen=True, slots=True)
class Why:
    """Why one option's profile was taken or not, for `placements[].reason` and `rejected[]`."""

    model: str
    profile: str
    pool: str  # "" = the whole profile
    reason: str
    message: str


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


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to try, in steps and not in seconds, so that the same input gives the same plan on any machine."""

    mip_nodes: int = 1000  # branch-and-bound nodes of one solve; the exactness tests need fewer than 200


DEFAULT = Effort()


@dataclass(frozen=True, slots=True)
class Warm:
    """State that a later solve may start from. Empty in the first placer."""

    version: int = 1


class PlacementError(ValueError):
    """Bad input to the placer: names the field, the value and what is allowed."""
