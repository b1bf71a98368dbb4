"""The autoscaler's clock: polls the load of every scaled model, decides, and wakes the cycle when something came out of it.

A task of the leader. It sees models through the last cycle's view (`update`), which is as new as the cluster, and never writes anything but
what it has learned. The decisions of one tick are made together in one thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from autoscaling import season as seasons
from autoscaling import seasonal
from autoscaling.decide import decide
from autoscaling.memory import Memory, MemoryFault, learned, restore, worth_writing
from autoscaling.types import Decision, Look, ReplicaState
from placement.types import Plan
from polyfleet.errors import ApiError, Fenced
from polyfleet.inputs import Inputs, ModelView
from polyfleet.scaling import look, stuck, units
from polyfleet.scaling.board import Board, Entry
from polyfleet.scaling.conflicts import Conflicts
from polyfleet.scaling.look import NOTHING, Readings
from polyfleet.scaling.series import ScalingSeries
from polyfleet.scaling.settings import TICK_S, ZERO_TICK_S
from polyfleet.scaling.starts import expected, slowest
from polyfleet.scaling.starts import load as load_starts
from polyfleet.scaling.store import Learned, Store
from polyfleet.snapshot import standings
from polyfleet.state import Observed
from polyfleet.wake import path

log = logging.getLogger(__name__)

CAUSE = "load"  # why a cycle runs
WRITE_S = 300.0  # learned state is written at most so often
SEASON_S = 3600.0  # and at most so often for the season alone: all models close a bin at once, and a lost hour is one of many
_AT_ONCE = 8  # of a thousand models that an operator meets when it begins
_LEAST_REST_S = 1.0  # between two ticks, however long one takes
READ_AGAIN_S = 30.0  # after it could not be read
Poll = Callable[[Inputs, float], Awaitable[Readings]]
Decide = Callable[[Memory | None, Look], Decision]


async def nothing(inputs: Inputs, now: float) -> Readings:
    """Nobody reads the load: everything is unknown, and held."""
    return NOTHING


@dataclass(slots=True)
class Autoscaler:
    """`wall` gives seconds since 1970; `mark` wakes the cycle. `store` None: nothing is kept. `poll` reads the load."""

    wall: Callable[[], float]
    mark: Callable[[str], None]
    store: Store | None = None
    poll: Poll = nothing
    knock: Poll | None = None  # only who counts the requests at zero; None = nobody can be asked alone
    decide: Decide = decide
    series: ScalingSeries = field(default_factory=ScalingSeries)
    board: Board = field(default_factory=Board)
    _seen: tuple[Inputs, Plan] | None = None
    _conflicts: Conflicts = field(default_factory=Conflicts)
    _latest: Readings = NOTHING
    _read_at: float = float("-inf")  # when the replicas were asked last
    _again: dict[str, float] = field(default_factory=dict)  # model -> when its learned state is asked for again
    _few: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))  # requests about learned state

    # ---- the cycle's side

    def view(self, observed: Observed) -> Observed:
        """`observed` with what every model's decision is; call it at the beginning of each look at the cluster."""
        return replace(observed, scaling=self.board.forces())

    def update(self, observed: Observed, inputs: Inputs, plan: Plan, sizes: Mapping[tuple[str, str], int] | None = None) -> None:
        """What the cycle has come to. `sizes`: Deployment (namespace, name) -> replicas that are wanted and stand in the API server; None:
        a write failed, so nobody knows."""
        now = self.wall()
        self._seen = (inputs, plan)
        scaled = {key: view for key, view in inputs.models.items() if _scaled(view)}
        self.board.keep(set(scaled))
        news = False
        for key, view in sorted(scaled.items()):
            entry = self.board.entry(key, view.state.uid)
            for option, _, took in entry.starts.look(view, first=entry.fresh):
                profile = option.split("|")[1] if option.count("|") == 4 else ""
                self.series.cold_start(view.state.namespace, view.state.name, profile, took)
                entry.changed = True
            entry.fresh = False
            exhausted = stuck.merged(entry.exhausted, stuck.found(view, now), now)
            conflict = self._conflicts.of(view, observed, now)
            if (exhausted, conflict) != (entry.exhausted, entry.conflict):
                entry.exhausted, entry.conflict = exhausted, conflict
                if entry.force is not None:
                    entry.force = replace(entry.force, exhausted=exhausted, conflict=conflict)
                    self.board.changed()
                news = True
        self._conflicts.decided(observed, sizes, set(scaled), inputs)
        self.series.spilled(inputs, plan)
        if news:
            self.mark(CAUSE)

    # ---- the clock's side

    async def run(self) -> None:
        """Ticks for ever. An error of one tick is logged and the next one comes; a lost right to write ends it."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self.tick()
            except Fenced:
                raise
            except Exception:
                log.exception("a tick of the autoscaler failed; sizes stay")
            await asyncio.sleep(max(_LEAST_REST_S, self.pause() - (loop.time() - began)))

    def pause(self) -> float:
        """Seconds until the next tick: shorter while a model is at zero, for somebody may be waiting."""
        inputs = self._seen[0] if self._seen is not None else None
        views = [view for view in inputs.models.values() if _scaled(view)] if inputs is not None else []
        return ZERO_TICK_S if any(_at_zero(view) for view in views) else TICK_S

    async def tick(self) -> None:
        """One poll and one decision of every scaled model. In between, while some are at zero, those alone: of the others nothing is asked,
        or one model that sleeps would double what reading the whole fleet costs."""
        if self._seen is None:
            return
        inputs, plan = self._seen
        views = [view for _, view in sorted(inputs.models.items()) if _scaled(view) and view.accepted is None and view.spec is not None]
        await asyncio.gather(*(self._learn(view) for view in views))
        began = self.wall()
        between = self.knock is not None and 0.0 <= began - self._read_at < TICK_S - _LEAST_REST_S
        due = [view for view in views if _at_zero(view)] if between else views
        if between and self.knock is not None:
            knocked = await self.knock(inputs, began) if due else NOTHING
            readings = replace(self._latest, gateways=knocked.gateways)
        else:
            readings = self._latest = await self.poll(inputs, began) if views else NOTHING
            self._read_at = began
        now = self.wall()
        entries = [(view, self.board.entry(view.key, view.state.uid)) for view in due]
        made = await asyncio.to_thread(self._decided, inputs, plan, entries, readings, now)
        news = False
        for job, decision in made:
            found = self.board.entries.get(job.key)
            if found is None or found.uid != job.view.state.uid:
                continue  # its model has gone meanwhile
            for row in job.look.replicas:
                found.cached(row.option, row.sample.kv_capacity if row.sample is not None else None)
            stale, second = _newest(job.look) is not None, any(r.id in readings.second for r in job.look.replicas)
            told = self.board.tell(
                job.key,
                decision,
                now,
                starts=job.starts,
                wake=job.wake,
                slowest=job.slowest,
                stale=stale,
                second=second,
                busy=_busy(job.look),
            )
            news = told or news
            _remember(found, job, decision)
            self.series.decided(job.view.state.namespace, job.view.state.name, decision.demand, _newest(job.look))
        self.series.keep({(view.state.namespace, view.state.name) for view in views})
        if news:
            self.mark(CAUSE)
        await asyncio.gather(*(self._keep(view, now) for view in views))

    def _decided(
        self, inputs: Inputs, plan: Plan, entries: Sequence[tuple[ModelView, Entry]], readings: Readings, now: float
    ) -> list[tuple[_Job, Decision]]:
        """In a thread of its own: of a thousand models this takes a while. A model on which it fails is held; the others go on."""
        made: list[tuple[_Job, Decision]] = []
        for view, entry in entries:
            try:
                job = self._job(inputs, plan, view, entry, readings, now)
                if job is not None:
                    made.append((job, _within(self.decide(job.memory, job.look), view)))
            except Exception:
                log.exception("cannot decide on the size of a model; it stays", extra={"model": view.key})
        return made

    def _job(self, inputs: Inputs, plan: Plan, view: ModelView, entry: Entry, readings: Readings, now: float) -> _Job | None:
        spec = view.spec
        if not entry.ready or spec is None:
            return None
        entry.unit = units.reference(view.resolution.options, units.stated(spec), entry.unit)
        if entry.unit is None:
            return None  # not one option has a number: ProfilesResolved says what to do
        starts = expected(view, entry.starts)
        wake = look.wake(starts, view)
        longest = slowest(view, entry.starts)
        fault = wake[1] or path.awake(view)
        seen = look.build(inputs, plan, view, entry.unit, starts, readings, now, wake_fault=fault, slowest=longest)
        return _Job(view.key, view, entry.memory, seasonal.given(entry.season, seen), starts, wake, longest)

    # ---- what survives a restart

    async def _learn(self, view: ModelView) -> None:
        """Once per model. While it cannot be read nothing is decided: sizes stay as they are."""
        entry, now = self.board.entry(view.key, view.state.uid), self.wall()
        if entry.ready or now < self._again.get(view.key, now):
            return
        if self.store is not None:
            try:
                async with self._few:
                    found = await self.store.read(view.state)
            except ApiError as error:
                log.warning("what was learned of a model cannot be read yet", extra={"model": view.key, "detail": str(error)[:300]})
                self._again[view.key] = now + READ_AGAIN_S
                return
            if found is not None:
                _take(entry, found, now, view.key)
        if entry.memory is not None and view.state.status.get("desiredReplicas") == 0:
            # It slept, or was suspended: what is remembered of its load is of before, and is nobody who asks now.
            entry.memory = replace(entry.memory, asleep=True)
        self._again.pop(view.key, None)
        entry.ready = True

    async def _keep(self, view: ModelView, now: float) -> None:
        entry = self.board.entry(view.key, view.state.uid)
        rested = now - entry.stored_at
        due = entry.season_due and rested >= SEASON_S
        if self.store is None or entry.memory is None or not (entry.changed or due) or rested < WRITE_S:
            return
        memory, starts, season = learned(entry.memory), entry.starts.dump(), entry.season
        same = entry.stored is not None and entry.stored.get("starts") == starts and not worth_writing(_memory(entry.stored), memory)
        if same and not due:
            return
        entry.stored_at = now  # also where it fails: a write that is refused is not tried at every tick
        kept = Learned(memory, starts, entry.unit, seasons.stored(season) if season.packed else None)
        async with self._few:
            written = await self.store.write(view.state, kept)
        if written:
            entry.stored, entry.changed = {"memory": memory, "starts": starts}, False
            entry.season_mark, entry.season_due = seasons.mark(season), False


@dataclass(frozen=True, slots=True)
class _Job:
    key: str
    view: ModelView
    memory: Memory | None
    look: Look
    starts: tuple[tuple[str, float], ...]
    wake: tuple[float | None, str]
    slowest: float | None


def _within(made: Decision, view: ModelView) -> Decision:
    """With the maximum of the spec, where a move was let exceed it (`look`): a bound that moves would be news."""
    assert view.spec is not None
    assert view.spec.scaling is not None
    most = max(view.spec.scaling.max_replicas, made.demand.min_replicas)
    return replace(made, demand=replace(made.demand, max_replicas=most)) if made.demand.max_replicas > most else made


def _at_zero(view: ModelView) -> bool:
    return not any(not item.leaving for item in standings(view))


def _scaled(view: ModelView) -> bool:
    return view.spec is not None and view.spec.scaling is not None and not view.spec.suspend


def _remember(entry: Entry, job: _Job, decision: Decision) -> None:
    """The measured load goes into the season; whether that is worth writing is asked once per bin."""
    before = entry.season
    entry.season = seasonal.fed(before, job.look, decision.demand)
    if entry.season.packed is not before.packed and not entry.season_due:
        entry.season_due = seasons.worth_writing(entry.season_mark, entry.season)


def _take(entry: Entry, found: Learned, now: float, key: str) -> None:
    starts = load_starts(found.starts)
    starts.seen, starts.loaded = entry.starts.seen, entry.starts.loaded
    for (option, cache), row in entry.starts.rows.items():
        for took in row:
            starts.add(option, cache, took)
    entry.starts, entry.unit = starts, found.unit
    entry.stored, entry.stored_at = {"memory": found.memory, "starts": found.starts}, now
    if found.season is not None:
        try:
            entry.season = seasons.restored(found.season)
            entry.season_mark = seasons.mark(entry.season)
        except seasons.SeasonError as fault:
            detail = {"model": key, "detail": str(fault)[:300]}
            log.warning("what was stored of a model's earlier days is of no use; they are learned anew", extra=detail)
    try:
        entry.memory = restore(found.memory, now)
    except MemoryFault as fault:
        log.warning("what was learned of a model is of no use; it is learned anew", extra={"model": key, "detail": str(fault)[:300]})


def _memory(stored: Mapping[str, object]) -> Mapping[str, object]:
    found = stored.get("memory")
    return found if isinstance(found, Mapping) else {}


def _busy(seen: Look) -> dict[str, float]:
    """Requests in flight of the replicas that were read just now."""
    found = [(r.id, r.sample) for r in seen.replicas if r.state is ReplicaState.READY and not r.failed and r.sample is not None]
    return {uid: inside for uid, sample in found if (inside := sample.inside) is not None and seen.now - sample.at <= 2.0 * TICK_S}


def _newest(seen: Look) -> float | None:
    """Age of the newest reading, s; None = there is none."""
    stamps = [r.sample.at for r in seen.replicas if r.sample is not None]
    return max(0.0, seen.now - max(stamps)) if stamps else None


__all__ = ["Autoscaler", "Poll"]
