"""Carrying out actions on a real API server: nothing twice, nothing stale, a failure rests, events and profiles once."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from polyfleet.actions import Actions, Apply, Delete, EventNote, PodPatch
from polyfleet.apply import Applier
from polyfleet.cache import Cache
from polyfleet.client import Client, load_configuration
from polyfleet.errors import NotFound
from polyfleet.events import EventPoster
from polyfleet.expectations import Expectations
from polyfleet.resources import EVENTS, HARDWARE_PROFILES, PODS, SERVICES
from polyfleet.seed import seed

pytestmark = pytest.mark.control

CRDS = Path(__file__).parents[2] / "crds"
LABEL = "polyfleet.io/deployment"


@dataclass
class Edge:
    client: Client
    cache: Cache
    applier: Applier
    expectations: Expectations
    writes: list[tuple[str, str, str]] = field(default_factory=list)
    retries: list[tuple[str, float]] = field(default_factory=list)

    async def act(self, **actions: Any) -> Any:
        written = await self.applier.carry_out(Actions(**actions))
        assert await self.expectations.settle()
        return written


@asynccontextmanager
async def edge(kubeconfig: Path) -> AsyncIterator[Edge]:
    writes: list[tuple[str, str, str]] = []
    retries: list[tuple[str, float]] = []
    configuration = await load_configuration({"KUBECONFIG": str(kubeconfig)})
    async with Client(configuration, on_write=lambda *what: writes.append(what)) as client:
        cache = Cache(client, time.monotonic)
        task = asyncio.create_task(cache.run())
        await cache.wait_synced()
        expectations = Expectations(cache, patience_s=30)
        applier = Applier(client, cache, expectations, lambda key, delay: retries.append((key, delay)), time.monotonic)
        try:
            yield Edge(client, cache, applier, expectations, writes, retries)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def fresh(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def labelled(name: str, kind: str, api_version: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "labels": {LABEL: name}}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


def service(name: str, port: int = 8000) -> dict[str, Any]:
    return labelled(name, "Service", "v1", {"selector": {LABEL: name}, "ports": [{"name": "http", "port": port, "targetPort": "http"}]})


def deployment(name: str) -> dict[str, Any]:
    resources = {"limits": {"nvidia.com/gpu": 2, "memory": "1024Mi"}}
    container = {"name": "engine", "image": "none", "resources": resources, "ports": [{"name": "http", "containerPort": 8000}]}
    spec = {"schedulingGates": [{"name": "polyfleet.io/placement"}], "containers": [container]}
    template = {"metadata": {"labels": {LABEL: name}}, "spec": spec}
    return labelled(name, "Deployment", "apps/v1", {"replicas": 1, "selector": {"matchLabels": {LABEL: name}}, "template": template})


def test_the_second_apply_of_the_same_writes_nothing(apiserver: Path) -> None:
    """Neither defaults of the API server, nor the controller's annotation, nor another spelling of a quantity is a difference."""

    async def scenario() -> None:
        async with edge(apiserver) as e:
            name = fresh("once")
            wanted = (Apply(service(name), ""), Apply(deployment(name), ""))
            first = await e.act(applies=wanted)
            assert first.done == {"apply Service": 1, "apply Deployment": 1}
            # The deployment controller has done its part: revision annotation, ReplicaSet, pod.
            assert await e.cache.wait_for(lambda: any(p.labels.get(LABEL) == name for p in e.cache.observe().pods), 30)
            e.writes.clear()
            second = await e.act(applies=wanted)
            assert second.done == {}
            assert e.writes == []
            await e.client.delete(SERVICES, name, "default", uid=e.cache.find("Service", "default", name).uid)

    run(scenario)


def test_drift_is_repaired_and_foreign_fields_stay(apiserver: Path) -> None:
    """Somebody changes our port and adds a label: the port comes back, the label stays."""

    async def scenario() -> None:
        async with edge(apiserver) as e:
            name = fresh("drift")
            await e.act(applies=(Apply(service(name), ""),))
            patch = {"metadata": {"labels": {"team": "x"}}, "spec": {"ports": [{"name": "http", "port": 9999, "targetPort": "http"}]}}
            answer = await e.client.merge_patch(SERVICES, name, patch, "default", manager="somebody")
            e.expectations.wrote("Service", answer)
            assert await e.expectations.settle()
            assert (await e.act(applies=(Apply(service(name), ""),))).done == {"apply Service": 1}
            live = await e.client.get(SERVICES, name, "default")
            assert [port["port"] for port in live["spec"]["ports"]] == [8000]
            assert live["metadata"]["labels"]["team"] == "x"
            await e.client.delete(SERVICES, name, "default", uid=live["metadata"]["uid"])

    run(scenario)


def test_after_a_restart_an_unchanged_object_gets_no_new_version(apiserver: Path) -> None:
    """A new process applies once, which the API server answers without writing."""

    async def scenario() -> None:
        name = fresh("restart")
        async with edge(apiserver) as e:
            await e.act(applies=(Apply(service(name), ""),))
            before = e.cache.find("Service", "default", name).resource_version
        async with edge(apiserver) as e:
            await e.act(applies=(Apply(service(name), ""),))
            found = e.cache.find("Service", "default", name)
            assert found.resource_version == before
            await e.client.delete(SERVICES, name, "default", uid=found.uid)

    run(scenario)


def test_a_stale_delete_deletes_nothing_and_asks_for_a_new_look(apiserver: Path) -> None:
    """The precondition names another object: it stays, and the next cycle decides again."""

    async def scenario() -> None:
        async with edge(apiserver) as e:
            name = fresh("stale")
            await e.act(applies=(Apply(service(name), ""),))
            await e.act(deletes=(Delete("Service", "default", name, str(uuid.uuid4()), None, ""),))
            found = await e.client.get(SERVICES, name, "default")
            assert e.retries[-1][1] >= 1.0, "a view that stays old must not be acted on in a tight loop"
            done = await e.act(deletes=(Delete("Service", "default", name, found["metadata"]["uid"], None, ""),))
            assert done.done == {"delete Service": 1}
            with pytest.raises(NotFound):
                await e.client.get(SERVICES, name, "default")

    run(scenario)


def test_one_bad_object_rests_and_holds_up_no_other(apiserver: Path) -> None:
    """The invalid one fails with the server's message and is left out of the next pass; the good one is written."""

    async def scenario() -> None:
        async with edge(apiserver) as e:
            bad, good = fresh("bad"), fresh("good")
            wanted = (Apply(service(bad, port=70000), ""), Apply(service(good), ""))
            written = await e.act(applies=wanted)
            assert written.done == {"apply Service": 1}
            assert list(written.failed) == [f"Service/default/{bad}"]
            assert "70000" in written.failed[f"Service/default/{bad}"]
            e.writes.clear()
            again = await e.act(applies=wanted)
            assert (again.done, again.skipped, e.writes) == ({}, 1, [])
            await e.client.delete(SERVICES, good, "default", uid=e.cache.find("Service", "default", good).uid)

    run(scenario)


def test_pin_and_serving_are_one_patch_each_and_guarded_by_the_uid(apiserver: Path) -> None:
    """The node goes in and the gate goes in one merge patch; the condition is owned by its own manager; another uid is left alone."""

    async def scenario() -> None:
        async with edge(apiserver) as e:
            name = fresh("pod")
            spec = deployment(name)["spec"]["template"]["spec"]
            manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": {LABEL: name}}}
            made = await e.client.create(PODS, {**manifest, "spec": spec}, "default")
            uid = made["metadata"]["uid"]
            e.expectations.wrote("Pod", made)
            assert await e.expectations.settle()

            terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["no-such-node"]}]}]
            required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
            pin = {"spec": {"affinity": {"nodeAffinity": required}, "schedulingGates": []}}
            stranger = await e.act(pod_patches=(PodPatch("Pin", "default", name, str(uuid.uuid4()), pin, ""),))
            assert stranger.done == {}
            assert e.cache.find("Pod", "default", name).gates == ("polyfleet.io/placement",)

            serving = {"type": "polyfleet.io/serving", "status": "True", "reason": "Serves", "message": "",
                       "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
            body = {"status": {"conditions": [serving]}}
            await e.act(
                pod_patches=(
                    PodPatch("Pin", "default", name, uid, pin, ""),
                    PodPatch("Serving", "default", name, uid, body, "", subresource="status", apply_patch=True),
                )
            )
            pod = e.cache.find("Pod", "default", name)
            assert (pod.gates, pod.pinned_node) == ((), "no-such-node")
            assert pod.conditions["polyfleet.io/serving"].status == "True"
            live = await e.client.get(PODS, name, "default")
            managers = {m["manager"] for m in live["metadata"]["managedFields"] if m.get("subresource") == "status"}
            assert "polyfleet-serving" in managers
            await e.client.delete(PODS, name, "default", uid=uid)

    run(scenario)


def test_an_event_is_told_once_also_by_a_new_process(apiserver: Path) -> None:
    """The same note twice, and again from another poster: one Event."""

    async def scenario() -> None:
        async with edge(apiserver) as e:
            name, uid = fresh("told"), str(uuid.uuid4())
            note = EventNote("ModelDeployment", "default", name, uid, "Warning", "PlacementShortfall", "need 4, largest free 2")
            first, second = EventPoster(e.client, "a"), EventPoster(e.client, "b")
            assert await first.post([note, note]) == 1
            assert await first.post([note]) == 0
            assert await second.post([note]) == 0
            events = [
                item
                async for page in e.client.list_pages(EVENTS, "default")
                for item in page.items
                if (item.get("regarding") or {}).get("uid") == uid
            ]
            assert [(item["reason"], item["type"], item["note"]) for item in events] == [
                ("PlacementShortfall", "Warning", "need 4, largest free 2")
            ]

    run(scenario)


def test_edited_profiles_survive_seeding(apiserver: Path, kubectl: Callable[..., Any], tmp_path: Path) -> None:
    """A price that somebody edited stays and is listed, other fields follow the file; with overwrite the file wins."""
    kubectl("apply", "-f", str(CRDS), check=True)
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS), check=True)
    import hwprofiles

    shipped = sorted((Path(hwprofiles.__file__).parent / "shipped").glob("*.yaml"))[0]
    profile = yaml.safe_load(shipped.read_text())
    name = profile["metadata"]["name"]
    profile["spec"]["cost"] = {"perDeviceHour": "1.00", "currency": "USD"}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(profile))

    async def scenario() -> None:
        async with edge(apiserver) as e:
            first = await seed(e.client, tmp_path)
            assert (first.applied, first.edited, first.failed) == ([f"HardwareProfile/{name}"], {}, {})
            await e.client.merge_patch(HARDWARE_PROFILES, name, {"spec": {"cost": {"perDeviceHour": "9.99"}}}, manager="an-engineer")

            profile["spec"]["cost"] = {"perDeviceHour": "2.00", "currency": "EUR"}
            (tmp_path / "p.yaml").write_text(yaml.safe_dump(profile))
            second = await seed(e.client, tmp_path)
            assert [(edited.name, edited.paths) for edited in second.edited.values()] == [(name, ("cost.perDeviceHour",))]
            live = await e.client.get(HARDWARE_PROFILES, name)
            assert live["spec"]["cost"] == {"perDeviceHour": "9.99", "currency": "EUR"}

            third = await seed(e.client, tmp_path, overwrite=True)
            assert third.edited == {}
            live = await e.client.get(HARDWARE_PROFILES, name)
            assert live["spec"]["cost"]["perDeviceHour"] == "2.00"
            await e.client.delete(HARDWARE_PROFILES, name, uid=live["metadata"]["uid"])

    run(scenario)


def test_a_refused_object_is_told_until_it_is_written_or_wanted_no_more(apiserver: Path) -> None:
    """A Service that the API server's validation refuses stays among the refusals while it rests, and goes when nobody wants it."""

    async def scenario() -> None:
        async with edge(apiserver) as e:
            name = fresh("refused")
            wrong = service(name)
            wrong["spec"]["ports"][0]["port"] = 70000
            first = await e.act(applies=(Apply(wrong, ""),))
            assert [(r.kind, r.name, r.status) for r in first.refusals] == [("Service", name, 422)]
            assert "70000" in first.refusals[0].message
            resting = await e.act(applies=(Apply(wrong, ""),))
            assert resting.skipped == 1
            assert resting.refusals == first.refusals
            assert (await e.act()).refusals == ()

    run(scenario)
