"""Starts the checks that are wanted, keeps those that run, stops those that nobody wants any more. Level-triggered, beside the loop.

Each cycle calls `view` when it begins and `update` when it has decided. Results go to the board and wake the next cycle. A check that
ended without a verdict rests, longer each time, and then takes up its evidence where it was left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from accuracy import certify as checker
from accuracy import entry_check
from polyfleet.certify import endpoints
from polyfleet.certify.board import Board
from polyfleet.certify.entering import CheckFunction, Entry
from polyfleet.certify.run import CertifyFunction, Limits, Memory, Run
from polyfleet.certify.store import Store
from polyfleet.clearance.work import Certify, Enter, Entered, Finding, Work
from polyfleet.client import Client
from polyfleet.errors import Fenced
from polyfleet.queue import Clock
from polyfleet.state import CustomState, Observed

log = logging.getLogger(__name__)

CAUSE = "accuracy"  # why a cycle runs
Key = tuple[str, ...]  # (report) or (report, pod, container)


@dataclass(slots=True)
class _Running:
    item: Certify | Enter
    task: asyncio.Task[None]


class Certifier:
    """`now` is the wall clock in RFC 3339, `clock` the monotonic one; `mark` wakes the cycle. `certify` and `check` are the checker's.
    `meters`: what counts the requests that are sent to a pod (`polyfleet.load.tally`)."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        *,
        now: Callable[[], str],
        mark: Callable[[str], None],
        board: Board | None = None,
        limits: Limits | None = None,
        certify: CertifyFunction = checker.certify,
        check: CheckFunction = entry_check.check,
        meters: endpoints.Meters = endpoints.unmetered,
    ) -> None:
        self.board = board or Board()
        self._store, self._clock, self._now, self._mark = Store(client), clock, now, mark
        self._limits, self._certify, self._check = limits or Limits(), certify, check
        self._meters = meters
        self._runs, self._entries = asyncio.Semaphore(self._limits.certifications), asyncio.Semaphore(self._limits.entries)
        self._tasks: dict[Key, _Running] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._reports: Mapping[str, CustomState] = {}
        self._memory: dict[str, Memory] = {}  # uid of a report -> where its run stands
        self._rest: dict[Key, float] = {}  # until when a check rests
        self._failures: dict[Key, int] = {}  # of entry checks, in a row
        self._ended: dict[Key, int] = {}  # the look before which a check ended: what was wanted by then is answered
        self._looks = 0

    # ---- the cycle's side

    def view(self, observed: Observed) -> Observed:
        """`observed` with what the checks have found; call it at the beginning of each look at the cluster."""
        self._looks += 1
        self._reports = {report.key: report for report in observed.reports}
        uids = {report.uid for report in observed.reports}
        for uid in [uid for uid in self._memory if uid not in uids]:
            del self._memory[uid]
        self.board.prune(observed.reports, observed.pods)
        return replace(observed, findings=self.board.findings())

    def update(self, work: Work) -> None:
        """Everything that is wanted now, decided on the last view."""
        wanted: dict[Key, Certify | Enter] = {(f"{item.namespace}/{item.report}",): item for item in work.certify}
        wanted |= {(f"{item.namespace}/{item.report}", item.replica.pod, item.replica.container): item for item in work.enter}
        for key, running in list(self._tasks.items()):
            if key not in wanted or not _goes_on(running.item, wanted[key]):
                self._stop(key)
        for key, item in wanted.items():
            if key not in self._tasks and self._ended.get(key) != self._looks:
                self._start(key, item)
        self._forget(wanted)

    async def close(self) -> None:
        """Ends every check, for good."""
        for key in list(self._tasks):
            self._stop(key)
        await asyncio.gather(*self._ending, return_exceptions=True)

    @property
    def running(self) -> int:
        """Checks that run or wait for their turn."""
        return len(self._tasks)

    # ---- tasks

    def _start(self, key: Key, item: Certify | Enter) -> None:
        make = self._certification(key, item) if isinstance(item, Certify) else self._entry(key, item)
        task = asyncio.create_task(make, name=f"check {' '.join(key)}")
        self._tasks[key] = _Running(item, task)
        task.add_done_callback(lambda done: self._done(key, done))

    def _stop(self, key: Key) -> None:
        task = self._tasks.pop(key).task
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        task.cancel()

    def _done(self, key: Key, task: asyncio.Task[None]) -> None:
        if (running := self._tasks.get(key)) is not None and running.task is task:
            del self._tasks[key]
            self._ended[key] = self._looks
            self._mark(CAUSE)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Fenced):
            log.error("a check ended in an error", extra={"check": " ".join(key)}, exc_info=error)

    async def _certification(self, key: Key, item: Certify) -> None:
        report = key[0]
        await self._settle(key, self._waits(key, item))
        run = Run(
            item,
            self._store,
            self._memory.setdefault(item.report_uid, Memory()),
            self._limits,
            self._clock,
            self._now,
            tell=lambda finding: self._post(report, item.report_uid, finding),
            stored=lambda: self._known(report),
            slots=self._runs,
            function=self._certify,
            meters=self._meters,
        )
        await run.once()
        self._rests(key, run.pause)

    async def _entry(self, key: Key, item: Enter) -> None:
        await self._settle(key, self._waits(key, item))
        failures = self._failures.get(key, 0)
        entry = Entry(
            item,
            self._store,
            self._limits.entry_s,
            self._clock,
            self._now,
            tell=lambda entered: self._enter(key[0], entered),
            slots=self._entries,
            function=self._check,
            failures=failures,
            meters=self._meters,
        )
        await entry.once()
        if entry.passed is None:
            self._failures[key] = failures + 1
            self._rests(key, endpoints.pause(failures + 1))
        else:
            self._failures.pop(key, None)

    async def _settle(self, key: Key, seconds: float) -> None:
        """Until the check that was stopped under this key is over, and the rest after the last attempt."""
        before = [task for task in self._ending if task.get_name() == f"check {' '.join(key)}"]
        if before:
            await asyncio.wait(before)
        if seconds > 0:
            await asyncio.sleep(seconds)

    def _waits(self, key: Key, item: Certify | Enter) -> float:
        """Seconds that are left of the pause after the last attempt; after a restart the stored report tells."""
        if key in self._rest:
            return self._rest[key] - self._clock()
        if isinstance(item, Certify) and item.attempt:
            return endpoints.remaining(self._now(), str(self._known(key[0]).get("nextAttempt") or ""))
        return 0.0

    def _rests(self, key: Key, seconds: float) -> None:
        self._rest[key] = self._clock() + seconds

    # ---- what is told

    def _post(self, report: str, uid: str, finding: Finding) -> None:
        self.board.post(report, uid, finding)
        self._mark(CAUSE)

    def _enter(self, report: str, entered: Entered) -> None:
        self.board.enter(report, entered)
        self._mark(CAUSE)

    def _known(self, report: str) -> Mapping[str, Any]:
        """The report's status with what was found since."""
        stored = self._reports[report].status if report in self._reports else {}
        found = self.board.findings().get(report)
        return {**stored, **(found.status if found is not None else {})}

    def _forget(self, wanted: Mapping[Key, object]) -> None:
        """What nobody asks for any more: the tables must not grow, and nothing parsed stays in memory while nothing runs."""
        tables: tuple[dict[Key, Any], ...] = (self._rest, self._failures)
        for table in tables:
            for key in [key for key in table if key not in wanted and key not in self._tasks]:
                del table[key]
        self._ended = {key: look for key, look in self._ended.items() if look == self._looks}
        if not self._tasks:
            self._store.forget()


def _goes_on(running: Certify | Enter, wanted: Certify | Enter) -> bool:
    if isinstance(running, Certify) and isinstance(wanted, Certify):
        return endpoints.goes_on(running, wanted)
    return running == wanted
