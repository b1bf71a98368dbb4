"""Doubt and bounds (§4.6): how long the load has been unknown, what then holds, and the counts of replicas that hold in any case.

Bounds come before everything else and depend on no metric. While the load is unknown nothing goes down; after `failureThreshold` polls the
user's fallback applies, which never lowers unless it is `Static`; after `holdUnknownFor` the floors hold too. When the load is known again
after such an outage, nothing goes down for a window and capacity at most doubles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from autoscaling.memory import Blind, Memory
from autoscaling.observe import Seen, vanishes
from autoscaling.policy import FAILURES, IDLE_HORIZONS, IDLE_LEAST_S, PATH_FRESH_S
from autoscaling.types import CronFloor, MetricState, Why


@dataclass(frozen=True, slots=True)
class Bounds:
    """Counts of replicas that the placer enforces, and why the least is what it is. `frozen`: not to be changed in either direction."""

    least: int
    most: int
    why: Why
    state: MetricState
    frozen: bool = False  # the bounds contradict each other
    static: bool = False  # the fallback states the size
    held_long: bool = False  # unknown for longer than `hold_unknown_s`: the floors hold
    sleeps: bool = False


def blinded(memory: Memory, seen: Seen) -> Memory:
    """The memory with the count of polls that told nothing, and with the beginning of a recovery."""
    measured = seen.measured
    if not measured.known:
        if measured.failed:
            blind = memory.blind or Blind(seen.clock, 0)
            return replace(memory, blind=replace(blind, polls=blind.polls + 1), idle=None)
        return replace(memory, idle=None)
    idle = (memory.idle if memory.idle is not None else seen.clock) if measured.state is MetricState.ZERO else None
    vanished = idle is not None and (memory.vanished if memory.idle is not None else vanishes(memory, seen.look))
    back = memory.vanished and idle is None  # as after an outage
    memory = replace(memory, idle=idle, vanished=vanished, recovering=(seen.clock, seen.supply.total) if back else memory.recovering)
    if memory.blind is not None:
        long = memory.blind.polls >= threshold(seen) and memory.level is not None
        memory = replace(memory, blind=None, recovering=(seen.clock, seen.supply.total) if long else memory.recovering)
    if memory.recovering is not None and seen.clock - memory.recovering[0] >= seen.first:
        memory = replace(memory, recovering=None)
    return memory


def threshold(seen: Seen) -> int:
    """Polls after which unknown is an outage."""
    rule = seen.look.settings.fallback
    return max(1, rule.failure_threshold) if rule is not None else FAILURES


def idle_after(seen: Seen) -> float:
    """Seconds of true zero before a model may sleep: as asked, at least 10 min and three horizons."""
    rule = seen.look.settings.sleep
    return max(rule.idle_after_s if rule is not None else 0.0, IDLE_LEAST_S, IDLE_HORIZONS * seen.supply.horizon)


def cron(seen: Seen) -> CronFloor | None:
    """The highest floor that holds now."""
    now = [f for f in seen.look.settings.floors if f.begin <= seen.look.now < f.end]
    return max(now, key=lambda f: f.min_replicas, default=None)


def bounds(memory: Memory, seen: Seen) -> Bounds:
    """What holds whatever the load is."""
    settings, measured = seen.look.settings, seen.measured
    state = MetricState.RECOVERING if memory.recovering is not None and measured.known else measured.state
    most = settings.max_replicas
    if settings.min_replicas > most:  # stored before there was a check: stays as it is, and grows no further than the maximum
        return Bounds(min(most, seen.supply.count), max(most, seen.supply.count), Why.MAXIMUM, state, frozen=True)
    sleeps = may_sleep(memory, seen)
    least, why = settings.min_replicas, Why.MINIMUM
    if least == 0 and not sleeps and (settings.sleep is None or seen.supply.count > 0 or measured.wake):
        least = 1 if _someone(memory, seen) else 0  # to zero only by the rule for sleeping
    floor = cron(seen)
    if floor is not None and floor.min_replicas > least:
        least, why, sleeps = floor.min_replicas, Why.CRON_FLOOR, False
    long = memory.blind is not None and seen.clock - memory.blind.since > settings.hold_unknown_s
    rule = settings.fallback
    if memory.blind is not None and (memory.blind.polls >= threshold(seen) or long):
        if rule is not None:
            state = MetricState.FALLBACK
            wanted = min(rule.replicas, most)
            if rule.behavior == "Static":
                size = max(wanted, least)
                return Bounds(size, size, Why.FALLBACK, state, static=True)
            if wanted > least and (rule.behavior != "CurrentReplicas" or long):
                least, why = wanted, Why.FALLBACK
        if long and least == 0 and settings.sleep is not None:
            least, why = 1, Why.UNKNOWN_LOAD  # nobody sees who knocks: as where nobody could
        sleeps = False
    return Bounds(min(least, most), most, why, state, held_long=long, sleeps=sleeps)


def may_sleep(memory: Memory, seen: Seen) -> bool:
    """Whether nobody has been there for long enough, and somebody who comes will be noticed."""
    settings = seen.look.settings
    if settings.sleep is None or settings.min_replicas > 0 or seen.look.gateway is None or seen.measured.wake:
        return False
    if memory.asleep and seen.supply.count == 0:
        return True
    return memory.idle is not None and seen.clock - memory.idle >= idle_after(seen) and not no_way_back(seen)


def no_way_back(seen: Seen) -> str:
    """Why nobody would wake the model, or what it would cost whoever does; "" = somebody counts, holds, and holds for long enough."""
    door, look = seen.look.gateway, seen.look
    if door is None:
        return "nothing counts the requests that come at zero, so nobody would be noticed (docs/scale-to-zero.md)"
    if door.arrived is None or look.now - door.at > PATH_FRESH_S:
        return f"who counts the requests at zero was not read within the last {PATH_FRESH_S:.0f} s"
    wait = look.wake_s if look.wake_s is not None else seen.supply.horizon
    if door.holds_s is None or door.holds_s < wait:
        promise = f"{door.holds_s:.0f} s" if door.holds_s is not None else "nothing"
        return f"a wake takes up to {wait:.0f} s, and who holds the requests meanwhile promises {promise}"
    return ""


def stays(seen: Seen, limits: Bounds) -> str:
    """Why the least is what it is where the user's minimum is what holds; for one that may sleep, why it does not."""
    rule = seen.look.settings.sleep
    if rule is None or seen.look.settings.min_replicas > 0 or limits.least != 1:
        return f"at least {limits.least} replicas are due"
    if why := no_way_back(seen):
        return f"one replica stays: {why}"
    return f"nobody asks; the last replica goes after {idle_after(seen):.0f} s of that"


def _someone(memory: Memory, seen: Seen) -> bool:
    """Whether a model that may be at zero replicas has any, or is asked for."""
    return seen.supply.count > 0 or seen.measured.wake or (memory.held or 0.0) > 0.0
