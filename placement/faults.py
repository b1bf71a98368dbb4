"""What is wrong with a snapshot and a demand, in plain words: field, value, what is allowed. Nothing is guessed, clamped or dropped."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum
from functools import lru_cache

from placement.kinds import kind_faults
from placement.types import SNAPSHOT_VERSION, Cell, Demand, Model, ModelDemand, Node, Option, PlacementError, Policy, Replica, Snapshot

MAX_FAULTS = 5
HUGE = 10**9  # no count of devices, replicas or nodes is larger
LARGE = 1e15  # nor any rate or price
ROLES = ("decode", "prefill")  # of a split deployment, in the order of their buckets


def validated(snapshot: Snapshot, demand: Demand) -> None:
    """PlacementError with the first few faults."""
    faults = problems(snapshot, demand)
    if faults:
        more = f" (and {len(faults) - MAX_FAULTS} more)" if len(faults) > MAX_FAULTS else ""
        raise PlacementError("; ".join(faults[:MAX_FAULTS]) + more)


def problems(snapshot: Snapshot, demand: Demand) -> list[str]:
    """Every fault of the input; values of the wrong kind first and alone."""
    faults = kind_faults(snapshot, demand)
    if faults:
        return faults
    if snapshot.version != SNAPSHOT_VERSION:
        faults.append(f"snapshot.version: {snapshot.version}, this placer reads {SNAPSHOT_VERSION}")
    cells = {c.name: c for c in snapshot.cells}
    models = {m.name: m for m in snapshot.models}
    options = {o.id: o for o in snapshot.options}
    faults += _twice("cells", (c.name for c in snapshot.cells))
    faults += _twice("nodes", (n.name for n in snapshot.nodes))
    faults += _twice("models", (m.name for m in snapshot.models))
    faults += _twice("options", (o.id for o in snapshot.options))
    faults += _twice("replicas", (r.id for r in snapshot.replicas))
    faults += _twice("demand.models", (f"{d.model}/{d.role}" if d.role else d.model for d in demand.models))
    for cell in snapshot.cells:
        faults += _cell(cell)
    for node in snapshot.nodes:
        faults += _node(node, cells.get(node.cell))
    for model in snapshot.models:
        faults += _model(model)
    for option in snapshot.options:
        faults += _option(option, models)
    for replica in snapshot.replicas:
        faults += _replica(replica, models, options)
    faults += _demands(snapshot, demand, models)
    faults += _policy(snapshot.policy)
    return faults


def _cell(cell: Cell) -> list[str]:
    at = f"cells[{cell.name}]"
    faults = _whole(at, "sizes", cell.sizes, 1)
    if not faults and list(cell.sizes) != sorted(set(cell.sizes)):
        faults.append(f"{at}.sizes: {list(cell.sizes)}, must ascend without repeats")
    faults += _whole(at, "align_to", (cell.align_to,), 1)
    faults += _whole(at, "reserve_devices", (cell.reserve_devices,), 0)
    faults += _whole(at, "limit_devices", _given(cell.limit_devices), 0)
    faults += _whole(at, "per_node", _given(cell.per_node), 1)
    faults += _real(at, "cost_per_device_hour", cell.cost_per_device_hour)
    wrong = _whole(at, "ring", _given(cell.ring), 1)
    faults += wrong
    if cell.ring is not None and not wrong and not faults and cell.ring % cell.align_to:
        faults.append(f"{at}.ring: {cell.ring}, must be whole blocks of align_to {cell.align_to}")
    if cell.ring is not None and cell.per_node is not None and not faults and cell.ring < cell.per_node and cell.per_node % cell.ring:
        faults.append(f"{at}.ring: {cell.ring}, must divide per_node {cell.per_node}")
    return faults + _member(at, "stock", cell.stock)


def _node(node: Node, cell: Cell | None) -> list[str]:
    at = f"nodes[{node.name}]"
    faults: list[str] = []
    if not isinstance(node.name, str) or "," in node.name:
        faults.append(f"{at}.name: {node.name!r}, must have no comma (it joins the nodes of one replica)")
    if cell is None:
        faults.append(f"{at}.cell: {node.cell!r} is no cell of this snapshot")
    numbers = (("installed", node.installed), ("allocatable", node.allocatable), ("held_by_others", node.held_by_others))
    for name, value in numbers:
        faults += _whole(at, name, (value,), 0)
    if faults:
        return faults
    if node.allocatable > node.installed:
        faults.append(f"{at}.allocatable: {node.allocatable}, at most installed {node.installed}")
    faults += _whole(at, "free_blocks", _given(node.free_blocks), 0)
    if node.free_blocks is not None and not faults and cell is not None and isinstance(cell.align_to, int) and cell.align_to > 0:
        most = node.allocatable // cell.align_to
        if node.free_blocks > most:
            faults.append(f"{at}.free_blocks: {node.free_blocks}, at most {most} (allocatable {node.allocatable} / {cell.align_to})")
    if node.free_rings is not None:
        wrong = _whole(at, "free_rings", node.free_rings, 0)
        faults += wrong
        if not wrong:
            if sum(node.free_rings) > node.allocatable:
                faults.append(f"{at}.free_rings: {list(node.free_rings)}, in sum at most allocatable {node.allocatable}")
            rings = 1 if cell is None or not cell.ring else max(1, node.installed // cell.ring)
            if len(node.free_rings) != rings:
                faults.append(f"{at}.free_rings: {list(node.free_rings)}, must name {rings} rings (installed {node.installed})")
            if cell is not None and isinstance(cell.ring, int) and any(f > cell.ring for f in node.free_rings):
                faults.append(f"{at}.free_rings: {list(node.free_rings)}, each at most ring {cell.ring}")
    return faults


def _model(model: Model) -> list[str]:
    at = f"models[{model.name}]"
    faults = _whole(at, "priority", (model.priority,), -HUGE) + _whole(at, "min_replicas", (model.min_replicas,), 0)
    wrong = _whole(at, "max_replicas", (model.max_replicas,), 0)
    faults += wrong
    if not faults and model.max_replicas < model.min_replicas:
        faults.append(f"{at}.max_replicas: {model.max_replicas}, must be at least min_replicas {model.min_replicas}")
    faults += _whole(at, "min_vendors", (model.min_vendors,), 1)
    for name, share in (
        ("max_vendor_share_percent", model.max_vendor_share_percent),
        ("max_domain_share_percent", model.max_domain_share_percent),
    ):
        wrong = _whole(at, name, _given(share), 1)
        faults += wrong
        if not wrong and share is not None and share > 100:
            faults.append(f"{at}.{name}: {share}, allowed 1 to 100")
    if model.max_hourly_cost is not None:
        faults += _real(at, "max_hourly_cost", model.max_hourly_cost)
    return faults + _member(at, "spread", model.spread)


def _option(option: Option, models: dict[str, Model]) -> list[str]:
    faults: list[str] = []
    if option.model not in models:
        faults.append(f"options[{option.id}].model: {option.model!r} is no model of this snapshot")
    return faults + list(_of_option(option))


@lru_cache(maxsize=65536)
def _of_option(option: Option) -> tuple[str, ...]:
    """What is wrong with the option itself. Kept: most options are the same from snapshot to snapshot."""
    at = f"options[{option.id}]"
    faults: list[str] = []
    wrong = _whole(at, "devices", (option.devices,), 1) + _whole(at, "span", (option.span,), 1)
    faults += wrong
    if not wrong and option.devices % option.span:
        faults.append(f"{at}.devices: {option.devices}, must be a multiple of span {option.span} (each node gives as many)")
    if option.role not in ("", *ROLES):
        faults.append(f"{at}.role: {option.role!r}, allowed: empty, decode, prefill")
    for name in ("work_per_s", "kv_tokens", "start_seconds"):
        value = getattr(option, name)
        if value is not None:
            faults += _real(at, name, value)
    for rate in option.bucket_work:
        faults += _real(at, "bucket_work", rate)
    return tuple(faults)


def _replica(replica: Replica, models: dict[str, Model], options: dict[str, Option]) -> list[str]:
    at = f"replicas[{replica.id}]"
    faults: list[str] = []
    if replica.model not in models:
        faults.append(f"{at}.model: {replica.model!r} is no model of this snapshot")
    faults += _whole(at, "devices", (replica.devices,), 0) + _real(at, "busy", replica.busy)
    if replica.option is not None and (replica.option not in options or options[replica.option].model != replica.model):
        faults.append(f"{at}.option: {replica.option!r} is no option of {replica.model}; use null for one that no longer exists")
    names = replica.node.split(",")
    if len(names) > 1 and (names != sorted(set(names)) or not all(names)):
        faults.append(f"{at}.node: {replica.node!r}, several nodes must be distinct, sorted and joined by single commas")
    return faults + _member(at, "state", replica.state)


def _demands(snapshot: Snapshot, demand: Demand, models: dict[str, Model]) -> list[str]:
    faults: list[str] = []
    asked: dict[str, list[ModelDemand]] = {}
    for entry in demand.models:
        at = f"demand.models[{entry.model}{'/' if entry.role else ''}{entry.role}]"
        if entry.model not in models:
            faults.append(f"{at}: no such model in the snapshot")
        faults += _real(at, "work_per_s", entry.work_per_s) + _real(at, "kv_floor", entry.kv_floor)
        wrong = [fault for x in entry.bucket_work for fault in _real(at, "bucket_work", x)]
        faults += wrong
        if entry.bucket_work and not wrong and abs(entry.work_per_s - sum(entry.bucket_work)) > 1e-6 * max(1.0, sum(entry.bucket_work)):
            faults.append(f"{at}.work_per_s: {entry.work_per_s}, must be the sum of bucket_work {sum(entry.bucket_work)}")
        if entry.role not in ("", *ROLES):
            faults.append(f"{at}.role: {entry.role!r}, allowed: empty, decode, prefill")
        asked.setdefault(entry.model, []).append(entry)
    for name, entries in asked.items():
        roles = sorted(e.role for e in entries)
        if any(roles) and roles != list(ROLES):
            faults.append(f"demand.models[{name}]: roles {roles}, must be one entry for decode and one for prefill, or one without role")
        elif len({len(e.loads) for e in entries}) > 1:
            faults.append(f"demand.models[{name}].bucket_work: {[len(e.loads) for e in entries]} buckets, must be as many in both roles")
    for option in snapshot.options:
        entries = asked.get(option.model, [])
        split = any(e.role for e in entries)
        if bool(option.role) != split:
            text = "the demand names roles" if split else f"the demand names no {option.role}"
            faults.append(f"options[{option.id}].role: {option.role!r}, but {text}: either all options and entries of a model, or none")
        buckets = len(entries[0].loads) if entries else 1
        asks = any(e.bucket_work or e.work_per_s > 0 for e in entries)
        if option.bucket_work and asks and len(option.bucket_work) != buckets:
            faults.append(f"options[{option.id}].bucket_work: {len(option.bucket_work)} buckets, the demand has {buckets}")
    for model in snapshot.models:
        if model.same_network and not any(e.role for e in asked.get(model.name, [])):
            faults.append(f"models[{model.name}].same_network: true, but its demand has no roles")
    return faults


def _policy(policy: Policy) -> list[str]:
    faults = _real("policy", "min_saving_percent", policy.min_saving_percent)
    faults += _real("policy", "relative_gap", policy.relative_gap)
    faults += _real("policy", "start_price", policy.start_price)
    faults += _whole("policy", "max_moves", _given(policy.max_moves), 0)
    limit = policy.time_limit_s
    if not (isinstance(limit, int | float) and 0 < limit < math.inf):
        faults.append(f"policy.time_limit_s: {limit}, must be a finite number above 0")
    if policy.max_hourly_cost is not None:
        faults += _real("policy", "max_hourly_cost", policy.max_hourly_cost)
    for q in policy.quotas:
        faults += _whole(f"policy.quotas[{q.tenant}]", "devices", (q.devices,), 0)
    faults += _twice("policy.quotas", ("/".join((q.tenant, *sorted(set(q.profiles)))) for q in policy.quotas))
    return faults


def _twice(field: str, names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    again: list[str] = []
    for name in names:
        if name in seen:
            again.append(f"{field}: {name!r} appears twice, names must be unique")
        seen.add(name)
    return again


def _given(value: int | None) -> tuple[int, ...]:
    return () if value is None else (value,)


def _whole(at: str, name: str, values: tuple[int, ...], least: int) -> list[str]:
    faults = []
    for v in values:
        if not isinstance(v, int) or isinstance(v, bool) or v < least:
            faults.append(f"{at}.{name}: {v!r}, must be a whole number of at least {least}")
        elif v > HUGE:
            faults.append(f"{at}.{name}: {v!r}, must be a whole number of at most {HUGE}")
    return faults


def _real(at: str, name: str, value: float) -> list[str]:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= LARGE:
        return []
    return [f"{at}.{name}: {value!r}, must be a finite number of at least 0 and at most {LARGE:g}"]


def _member(at: str, name: str, value: object) -> list[str]:
    return [] if isinstance(value, Enum) else [f"{at}.{name}: {value!r}, must be one of its named values"]
