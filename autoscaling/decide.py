"""One tick of one model: from what is seen to what it needs.

`decide` reads (`observe`), judges doubt and bounds (`safety`), works out the need (`need`), and then chooses the first of these that holds:

    bounds      contradictory bounds freeze; the fallback's stated size; more than the maximum goes
    idle, wake  a true zero for long enough sleeps; somebody who waits wakes, to the size of what waits
    minimum     fewer than the least are added to
    up          ask > what runs, comes or was asked for: the upper band, at once
    guard       the replicas say that they are overloaded: one more
    down        the highest raw need of a whole window fits fewer, and nothing speaks against it
    hold        with the reason why it is not less

The number that the placer covers is held between decisions, so a steady load gives the same plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from autoscaling import guard, trials
from autoscaling.capacity import lowered, missing
from autoscaling.memory import Memory, Need, moved, notable
from autoscaling.need import Needed, needed
from autoscaling.observe import Seen, observe, request
from autoscaling.policy import AWAKE, CLEAR_S, GUARD_DECAY_S, GUARD_HOT_S, GUARD_KAPPA, HOUR_S, RECOVERY_JUMP
from autoscaling.safety import Bounds, blinded, bounds, no_way_back, threshold
from autoscaling.shrink import Shrink, shrink
from autoscaling.types import Decision, Demand, Direction, Look, ReplicaState, Why

_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Choice:
    """`held` is in stated work/s; None = as it was."""

    direction: Direction
    why: Why
    message: str
    held: float | None = None
    counted: bool = True  # against the event budgets
    kv_floor: float = 0.0


def decide(memory: Memory | None, look: Look) -> Decision:
    """Pure: the same memory and look give the same decision, whatever the order of the replicas. None = nothing is known.
    Errors: none; whatever cannot be believed is unknown, and unknown never lowers."""
    memory, seen = observe(memory, look)
    memory = blinded(memory, seen)
    if memory.held is None:
        memory = replace(memory, held=_found(seen))
    limits = bounds(memory, seen)
    memory, wrong = _watched(memory, seen)
    need = needed(memory, seen)
    if need is not None:
        memory = _noted(memory, seen, need)
    choice = _choose(memory, seen, limits, need, wrong)
    memory = _applied(memory, seen, limits, choice, wrong)
    demand = _demand(memory, seen, limits, need, choice)
    now = notable(memory)
    changed = moved(memory.noted, now)
    if changed:
        memory = replace(memory, noted=now)
    return Decision(demand, memory, changed, _extra(memory, need))


def _found(seen: Seen) -> float:
    """Stated work/s of what is there at the first decision. In the middle of a move that is the old replicas and the new ones, of which as
    many as were aimed at stay; the strongest stand in for them."""
    aimed = seen.look.aimed
    if aimed is None or not 0 < aimed < seen.supply.count:
        return seen.supply.stated
    there = [r.work_per_s or 0.0 for r in seen.ordered if r.state in (ReplicaState.READY, ReplicaState.LOADING)]
    return sum(sorted(there, reverse=True)[:aimed])


def _watched(memory: Memory, seen: Seen) -> tuple[Memory, str]:
    each = request(memory.windows, seen.look)
    # a burst that is over before a new replica serves is not answered with one
    least_s = max(GUARD_HOT_S, seen.supply.horizon) if memory.verdict.calm else GUARD_HOT_S
    state, wrong = guard.watch(memory.guard, seen.look, seen.measured, each, least_s)
    return replace(memory, guard=state), wrong


def _noted(memory: Memory, seen: Seen, need: Needed) -> Memory:
    """Only what was measured, and only the raw need, enters the windows."""
    if not seen.known:
        return memory
    reach = max(seen.window, seen.look.settings.up_window_s)
    needs = (*(n for n in memory.needs if n.clock > seen.clock - reach), Need(seen.clock, need.ask, need.give))
    tried = trials.ask(memory.trials, seen.clock, need.following, need.calm, seen.supply.horizon + seen.window)
    low, (ask, give) = need.burst, need.band
    too_fast = low > give or (memory.too_fast and low > ask)
    return replace(memory, needs=needs, trials=tried, too_fast=too_fast)


def _choose(memory: Memory, seen: Seen, limits: Bounds, need: Needed | None, wrong: str) -> Choice:
    bound = _bounded(memory, seen, limits) or _slept(memory, seen, limits, need) or _least(memory, seen, limits)
    if bound is not None:
        return bound
    grown = _up(memory, seen, limits, need, wrong)
    if grown is not None:
        return grown
    if not seen.known or need is None:
        return _unknown(memory, seen, limits)
    return _down(memory, seen, limits, need, wrong)


def _bounded(memory: Memory, seen: Seen, limits: Bounds) -> Choice | None:
    """What the bounds alone say; they hold with whatever metrics."""
    settings, count = seen.look.settings, seen.supply.count
    if limits.frozen:
        text = f"minReplicas {settings.min_replicas} is more than maxReplicas {settings.max_replicas}: the size stays as it is"
        return Choice(Direction.HOLD, Why.MAXIMUM, text)
    if limits.static:
        text = f"the load is unknown: {limits.least} replicas, as fallback.behavior Static says"
        where = Direction.UP if count < limits.least else Direction.DOWN if count > limits.least else Direction.HOLD
        return Choice(where, Why.FALLBACK, text, counted=False)
    if count > limits.most:
        room = max(memory.held or 0.0, limits.most * seen.supply.stated / count)
        return Choice(Direction.DOWN, Why.MAXIMUM, f"{count} replicas, maxReplicas is {limits.most}", room, counted=False)
    return None


def _least(memory: Memory, seen: Seen, limits: Bounds) -> Choice | None:
    """More are due than run and than were due a tick ago; the placer counts, the work is what it was."""
    if limits.least <= max(seen.supply.count, memory.least):
        return None
    text = f"{seen.supply.count} replicas, at least {limits.least} are due"
    if limits.why is Why.UNKNOWN_LOAD:
        text = (
            f"who counts the requests at zero was not read for more than {seen.look.settings.hold_unknown_s:.0f} s, so one replica serves"
        )
    return Choice(Direction.UP, limits.why, text, counted=False)


def _at_zero(memory: Memory, seen: Seen) -> bool:
    return memory.held == 0.0 and seen.supply.count == 0


def _slept(memory: Memory, seen: Seen, limits: Bounds, need: Needed | None) -> Choice | None:
    """To zero and back."""
    asleep = _at_zero(memory, seen)
    if asleep and seen.measured.wake:
        if not seen.look.stock_known:
            return Choice(Direction.HOLD, Why.UNKNOWN_STOCK, "somebody waits; the inventory cannot be read")
        waiting = missing(seen.supply, 0.0, seen.measured.backlog or 0.0, CLEAR_S)
        arriving = seen.measured.low if seen.known else 0.0
        work = max(waiting + arriving, need.give if need is not None and seen.known else 0.0, _SLACK)
        text = f"somebody waits: {waiting + arriving:.3g} work/s, served in about {seen.supply.horizon:.0f} s"
        return Choice(Direction.UP, Why.WAKE, text, work, counted=False)
    if not limits.sleeps or not seen.look.stock_known or (seen.look.season or 0.0) > AWAKE:
        return None
    if asleep:
        return Choice(Direction.HOLD, Why.IDLE, "asleep: nobody asks")
    if seen.clock - memory.began < seen.first or memory.recovering is not None:
        return None
    return Choice(Direction.DOWN, Why.IDLE, f"nobody for {seen.clock - (memory.idle or 0.0):.0f} s", 0.0, counted=False)


def _up(memory: Memory, seen: Seen, limits: Bounds, need: Needed | None, wrong: str) -> Choice | None:
    supply, settings = seen.supply, seen.look.settings
    asked = (memory.held or 0.0) * supply.kappa
    ask, give, why, text = _asked(memory, seen, limits, need)
    if wrong and max(ask, supply.total, asked) == supply.total and _settled(memory, seen):
        ask, give, why, text = supply.total + supply.unit, supply.total + supply.unit, Why.SLO_GUARD, wrong
    if ask <= supply.total + _SLACK:
        return None
    if not seen.look.stock_known:
        return Choice(Direction.HOLD, Why.UNKNOWN_STOCK, f"{text}; the inventory cannot be read, so nothing grows")
    full = supply.count >= limits.most
    if ask <= asked + _SLACK:
        return Choice(Direction.HOLD, Why.MAXIMUM if full else why, f"{text}; {asked:.3g} are asked for")
    if memory.recovering is not None and memory.recovering[1] > 0.0:  # twice nothing would be no limit but a refusal
        most = max(RECOVERY_JUMP * memory.recovering[1], memory.recovering[1] + supply.unit)
        give = min(give, max(most, asked))
        if give <= max(asked, supply.total) + _SLACK:
            return Choice(Direction.HOLD, Why.FIRST_WINDOW, f"{text}; just after an outage capacity at most doubles")
    limit = settings.up_events_per_hour
    if limit is not None and len(memory.ups) >= limit:
        return Choice(Direction.HOLD, Why.EVENT_BUDGET, f"{text}; {len(memory.ups)} times up within the hour, {limit} are allowed")
    return Choice(Direction.UP, Why.MAXIMUM if full else why, text, give / supply.kappa)


def _asked(memory: Memory, seen: Seen, limits: Bounds, need: Needed | None) -> tuple[float, float, Why, str]:
    """(ask, give, why, the numbers): what is known to be needed, in corrected work/s."""
    supply = seen.supply
    have = f"{supply.ready:.3g} ready and {supply.pending:.3g} coming"
    if need is None:
        return 0.0, 0.0, Why.UNKNOWN_LOAD, ""
    if seen.known:
        ask = need.ask
        window = seen.look.settings.up_window_s
        if window > 0.0:
            recent = [n.ask for n in memory.needs if n.clock > seen.clock - window]
            ask = min(recent) if seen.clock - memory.began >= window else 0.0
        return ask, need.give, need.why, f"{need.ask:.3g} work/s are needed, {have}"
    if limits.held_long and need.floor > 0.0:
        why = Why.SEASON if need.floor > need.burst else Why.BURST_FLOOR
        return need.floor, need.floor, why, f"unknown load, floor {need.floor:.3g} work/s, {have}"
    if need.extra > 0.0 and (memory.blind is None or memory.blind.polls < threshold(seen)):  # counters are gone, but the queue is seen
        work = need.level + need.extra
        return work, work, Why.BACKLOG, f"unknown load, a queue that needs {work:.3g} work/s, {have}"
    return 0.0, 0.0, Why.UNKNOWN_LOAD, ""


def _settled(memory: Memory, seen: Seen) -> bool:
    """Whether what was asked for last has arrived and had time to show, so that one more answers something new."""
    if seen.supply.pending > 0.0 and seen.supply.blocked:
        return False
    return not memory.ups or seen.clock - memory.ups[-1] >= seen.supply.horizon + GUARD_DECAY_S


def _unknown(memory: Memory, seen: Seen, limits: Bounds) -> Choice:
    if limits.why is Why.FALLBACK:
        return Choice(Direction.HOLD, Why.FALLBACK, f"the load is unknown: at least {limits.least} replicas, and no fewer than run")
    polls = memory.blind.polls if memory.blind is not None else 0
    text = f"the load is unknown for {polls} polls: everything stays" if polls else "the load is not known yet: everything stays"
    return Choice(Direction.HOLD, Why.UNKNOWN_LOAD, text)


def _down(memory: Memory, seen: Seen, limits: Bounds, need: Needed, wrong: str) -> Choice:
    supply = seen.supply
    asked = (memory.held or 0.0) * supply.kappa
    told = memory.shrinkable and asked <= supply.total - seen.stop  # to become that small, and it has not been carried out yet
    base = asked if told else max(supply.total, asked)
    text = f"{need.give:.3g} work/s with head-room, {supply.ready:.3g} ready and {supply.pending:.3g} coming"
    if need.give > base - seen.stop + _SLACK:
        return Choice(Direction.HOLD, Why.WITHIN_BAND, text)
    found: Shrink = shrink(memory, seen, limits, need, wrong, base)
    if found.why is not None:
        return Choice(Direction.HOLD, found.why, f"{text}; {found.message}")
    if memory.shrinkable and found.work >= asked - _SLACK:
        return Choice(Direction.HOLD, Why.NEED_BELOW_CAPACITY, f"{text}; {asked:.3g} were asked for")
    return Choice(Direction.DOWN, Why.NEED_BELOW_CAPACITY, text, found.work / supply.kappa, kv_floor=found.kv_floor)


def _applied(memory: Memory, seen: Seen, limits: Bounds, choice: Choice, wrong: str) -> Memory:
    """What the next tick must know of this one's choice."""
    past = seen.clock - HOUR_S
    ups, downs = tuple(t for t in memory.ups if t > past), tuple(t for t in memory.downs if t > past)
    shrinkable, kv_floor, kappas = memory.shrinkable, memory.kv_floor, memory.kappas
    if choice.direction is Direction.UP:
        shrinkable, kv_floor = False, 0.0
        ups = (*ups, seen.clock) if choice.counted else ups
    elif choice.direction is Direction.DOWN and not limits.static:
        shrinkable, kv_floor = True, choice.kv_floor
        downs = (*downs, seen.clock) if choice.counted else downs
    if choice.why is Why.SLO_GUARD and choice.direction is Direction.UP:
        options = sorted({r.option for r in seen.ordered if r.state is ReplicaState.READY})
        kappas = lowered(kappas, options, GUARD_KAPPA)
    return replace(
        memory,
        held=memory.held if choice.held is None else choice.held,
        least=limits.least,
        shrinkable=shrinkable,
        kv_floor=kv_floor,
        ups=ups,
        downs=downs,
        asleep=choice.why is Why.IDLE or (memory.asleep and choice.direction is Direction.HOLD and _at_zero(memory, seen)),
        kappas=kappas,
    )


def _demand(memory: Memory, seen: Seen, limits: Bounds, need: Needed | None, choice: Choice) -> Demand:
    look, supply = seen.look, seen.supply
    capped = choice.why is Why.MAXIMUM and choice.direction is Direction.DOWN
    sure = seen.known and look.stock_known and not limits.frozen and memory.recovering is None
    may_shrink = limits.static or capped or (memory.shrinkable and sure)
    too_fast = ""
    if memory.too_fast and need is not None:
        too_fast = (
            f"bursts are over before a replica that is asked for now serves ({supply.horizon:.0f} s): "
            f"at least {need.burst:.3g} work/s are kept instead of followed"
        )
    return Demand(
        look.model,
        look.role,
        memory.held or 0.0,
        (),
        limits.least,
        limits.most,
        may_shrink,
        memory.kv_floor if may_shrink else 0.0,
        choice.direction,
        choice.why,
        choice.message,
        limits.state,
        need.level if need is not None else None,
        need.give if need is not None else None,
        need.floor if need is not None else 0.0,
        supply.ready,
        supply.pending,
        seen.measured.backlog,
        supply.horizon,
        too_fast,
        no_way_back(seen) if look.settings.sleep is not None and look.settings.min_replicas == 0 else "",
    )


def _extra(memory: Memory, need: Needed | None) -> dict[str, float]:
    if need is None:
        return {}
    return {
        "level": need.level,
        "sigma": need.sigma,
        "ask": need.ask,
        "give": need.give,
        "floor": need.floor,
        "backlog": need.extra,
        "following": need.following,
        "calm": need.calm,
        "followingCost": memory.verdict.following_cost,
        "calmCost": memory.verdict.calm_cost,
    }
