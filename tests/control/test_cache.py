"""The cache against a real API server, with a proxy that cuts its connections: what is gone is gone, what is unreadable is unknown."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from polyfleet.cache import Cache
from polyfleet.client import Client, load_configuration
from polyfleet.expectations import Expectations
from polyfleet.reflector import Timing
from polyfleet.resources import PODS

from tests.control.proxy import CuttingProxy, target, through

pytestmark = pytest.mark.control

WAIT_S = 30.0  # only a limit against a hanging test: every wait below ends with its event
LABEL = "polyfleet.io/deployment"


def pod(name: str, *, ours: bool = True) -> dict[str, Any]:
    """A pod that stays unbound for ever: a gate of ours that nobody lifts."""
    container = {"name": "engine", "image": "none", "resources": {"limits": {"nvidia.com/gpu": "2"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {LABEL: "m"} if ours else {}},
        "spec": {"schedulingGates": [{"name": "polyfleet.io/placement"}], "containers": [container]},
    }


@asynccontextmanager
async def running(kubeconfig: Path, **options: Any) -> AsyncIterator[tuple[Cache, Client]]:
    async with Client(await load_configuration({"KUBECONFIG": str(kubeconfig)})) as client:
        cache = Cache(client, time.monotonic, **options)
        task = asyncio.create_task(cache.run())
        try:
            await cache.wait_synced()
            yield cache, client
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def names(cache: Cache) -> set[str]:
    return {item.name for item in cache.observe().pods}


async def remove(client: Client, name: str) -> None:
    found = await client.get(PODS, name, "default")
    await client.delete(PODS, name, "default", uid=found["metadata"]["uid"])


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def fresh(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def test_changes_arrive_by_watch_and_mark_dirty(apiserver: Path) -> None:
    """A created pod appears and a deleted one disappears, each with a mark for its source."""

    async def scenario() -> None:
        marks: list[str] = []
        async with running(apiserver, changed=marks.append) as (cache, client):
            name = fresh("seen")
            await client.create(PODS, pod(name), "default")
            assert await cache.wait_for(lambda: name in names(cache), WAIT_S)
            found = cache.find("Pod", "default", name)
            assert found.gates == ("polyfleet.io/placement",)
            assert found.requests == {"nvidia.com/gpu": 2}
            assert "pods" in marks
            marks.clear()
            await remove(client, name)
            assert await cache.wait_for(lambda: name not in names(cache), WAIT_S)
            assert "pods" in marks

    run(scenario)


def test_a_pod_deleted_while_the_watch_is_cut_is_no_ghost(apiserver: Path, tmp_path: Path) -> None:
    """Deleted while blind: after the connection is back the pod is gone, though no DELETED event was seen before."""

    async def scenario() -> None:
        async with (
            CuttingProxy(*target(apiserver)) as proxy,
            running(through(apiserver, proxy.port, tmp_path / "cut.kubeconfig")) as (cache, _),
            Client(await load_configuration({"KUBECONFIG": str(apiserver)})) as direct,
        ):
            ghost, kept, late = fresh("ghost"), fresh("kept"), fresh("late")
            for name in (ghost, kept):
                await direct.create(PODS, pod(name), "default")
            assert await cache.wait_for(lambda: {ghost, kept} <= names(cache), WAIT_S)

            proxy.blocked = True
            proxy.cut()
            await remove(direct, ghost)
            await direct.create(PODS, pod(late), "default")
            # Blind long enough that the watches have failed and the lists as well: the content is marked as not to be trusted.
            assert await cache.wait_for_unknown("pods", WAIT_S)
            assert ghost in names(cache)

            proxy.blocked = False
            assert await cache.wait_for(lambda: late in names(cache), WAIT_S)
            assert ghost not in names(cache)
            assert kept in names(cache)
            assert await cache.wait_for(lambda: not cache.unknown().get("pods"), WAIT_S)
            for name in (kept, late):
                await remove(direct, name)

    run(scenario)


def test_deleted_and_created_again_under_the_same_name_is_another_pod(apiserver: Path, tmp_path: Path) -> None:
    """The uid tells them apart, also when both changes happened while blind."""

    async def scenario() -> None:
        async with (
            CuttingProxy(*target(apiserver)) as proxy,
            running(through(apiserver, proxy.port, tmp_path / "again.kubeconfig")) as (cache, _),
            Client(await load_configuration({"KUBECONFIG": str(apiserver)})) as direct,
        ):
            name = fresh("again")
            first = await direct.create(PODS, pod(name), "default")
            assert await cache.wait_for(lambda: name in names(cache), WAIT_S)
            proxy.blocked = True
            proxy.cut()
            await remove(direct, name)
            second = await direct.create(PODS, pod(name), "default")
            proxy.blocked = False
            assert first["metadata"]["uid"] != second["metadata"]["uid"]
            assert await cache.wait_for(lambda: cache.find("Pod", "default", name).uid == second["metadata"]["uid"], WAIT_S)
            await remove(direct, name)

    run(scenario)


def test_a_cut_watch_goes_on_without_a_new_list(apiserver: Path, tmp_path: Path) -> None:
    """One cut is no reason to list ten thousand pods: the watch resumes from the last version."""

    async def scenario() -> None:
        async with (
            CuttingProxy(*target(apiserver)) as proxy,
            running(through(apiserver, proxy.port, tmp_path / "resume.kubeconfig")) as (cache, _),
            Client(await load_configuration({"KUBECONFIG": str(apiserver)})) as direct,
        ):
            before = cache.lists("Pod")
            proxy.cut()
            name = fresh("resumed")
            await direct.create(PODS, pod(name), "default")
            assert await cache.wait_for(lambda: name in names(cache), WAIT_S)
            assert cache.lists("Pod") == before
            await remove(direct, name)

    run(scenario)


def test_what_may_not_be_read_is_unknown_not_empty(control_plane: Any, tmp_path: Path) -> None:
    """A user without rights: every resource is ListForbidden, and the cache counts as synced so that this can be reported."""
    kubeconfig = control_plane.user_kubeconfig(tmp_path / "blind.kubeconfig", "blind")

    async def scenario() -> None:
        async with running(kubeconfig) as (cache, _):
            assert cache.synced
            assert cache.unknown()["nodes"] == "ListForbidden"
            assert cache.unknown()["pods"] == "ListForbidden"
            assert cache.observe().unknown == cache.unknown()

    run(scenario)


def test_resync_lists_anew_without_a_fault(apiserver: Path) -> None:
    """Every resource is listed again by itself, whatever the watches said."""

    async def scenario() -> None:
        async with running(apiserver, timing=Timing(resync_s=0.5)) as (cache, _):
            before = cache.lists("Node")
            assert await cache.wait_for(lambda: cache.lists("Node") >= before + 2, WAIT_S)

    run(scenario)


def test_a_silent_watch_is_dropped(apiserver: Path) -> None:
    """No byte for the inactivity time: the connection is given up and opened again; the content stays right."""

    async def scenario() -> None:
        async with running(apiserver, timing=Timing(inactivity_s=0.5)) as (cache, client):
            before = cache.lists("Node")
            # Two silent watches in a row end in a list, which shows that silence was noticed.
            assert await cache.wait_for(lambda: cache.lists("Node") > before, WAIT_S)
            name = fresh("after-silence")
            await client.create(PODS, pod(name), "default")
            assert await cache.wait_for(lambda: name in names(cache), WAIT_S)
            await remove(client, name)

    run(scenario)


def test_a_write_is_expected_until_the_cache_has_seen_it(apiserver: Path, tmp_path: Path) -> None:
    """With a live watch `settle` waits for our own write; with a blind cache it lists anew instead of waiting for ever."""

    async def scenario() -> None:
        async with (
            CuttingProxy(*target(apiserver)) as proxy,
            running(through(apiserver, proxy.port, tmp_path / "own.kubeconfig")) as (cache, _),
            Client(await load_configuration({"KUBECONFIG": str(apiserver)})) as direct,
        ):
            expectations = Expectations(cache, patience_s=WAIT_S)
            name = fresh("own")
            made = await direct.create(PODS, pod(name), "default")
            expectations.wrote("Pod", made)
            assert await expectations.settle()
            assert name in names(cache)

            patched = await direct.merge_patch(PODS, name, {"metadata": {"annotations": {"a": "b"}}}, "default")
            expectations.wrote("Pod", patched)
            assert await expectations.settle()
            assert cache.find("Pod", "default", name).annotations == {"a": "b"}

            await remove(direct, name)
            expectations.deleted("Pod", "default", name, made["metadata"]["uid"])
            assert await expectations.settle()
            gone = cache.find("Pod", "default", name)
            assert gone is None or gone.deleting

            # Deleted by somebody else before the write was seen: what came after it was read, so nothing is waited for.
            lists = cache.lists("Pod")
            brief = await direct.create(PODS, pod(fresh("brief")), "default")
            await remove(direct, brief["metadata"]["name"])
            version = int(brief["metadata"]["resourceVersion"])
            assert await cache.wait_for(
                lambda: cache.read_up_to("Pod", "default") > version and cache.find("Pod", "default", brief["metadata"]["name"]) is None,
                WAIT_S,
            )
            expectations.wrote("Pod", brief)
            assert expectations.open() == []
            assert cache.lists("Pod") == lists

            impatient = Expectations(cache, patience_s=0.2)
            future = str(int(made["metadata"]["resourceVersion"]) + 1_000_000)
            ghost = {"metadata": {**made["metadata"], "name": fresh("never"), "resourceVersion": future}}
            impatient.wrote("Pod", ghost)
            lists = cache.lists("Pod")
            assert not await impatient.settle()
            assert await cache.wait_for(lambda: cache.lists("Pod") > lists, WAIT_S)
            assert impatient.open() == []

    run(scenario)
