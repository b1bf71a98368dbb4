"""`polyfleet usage`: what the fleet as it stands is used for, by model and device type, and what one vendor alone would do.

The fleet comes as for `plan`. Capacity is that of the replicas which serve; load is `spec.workload.requestRate` where it is stated, or the
demand of a bare placement snapshot. Counterfactuals are plans of the operator's own placer over the pools of one vendor: the demand is the
same, rules that one vendor cannot keep (`minVendors`, shares) are lifted and said, and what runs elsewhere counts as gone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import placement
from autoscaling.usage import HOUR_S, Alternative, Holding, Interval, Stock, Usage, usage
from placement.types import Cell, ModelDemand, Node, PlacementError, ReplicaState, Snapshot
from placement.types import Stock as Known
from polyfleet.cli.planning import Planned, solve
from polyfleet.cli.source import Situation
from polyfleet.cli.text import WIDTH, Column, Style, markdown, money, plain, table, wrap

TOKENS, WORK = "tok/s", "work/s"


def of_situation(situation: Situation, *, counterfactual: bool = True) -> tuple[Usage, dict[str, str]]:
    """The report and the unit of each model's work."""
    snapshot = situation.snapshot
    units, holdings = _holdings(situation)
    load = tuple((model.name, _load(situation, model.name)) for model in snapshot.models)
    others = alternatives(solve(situation)) if counterfactual else ()
    return usage([Interval(HOUR_S, holdings, load)], stock(situation), others), units


def _holdings(situation: Situation) -> tuple[dict[str, str], tuple[Holding, ...]]:
    snapshot = situation.snapshot
    cells = {cell.name: cell for cell in snapshot.cells}
    cell_of = {node.name: cells[node.cell] for node in snapshot.nodes if node.cell in cells}
    rates: dict[str, float | None] = {}
    units = {model.name: WORK for model in snapshot.models}
    for option in snapshot.options:
        rates[option.id] = option.work_per_s
        view = situation.inputs.models.get(option.model) if situation.inputs is not None else None
        if view is not None:
            units[option.model] = TOKENS
            resolved = view.resolution.option(option.id)
            rates[option.id] = (
                resolved.performance.output_tokens_per_s if resolved is not None and resolved.performance is not None else None
            )
    found: list[Holding] = []
    for item in snapshot.replicas:
        cell = cell_of.get(item.node.split(",")[0])
        serves = item.state is ReplicaState.SERVING
        rate = rates.get(item.option or "") if serves else 0.0
        cost = cell.cost_per_device_hour * item.devices if cell is not None else 0.0
        vendor, profile, pool = (cell.vendor, cell.profile, cell.pool) if cell is not None else ("?", "?", "?")
        found.append(Holding(item.model, vendor, profile, pool, 1, item.devices, cost, rate))
    return units, tuple(found)


def _load(situation: Situation, model: str) -> float | None:
    """What arrives, in the unit of the model's capacity; None = nobody stated it."""
    view = situation.inputs.models.get(model) if situation.inputs is not None else None
    if view is None:
        found = [item.work_per_s for item in situation.demand.models if item.model == model and item.work_per_s > 0]
        return sum(found) if found else None
    if view.spec is None or view.spec.workload.request_rate is None:
        return None
    return float(view.spec.workload.request_rate) * view.spec.workload.output_tokens


def stock(situation: Situation) -> tuple[Stock, ...]:
    """Devices by pool. A device is stranded where no option of any model could start on its node: too few of them, or too odd."""
    snapshot = situation.snapshot
    ours: Counter[str] = Counter()
    for item in snapshot.replicas:
        parts = item.node.split(",")
        for name in parts:
            ours[name] += item.devices // len(parts)
    blocked: Counter[str] = Counter()
    if situation.inputs is not None:
        for each in situation.inputs.fleet.pools:
            blocked.update({node.name: node.stranded for node in each.nodes})
    nodes: dict[str, list[tuple[Cell, Node]]] = {}
    cells = {cell.name: cell for cell in snapshot.cells}
    for node in snapshot.nodes:
        if node.cell in cells:
            nodes.setdefault(cells[node.cell].pool, []).append((cells[node.cell], node))
    found = []
    for pool, members in sorted(nodes.items()):
        least = {cell.name: least_request(snapshot, cell) for cell, _ in members}
        free = closed = stranded = 0
        for cell, node in members:
            left = max(0, node.allocatable - node.held_by_others - ours[node.name])
            need = least[cell.name]
            free += left
            if not (node.eligible and cell.schedulable):
                closed += left
            elif need is None or left < need:
                stranded += left
            stranded += blocked[node.name]
        first = members[0][0]
        held = sum(ours[node.name] for _, node in members)
        usable = max(0, free - closed - first.reserve_devices)
        if first.limit_devices is not None:
            usable = min(usable, max(0, first.limit_devices - held))
        closed = free - usable
        found.append(
            Stock(
                pool=pool,
                vendor=first.vendor,
                profile=first.profile,
                installed=sum(node.installed for _, node in members),
                allocatable=sum(node.allocatable for _, node in members),
                ours=held,
                others=sum(node.held_by_others for _, node in members),
                free=free,
                stranded=stranded,
                closed=closed,
                known=all(cell.stock is Known.KNOWN for cell, _ in members),
            )
        )
    return tuple(found)


def least_request(snapshot: Snapshot, cell: Cell) -> int | None:
    """Devices that the smallest replica of any model needs on one node of this cell; None = no model can run there."""
    sizes = [
        option.devices // option.span
        for option in snapshot.options
        if option.eligible
        and option.profile == cell.profile
        and (not option.pools or cell.pool in option.pools)
        and cell.pool not in option.excluded_pools
        and option.devices // option.span in cell.sizes
    ]
    return min(sizes, default=None)


def alternatives(planned: Planned) -> tuple[Alternative, ...]:
    """What the same demand would cost on each vendor alone, with the demand that the plan was made for."""
    situation = planned.situation
    vendors = sorted({cell.vendor for cell in situation.snapshot.cells})
    return tuple(_alone(planned, vendor) for vendor in vendors)


def _alone(planned: Planned, vendor: str) -> Alternative:
    whole = planned.situation.snapshot
    kept = {cell.name for cell in whole.cells if cell.vendor == vendor}
    nodes = tuple(node for node in whole.nodes if node.cell in kept)
    names = {node.name for node in nodes}
    # A rule over vendors cannot hold where there is one; the report says how many models it concerns.
    models = tuple(replace(model, min_vendors=1, max_vendor_share_percent=None) for model in whole.models)
    only = replace(
        whole,
        cells=tuple(cell for cell in whole.cells if cell.name in kept),
        nodes=nodes,
        models=models,
        options=tuple(option for option in whole.options if option.vendor == vendor),
        replicas=tuple(item for item in whole.replicas if set(item.node.split(",")) <= names),
        policy=replace(whole.policy, max_moves=None),
    )
    asked = tuple(_asked(item) for item in planned.situation.demand.models)
    try:
        plan, _ = placement.plan(only, placement.Demand(asked))
    except PlacementError as error:
        return Alternative(vendor, 0.0, 0, 0, (), str(error))
    placed = sum(item.replicas for item in plan.assignments)
    missing = {item.model: item.replicas for item in plan.shortfalls}
    return Alternative(vendor, plan.hourly_cost, placed, sum(missing.values()), tuple(sorted(missing)))


def _asked(demand: ModelDemand) -> ModelDemand:
    """Nothing runs on the other vendors' devices, so nothing has to stay because it runs."""
    return replace(demand, may_shrink=True)


# ---- text and data


def document(report: Usage, units: dict[str, str], source: str) -> dict[str, Any]:
    """Stable: fields are only added. null = unknown."""
    return {
        "source": source,
        "seconds": report.seconds,
        "cost": round(report.cost, 6),
        "rows": [
            {
                "model": row.model,
                "vendor": row.vendor,
                "profile": row.profile,
                "replicaHours": round(row.replica_hours, 6),
                "deviceHours": round(row.device_hours, 6),
                "cost": round(row.cost, 6),
                "unit": units.get(row.model, WORK),
                "capacity": _rounded(row.capacity),
                "work": _rounded(row.work),
                "utilisation": _rounded(row.utilisation),
                "costPerWork": None if row.cost_per_work is None else float(f"{row.cost_per_work:.6g}"),
            }
            for row in report.rows
        ],
        "unserved": {model: _rounded(value) for model, value in report.unserved},
        "pools": [
            {
                "pool": item.pool,
                "vendor": item.vendor,
                "profile": item.profile,
                "installed": item.installed,
                "allocatable": item.allocatable,
                "ours": item.ours,
                "others": item.others,
                "free": item.free,
                "stranded": item.stranded,
                "closed": item.closed,
                "withdrawn": item.withdrawn,
                "known": item.known,
            }
            for item in report.stock
        ],
        "oneVendor": [
            {
                "vendor": item.vendor,
                "hourlyCost": round(item.hourly_cost, 6),
                "placed": item.placed,
                "missing": item.missing,
                "short": list(item.short),
                "failed": item.failed,
            }
            for item in report.alternatives
        ],
    }


def to_json(body: dict[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def render(report: Usage, units: dict[str, str], source: str, *, form: str, style: Style, width: int = WIDTH) -> list[str]:
    draw = markdown if form == "md" else lambda columns, rows: table(columns, rows, 10_000 if form == "wide" else width)
    lines = [style.bold(f"Usage of {len({row.model for row in report.rows})} models, {money(report.cost)} in {_span(report.seconds)}")]
    lines += wrap(f"snapshot: {plain(source)}", width)
    lines += ["", *draw(*_model_table(report, units))]
    for model, value in report.unserved:
        if value:
            share = value / report.seconds
            lines += wrap(f"{model}: {share:.3g} {units.get(model, WORK)} arrive that its replicas cannot carry", width, first=" ")
    if any(row.work is None for row in report.rows):
        note = "a dash is unknown: set spec.workload.requestRate, or run polyfleet simulate, which counts the work of a trace"
        lines += wrap(note, width, first=" ", rest=" ")
    if report.stock:
        lines += ["", *draw(*_stock_table(report.stock))]
        lines += wrap(
            "STRANDED: free where no model's replica fits; CLOSED: free where none may start (node or pool out, limit, reserve)",
            width,
            first=" ",
        )
    if report.alternatives:
        lines += ["", "If one vendor only (rules over vendors lifted)", *draw(*_vendor_table(report))]
    return lines


def _span(seconds: float) -> str:
    return "one hour" if seconds == HOUR_S else f"{seconds / HOUR_S:.3g} h"


def _model_table(report: Usage, units: dict[str, str]) -> tuple[list[Column], list[list[str]]]:
    columns = [Column("MODEL", shrinks=True), Column("PROFILE", shrinks=True, least=16)]
    columns += [Column(name, right=True) for name in ("REPLICAS", "DEVICES", "CAPACITY", "LOAD")]
    columns += [Column("UNIT")] + [Column(name, right=True) for name in ("USED", "COST", "SHARE")]
    hours, rows = report.seconds / HOUR_S or 1.0, []
    for row in report.rows:
        capacity = "-" if row.capacity is None else f"{row.capacity / report.seconds:.4g}"
        work = "-" if row.work is None else f"{row.work / report.seconds:.4g}"
        used = "-" if row.utilisation is None else f"{row.utilisation:.0%}"
        share = f"{row.cost / report.cost:.0%}" if report.cost else "-"
        rows.append(
            [row.model, row.profile, f"{row.replica_hours / hours:.4g}", f"{row.device_hours / hours:.4g}", capacity, work,
             units.get(row.model, WORK), used, money(row.cost), share]
        )  # fmt: skip
    return columns, rows


def _stock_table(found: Sequence[Stock]) -> tuple[list[Column], list[list[str]]]:
    names = ("INSTALLED", "OURS", "OTHERS", "FREE", "STRANDED", "CLOSED", "WITHDRAWN")
    columns = [Column("POOL", shrinks=True), Column("VENDOR"), *(Column(name, right=True) for name in names)]
    rows = []
    for item in found:
        numbers = (item.installed, item.ours, item.others, item.free, item.stranded, item.closed, item.withdrawn)
        rows.append([item.pool, item.vendor, *(str(value) if item.known else "?" for value in numbers)])
    return columns, rows


def _vendor_table(report: Usage) -> tuple[list[Column], list[list[str]]]:
    columns = [Column("VENDOR"), Column("COST/H", right=True), Column("PLACED", right=True), Column("MISSING", right=True)]
    columns += [Column("SHORT", shrinks=True)]
    rows = []
    for item in report.alternatives:
        if item.failed:
            rows.append([item.vendor, "-", "-", "-", item.failed])
            continue
        rows.append([item.vendor, money(item.hourly_cost), str(item.placed), str(item.missing), ", ".join(item.short) or "none"])
    return columns, rows
