"""The thin client against a real API server: typed errors, server-side apply, preconditions, pages, watches, the fence."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from polyfleet.client import Client, load_configuration
from polyfleet.errors import Conflict, Fenced, Forbidden, Gone, Invalid, NotFound, Unavailable
from polyfleet.resources import LEASES, PLACEMENT_PLANS, PODS, SERVICES

pytestmark = pytest.mark.control

CRDS = Path(__file__).parents[2] / "crds"


def run(kubeconfig: Path, scenario: Callable[[Client], Awaitable[Any]]) -> Any:
    async def with_client() -> Any:
        async with Client(await load_configuration({"KUBECONFIG": str(kubeconfig)})) as client:
            return await scenario(client)

    return asyncio.run(with_client())


def service(name: str, port: int = 8000, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": port}]},
    }


def fresh(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def test_errors_have_types(apiserver: Path) -> None:
    """404, 409 (exists), 409 (uid), 422 and 404 of an unknown resource each arrive as their own type with the server's words."""

    async def scenario(client: Client) -> None:
        name = fresh("typed")
        with pytest.raises(NotFound, match=name):
            await client.get(SERVICES, name, "default")
        await client.create(SERVICES, service(name), "default")
        with pytest.raises(Conflict) as exists:
            await client.create(SERVICES, service(name), "default")
        assert exists.value.reason == "AlreadyExists"
        with pytest.raises(Invalid, match="port"):
            await client.create(SERVICES, service(fresh("bad"), port=99999), "default")
        with pytest.raises(Conflict, match=r"(?i)precondition"):
            await client.delete(SERVICES, name, "default", uid=str(uuid.uuid4()))
        found = await client.get(SERVICES, name, "default")
        await client.delete(SERVICES, name, "default", uid=found["metadata"]["uid"])
        with pytest.raises(NotFound):
            await client.get(SERVICES, name, "default")

    run(apiserver, scenario)


def test_a_stale_version_cannot_delete(apiserver: Path) -> None:
    """A delete that names the resourceVersion from before a change is a Conflict, and the object stays."""

    async def scenario(client: Client) -> None:
        name = fresh("stale")
        old = await client.create(SERVICES, service(name), "default")
        await client.merge_patch(SERVICES, name, {"metadata": {"labels": {"changed": "yes"}}}, "default")
        uid, version = old["metadata"]["uid"], old["metadata"]["resourceVersion"]
        with pytest.raises(Conflict):
            await client.delete(SERVICES, name, "default", uid=uid, resource_version=version)
        await client.delete(SERVICES, name, "default", uid=uid)

    run(apiserver, scenario)


def test_forbidden_for_a_user_without_rights(control_plane: Any, tmp_path: Path) -> None:
    """RBAC's refusal is Forbidden and names the user."""
    kubeconfig = control_plane.user_kubeconfig(tmp_path / "nobody.kubeconfig", "nobody-in-particular")

    async def scenario(client: Client) -> None:
        with pytest.raises(Forbidden, match="nobody-in-particular"):
            await client.get(LEASES, "polyfleet", "kube-system")

    run(kubeconfig, scenario)


def test_apply_owns_its_fields_and_leaves_others(apiserver: Path) -> None:
    """Our second apply removes our label and keeps the one that another manager set; without force a foreign field is a Conflict."""

    async def scenario(client: Client) -> None:
        name = fresh("ssa")
        await client.apply(service(name, ours="1"))
        await client.merge_patch(SERVICES, name, {"metadata": {"labels": {"theirs": "2"}}}, "default", manager="somebody")
        second = await client.apply(service(name))
        assert second["metadata"]["labels"] == {"theirs": "2"}
        third = await client.apply(service(name))
        assert third["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]  # nothing was written
        with pytest.raises(Conflict) as refused:
            await client.apply(service(name, theirs="mine"), force=False)
        causes = refused.value.details["causes"]
        assert [cause["field"] for cause in causes] == [".metadata.labels.theirs"]
        await client.delete(SERVICES, name, "default", uid=second["metadata"]["uid"])

    run(apiserver, scenario)


def test_an_apply_that_names_another_uid_creates_nothing(apiserver: Path) -> None:
    """A guard against bringing back an object that was deleted: with a uid, apply never creates."""

    async def scenario(client: Client) -> None:
        manifest = service(fresh("ghost"))
        manifest["metadata"]["uid"] = str(uuid.uuid4())
        with pytest.raises(Conflict):
            await client.apply(manifest)
        with pytest.raises(NotFound):
            await client.get(SERVICES, manifest["metadata"]["name"], "default")

    run(apiserver, scenario)


def test_lists_come_in_pages(apiserver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five objects in pages of two are three pages of one version, each object once."""
    monkeypatch.setattr("polyfleet.client.PAGE", 2)

    async def scenario(client: Client) -> None:
        label = fresh("paged")
        made = [await client.create(SERVICES, service(f"{label}-{i}", group=label), "default") for i in range(5)]
        pages = [page async for page in client.list_pages(SERVICES, "default", label_selector=f"group={label}")]
        assert [len(page.items) for page in pages] == [2, 2, 1]
        assert len({page.resource_version for page in pages}) == 1
        assert sorted(item["metadata"]["name"] for page in pages for item in page.items) == [f"{label}-{i}" for i in range(5)]
        for item in made:
            await client.delete(SERVICES, item["metadata"]["name"], "default", uid=item["metadata"]["uid"])

    run(apiserver, scenario)


def test_watch_gives_the_changes_after_a_version(apiserver: Path) -> None:
    """ADDED, MODIFIED and DELETED of one object arrive in order, from a selector-limited watch."""

    async def scenario(client: Client) -> list[str]:
        name = fresh("watched")
        version = ""
        async for page in client.list_pages(SERVICES, "default"):
            version = page.resource_version
        made = await client.create(SERVICES, service(name, group=name), "default")
        await client.merge_patch(SERVICES, name, {"metadata": {"labels": {"more": "1"}}}, "default")
        await client.delete(SERVICES, name, "default", uid=made["metadata"]["uid"])
        seen: list[str] = []
        async for event in client.watch(SERVICES, "default", resource_version=version, label_selector=f"group={name}"):
            if event["type"] != "BOOKMARK":
                seen.append(event["type"])
            if event["type"] == "DELETED":
                break
        return seen

    assert run(apiserver, scenario) == ["ADDED", "MODIFIED", "DELETED"]


def test_a_version_that_is_too_old_is_gone(apiserver: Path, kubectl: Callable[..., Any]) -> None:
    """A kind that was installed just now has no history: a watch from version 1 is Gone, and the caller lists anew."""
    kubectl("apply", "-f", str(CRDS), check=True)
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS), check=True)

    async def scenario(client: Client) -> None:
        async for _ in client.list_pages(PLACEMENT_PLANS):
            pass  # only a kind that was read before has a watch cache
        with pytest.raises(Gone):
            async for _ in client.watch(PLACEMENT_PLANS, resource_version="1", timeout_s=5):
                pass

    run(apiserver, scenario)


def test_no_server_is_unavailable(tmp_path: Path, apiserver: Path) -> None:
    """A refused connection is a typed error that may pass, not a crash."""
    from tests.control.proxy import through

    closed = through(apiserver, 9, tmp_path / "closed.kubeconfig")  # the discard port: nobody listens

    async def scenario(client: Client) -> None:
        with pytest.raises(Unavailable):
            await client.get(PODS, "p", "default")

    run(closed, scenario)


def test_the_fence_stops_every_write_before_it_leaves(apiserver: Path) -> None:
    """Without the Lease nothing is written; reading goes on, and each refused write is not counted as sent."""
    sent: list[tuple[str, str, str]] = []

    async def scenario() -> None:
        def closed() -> None:
            raise Fenced("not ours")

        configuration = await load_configuration({"KUBECONFIG": str(apiserver)})
        async with Client(configuration, fence=closed, on_write=lambda *what: sent.append(what)) as client:
            name = fresh("fenced")
            with pytest.raises(Fenced):
                await client.apply(service(name))
            with pytest.raises(Fenced):
                await client.delete(SERVICES, name, "default", uid="x")
            with pytest.raises(NotFound):
                await client.get(SERVICES, name, "default")

    asyncio.run(scenario())
    assert sent == []


def test_writes_are_counted_by_kind_verb_and_code(apiserver: Path) -> None:
    """The counter sees what the API server answered."""
    sent: list[tuple[str, str, str]] = []

    async def scenario() -> None:
        async with Client(await load_configuration({"KUBECONFIG": str(apiserver)}), on_write=lambda *what: sent.append(what)) as client:
            made = await client.apply(service(fresh("counted")))
            with pytest.raises(Conflict):
                await client.delete(SERVICES, made["metadata"]["name"], "default", uid="another")
            await client.delete(SERVICES, made["metadata"]["name"], "default", uid=made["metadata"]["uid"])

    asyncio.run(scenario())
    assert sent == [("Service", "apply", "200"), ("Service", "delete", "409"), ("Service", "delete", "200")]
