"""The operator's own cycle against the real API server, one turn at a time: real controllers, real scheduler, KWOK for the kubelets.

A test decides when a turn happens and what happens between two turns, so a crash, a stale view or a person's answer lands exactly where
it is meant to. Nothing here sleeps: what the controllers do is waited for on the cache's own watches.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from polyfleet.apply import Applier
from polyfleet.cache import Cache
from polyfleet.client import Client, load_configuration
from polyfleet.cycle import Cycle, now
from polyfleet.drain import Drain
from polyfleet.events import EventPoster
from polyfleet.expectations import Expectations
from polyfleet.in_flight import Counter
from polyfleet.metrics import Metrics
from polyfleet.plans.writer import PlanWriter
from polyfleet.queue import DirtyQueue
from polyfleet.scaling.runner import Autoscaler
from polyfleet.solver_process import SolverProcess
from polyfleet.state import CustomState, InFlight, Observed, PodState

from hwprofiles.shipped_profiles import SHIPPED
from sandbox.fleet import Devices, Node

NAMESPACE = "plans"
A, B = "plan-node-a", "plan-node-b"  # eight devices each; B is cordoned when a test begins
OWN = ("modeldeployments", "placementplans", "fleetpolicies", "acceleratorpools", "hardwareprofiles")
H100 = "nvidia.com/gpu"
LABELS = {
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": "8", "nvidia.com/gpu.memory": "81559",
    "nvidia.com/gpu.present": "true", "polyfleet.io/sandbox": "true",
}  # fmt: skip
Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]
Write = tuple[str, str, str]  # kind, verb, code
Scaler = Callable[[Client, DirtyQueue], Autoscaler]


def node(name: str, devices: int = 8) -> Node:
    return Node(name, dict(LABELS), (), Devices(H100, devices, "nvidia"))


def profile() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((SHIPPED / "sandbox-nvidia.yaml").read_text(encoding="utf-8"))
    return found


def model(name: str, **spec: Any) -> dict[str, Any]:
    """A model of the small engine; nothing is ever pulled, KWOK plays the kubelet."""
    base = {"model": {"uri": "hf://polyfleet/byte-tiny"}, "drainTimeout": "1s"}
    return {
        "apiVersion": "polyfleet.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {**base, **spec},
    }


def policy(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "polyfleet.io/v1alpha1",
        "kind": "FleetPolicy",
        "metadata": {"name": "default"},
        "spec": {"accuracy": {"gate": "Disabled"}, **spec},
    }


@dataclass
class Turning:
    client: Client
    cache: Cache
    cycle: Cycle
    kubectl: Kubectl
    writes: list[Write] = field(default_factory=list)

    async def hand(self, *arguments: str, stdin: str | None = None) -> str:
        """What a person does with kubectl, off the loop."""
        done = await asyncio.to_thread(self.kubectl, *arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    async def apply(self, *objects: dict[str, Any]) -> None:
        for each in objects:
            await self.hand("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(each))
            kind, meta = each["kind"], each["metadata"]
            # The cache has to have seen what the test did, or the next turn would look at yesterday.
            found = json.loads(
                await self.hand("get", kind, meta["name"], *(["-n", meta["namespace"]] if "namespace" in meta else []), "-o", "json")
            )
            if self.cache.holds(kind):
                await self.seen(kind, found["metadata"])

    async def seen(self, kind: str, metadata: dict[str, Any]) -> None:
        def there() -> bool:
            state = self.cache.find(kind, metadata.get("namespace", ""), metadata["name"])
            return state is not None and int(state.resource_version) >= int(metadata["resourceVersion"])

        assert await self.cache.wait_for(there, 30), metadata["name"]

    async def turn(self) -> Observed:
        assert await self.cycle.once(frozenset({"test"}))
        assert await self.cycle.expectations.settle()
        return self.cache.observe()

    async def until(self, what: str, reached: Callable[[Observed], bool], seconds: float = 60) -> Observed:
        """Turns, and between them waits for whatever moves in the cluster, until the state is there."""
        ends = time.monotonic() + seconds
        while True:
            seen = await self.turn()
            if reached(seen):
                return seen
            assert time.monotonic() < ends, f"not reached: {what}\n{self.describe(seen)}"
            await self.cache.wait_for(lambda seen=seen: self.cache.observe() != seen, 1)  # type: ignore[misc]

    async def rests(self, turns: int = 3) -> Observed:
        """Turns until one writes nothing (conditions follow each other); then further turns must write nothing either."""
        for _ in range(6):
            self.writes.clear()
            await self.turn()
            if not self.writes:
                break
        for _ in range(turns):
            seen = await self.turn()
        assert self.writes == [], self.writes
        return seen

    def describe(self, seen: Observed) -> str:
        rows = [f"{p.name} {p.spec.get('approval')} {p.status.get('state')} {p.spec.get('assignments')}" for p in seen.plans]
        rows += [f"pod {p.name} node={p.node} pinned={p.pinned_node} deleting={p.deleting} {p.phase} gates={p.gates}" for p in seen.pods]
        rows += [f"{m.key} {json.dumps(m.status.get('conditions'))}" for m in seen.model_deployments]
        return "\n".join(rows)


class Idle(Counter):
    """There are no engines behind these pods: none of them has a request in flight."""

    def view(self, observed: Observed) -> Observed:
        idle = InFlight(0, "9999-01-01T00:00:00Z", closed="2000-01-01T00:00:00Z", quiet="2000-01-01T00:00:00Z")
        return replace(observed, in_flight={pod.uid: idle for pod in observed.pods})

    def update(self, drains: Iterable[Drain]) -> None:
        pass


@asynccontextmanager
async def operator(
    kubeconfig: Path,
    kubectl: Kubectl,
    *,
    writer: type[PlanWriter] = PlanWriter,
    folder: Path,
    scaler: Scaler | None = None,
    home: str | None = None,
) -> AsyncIterator[Turning]:
    """A freshly started operator: nothing in memory. Leaving it is a kill: nothing is said to the API server. `scaler` makes the
    autoscaler, whose ticks the test makes; `home` is where the activator is."""
    writes: list[Write] = []
    clock = time.monotonic
    async with Client(await load_configuration({"KUBECONFIG": str(kubeconfig)}), on_write=lambda *what: writes.append(what)) as client:
        cache = Cache(client, clock, home=home)
        task = asyncio.create_task(cache.run())
        await cache.wait_synced()
        expectations = Expectations(cache, patience_s=30)
        solver = SolverProcess(clock, deadline_s=60, folder=folder)
        queue = DirtyQueue(clock)
        cycle = Cycle(
            queue, cache, expectations, solver, Applier(client, cache, expectations, queue.mark_later, clock), EventPoster(client, "test"),
            Metrics(clock), clock, writer(client, cache, expectations), counter=Idle(now, queue.mark),
            scaler=scaler(client, queue) if scaler is not None else None,
        )  # fmt: skip
        try:
            yield Turning(client, cache, cycle, kubectl, writes)
        finally:
            await solver.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


# ---- what the tests ask


def states(seen: Observed) -> dict[str, str]:
    return {plan.name: str(plan.status.get("state")) for plan in seen.plans}


def newest(seen: Observed) -> CustomState:
    return max(seen.plans, key=lambda plan: plan.name)


def replicas(seen: Observed, name: str) -> list[PodState]:
    return [pod for pod in seen.pods if pod.labels.get("polyfleet.io/deployment") == name and not pod.finished]


def ready(seen: Observed, name: str) -> int:
    found = next(state for state in seen.model_deployments if state.name == name)
    return int(found.status.get("readyReplicas") or 0)


def condition(seen: Observed, name: str, kind: str) -> tuple[str, str, str]:
    found = next(state for state in seen.model_deployments if state.name == name)
    row = next((item for item in found.status.get("conditions") or () if item["type"] == kind), {})
    return str(row.get("status", "")), str(row.get("reason", "")), str(row.get("message", ""))
