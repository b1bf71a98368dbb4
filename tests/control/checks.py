"""The runner of checks against the real API server: real objects and ConfigMaps, a checker that the test scripts step by step."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyfleet.cache import Cache
from polyfleet.certify import Certifier, status
from polyfleet.certify.run import Limits
from polyfleet.clearance.reports import OWNER
from polyfleet.clearance.work import Certify, Enter, Finding, GoldenSource, RecordRef, Replica, Work
from polyfleet.client import Client, load_configuration
from polyfleet.errors import NotFound
from polyfleet.resources import CONFIG_MAPS
from polyfleet.state import CustomState, Observed
from polyfleet.status.conditions import Judged, write

from accuracy.certify import Job, Outcome, Progress
from accuracy.entry_check import EntryOutcome
from accuracy.http.endpoint import Endpoint
from accuracy.policy import Formats, Policy, Settings
from accuracy.record import Record, RecordItem
from accuracy.report.model import Report, Side
from accuracy.types import (
    Capabilities,
    Condition,
    Decision,
    Fingerprint,
    Gate,
    GateResult,
    GoldenSet,
    Mode,
    Position,
    Reason,
    Sample,
    Token,
    Verdict,
)
from tests.control.cycling import Kubectl

NAMESPACE = "checks"
NOW = "2026-11-25T08:00:00Z"
MODEL = "m"
PRINT = Fingerprint(profile="p", weights="sha256:1", flags="sha256:2")
QUICK = Limits(progress_s=0.0, checkpoint_s=0.0)  # every progress is told and stored: the tests wait for events, not for times
EQUIVALENT = Decision(Verdict.PROMOTE, Reason.EQUIVALENT, "at most 2 % bad prompts", 4, (), 1.1, 0.02, 0.99)


def decision(verdict: Verdict, reason: Reason, message: str = "why", prompts: int = 4) -> Decision:
    gate = GateResult(Gate.TAIL, "", "rate", prompts, 0.0, (0.0, 0.5), 0.02, 1.5, 0.9, "Open")
    return Decision(verdict, reason, message, prompts, (gate,))


def samples(count: int) -> tuple[Sample, ...]:
    return tuple(
        Sample(n, f"chat-{n:03}", "Chat", "Text", Condition(), Mode.STEPWISE, 0.001, 0.002, 0.001, 0.002, 0.0, positions=8)
        for n in range(count)
    )


def record(text: str = "hello", items: int = 2) -> Record:
    positions = (Position(Token(5, "a", -0.5), (Token(5, "a", -0.5), Token(6, "b", -1.5))),)
    rows = tuple(RecordItem(f"chat-{n:03}", (1, 2, 3), 3, (5,), ("a",), positions, 0.001, 0.002, text, "length") for n in range(items))
    return Record("m", Mode.STEPWISE, 2, NOW, 7, PRINT, (("core", "sha256:0"),), "sha256:p", rows)


@dataclass
class Call:
    """One call of the checker: the test moves it on with `progress` and ends it with `end` or `fail`."""

    job: Job
    told: Callable[[Progress], None]
    result: asyncio.Future[Outcome]

    def progress(self, count: int, state: str, found: Record | None = None) -> None:
        done = samples(count)
        self.told(Progress(Decision(None, Reason.RUNNING, "", count), state, count, 600, samples=done, record=found))

    def end(self, said: Decision = EQUIVALENT, *, state: str = "end", found: Record | None = None, count: int = 4) -> None:
        side = Side("candidate", MODEL, PRINT)
        told = Report(NOW, said, self.job.policy, Side("reference"), side, mode=Mode.STEPWISE, samples=samples(count),
                      capabilities=(Capabilities(), Capabilities(top_k=5)))  # fmt: skip
        self.result.set_result(Outcome(said, told, found, state))

    def fail(self, error: Exception) -> None:
        self.result.set_exception(error)


@dataclass
class Entering:
    endpoint: Endpoint
    record: Record
    result: asyncio.Future[EntryOutcome]

    def end(self, passed: bool | None, message: str) -> None:
        reason = {True: Reason.EQUIVALENT, False: Reason.NOT_EQUIVALENT, None: Reason.CANDIDATE_UNAVAILABLE}[passed]
        self.result.set_result(EntryOutcome(passed, reason, message, 20.0, 32))


@dataclass
class Desk:
    """A certifier at work, and everything it did. Leaving it is a kill."""

    client: Client
    cache: Cache
    kubectl: Kubectl
    calls: list[Call] = field(default_factory=list)
    entering: list[Entering] = field(default_factory=list)
    writes: list[tuple[str, str, str]] = field(default_factory=list)
    marks: int = 0
    certifier: Certifier = field(init=False)
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    moment: str = NOW

    def __post_init__(self) -> None:
        self.client.on_write = self._wrote
        self.begin()

    def begin(self, limits: Limits = QUICK) -> None:
        """A new certifier, with nothing in memory."""
        self.certifier = Certifier(
            self.client, time.monotonic, now=lambda: self.moment, mark=self._mark, limits=limits, certify=self._certify, check=self._check
        )

    def _mark(self, cause: str) -> None:
        assert cause == "accuracy"
        self.marks += 1
        self.moved.set()

    async def _certify(
        self, job: Job, *, on_progress: Callable[[Progress], None] | None = None, clock: Callable[[], float] = time.monotonic, now: str
    ) -> Outcome:
        assert on_progress is not None
        call = Call(job, on_progress, asyncio.get_running_loop().create_future())
        self.calls.append(call)
        self.moved.set()
        return await call.result

    async def _check(
        self,
        endpoint: Endpoint,
        record: Record,
        policy: Policy,
        golden: Sequence[GoldenSet],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: str,
    ) -> EntryOutcome:
        call = Entering(endpoint, record, asyncio.get_running_loop().create_future())
        self.entering.append(call)
        self.moved.set()
        return await call.result

    async def until(self, reached: Callable[[], bool], seconds: float = 30) -> None:
        """Waits for the checks to move."""
        async with asyncio.timeout(seconds):
            while not reached():
                self.moved.clear()
                if not reached():
                    await self.moved.wait()

    async def state_is(self, name: str, state: str, seconds: float = 30) -> None:
        """Waits until the ConfigMap of a report holds this state; every write is looked at."""
        async with asyncio.timeout(seconds):
            while True:
                self.moved.clear()
                try:
                    found = await self.config_map(name)
                except NotFound:
                    found = {}
                if (found.get("data") or {}).get("state") == state:
                    return
                await self.moved.wait()

    def _wrote(self, kind: str, verb: str, code: str) -> None:
        self.writes.append((kind, verb, code))
        self.moved.set()

    def look(self) -> Observed:
        return self.certifier.view(self.cache.observe())

    def finding(self, name: str = "r") -> Finding:
        return self.look().findings.get(f"{NAMESPACE}/{name}", Finding({}, ("", "", ""), ("", "", "")))

    async def config_map(self, name: str) -> dict[str, Any]:
        return await self.client.get(CONFIG_MAPS, name, NAMESPACE)

    async def hand(self, *arguments: str, stdin: str | None = None) -> str:
        done = await asyncio.to_thread(self.kubectl, "-n", NAMESPACE, *arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    async def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        await self.hand("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(manifest))
        found: dict[str, Any] = json.loads(await self.hand("get", manifest["kind"], manifest["metadata"]["name"], "-o", "json"))
        return found

    async def report(self, name: str = "r") -> CustomState:
        """An AccuracyReport of the pair, seen by the cache. Its model is there as well: what belongs to nobody is collected."""
        owner = await self.apply(model())
        found = await self.apply(report(name, owner["metadata"]["uid"]))

        def there() -> bool:
            state = self.cache.find("AccuracyReport", NAMESPACE, name)
            return state is not None and int(state.resource_version) >= int(found["metadata"]["resourceVersion"])

        assert await self.cache.wait_for(there, 30)
        self.look()
        state: CustomState = self.cache.find("AccuracyReport", NAMESPACE, name)
        return state

    async def store_finding(self, name: str = "r") -> CustomState:
        """What a cycle does with a finding: the report's status, with its conditions, and then the cache has it."""
        finding = self.finding(name)
        state: CustomState = self.cache.find("AccuracyReport", NAMESPACE, name)
        judged = [Judged(kind, *words) for kind, words in (("Complete", finding.complete), ("AccuracyVerified", finding.verified))]
        body = {**status.status(state.status, finding), "conditions": write(judged, state.status, state.generation, self.moment)}
        metadata = {"name": name, "namespace": NAMESPACE, "uid": state.uid}
        manifest = {"apiVersion": "polyfleet.io/v1alpha1", "kind": "AccuracyReport", "metadata": metadata, "status": body}
        answer = await self.client.apply(manifest, subresource="status")
        version = int(answer["metadata"]["resourceVersion"])

        def seen() -> bool:
            return int(self.cache.find("AccuracyReport", NAMESPACE, name).resource_version) >= version

        assert await self.cache.wait_for(seen, 30)
        found: CustomState = self.cache.find("AccuracyReport", NAMESPACE, name)
        return found


@asynccontextmanager
async def desk(kubeconfig: Path, kubectl: Kubectl) -> AsyncIterator[Desk]:
    async with Client(await load_configuration({"KUBECONFIG": str(kubeconfig)})) as client:
        cache = Cache(client, time.monotonic)
        task = asyncio.create_task(cache.run())
        await cache.wait_synced()
        made = Desk(client, cache, kubectl)
        try:
            yield made
        finally:
            await made.certifier.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def model() -> dict[str, Any]:
    return {
        "apiVersion": "polyfleet.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": MODEL, "namespace": NAMESPACE},
        "spec": {"model": {"uri": "hf://polyfleet/byte-tiny"}, "suspend": True},
    }


def report(name: str, owner: str) -> dict[str, Any]:
    return {
        "apiVersion": "polyfleet.io/v1alpha1",
        "kind": "AccuracyReport",
        "metadata": {"name": name, "namespace": NAMESPACE, "annotations": {OWNER: owner}},
        "spec": {
            "deployment": MODEL,
            "candidate": {"profile": "p", "variant": "v", "engine": "vllm"},
            "reference": {"profile": "ref"},
            "fingerprint": {"profile": "p", "weights": "sha256:1", "flags": "sha256:2"},
            "policyDigest": "sha256:0",
        },
    }


def replica(pod: str, container: str = "c1", node: str = "n1") -> Replica:
    return Replica(pod, f"uid-{pod}", container, "http://127.0.0.1:1", node)


def certify(state: CustomState, **more: Any) -> Certify:
    fields: dict[str, Any] = {
        "namespace": NAMESPACE, "report": state.name, "report_uid": state.uid, "model": f"{NAMESPACE}/{MODEL}",
        "model_uid": state.annotations[OWNER],
        "served_name": MODEL, "profile": "p", "variant": "v", "engine": "vllm", "reference_profile": "ref", "fingerprint": PRINT,
        "settings": Settings(level="Quick"), "pairs": (), "reference_formats": Formats(), "candidate_formats": Formats(),
        "golden": (GoldenSource(builtin="core"),), "modalities": ("Text",), "replicas": (replica("a"),),
    }  # fmt: skip
    return Certify(**{**fields, **more})


def enter(state: CustomState, who: Replica, ref: RecordRef) -> Enter:
    return Enter(NAMESPACE, state.name, f"{NAMESPACE}/{MODEL}", MODEL, who, Settings(), (), Formats(), Formats(), ref)


def wanted(*items: Certify | Enter) -> Work:
    return Work(tuple(item for item in items if isinstance(item, Certify)), tuple(item for item in items if isinstance(item, Enter)))
