"""One leader per cluster, by a `coordination.k8s.io` Lease, and a fence: who lost it writes nothing more.

A candidate takes the Lease when nobody holds it, or when its content has not changed for the holder's whole duration *by the
candidate's own clock* (the written times are never compared, so clock skew cannot make two leaders). The holder renews every fifth of the
duration and counts from the *start* of a renewal that succeeded: after two thirds of the duration without one it may not write
(`fence`), and the process ends, while a candidate waits for the whole duration. The clock goes on while a machine sleeps, so a paused
process that wakes up is fenced before its first write.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from polyfleet.client import Client
from polyfleet.errors import ApiError, Conflict, Fenced, NotFound
from polyfleet.queue import Clock
from polyfleet.resources import LEASES

log = logging.getLogger(__name__)


def boot_clock() -> float:
    """Seconds that count also while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeaseLost(Exception):  # noqa: N818  it says what happened
    """Another holder took the Lease, or it could not be renewed in time: this process must end."""


class Lease:
    """`one_at_a_time`: the identity's owner (a pod) runs one process at a time, so a Lease of that identity is our dead predecessor's."""

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        name: str,
        duration_s: int,
        identity: str,
        clock: Clock = boot_clock,
        one_at_a_time: bool = False,
    ) -> None:
        self.identity = f"{identity}_{uuid.uuid4()}"
        self._predecessor = f"{identity}_" if one_at_a_time else ""
        self.held = False
        self._client, self._namespace, self._name, self._duration, self._clock = client, namespace, name, duration_s, clock
        self._renewed = 0.0
        self._lease: dict[str, Any] = {}
        self._told = ""
        self._observed: tuple[str, float] = ("", 0.0)  # (resourceVersion, when first seen)

    @property
    def retry_s(self) -> float:
        return self._duration / 5

    def fence(self) -> float:
        """The seconds for which this process surely holds the Lease; raises Fenced if that is none."""
        left = self._renewed + self._duration - self._clock()
        if not self.held or left <= self._duration / 3:
            raise Fenced(f"the Lease {self._namespace}/{self._name} is not held by {self.identity}")
        return left

    # ---- waiting and taking

    async def acquire(self) -> None:
        """Waits until the Lease is ours."""
        told = ""
        while not await self._try():
            holder = self._holder()
            if holder != told:
                log.info("waiting for the Lease", extra={"lease": f"{self._namespace}/{self._name}", "holder": holder})
                told = holder
            await asyncio.sleep(self.retry_s)
        log.info("leading", extra={"lease": f"{self._namespace}/{self._name}", "identity": self.identity})

    async def _try(self) -> bool:
        started = self._clock()
        try:
            self._lease = await self._client.get(LEASES, self._name, self._namespace)
        except NotFound:
            return await self._write(None, started)
        except ApiError as error:
            self._tell("cannot read the Lease", error)
            return False
        self._told = ""
        version = self._lease["metadata"]["resourceVersion"]
        if version != self._observed[0]:
            self._observed = (version, started)
        spec = self._lease.get("spec") or {}
        duration = float(spec.get("leaseDurationSeconds") or self._duration)
        holder = spec.get("holderIdentity") or ""
        # The kubelet starts a container anew only when the old one has ended: nobody is left who could write under that name.
        ours = bool(self._predecessor) and holder.startswith(self._predecessor)
        if holder and not ours and started - self._observed[1] < duration:
            return False
        return await self._write(self._lease, started)

    async def _write(self, old: dict[str, Any] | None, started: float) -> bool:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        before = (old or {}).get("spec") or {}
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._duration,
            "renewTime": now,
            "acquireTime": before.get("acquireTime") if self.held else now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if self.held or old is None else 1),
        }
        try:
            if old is None:
                metadata = {"name": self._name, "namespace": self._namespace}
                body = {"apiVersion": LEASES.api_version, "kind": "Lease", "metadata": metadata, "spec": spec}
                self._lease = await self._client.create(LEASES, body, self._namespace, fenced=False)
            else:
                self._lease = await self._client.replace(LEASES, {**old, "spec": {**before, **spec}}, fenced=False)
        except Conflict:
            return False  # somebody else was faster
        except ApiError as error:
            self._tell("cannot write the Lease", error)
            return False
        self._renewed, self.held = started, True
        return True

    def _tell(self, what: str, error: ApiError) -> None:
        """Once per cause: it is tried again every few seconds."""
        if str(error) != self._told:
            self._told = str(error)
            log.warning("%s", what, extra={"detail": str(error)[:500]})

    def _holder(self) -> str:
        return str((self._lease.get("spec") or {}).get("holderIdentity") or "")

    # ---- keeping and giving back

    async def keep(self) -> None:
        """Renews until the Lease is lost, then raises LeaseLost."""
        while True:
            await asyncio.sleep(self.retry_s)
            deadline = self._renewed + self._duration * 2 / 3
            try:
                async with asyncio.timeout(max(0.0, deadline - self._clock())):
                    await self._renew()
            except TimeoutError:
                pass
            if self._clock() >= self._renewed + self._duration * 2 / 3:
                self.held = False
                raise LeaseLost(f"the Lease could not be renewed for {self._duration * 2 / 3:g} s")

    async def _renew(self) -> None:
        if await self._write(self._lease, self._clock()):
            return
        # Not written: find out whether somebody else holds it or only our copy is old.
        try:
            self._lease = await self._client.get(LEASES, self._name, self._namespace)
        except NotFound:
            await self._write(None, self._clock())
            return
        except ApiError:
            return  # tried again at the next turn, until the deadline
        if self._holder() != self.identity:
            self.held = False
            raise LeaseLost(f"the Lease is held by {self._holder() or 'nobody'}")
        await self._write(self._lease, self._clock())

    async def release(self) -> None:
        """Gives the Lease back at a clean end, so that a standby need not wait for its duration."""
        if not self.held:
            return
        self.held = False  # from here on nothing of ours writes
        spec = {**(self._lease.get("spec") or {}), "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._client.replace(LEASES, {**self._lease, "spec": spec}, fenced=False)
        except ApiError as error:
            log.warning("cannot release the Lease", extra={"detail": str(error)[:500]})
