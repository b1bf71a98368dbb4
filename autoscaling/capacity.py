"""What a fleet supplies, now and soon: ready and loading replicas with their ETA, corrected by what they were seen to achieve.

The correction kappa of an option is the EWMA of achieved over stated work, learned only while so much waits at a replica that it cannot
have run out of work from one reading to the next (below saturation the achieved rate is the demand, and kappa would ratchet down); else it
returns to 1 with a half-life of six hours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from autoscaling.counters import Part
from autoscaling.level import share
from autoscaling.mix import Mix
from autoscaling.policy import DEFAULT_COLD_START_S, KAPPA_HALF_LIFE_S, KAPPA_HIGH, KAPPA_LOW, KAPPA_QUEUE, KAPPA_S
from autoscaling.types import Look, Replica, ReplicaState

Kappas = tuple[tuple[str, float], ...]  # by option, those that are not 1


@dataclass(frozen=True, slots=True)
class Supply:
    """Work/s."""

    ready: float
    pending: float
    coming: tuple[tuple[float, float], ...]  # (seconds from now, work/s), soonest first
    count: int  # replicas that serve or load
    blocked: bool  # one of them loads, and not for longer than its deadline
    unit: float  # of a mean replica; of the reference where none is known
    horizon: float  # s until a replica that is asked for now serves
    stated: float  # ready and pending by the profiles alone

    @property
    def total(self) -> float:
        return self.ready + self.pending

    @property
    def kappa(self) -> float:
        """What the fleet achieves of what is stated; 1 while there is none. The placer counts in stated work."""
        return self.total / self.stated if self.stated > 0.0 else 1.0


def horizon(look: Look) -> float:
    """P90 of the cold start of the option that serves soonest (the fast rung takes that one first), plus a tick."""
    return min((seconds for _, seconds in look.start_s), default=DEFAULT_COLD_START_S) + look.settings.tick_s


def supply(look: Look, ordered: Iterable[Replica], kappas: Kappas) -> Supply:
    """Candidates, draining and stuck replicas count nothing; a replica of unknown work counts nothing as well."""
    factors = dict(kappas)
    wait = horizon(look)
    starts = dict(look.start_s)
    ready = pending = 0.0
    coming: list[tuple[float, float]] = []
    works: list[float] = []
    count, blocked, stated = 0, False, 0.0
    for replica in ordered:
        work = (replica.work_per_s or 0.0) * factors.get(replica.option, 1.0)
        if replica.state is ReplicaState.READY:
            ready += work
            count += 1
        elif replica.state is ReplicaState.LOADING:
            pending += work
            count += 1
            due = replica.eta if replica.eta is not None else replica.since + starts.get(replica.option, wait)
            coming.append((max(0.0, due - look.now), work))
            blocked = blocked or look.now - replica.since < look.settings.progress_deadline_s
        else:
            continue
        stated += replica.work_per_s or 0.0
        if work > 0.0:
            works.append(work)
    coming.sort()
    return Supply(ready, pending, tuple(coming), count, blocked, sum(works) / len(works) if works else 1.0, wait, stated)


def missing(supplied: Supply, level: float, backlog: float, clear_s: float) -> float:
    """Extra work/s that a backlog asks for: what is left of it when capacity that is asked for now serves, over `clear_s`. Capacity
    clears only what exceeds the arrivals."""
    left = backlog
    at, capacity = 0.0, supplied.ready
    for due, work in (*supplied.coming, (supplied.horizon, 0.0)):
        until = min(due, supplied.horizon)
        left -= max(0.0, capacity - level) * max(0.0, until - at)
        at, capacity = max(at, until), capacity + work
    return max(0.0, left) / clear_s


def learn(kappas: Kappas, look: Look, parts: tuple[Part, ...], mix: Mix, seconds: float) -> Kappas:
    """The corrections after `seconds`."""
    if seconds <= 0.0:
        return kappas
    each = mix.work(look.costs, look.role, 1.0, None)
    achieved: dict[str, float] = {}
    stated: dict[str, float] = {}
    for part in parts:
        work = part.replica.work_per_s
        if part.queued * (each or 0.0) < KAPPA_QUEUE * (work or 0.0) * part.span:
            continue  # what waits might be gone in between: below saturation the achieved rate is the demand
        if not (part.queued > 0.0 and part.fresh and part.rates is not None and work) or part.replica.state is not ReplicaState.READY:
            continue
        prompt, output = part.rates.prompt, part.rates.output
        if prompt is None or output is None:
            continue
        done = look.costs.of(prompt * mix.missed, output)
        achieved[part.replica.option] = achieved.get(part.replica.option, 0.0) + done
        stated[part.replica.option] = stated.get(part.replica.option, 0.0) + work
    before = dict(kappas)
    if not achieved and not before:
        return kappas
    back = 0.5 ** (seconds / KAPPA_HALF_LIFE_S)
    weight = share(seconds, KAPPA_S)
    after: list[tuple[str, float]] = []
    for option in sorted(before.keys() | achieved.keys()):
        value = before.get(option, 1.0)
        if option in achieved:
            value += weight * (min(max(achieved[option] / stated[option], KAPPA_LOW), KAPPA_HIGH) - value)
        else:
            value = 1.0 + (value - 1.0) * back
        if abs(value - 1.0) > 1e-6:
            after.append((option, min(max(value, KAPPA_LOW), KAPPA_HIGH)))
    return tuple(after)


def lowered(kappas: Kappas, options: Iterable[str], factor: float) -> Kappas:
    """The corrections of these options times `factor`, not below the least."""
    values = dict(kappas)
    for option in options:
        values[option] = max(KAPPA_LOW, values.get(option, 1.0) * factor)
    return tuple(sorted(values.items()))
