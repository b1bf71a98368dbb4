"""Candidates in the plan: which pair is tried next, and how the placer is asked for a replica that is no capacity yet.

The placer knows nothing of verdicts but `eligible`. A candidate is asked for as a model of its own (`ns/name#candidate`) of size one, a
little less urgent than its model, with the option that is tried; afterwards the plan is told in the model's own name again. So devices,
quotas, budgets and moves count for it like for anybody, and the check of the plan covers it.

    merged snapshot: a model's size with its candidates, what every later stage reads
    asked snapshot:  the same with candidates apart, what the placer is given
    wish snapshot:   as if every pair that may be tried were verified: what a verdict would be worth
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from placement.types import Model, Plan, Shortfall, Snapshot, Spread
from polyfleet import demand, rollout, turns
from polyfleet.clearance.standing import State, kept_for_debugging
from polyfleet.inputs import Inputs, ModelView
from polyfleet.inventory import node_of
from polyfleet.snapshot import Standing, holders, option_of, stale, standings

SUFFIX = "#candidate"
LEAVING = "#leaving"  # candidates whose time is over
MOST_IN_FLEET = 4


@dataclass(frozen=True, slots=True)
class Trial:
    """A pair that is to be tried: one replica of this option, in these pools."""

    option: str
    pools: tuple[str, ...]
    room: int = 0  # replicas of an earlier revision that may stop for it

    def takes(self, option: str, pool: str) -> bool:
        """Whether a start is this candidate's."""
        return option == self.option and pool in self.pools


def _staying(view: ModelView, items: tuple[Standing, ...], now: str | None) -> list[Standing]:
    """The undecided candidate stays, and beside it one whose verdict fell, a while for debugging: it must not take the other's place, or
    the other would be started and stopped for ever. More of either is more than was asked for."""
    undecided: list[Standing] = []
    fallen: list[Standing] = []
    for item in items:
        stand = view.clearance.of(item.pod)
        report = stand.report if stand is not None else None
        if report is not None and report.verdict is not None and not kept_for_debugging(report, now):
            continue
        if view.given_up(item.child.profile, item.child.variant, item.child.revision):
            continue
        (undecided if stand is None or stand.state is State.CANDIDATE else fallen).append(item)
    return [*undecided[:1], *fallen[:1]]


def trying(view: ModelView) -> bool:
    """Whether an undecided candidate exists."""
    return any((stand := view.clearance.of(item.pod)) is None or stand.state is State.CANDIDATE for item in holders(view))


def asked(inputs: Inputs, trials: Mapping[str, Trial] | None = None, now: str | None = None) -> Snapshot:
    """The snapshot for the placer. `trials` are started in addition to what is being tried already."""
    trials, snapshot = trials or {}, inputs.snapshot
    models = {model.name: model for model in snapshot.models}
    options = {option.id: option for option in snapshot.options}
    replicas = {replica.id: replica for replica in snapshot.replicas}
    for key, view in sorted(inputs.models.items()):
        held, trial = holders(view), trials.get(key)
        if key not in models or not (held or trial):
            continue
        main = models[key]
        models[key] = _resized(main, -len(held) - (1 if trial is not None else 0))
        staying = {item.pod.uid for item in _staying(view, held, now)}
        count = len(staying) + (1 if trial is not None else 0)
        models[key + SUFFIX] = _candidate(main, count)
        pools: dict[str, set[str]] = {}
        for item in held:
            option = option_of(view, item.child)
            if option in options and item.pod.uid in replicas:
                pools.setdefault(option, set()).add(item.child.pool)
                # One that has had its time is of no use to anybody, not even as the next candidate.
                whose = key + (SUFFIX if item.pod.uid in staying else LEAVING)
                replicas[item.pod.uid] = replace(
                    replicas[item.pod.uid], model=whose, option=option + SUFFIX if item.pod.uid in staying else None
                )
                if whose.endswith(LEAVING):
                    models[whose] = replace(_candidate(main, 0), name=whose)
        if trial is not None:
            pools[trial.option] = {*pools.get(trial.option, ()), *trial.pools}
        for name, where in sorted(pools.items()):
            tried = trial is not None and trial.option == name
            options[name + SUFFIX] = replace(
                options[name], id=name + SUFFIX, model=key + SUFFIX, eligible=tried, pools=tuple(sorted(where))
            )
    return replace(
        snapshot,
        models=tuple(models[name] for name in sorted(models)),
        options=tuple(options[name] for name in sorted(options)),
        replicas=tuple(replicas[name] for name in sorted(replicas)),
    )


def _candidate(main: Model, count: int) -> Model:
    return Model(
        name=main.name + SUFFIX,
        priority=main.priority - 1,
        min_replicas=count,
        max_replicas=count,
        tenant=main.tenant,
        shared_ok=main.shared_ok,
        spread=Spread.SOFT,
        restricted=main.restricted,
    )


def with_trials(inputs: Inputs, trials: Mapping[str, Trial]) -> Inputs:
    """The merged snapshot with room for what is tried now."""
    if not trials:
        return inputs
    models = tuple(_resized(model, 1 - trials[model.name].room) if model.name in trials else model for model in inputs.snapshot.models)
    shown = replace(inputs.snapshot, models=models)
    return replace(inputs, snapshot=shown, demand=demand.demand(models, inputs.demand.models), trials=dict(sorted(trials.items())))


def _resized(model: Model, more: int) -> Model:
    return replace(model, min_replicas=max(0, model.min_replicas + more), max_replicas=max(0, model.max_replicas + more))


def main_name(name: str) -> str:
    return name.removesuffix(SUFFIX).removesuffix(LEAVING)


def merged(plan: Plan) -> Plan:
    """The plan in the models' own names. A candidate's shortfall keeps its name: it is no missing capacity."""
    told = {a.model for a in plan.assignments} | {s.model for s in plan.shortfalls} | {row.model for row in plan.why}
    if all(name == main_name(name) for name in told):
        return plan
    return replace(
        plan,
        assignments=tuple(
            sorted(
                (replace(share, model=main_name(share.model), option=main_name(share.option)) for share in plan.assignments),
                key=lambda share: (share.model, share.option, share.cell, share.node),
            )
        ),
        starts=tuple(replace(start, model=main_name(start.model), option=main_name(start.option)) for start in plan.starts),
        why=tuple(row for row in plan.why if row.model == main_name(row.model)),
    )


def of_main(short: Shortfall) -> Shortfall:
    """A candidate's shortfall with the texts of its rows in the model's name: a hint is a command for an object that exists."""
    rows = tuple(replace(row, message=row.message.replace(SUFFIX, ""), hint=row.hint.replace(SUFFIX, "")) for row in short.reasons)
    return replace(short, reasons=rows)


def split(inputs: Inputs, plan: Plan) -> Plan:
    """A merged plan in the names that the placer's check knows: candidates are those that are held, and the ones that start now. An
    option may have both kinds, where an earlier revision of it goes on meanwhile."""
    cells, kept = {node.name: node.cell for node in inputs.snapshot.nodes}, set(plan.keep)
    apart: Counter[tuple[str, str, str]] = Counter()
    for view in inputs.models.values():
        for item in holders(view):
            if item.pod.uid in kept and (option := option_of(view, item.child)) is not None:
                apart[(option, cells.get(node_of(item.pod), ""), node_of(item.pod))] += 1
    pools = {cell.name: cell.pool for cell in inputs.snapshot.cells}
    begun: set[str] = set()
    starts = []
    for start in plan.starts:
        trial = inputs.trials.get(start.model)
        if trial is not None and start.model not in begun and trial.takes(start.option, pools.get(start.cell, "")):
            begun.add(start.model)
            apart[(start.option, start.cell, start.node)] += 1
            start = replace(start, model=start.model + SUFFIX, option=start.option + SUFFIX)
        starts.append(start)
    if not apart:
        return plan
    shares = []
    for share in plan.assignments:
        key = (share.option, share.cell, share.node)
        tried = min(apart[key], share.replicas)
        apart[key] -= tried
        if tried < share.replicas:
            shares.append(replace(share, replicas=share.replicas - tried))
        if tried:
            shares.append(replace(share, model=share.model + SUFFIX, option=share.option + SUFFIX, replicas=tried))
    return replace(plan, assignments=tuple(shares), starts=tuple(starts))


def wish(inputs: Inputs) -> Snapshot | None:
    """None where no pair may be tried."""
    opened = {
        option: pools
        for view in inputs.models.values()
        if view.clearance.required and not view.hold
        for option, pools in view.clearance.open.items()
    }
    if not opened:
        return None
    models = tuple(_wished(inputs, model) for model in inputs.snapshot.models)
    options = tuple(
        replace(option, eligible=True, pools=tuple(sorted(set(option.pools if option.eligible else ()) | opened[option.id])))
        if option.id in opened
        else option
        for option in inputs.snapshot.options
    )
    # A candidate that was blocked and is still there to be looked at is capacity in no world.
    blocked = {item.pod.uid: key for key, view in sorted(inputs.models.items()) for item in holders(view) if _blocked(view, item)}
    nobodys = {model.name: replace(_candidate(model, 0), name=model.name + LEAVING) for model in models if model.name in blocked.values()}
    replicas = tuple(
        replace(replica, model=blocked[replica.id] + LEAVING, option=None) if blocked.get(replica.id) in nobodys else replica
        for replica in inputs.snapshot.replicas
    )
    models = tuple(sorted((*models, *nobodys.values()), key=lambda model: model.name))
    return replace(inputs.snapshot, models=models, options=options, replicas=replicas)


def _blocked(view: ModelView, item: Standing) -> bool:
    stand = view.clearance.of(item.pod)
    return stand is not None and stand.state is State.BLOCKED


def _wished(inputs: Inputs, model: Model) -> Model:
    view = inputs.models.get(model.name)
    if view is None or view.hold:
        return model
    if view.bounds is not None:
        return replace(model, min_replicas=view.bounds[0], max_replicas=view.bounds[1])
    # A model without any verified pair asks for nothing yet; here it asks for all of it.
    size = max(0, view.target - len([uid for uid in view.frozen if uid not in view.superseded]))
    return replace(model, min_replicas=size, max_replicas=size)


def choose(inputs: Inputs, plan: Plan, wished: Plan, passed: Collection[str] = ()) -> dict[str, Trial]:
    """The pairs to try now: one per model, at most four in the fleet, the most urgent models first.

    `plan`: without new candidates (merged); `wished`: of the wish snapshot; `passed`: models whose candidate finds no devices, so that
    others have their turn. Chosen is what the wish uses and what lowers the shortfall or saves more than `stability.minSavingPercent`; the
    reference comes before everything that is compared with it, and a replica of an earlier revision is followed by a candidate of the same
    profile, or of another one where that must not serve."""
    room = MOST_IN_FLEET - sum(1 for view in inputs.models.values() if trying(view))
    rollouts = sum(1 for view in inputs.models.values() if rolls(view) and not turns.stuck(view, plan))
    found: dict[str, Trial] = {}
    order = sorted(inputs.models.items(), key=lambda pair: (-(pair[1].spec.priority if pair[1].spec is not None else 0), pair[0]))
    for key, view in order:
        if room <= 0 or view.spec is None or view.hold or not view.clearance.required or view.target == 0 or trying(view):
            continue
        if key in passed:
            continue
        begins = bool(stale_profiles(view)) and not rolls(view)
        if begins and rollouts >= inputs.policy.stability.max_concurrent_rollouts:
            continue
        option = _next(inputs, view, plan, wished)
        if option is None:
            continue
        found[key] = Trial(option, tuple(sorted(view.clearance.open[option])))
        room, rollouts = room - 1, rollouts + begins
    return found


def stale_profiles(view: ModelView) -> tuple[str, ...]:
    """Profiles of serving replicas whose revision is no longer wanted by the model's own spec."""
    if view.spec is None or view.hold:
        return ()
    return tuple(sorted({item.child.profile for item in standings(view) if stale(view, item)}))


def rolls(view: ModelView) -> bool:
    """Whether a rollout of it has begun."""
    return bool(view.superseded) or (trying(view) and bool(stale_profiles(view)))


def _next(inputs: Inputs, view: ModelView, plan: Plan, wished: Plan) -> str | None:
    clearance, options = view.clearance, {option.id: option for option in inputs.snapshot.options if option.model == view.key}
    # What is only outdated goes on and may grow: nobody asked for its successor.
    settled = {option for (option, _), child in view.earlier.items() if child in view.outdated}
    opened = [options[name] for name in clearance.open if name in options and name not in settled]
    if not opened or view.spec is None or (view.spec.rollout.approval == "Manual" and stale_profiles(view)):
        return None
    uses: Counter[str] = Counter()
    for share in wished.assignments:
        if share.model == view.key and share.option in clearance.open:
            uses[share.option] += share.replicas
    prices = _prices(inputs)
    order = sorted(opened, key=lambda option: (-uses[option.id], prices.get(option.id, 0.0), option.id))
    if clearance.record is None:
        # Whoever is captured first is what the others are compared with: the reference, or its stand-in.
        return order[0].id
    for profile in stale_profiles(view):
        if any(options[name].profile == profile for name in clearance.eligible if name in options):
            continue
        same = [option for option in order if option.profile == profile]
        if same:
            return same[0].id
    wanted = [option for option in order if uses[option.id]]
    short, then = _short(plan, view.key), _short(wished, view.key)
    if not wanted:
        # Nothing of the wanted revision may serve. An earlier one does its work, or nobody has room: then the placer says what is missing.
        return order[0].id if not clearance.eligible and (then or stale_profiles(view)) else None
    if not clearance.eligible or then < short:
        return wanted[0].id
    now, later = _cost(inputs, plan, view.key), _cost(inputs, wished, view.key)
    return wanted[0].id if now - later > inputs.snapshot.policy.min_saving_percent / 100 * now + 1e-9 else None


def _prices(inputs: Inputs) -> dict[str, float]:
    """Cost of one replica per hour in the cheapest cell of its profile."""
    cheapest: dict[str, float] = {}
    for cell in inputs.snapshot.cells:
        cheapest[cell.profile] = min(cheapest.get(cell.profile, float("inf")), cell.cost_per_device_hour)
    return {option.id: cheapest.get(option.profile, float("inf")) * option.devices for option in inputs.snapshot.options}


def _short(plan: Plan, key: str) -> int:
    return sum(item.replicas for item in plan.shortfalls if item.model == key)


def _cost(inputs: Inputs, plan: Plan, key: str) -> float:
    price = {cell.name: cell.cost_per_device_hour for cell in inputs.snapshot.cells}
    devices = {option.id: option.devices for option in inputs.snapshot.options}
    shares = [share for share in plan.assignments if share.model == key]
    return sum(price.get(share.cell, 0.0) * devices.get(share.option, 0) * share.replicas for share in shares)


def make_room(inputs: Inputs, plan: Plan, trials: Mapping[str, Trial]) -> dict[str, Trial]:
    """Trials of a rollout that found no devices, each with leave to stop one replica of the earlier revision where `maxUnavailable` or
    `allowDowntime` permits it. Empty: nothing more can be done."""
    short = {main_name(item.model) for item in plan.shortfalls if item.model.endswith(SUFFIX)}
    found: dict[str, Trial] = {}
    for key, trial in trials.items():
        view = inputs.models[key]
        if key in short and trial.room == 0 and stale_profiles(view) and may_yield(view):
            found[key] = replace(trial, room=1)
    return {**trials, **found} if found else {}


def may_yield(view: ModelView) -> bool:
    """Whether one replica of the earlier revision may stop before its successor serves. One that does not serve goes first, and costs
    nothing: broken replicas must not use up the allowance that their repair needs."""
    if view.spec is None or view.spec.rollout.allow_downtime:
        return view.spec is not None
    allowed = rollout.max_unavailable(view.spec, view.target)
    staying = [item for item in standings(view) if not item.leaving]
    broken = any(stale(view, item) and not item.serving for item in staying)
    serving = sum(1 for item in staying if item.serving)
    return allowed > 0 and (broken or serving - 1 >= view.target - allowed)


__all__ = ["SUFFIX", "Trial", "asked", "choose", "main_name", "make_room", "merged", "split", "trying", "wish", "with_trials"]
