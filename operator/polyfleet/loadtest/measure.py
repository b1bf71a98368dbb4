"""A whole load test: stage after stage, each measured until its figures can be trusted, with the search deciding which comes next.

One stage at concurrency c:
1. closed loop with c in flight. Its rate is the entry's: the key's `concurrency` is what is held, as in the published figures that stand
   beside it, and only a controlled number may be interpolated over. With random arrivals the number in flight is an outcome that
   wanders, and the rate is the arrival rate, an input.
2. (mode `arrivals`) Poisson arrivals at c / W, with W the mean request of step 1, so that by Little's law c are in flight if the
   engine keeps its pace, at most four times c at once. Its waiting times are the entry's, and the SLO is judged by them: users do
   not wait for each other's answers before they ask. If the engine cannot keep that rate under bursts (more than twice c in flight),
   the waiting grows with the length of the test and is no property of the engine: the stage counts as breaking the SLO, the closed
   loop's times stay.

Each phase lasts `duration_s`, and longer (up to four times) while the closed loop's rate has not settled or is not known to ± 10 %, or
while random arrivals have shown too few first tokens for the percentile. A rate that does not settle or is not even known to ± 25 %
gives no entry.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from polyfleet.loadtest.driver import Clock, Driver, Send, Sleep
from polyfleet.loadtest.samples import Figures, Phase, figures
from polyfleet.loadtest.stages import Next, Seen, Stop
from polyfleet.loadtest.workload import Workload, little_rate

CAP = 4  # in flight at most, in times the target, with random arrivals
OVERLOADED = 2.0
EXTENSION = 4.0
AIM, WIDEST = 0.10, 0.25  # half width of the rate: measured on above the one, no entry above the other
SLICE = 0.5  # of duration_s: how much longer a phase gets at a time

Mode = Literal["arrivals", "concurrency"]
Search = Callable[[Sequence[Seen]], Next]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Goal:
    """Waiting times that must hold, seconds at the `percentile` (1 to 99); None = no limit."""

    ttft_s: float | None = None
    itl_s: float | None = None
    percentile: int = 95


@dataclass(frozen=True, slots=True)
class Settings:
    mode: Mode = "arrivals"
    duration_s: float = 30.0
    limit_s: float = 900.0  # of the whole test; a stage that began ends
    most_requests: int = 100_000
    goal: Goal = Goal()


@dataclass(frozen=True, slots=True)
class Stage:
    """`held` is the closed loop, `arrived` the open one (None in mode `concurrency`); `breaks` "" = the SLO holds, else why not."""

    concurrency: int
    held: Figures
    arrived: Figures | None
    rate: float | None  # requests per second that arrived
    breaks: str
    complete: bool = True  # False: interrupted, or ended by errors

    @property
    def waits(self) -> Figures:
        """Whose waiting times count."""
        return self.arrived if self.arrived is not None and not self.overloaded else self.held

    @property
    def overloaded(self) -> bool:
        return self.arrived is not None and self.arrived.in_flight > OVERLOADED * max(self.concurrency, 1) + 1

    @property
    def unusable(self) -> str:
        """Why no entry is made of it ("" = one is)."""
        if not self.complete:
            return "it was not finished"
        if not self.held.unsettled and (self.held.relative or 0.0) > WIDEST:
            return f"the rate is only known to ± {self.held.relative:.0%}; repeat with a longer --duration, on a machine that rests"
        return self.held.unsettled

    @property
    def errors(self) -> Counter[str]:
        return self.held.errors + (self.arrived.errors if self.arrived is not None else Counter())

    def seen(self) -> Seen:
        share = max(self.held.error_share, self.arrived.error_share if self.arrived else 0.0)
        return Seen(self.concurrency, self.held.tokens_per_s, not self.breaks, share)


@dataclass(frozen=True, slots=True)
class Outcome:
    stages: tuple[Stage, ...]
    stop: Stop
    why: str

    @property
    def partial(self) -> bool:
        return self.stop in (Stop.INTERRUPTED, Stop.TIME, Stop.REQUESTS, Stop.ERRORS)


async def measure(
    send: Send, workload: Workload, settings: Settings, search: Search, *, clock: Clock, sleep: Sleep, stop: asyncio.Event, tell: Tell
) -> Outcome:
    """All stages. Interrupted (`stop` set) or out of time, the finished ones are returned."""
    driver = Driver(send, clock, sleep, stop, settings.most_requests)
    begun, stages = clock(), list[Stage]()
    while True:
        following = search([stage.seen() for stage in stages])
        if following.concurrency is None:
            return Outcome(tuple(stages), following.stop or Stop.DONE, following.why)
        if clock() - begun > settings.limit_s:
            return Outcome(tuple(stages), Stop.TIME, f"{settings.limit_s:.0f} s are over; the next stage would be {following.concurrency}")
        stage, reason = await _stage(driver, workload, settings, following.concurrency, tell)
        if stage is not None:
            stages.append(stage)
        if reason in ("Interrupted", "RequestLimit", "Errors"):
            return Outcome(tuple(stages), *_ended(reason, stages, settings))


def _ended(reason: str, stages: list[Stage], settings: Settings) -> tuple[Stop, str]:
    if reason == "Interrupted":
        return Stop.INTERRUPTED, "interrupted; what was measured before it is shown"
    if reason == "RequestLimit":
        return Stop.REQUESTS, f"{settings.most_requests} requests are sent"
    failed = stages[-1].arrived or stages[-1].held if stages else None
    worst = failed.errors.most_common(1) if failed is not None else []
    said = f"; most often: {worst[0][0]}" if worst else ""
    share = f"{failed.error_share:.1%} of the requests" if failed is not None else "requests"
    return Stop.ERRORS, f"{share} failed{said}"


async def _stage(driver: Driver, workload: Workload, settings: Settings, concurrency: int, tell: Tell) -> tuple[Stage | None, str]:
    percent = settings.goal.percentile
    name = f"{concurrency}/held"
    held = await driver.hold(lambda i: workload.request(name, i), concurrency, settings.duration_s, _more(settings, percent))
    closed = figures(held, percent)
    stage = Stage(concurrency, closed, None, None, _breaks(closed, settings.goal), held.reason == "TimeUp")
    tell(line(stage, "closed loop", closed))
    if settings.mode == "concurrency" or held.reason != "TimeUp" or closed.request_s is None:
        return stage, held.reason
    rate = little_rate(concurrency, closed.request_s)
    name2 = f"{concurrency}/arrived"
    arrivals = workload.arrivals(name2, rate)
    more = _more(settings, percent, arrivals=True)
    opened = await driver.arrive(lambda i: workload.request(name2, i), arrivals, CAP * concurrency, settings.duration_s, more)
    found = figures(opened, percent, arrivals=True)
    stage = Stage(concurrency, closed, found, rate, "", opened.reason == "TimeUp")
    grows = (
        f"at {rate:.2f} arrivals/s {found.in_flight:.1f} are in flight, not {concurrency}: the waiting grows" if stage.overloaded else ""
    )
    limited = settings.goal.ttft_s is not None or settings.goal.itl_s is not None
    breaks = _breaks(stage.waits, settings.goal) or (grows if limited else "")
    stage = Stage(concurrency, closed, found, rate, breaks, opened.reason == "TimeUp")
    tell(line(stage, f"{rate:.2f} arrivals/s", found))
    return stage, opened.reason


def _more(settings: Settings, percent: int, *, arrivals: bool = False) -> Callable[[Phase], float]:
    def more(phase: Phase) -> float:
        if phase.ended - phase.started >= EXTENSION * settings.duration_s:
            return 0.0
        found = figures(phase, percent, arrivals=arrivals)
        wide = not arrivals and (found.relative or 0.0) > AIM
        return SLICE * settings.duration_s if found.unsettled or wide else 0.0

    return more


def _breaks(found: Figures, goal: Goal) -> str:
    parts = []
    for name, value, limit in (("TTFT", found.ttft_s, goal.ttft_s), ("ITL", found.itl_s, goal.itl_s)):
        if limit is not None and value is not None and value > limit:
            parts.append(f"{name} p{goal.percentile} {seconds(value)} is above {seconds(limit)}")
    return " and ".join(parts)


def line(stage: Stage, loop: str, found: Figures) -> str:
    """One progress line."""
    held = found is stage.held
    width = f" ± {found.relative:.1%}" if found.relative is not None and held else ""
    waits = ", ".join(f"{name} {seconds(value)}" for name, value in (("TTFT", found.ttft_s), ("ITL", found.itl_s)) if value is not None)
    failed = f", {sum(found.errors.values())} failed" if found.errors else ""
    wide = "too wide for an entry" if held and (found.relative or 0.0) > WIDEST else ""
    note = f"; {found.unsettled or wide}" if found.unsettled or wide else ""
    return (
        f"{stage.concurrency} in flight, {loop}: {found.tokens_per_s:.1f} tok/s{width}, {found.requests} requests in {found.seconds:.0f} s"
        f" after {found.warm_up_s:.0f} s of warm-up{', ' + waits if waits else ''}{failed}{note}"
    )


def seconds(value: float) -> str:
    """50.4 ms, 850 ms, 1.25 s."""
    if value < 0.1:
        return f"{value * 1000:.1f} ms"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
