"""The Lease against a real API server: one leader, a fence for the one who lost it, a quick handover at a clean end."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from polyfleet.client import Client, load_configuration
from polyfleet.errors import Fenced
from polyfleet.lease import Lease, LeaseLost, boot_clock
from polyfleet.resources import LEASES

pytestmark = pytest.mark.control


class Clock:
    """The boot clock plus a leap that the test makes: a process that was paused."""

    def __init__(self) -> None:
        self.leap = 0.0

    def __call__(self) -> float:
        return boot_clock() + self.leap


def run(apiserver: Path, scenario: Callable[[Client, str], Awaitable[Any]]) -> Any:
    async def with_client() -> Any:
        async with Client(await load_configuration({"KUBECONFIG": str(apiserver)})) as client:
            return await scenario(client, f"lease-{uuid.uuid4().hex[:8]}")

    return asyncio.run(with_client())


def lease(
    client: Client, name: str, who: str, *, duration: int = 3, clock: Callable[[], float] = boot_clock, one_at_a_time: bool = False
) -> Lease:
    return Lease(client, namespace="kube-system", name=name, duration_s=duration, identity=who, clock=clock, one_at_a_time=one_at_a_time)


def test_one_of_two_candidates_leads(apiserver: Path) -> None:
    """While the first renews, the second never gets it; the object names the first."""

    async def scenario(client: Client, name: str) -> None:
        first, second = lease(client, name, "a"), lease(client, name, "b")
        await first.acquire()
        first.fence()
        keeping = asyncio.create_task(first.keep())
        waiting = asyncio.create_task(second.acquire())
        # Longer than the whole duration: only renewals keep the second one out.
        _, pending = await asyncio.wait({keeping, waiting}, timeout=5)
        assert pending == {keeping, waiting}
        with pytest.raises(Fenced):
            second.fence()
        stored = await client.get(LEASES, name, "kube-system")
        assert stored["spec"]["holderIdentity"] == first.identity
        for task in (keeping, waiting):
            task.cancel()

    run(apiserver, scenario)


def test_a_clean_end_hands_over_at_once(apiserver: Path) -> None:
    """Released, the Lease is free although its duration of ten minutes is far from over; the change of hands is counted."""

    async def scenario(client: Client, name: str) -> None:
        first, second = lease(client, name, "a", duration=600), lease(client, name, "b", duration=600)
        await first.acquire()
        await first.release()
        with pytest.raises(Fenced):
            first.fence()
        assert await second._try()
        second.fence()
        stored = await client.get(LEASES, name, "kube-system")
        assert stored["spec"]["holderIdentity"] == second.identity
        assert stored["spec"]["leaseTransitions"] == 1

    run(apiserver, scenario)


def test_an_abandoned_lease_is_taken_after_its_duration(apiserver: Path) -> None:
    """A killed leader releases nothing: the next one waits for the duration by its own clock, then takes it."""

    async def scenario(client: Client, name: str) -> None:
        first = lease(client, name, "a", duration=600)
        await first.acquire()
        clock = Clock()
        second = lease(client, name, "b", duration=600, clock=clock)
        assert not await second._try()
        clock.leap = 599
        assert not await second._try()
        clock.leap = 601
        assert await second._try()

    run(apiserver, scenario)


def test_a_restarted_container_takes_its_predecessors_lease_at_once(apiserver: Path) -> None:
    """A pod runs one process at a time, so its next one need not wait; another pod, or a process outside of pods, has to."""

    async def scenario(client: Client, name: str) -> None:
        await lease(client, name, "pod-1", duration=600).acquire()
        assert not await lease(client, name, "pod-1", duration=600)._try()
        assert not await lease(client, name, "pod-12", duration=600, one_at_a_time=True)._try()
        restarted = lease(client, name, "pod-1", duration=600, one_at_a_time=True)
        assert await restarted._try()
        assert 0 < restarted.fence() <= 600

    run(apiserver, scenario)


def test_a_paused_leader_is_fenced_before_it_could_write(apiserver: Path) -> None:
    """After a pause of two thirds of the duration the old leader may not write, while a candidate waits for all of it."""

    async def scenario(client: Client, name: str) -> None:
        clock = Clock()
        first = lease(client, name, "a", duration=600, clock=clock)
        await first.acquire()
        clock.leap = 399
        first.fence()
        clock.leap = 401
        with pytest.raises(Fenced):
            first.fence()

    run(apiserver, scenario)


def test_the_one_who_lost_it_learns_it_at_the_next_renewal(apiserver: Path) -> None:
    """Somebody else took the Lease: keeping it ends with LeaseLost, and the fence is closed."""

    async def scenario(client: Client, name: str) -> None:
        first = lease(client, name, "a", duration=3)
        await first.acquire()
        stored = await client.get(LEASES, name, "kube-system")
        stored["spec"]["holderIdentity"] = "thief"
        await client.replace(LEASES, stored)
        with pytest.raises(LeaseLost, match="thief"):
            await first.keep()
        with pytest.raises(Fenced):
            first.fence()

    run(apiserver, scenario)


def test_a_foreign_change_of_the_object_is_no_loss(apiserver: Path) -> None:
    """A label on the Lease makes our copy old; the renewal reads it again and goes on."""

    async def scenario(client: Client, name: str) -> None:
        first = lease(client, name, "a", duration=600)
        await first.acquire()
        await client.merge_patch(LEASES, name, {"metadata": {"labels": {"team": "x"}}}, "kube-system")
        await first._renew()
        first.fence()
        stored = await client.get(LEASES, name, "kube-system")
        assert stored["metadata"]["labels"] == {"team": "x"}
        assert stored["spec"]["holderIdentity"] == first.identity

    run(apiserver, scenario)


def test_without_a_server_the_lease_is_lost_in_time(apiserver: Path, tmp_path: Path) -> None:
    """A leader that cannot renew ends by itself, before anybody else may lead."""
    from tests.control.proxy import CuttingProxy, target, through

    async def scenario() -> None:
        async with (
            CuttingProxy(*target(apiserver)) as proxy,
            Client(await load_configuration({"KUBECONFIG": str(through(apiserver, proxy.port, tmp_path / "k"))})) as client,
        ):
            first = lease(client, f"lease-{uuid.uuid4().hex[:8]}", "a", duration=3)
            await first.acquire()
            proxy.blocked = True
            proxy.cut()
            with pytest.raises(LeaseLost, match="renewed"):
                await first.keep()

    asyncio.run(scenario())
