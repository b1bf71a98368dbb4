"""Whom a simulation is about: one model of a fleet, its settings, its unit of work and what each option supplies and takes to start.

Everything comes from the operator's own functions: settings from `polyfleet.scaling.settings`, work from `polyfleet.scaling.units`, cold
starts as measured where the operator has told it (no snapshot holds that yet), else from the profile, else the autoscaler's default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from autoscaling.replay.loads import COSTS
from autoscaling.types import Costs, Settings, Slo
from placement.types import Model, Option, Snapshot
from polyfleet import rollout
from polyfleet.api.modeldeployment import Scaling
from polyfleet.cli.failure import Failure, listed, usage
from polyfleet.cli.planning import judged
from polyfleet.cli.source import Situation
from polyfleet.inputs import ModelView
from polyfleet.scaling import settings as rules
from polyfleet.scaling import units

DEFAULT_START_S = 240.0  # of an option that nobody has measured: the cap of the autoscaler's horizon
DEFAULT_TTFT_S = 2.0  # a goal that is not stated


@dataclass(frozen=True, slots=True)
class Start:
    seconds: float
    source: str  # given | measured | profile | assumed


@dataclass(frozen=True, slots=True)
class Subject:
    model: str
    settings: Callable[[float], Settings]  # by time, s since 1970: cron floors come and go
    automatic: bool  # False: a fixed size
    costs: Costs
    rates: Mapping[str, float]  # option -> work/s of one replica; options without a number are left out
    starts: Mapping[str, Start]  # option -> cold start
    snapshot: Snapshot  # with the rates filled in
    row: Model  # of the model in it, as it was
    min_vendors: int
    unavailable: Callable[[int], int]  # of so many replicas, how many a change may take away before others serve
    source: str
    base: float  # s since 1970 at the beginning of the trace
    notes: tuple[str, ...] = ()

    @property
    def goal(self) -> tuple[float, bool]:
        """(time to the first token, s, whether the model states it)."""
        stated = self.settings(self.base).slo.ttft_s
        return (stated, True) if stated is not None else (DEFAULT_TTFT_S, False)


def chosen(name: str, namespace: str, situation: Situation) -> str:
    """The model that is meant: by name, else the only one of -f, else the only one there is."""
    if name:
        from polyfleet.cli import explaining

        return explaining.find(name, namespace, situation)
    laid = [key for kind, key, _ in situation.laid if kind == "ModelDeployment"]
    all_ = [model.name for model in situation.snapshot.models if not namespace or model.name.split("/")[0] == namespace]
    found = laid or all_
    if len(found) == 1:
        return found[0]
    if not found:
        raise Failure("there is no model to simulate", "the fleet has no ModelDeployment", "add one with -f FILE")
    raise usage(
        "which model does the trace belong to?", f"there are {listed(sorted(found))}", f"repeat with --model mdep/{sorted(found)[0]}"
    )


def of(situation: Situation, key: str, base: float, *, least: int | None, most: int | None, cold_start_s: float | None) -> Subject:
    """Of a fleet and a model in it. `least` and `most` stand in for `spec.scaling`; `cold_start_s` for every option's."""
    situation = judged(situation)
    view = situation.inputs.models.get(key) if situation.inputs is not None else None
    row = next(model for model in situation.snapshot.models if model.name == key)
    notes = list(situation.notes)
    if view is None:
        made, automatic = _bare(row, least, most), least is not None or most is not None or row.max_replicas > row.min_replicas
        costs = COSTS  # its work is taken for that of the benchmarks: 1 work/s is one of their replicas
        rates = {o.id: o.work_per_s for o in situation.snapshot.options if o.model == key and o.work_per_s}
        known: dict[str, float] = {}
        vendors = row.min_vendors
    else:
        made, automatic = _stated(view, situation, least, most)
        costs, rates = _work(view)
        known = dict(view.force.starts) if view.force is not None else {}
        spread = view.spec.placement.spread if view.spec is not None else None
        vendors = (spread.min_vendors or 1) if spread is not None else 1
    if not automatic:
        notes.append("spec.scaling is not set, so the size is fixed; --min and --max simulate scaling")
    if not rates:
        raise Failure(
            f"nothing is known of the speed of {key} on any device",
            "a simulation needs throughput: no option of it has an entry or an estimate",
            f"polyfleet explain mdep/{key}{situation.option}; polyfleet bench measures it",
        )
    options = tuple(_rated(option, rates) if option.model == key else option for option in situation.snapshot.options)
    starts = {option.id: _start(option, known, cold_start_s) for option in options}
    options = tuple(replace(option, start_seconds=starts[option.id].seconds) for option in options)
    snapshot = replace(situation.snapshot, options=options)
    spec = view.spec if view is not None else None
    unavailable = (lambda size: rollout.max_unavailable(spec, size)) if spec is not None else (lambda _: 0)
    return Subject(key, made, automatic, costs, rates, starts, snapshot, row, vendors, unavailable, situation.source, base, tuple(notes))


def _rated(option: Option, rates: Mapping[str, float]) -> Option:
    return replace(option, work_per_s=rates.get(option.id))


def _start(option: Option, known: Mapping[str, float], given: float | None) -> Start:
    if given is not None:
        return Start(given, "given")
    if option.id in known:
        return Start(known[option.id], "measured")
    return Start(option.start_seconds, "profile") if option.start_seconds is not None else Start(DEFAULT_START_S, "assumed")


def _work(view: ModelView) -> tuple[Costs, dict[str, float]]:
    load = units.stated(view.spec) if view.spec is not None else None
    unit = units.reference(view.resolution.options, load, view.unit)
    if unit is None:
        return Costs(1.0, 1.0), {}
    rates = {option.id: units.work_of(option, load, unit) for option in view.resolution.options}
    return unit.costs, {name: rate for name, rate in sorted(rates.items()) if rate}


def _stated(view: ModelView, situation: Situation, least: int | None, most: int | None) -> tuple[Callable[[float], Settings], bool]:
    spec = view.spec
    if spec is None or situation.inputs is None or view.accepted is not None:
        why = view.accepted.message if view.accepted is not None else "its spec cannot be read"
        raise Failure(f"{view.key} is not accepted", why, f"polyfleet explain mdep/{view.key}{situation.option}")
    automatic = spec.scaling is not None or least is not None or most is not None
    size = max(1, view.target)
    low = least if least is not None else spec.scaling.min_replicas if spec.scaling is not None else 1
    high = most if most is not None else spec.scaling.max_replicas if spec.scaling is not None else max(size, low)
    _bounds(low, high)
    body = spec.scaling.model_dump(by_alias=True, exclude_none=True) if spec.scaling is not None else {}
    if low > 0:
        body.pop("scaleToZero", None)
    bounds = {"minReplicas": low, "maxReplicas": high} if automatic else {"minReplicas": size, "maxReplicas": size}
    scaled = spec.model_copy(update={"scaling": Scaling.model_validate({**body, **bounds})})
    policy = situation.inputs.policy
    if not scaled.scaling or not scaled.scaling.floors:
        fixed = rules.of(scaled, policy, 0.0)
        return lambda _: fixed, automatic
    return lambda now: rules.of(scaled, policy, now), automatic


def _bare(row: Model, least: int | None, most: int | None) -> Callable[[float], Settings]:
    low = row.min_replicas if least is None else least
    high = max(row.max_replicas, 1) if most is None else most
    _bounds(low, high)
    fixed = Settings(min_replicas=low, max_replicas=high, slo=Slo())
    return lambda _: fixed


def _bounds(low: int, high: int) -> None:
    if not (0 <= low <= high <= 10_000 and high >= 1):
        raise usage(
            f"--min {low} and --max {high} exclude each other", "allowed: 0 <= min <= max <= 10000, and max >= 1", "--min 1 --max 8"
        )
