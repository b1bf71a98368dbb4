"""One entry check: a new replica of a verified fingerprint against the stored record, before it may serve."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from accuracy import entry_check
from accuracy.entry_check import EntryOutcome
from accuracy.http.endpoint import Endpoint
from accuracy.policy import Policy, PolicyError
from accuracy.record import Record
from accuracy.types import GoldenSet
from polyfleet.certify import endpoints
from polyfleet.certify.status import shorten
from polyfleet.certify.store import SourceError, Store
from polyfleet.clearance.work import Enter, Entered
from polyfleet.errors import Fenced
from polyfleet.queue import Clock

log = logging.getLogger(__name__)


class CheckFunction(Protocol):
    """`accuracy.entry_check.check`."""

    def __call__(
        self, endpoint: Endpoint, record: Record, policy: Policy, golden: Sequence[GoldenSet], *, clock: Callable[[], float] = ..., now: str
    ) -> Awaitable[EntryOutcome]: ...


@dataclass(slots=True)
class Entry:
    """`tell` posts how it stands; `failures`: how often in a row this replica could not be checked."""

    item: Enter
    store: Store
    deadline_s: float
    clock: Clock
    now: Callable[[], str]
    tell: Callable[[Entered], None]
    slots: asyncio.Semaphore
    function: CheckFunction = entry_check.check
    failures: int = 0
    meters: endpoints.Meters = endpoints.unmetered
    passed: bool | None = None

    async def once(self) -> None:
        """One attempt; raises only CancelledError and Fenced."""
        replica = self.item.replica
        async with self.slots:
            self._say(None, "the entry check runs")
            try:
                self.passed, message = await self._check()
            except (SourceError, PolicyError) as error:
                message = str(error)
            except TimeoutError:
                message = f"no result within {self.deadline_s:.0f} s"
            except Fenced:
                raise
            except Exception as error:  # a defect of the checker must not end the operator, and never lets a replica in
                log.exception("an entry check failed", extra={"pod": replica.pod})
                message = f"internal error: {type(error).__name__}: {error}"
        if self.passed is None:
            message = f"could not be checked, next attempt in {endpoints.pause(self.failures + 1):.0f} s: {message}"
        elif not self.passed and replica.node and replica.node not in message:
            message = f"node {replica.node}: {message}"
        log.info("entry check", extra={"pod": replica.pod, "node": replica.node, "passed": self.passed, "detail": message[:300]})
        self._say(self.passed, message)

    async def _check(self) -> tuple[bool | None, str]:
        item = self.item
        policy = endpoints.policy(item)
        record, _ = await self.store.record(item.record)
        golden = [await self.store.golden(source) for source in item.golden]
        (endpoint,) = endpoints.endpoints((item.replica,), item.served_name, self.meters)
        async with asyncio.timeout(self.deadline_s):
            outcome = await self.function(endpoint, record, policy, golden or record.sets, clock=self.clock, now=self.now())
        return outcome.passed, outcome.message

    def _say(self, passed: bool | None, message: str) -> None:
        self.tell(Entered(self.item.replica.pod, self.item.replica.container, passed, shorten(message), self.now()))
