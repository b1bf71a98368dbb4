"""The values that cross the placer's border: Snapshot and Demand in, Plan and Warm out.

All are frozen; lists are tuples in a documented order, so that the same input gives the same bytes. Names are strings here
(they are Kubernetes names and serve as keys); inside the solver everything is an index, never user text.

Units: `devices` are schedulable units of the profile (910C: one die), money is per hour in the fleet's currency, rates are
work-seconds per second. `None` means unknown or unlimited, as each field says; unknown is never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from placement.result import Assignment as Assignment
from placement.result import LadderStep as LadderStep
from placement.result import Outcome as Outcome
from placement.result import Plan as Plan
from placement.result import PoolFree as PoolFree
from placement.result import Reason as Reason
from placement.result import Route as Route
from placement.result import RowPrice as RowPrice
from placement.result import Shortfall as Shortfall
from placement.result import ShortfallReason as ShortfallReason
from placement.result import Start as Start
from placement.result import Why as Why

SNAPSHOT_VERSION = 2


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


class Spread(StrEnum):
    """How a model's replicas are spread over failure domains."""

    NONE = "None"
    SOFT = "Soft"  # ties at node choice and among plans of equal money
    STRICT = "Strict"  # a rule: at most `Model.max_domain_share_percent` in one domain


@dataclass(frozen=True, slots=True)
class Cell:
    """A pool's nodes of one failure domain and one fast-network domain: one device type, one allocation rule."""

    name: str
    pool: str
    profile: str
    vendor: str
    sizes: tuple[int, ...]  # legal requests of one pod, ascending, under this pool's scheduler
    align_to: int = 1  # above size 1 a request takes whole aligned blocks of this many devices (A3: 2 dies = 1 card)
    ring: int | None = None  # devices of a ring: a request up to it stays in one ring (910A: 4, A2 Box16: 8); None = the node is one ring
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
    exact_nodes: bool = True  # enforcement: Node; off = the pool's own scheduler chooses nodes, and nobody moves out of it for money


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    cell: str
    installed: int  # capacity of the node, withdrawn devices included
    allocatable: int
    held_by_others: int  # devices held by unfinished pods that are no `Replica` of this snapshot
    free_rings: tuple[int, ...] | None = None  # free devices per ring if readable; None = derive (all free or none)
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
    devices: int  # per replica, over all its nodes
    pools: tuple[str, ...] = ()  # allow-list of pools; empty = every pool of the profile
    excluded_pools: tuple[str, ...] = ()
    span: int = 1  # nodes of one replica; above 1 it takes `span` whole nodes of one network domain
    role: str = ""  # of a split deployment: "prefill" or "decode"; "" = serves whole requests
    work_per_s: float | None = None  # capacity of one replica at the SLO; None = unknown (only fixed sizes can use it)
    bucket_work: tuple[float, ...] = ()  # the same per length bucket, 0 = cannot serve it; empty = `work_per_s` in each
    kv_tokens: float | None = None
    start_seconds: float | None = None
    eligible: bool = True  # verdict Promote, or a gate that does not block
    evidence: str = "Estimated"

    def rates(self, buckets: int) -> tuple[float, ...]:
        """Work/s of one replica per bucket; 0 where it serves nothing or nothing is known."""
        return self.bucket_work or (self.work_per_s or 0.0,) * buckets


@dataclass(frozen=True, slots=True)
class Model:
    name: str  # namespace/name
    priority: int = 0
    min_replicas: int = 1
    max_replicas: int = 1
    min_vendors: int = 1
    max_vendor_share_percent: int | None = None
    max_hourly_cost: float | None = None
    spread: Spread = Spread.SOFT
    max_domain_share_percent: int = 50  # with STRICT: replicas in one failure domain <= 1 - a + a * replicas
    tenant: str = ""  # whose quotas count this model's devices
    preemptable: bool = True  # may lose replicas for a higher priority
    same_network: bool = False  # split deployment: prefill and decode share each network domain
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
    resident: bool = False  # younger than `stability.minResidence`: not moved for money
    busy: float = 0.0  # requests in flight, for the order of stops among equals; 0 on all of a model's = nobody has counted


@dataclass(frozen=True, slots=True)
class Quota:
    """Devices that one tenant's models may hold together."""

    tenant: str
    devices: int
    profiles: tuple[str, ...] = ()  # empty = devices of every profile
    borrow: bool = False  # may use what other tenants' quotas of the same profiles leave idle, until they want it


@dataclass(frozen=True, slots=True)
class Policy:
    objective: str = "MinCost"
    max_hourly_cost: float | None = None
    min_saving_percent: float = 5.0
    start_price: float = 1.0  # kappa: a start costs kappa * its price per hour * start seconds / 1800 s
    max_moves: int | None = None  # moves left in this hour
    quotas: tuple[Quota, ...] = ()
    time_limit_s: float = 10.0
    relative_gap: float = 0.0001
    preemption: bool = True  # a running replica may be stopped for a higher priority
    defragment: bool = False  # running replicas may move to other nodes of their cell so that a size fits that is short


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
    work_per_s: float = 0.0  # over all buckets
    bucket_work: tuple[float, ...] = ()  # per length bucket; empty = one bucket with `work_per_s`
    role: str = ""  # one entry per role of a split deployment
    kv_floor: float = 0.0  # tokens of KV cache that the replicas must hold together
    may_shrink: bool = True  # False: never less work than runs; never fewer replicas where the work of some is not known
    reason: str = "FixedSize"

    @property
    def loads(self) -> tuple[float, ...]:
        """Work per bucket."""
        return self.bucket_work or (self.work_per_s,)


@dataclass(frozen=True, slots=True)
class Demand:
    models: tuple[ModelDemand, ...] = ()


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to try, in steps and not in seconds, so that the same input gives the same plan on any machine."""

    mip_nodes: int = 1000  # branch-and-bound nodes of one solve; the exactness tests need fewer than 200
    exact_size: int = 600  # integers up to which the whole fleet is solved in the general form
    rounds: int = 60  # of column generation
    refine_rounds: int = 8
    dive_steps: int = 200
    neighbourhoods: int = 4  # polish steps of a fleet of up to 100 models
    large_neighbourhoods: int = 2  # of a larger one, while somebody is short: each costs a second or more
    deep_rounds: int = 0  # rounds of exact pricing; above 0 the true bound is known
    ladder: bool = True
    explain: bool = True  # why each profile was taken or not, what is missing and why


DEFAULT = Effort()
DEEP = Effort(neighbourhoods=60, large_neighbourhoods=40, deep_rounds=12)


@dataclass(frozen=True, slots=True)
class Warm:
    """What a later solve may start from. `prices` and `covered` are data (a live decision is replayed with them); the cache is not."""

    prices: tuple[RowPrice, ...] = ()
    covered: tuple[ModelDemand, ...] = ()  # the demand that the standing plan was made for
    version: int = 1
    cache: object | None = field(default=None, compare=False, repr=False)  # columns in memory only, never written or sent


class PlacementError(ValueError):
    """Bad input to the placer: names the field, the value and what is allowed."""
