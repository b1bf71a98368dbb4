"""The autoscaler's side of the operator on a real API server: real controllers and scheduler, the scale subresource, a real HPA.

What is read of the load and what is decided is scripted, so each test says what the decision is and looks at what becomes of it: sizes,
who writes them and how often, status, and what survives a restart.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from polyfleet.client import Client
from polyfleet.inputs import Inputs
from polyfleet.queue import DirtyQueue
from polyfleet.scaling.look import Readings
from polyfleet.scaling.runner import Autoscaler
from polyfleet.scaling.store import Store
from polyfleet.state import Observed

from autoscaling.memory import Memory
from autoscaling.season import restored
from autoscaling.types import Decision, Demand, Direction, Look, MetricState, ReplicaState, Why
from autoscaling.windows import Windows
from tests.control.cycling import NAMESPACE, Kubectl, Turning, condition, model, operator, policy, ready, replicas, run

pytestmark = pytest.mark.control
NAME = "m"
AUTO = {"minReplicas": 1, "maxReplicas": 6}
START = 1_700_000_000.0


@dataclass
class Script:
    """What every tick decides, until the test says something else. `now` is the autoscaler's clock; a tick lets ten seconds pass."""

    work: float = 1.0
    shrink: bool = False
    direction: Direction = Direction.HOLD
    why: Why = Why.WITHIN_BAND
    metrics: MetricState = MetricState.VALUE
    learned: bool = False
    now: float = START

    def scaler(self, client: Client, queue: DirtyQueue) -> Autoscaler:
        return Autoscaler(lambda: self.now, queue.mark, Store(client), poll=self.poll, decide=self.decide)

    async def poll(self, inputs: Inputs, now: float) -> Readings:
        return Readings()

    def decide(self, memory: Memory | None, look: Look) -> Decision:
        def supply(state: ReplicaState) -> float:
            return sum(r.work_per_s or 0.0 for r in look.replicas if r.state is state)

        known = self.metrics is not MetricState.UNKNOWN
        settings = look.settings
        demand = Demand(
            look.model, look.role, self.work, (), settings.min_replicas, settings.max_replicas, self.shrink, 0.0, self.direction, self.why,
            f"as scripted: {self.work:g}", self.metrics, self.work if known else None, self.work if known else None, 0.0,
            supply(ReplicaState.READY), supply(ReplicaState.LOADING), 0.0 if known else None, 15.0,
        )  # fmt: skip
        before = memory if memory is not None else Memory(Windows(look.now))
        return Decision(demand, replace(before, held=self.work), learned_changed=self.learned)

    def says(self, work: float, direction: Direction, why: Why, *, shrink: bool = False) -> None:
        self.work, self.direction, self.why, self.shrink = work, direction, why, shrink


class Ticking:
    """An operator whose autoscaler ticks before each turn. `written`: how often each turn wrote the size of a child."""

    def __init__(self, op: Turning, script: Script) -> None:
        self.op, self.script = op, script
        self.written: list[int] = []

    async def turn(self) -> Observed:
        scaler = self.op.cycle.scaler
        assert scaler is not None
        self.script.now += 10
        await scaler.tick()
        before = len(self.op.writes)
        seen = await self.op.turn()
        self.written.append(sum(1 for kind, _, _ in self.op.writes[before:] if kind == "Deployment"))
        return seen

    async def until(self, what: str, reached: Any, turns: int = 120) -> Observed:
        for _ in range(turns):
            seen = await self.turn()
            if reached(seen):
                return seen
            await self.op.cache.wait_for(lambda seen=seen: self.op.cache.observe() != seen, 1)  # type: ignore[misc]
        raise AssertionError(f"not reached: {what}\n{self.op.describe(seen)}")

    async def rests(self, turns: int = 8) -> Observed:
        """What is told late is told within eight ticks (80 s); from then on ticks and turns write nothing at all, but for what was learned
        on the way here: that is due five minutes after it began, wherever these turns fall."""
        for _ in range(8):
            await self.turn()
        self.op.writes.clear()
        for _ in range(turns):
            seen = await self.turn()
        told = [row for row in self.op.writes if row[0] != "ConfigMap"]
        assert (told, len(self.op.writes) - len(told) <= 1) == ([], True), self.op.writes
        return seen


def status(seen: Observed) -> dict[str, Any]:
    return dict(next(state for state in seen.model_deployments if state.name == NAME).status)


def advice(seen: Observed) -> dict[str, Any]:
    return dict(status(seen).get("autoscaler") or {})


def serving(count: int) -> Any:
    return lambda seen: ready(seen, NAME) == count == len(replicas(seen, NAME)) == status(seen).get("replicas")


def uids(seen: Observed) -> set[str]:
    return {pod.uid for pod in replicas(seen, NAME)}


def test_up_down_and_not_a_write_between(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """1 -> 3 -> 1 as decided; unknown load keeps three; constant load writes nothing; no turn writes a child's size twice."""

    async def scenario() -> None:
        script = Script()
        async with operator(apiserver, clean, folder=tmp_path, scaler=script.scaler) as op:
            run_ = Ticking(op, script)
            await op.apply(policy(), model(NAME, scaling=AUTO))
            await run_.until("one serves", serving(1))

            script.says(2.5, Direction.UP, Why.NEED_ABOVE_CAPACITY)
            seen = await run_.until("three serve", serving(3))
            assert status(seen)["desiredReplicas"] == 3
            assert advice(seen)["direction"] == "Up"
            assert advice(seen)["reason"].startswith("NeedAboveCapacity: as scripted: 2.5")
            assert condition(seen, NAME, "ScalingActive")[0] == "True"

            script.says(2.5, Direction.HOLD, Why.WITHIN_BAND)
            seen = await run_.rests()
            three = uids(seen)

            script.metrics, script.why, script.work = MetricState.UNKNOWN, Why.UNKNOWN_LOAD, 0.0
            seen = await run_.until("it is told", lambda seen: condition(seen, NAME, "MetricsAvailable")[0] == "False")
            assert condition(seen, NAME, "MetricsAvailable")[1] == "MetricsMissing"
            seen = await run_.rests()
            assert uids(seen) == three

            script.metrics = MetricState.VALUE
            script.says(0.8, Direction.DOWN, Why.NEED_BELOW_CAPACITY, shrink=True)
            seen = await run_.until("one is left", serving(1))
            assert uids(seen) < three
            script.direction = Direction.HOLD
            seen = await run_.rests()
            assert condition(seen, NAME, "MetricsAvailable")[0] == "True"
            assert status(seen)["desiredReplicas"] == 1
            assert max(run_.written) == 1

    run(scenario)


def test_a_restart_in_mid_ramp_takes_nothing_away(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """Killed while three are on their way: the next operator knows nothing of the load, and keeps and completes what was decided."""

    async def scenario() -> None:
        script = Script(learned=True)
        async with operator(apiserver, clean, folder=tmp_path, scaler=script.scaler) as op:
            run_ = Ticking(op, script)
            await op.apply(policy(), model(NAME, scaling=AUTO))
            await run_.until("one serves", serving(1))
            script.says(4, Direction.UP, Why.NEED_ABOVE_CAPACITY)
            await run_.turn()
            seen = await run_.turn()
            assert status(seen)["desiredReplicas"] == 4
            kept = uids(seen)

        later = Script(work=0.0, metrics=MetricState.UNKNOWN, why=Why.UNKNOWN_LOAD, now=script.now + 30)
        async with operator(apiserver, clean, folder=tmp_path, scaler=later.scaler) as op:
            seen = await op.turn()  # before anything is decided
            assert status(seen)["desiredReplicas"] == 4
            run_ = Ticking(op, later)
            sizes: list[int] = []

            def grown(seen: Observed) -> bool:
                sizes.append(status(seen)["desiredReplicas"])
                assert kept <= uids(seen)
                return bool(serving(4)(seen))

            seen = await run_.turn()
            assert advice(seen)["direction"] == "Up"  # as the killed one told it
            await run_.until("all four serve", grown)
            assert set(sizes) == {4}
            await run_.rests()

    run(scenario)


def test_what_was_learned_lies_beside_the_model_and_goes_with_it(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """One ConfigMap, owned by the ModelDeployment, written once in five minutes at most, and read by the next operator. The load of earlier
    days lies in it and is written once an hour."""

    async def scenario() -> None:
        script = Script(learned=True)
        async with operator(apiserver, clean, folder=tmp_path, scaler=script.scaler) as op:
            run_ = Ticking(op, script)
            await op.apply(policy(), model(NAME, scaling=AUTO))
            await run_.until("one serves", serving(1))
            assert Counter(kind for kind, _, _ in op.writes)["ConfigMap"] == 1
            owner = next(state for state in op.cache.observe().model_deployments if state.name == NAME)
            listed = json.loads(await op.hand("get", "configmaps", "-n", NAMESPACE, "-l", f"polyfleet.io/deployment={NAME}", "-o", "json"))
            (found,) = listed["items"]
            (reference,) = found["metadata"]["ownerReferences"]
            assert (reference["kind"], reference["uid"]) == ("ModelDeployment", owner.uid)
            assert json.loads(found["data"]["learned.json"])["unit"]["option"].startswith(f"{NAMESPACE}/{NAME}|")
            await run_.rests()

            scaler_ = op.cycle.scaler
            assert scaler_ is not None
            script.now += 400
            await scaler_.tick()  # the cold start, if it was seen after the first write
            op.writes.clear()
            begun = script.now
            for minute in range(80):  # a minute a tick; the load is 1 and 2 work/s in turn, for ten minutes each
                script.work, script.now = 1.0 + minute // 10 % 2, begun + 60 * minute
                await scaler_.tick()
            assert Counter(kind for kind, _, _ in op.writes) == {"ConfigMap": 1}
            text = await op.hand("get", "configmap", f"{NAME}-learned", "-n", NAMESPACE, "-o", "jsonpath={.data.learned\\.json}")
            filed = restored(json.loads(text)["season"])
            assert len(filed.bins) >= 5
            means = [value for value in filed.bins if value is not None]
            assert 1.0 <= min(means) < 1.5 < max(means) <= 2.0

        again = Script(now=script.now + 60)
        seen: list[Memory | None] = []

        def decide(memory: Memory | None, look: Look) -> Decision:
            seen.append(memory)
            return Script.decide(again, memory, look)

        def scaler(client: Client, queue: DirtyQueue) -> Autoscaler:
            return Autoscaler(lambda: again.now, queue.mark, Store(client), poll=again.poll, decide=decide)

        async with operator(apiserver, clean, folder=tmp_path, scaler=scaler) as op:
            await op.turn()
            await Ticking(op, again).turn()
            assert seen[0] is not None  # what was learned is there at the first decision
            assert op.cycle.scaler is not None
            assert op.cycle.scaler.board.entries[f"{NAMESPACE}/{NAME}"].season.bins[: len(filed.bins)] == filed.bins

    run(scenario)


def test_another_scaler_writes_the_size_through_the_scale_subresource(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """Mode External: spec.replicas is the size, inside the bounds; the number that it should be is published beside it."""

    async def scenario() -> None:
        script = Script(work=1.5)
        async with operator(apiserver, clean, folder=tmp_path, scaler=script.scaler) as op:
            run_ = Ticking(op, script)

            async def scale(size: int) -> None:
                await op.hand("scale", "mdep", NAME, "-n", NAMESPACE, f"--replicas={size}")

            await op.apply(policy(), model(NAME, replicas=1, scaling={**AUTO, "minReplicas": 1, "maxReplicas": 5, "mode": "External"}))
            await run_.until("one serves", serving(1))
            await scale(3)
            seen = await run_.until("three serve", serving(3))
            assert condition(seen, NAME, "ScalingActive")[:2] == ("False", "ExternallyScaled")
            await scale(9)
            seen = await run_.until("the maximum serves", serving(5))
            assert status(seen)["desiredReplicas"] == 5
            await run_.rests()
            script.says(1.5, Direction.DOWN, Why.NEED_BELOW_CAPACITY, shrink=True)
            seen = await run_.until("it is advised", lambda seen: advice(seen).get("desired") == "2")
            assert ready(seen, NAME) == 5  # advice changes nothing
            await scale(0)
            await run_.until("the minimum serves", serving(1))

    run(scenario)


def test_advice_writes_nothing_to_children(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    async def scenario() -> None:
        script = Script()
        async with operator(apiserver, clean, folder=tmp_path, scaler=script.scaler) as op:
            run_ = Ticking(op, script)
            await op.apply(policy(), model(NAME, scaling={**AUTO, "mode": "Advise"}))
            await run_.until("one serves", serving(1))
            await run_.rests()
            run_.written.clear()
            script.says(3.2, Direction.UP, Why.NEED_ABOVE_CAPACITY)
            seen = await run_.until("it is advised", lambda seen: advice(seen).get("desired") == "4")
            seen = await run_.rests()
            assert condition(seen, NAME, "ScalingActive")[:2] == ("False", "AdvisoryOnly")
            assert (ready(seen, NAME), status(seen)["desiredReplicas"]) == (1, 1)
            assert sum(run_.written) == 0

    run(scenario)


def test_an_hpa_on_a_child_is_told_and_not_fought(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """OC-044: a native HPA with minimum 5 on the child of a model that wants one. Told in the next cycle by name; at most two changes of
    the size in twenty cycles; when it is gone the model's own size comes back."""

    async def scenario() -> None:
        script = Script()
        async with operator(apiserver, clean, folder=tmp_path, scaler=script.scaler) as op:
            run_ = Ticking(op, script)
            await op.apply(policy(), model(NAME, scaling=AUTO))
            seen = await run_.until("one serves", serving(1))
            (child,) = [d.name for d in seen.deployments if d.labels.get("polyfleet.io/deployment") == NAME]
            await op.hand("autoscale", "deployment", child, "-n", NAMESPACE, "--name=mine", "--min=5", "--max=6", "--cpu=50%")
            assert await op.cache.wait_for(lambda: bool(op.cache.observe().scalers), 30)
            seen = await run_.turn()
            row = condition(seen, NAME, "ScalingActive")
            assert row[:2] == ("False", "ConflictingScaler")
            assert "HorizontalPodAutoscaler mine" in row[2]
            run_.written.clear()
            seen = await run_.until("the HPA's five serve", lambda seen: ready(seen, NAME) == 5)
            sizes = [5]
            for _ in range(20):
                seen = await run_.turn()
                (deployment,) = [d for d in seen.deployments if d.name == child]
                sizes.append(deployment.replicas)
            assert set(sizes) == {5}
            assert max(run_.written) <= 1
            await op.hand("delete", "hpa", "mine", "-n", NAMESPACE)
            assert await op.cache.wait_for(lambda: not op.cache.observe().scalers, 30)
            script.says(0.8, Direction.DOWN, Why.NEED_BELOW_CAPACITY, shrink=True)
            seen = await run_.until("its own size is back", serving(1))
            assert condition(seen, NAME, "ScalingActive")[0] == "True"

    run(scenario)
