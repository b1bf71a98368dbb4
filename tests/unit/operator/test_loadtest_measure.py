"""A whole load test in virtual time against a server whose law is known: the driver, the stages, the entries."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from polyfleet.loadtest.driver import Clock, Driver
from polyfleet.loadtest.entries import Subject, entries
from polyfleet.loadtest.measure import Goal, Outcome, Settings, measure
from polyfleet.loadtest.samples import Phase, Record
from polyfleet.loadtest.stages import Next, Seen, Stop, from_list, until_slo
from polyfleet.loadtest.workload import Lengths, Request, Workload

from hwprofiles import load_shipped
from hwprofiles.estimate import Load
from hwprofiles.model import Layout
from hwprofiles.performance import Performance, performance
from tests.unit.operator.loadtest_server import virtually

A, B = 0.1, 0.02  # seconds per token at no load, and per request in flight
LENGTHS = Lengths(100, 20)
SUBJECT = Subject("sandbox-nvidia", "polyfleet/byte-tiny", "fp32", "sandbox", "dev", Layout(), "a simulated server", False)


class Server:
    """Every token of a request takes a + b·c times a random factor of mean 1, c = requests in flight: c of them give c / (a + b·c)."""

    def __init__(self, seed: int = 0, fails: float = 0.0, a: float = A, b: float = B) -> None:
        self.chance, self.fails, self.a, self.b = random.Random(seed), fails, a, b
        self.running = self.most = self.sent = 0

    async def send(self, request: Request, record: Record, clock: Clock) -> None:
        self.sent += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.chance.random() < self.fails:
                await asyncio.sleep(0.01)
                record.error = "HTTP 500"
                return
            for _ in range(request.max_tokens):
                await asyncio.sleep((self.a + self.b * self.running) * self.chance.uniform(0.5, 1.5))
                record.pieces.append(clock())
            record.input_tokens, record.output_tokens = request.input_tokens, request.max_tokens
        finally:
            self.running -= 1


def run(server: Server, settings: Settings, search: object, lengths: Lengths = LENGTHS, stop_at: float | None = None) -> Outcome:
    async def main() -> Outcome:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        if stop_at is not None:
            loop.call_later(stop_at, stop.set)
        return await measure(
            server.send,
            Workload(lengths, 1, "run"),
            settings,
            search,  # type: ignore[arg-type]
            clock=loop.time,
            sleep=asyncio.sleep,
            stop=stop,
            tell=lambda _: None,
        )

    return virtually(main)


def listed(*asked: int) -> object:
    def search(seen: Sequence[Seen]) -> Next:
        return from_list(asked, seen)

    return search


def test_closed_loop_rates_are_those_of_the_servers_law() -> None:
    server = Server()
    outcome = run(server, Settings("concurrency", 120), listed(1, 2, 8))
    assert (outcome.stop, server.most) == (Stop.DONE, 8)
    for stage in outcome.stages:
        c = stage.concurrency
        assert stage.held.in_flight == pytest.approx(c, rel=1e-3)
        assert stage.held.tokens_per_s == pytest.approx(c / (A + B * c), rel=0.03)
        assert stage.unusable == ""


def test_entries_at_1_2_and_8_predict_4() -> None:
    """The law of the server is the one that is interpolated by, so the error is the measurement's alone."""
    outcome = run(Server(), Settings("concurrency", 120), listed(1, 2, 8))
    made = entries(SUBJECT, outcome.stages, Settings("concurrency", 120), Lengths(100, 20), "2026-11-28")
    assert [(e.concurrency, e.input_tokens, e.output_tokens, e.evidence) for e in made] == [(c, 100, 20, "Measured") for c in (1, 2, 8)]
    spec = load_shipped()["sandbox-nvidia"].model_copy(update={"throughput": tuple(made)})
    found = performance(
        "sandbox-nvidia",
        spec,
        model_id="polyfleet/byte-tiny",
        shape=None,
        precision="fp32",
        engine="sandbox",
        engine_version="dev",
        layout=Layout(),
        load=Load(100, 20, 4),
    )
    assert isinstance(found, Performance)
    assert found.output_tokens_per_s == pytest.approx(4 / (A + B * 4), rel=0.04)


def test_random_arrivals_keep_littles_number_in_flight() -> None:
    """A server without contention (b = 0) is an M/G/∞ queue: arrivals at c / W keep c in flight on average, more at times."""
    server = Server(b=0.0)
    outcome = run(server, Settings("arrivals", 400), listed(4))
    (stage,) = outcome.stages
    assert stage.arrived is not None
    assert stage.rate == pytest.approx(4 / (20 * A), rel=0.02)
    assert stage.arrived.in_flight == pytest.approx(4, rel=0.12)  # three standard errors: 600 requests
    assert stage.waits is stage.arrived
    assert 8 < server.most <= 16  # bursts, but never above four times the target


def test_waiting_under_random_arrivals_breaks_an_slo_that_the_closed_loop_seems_to_hold() -> None:
    """One request at a time: a closed loop of 1 never waits, random arrivals at the same rate queue up."""

    class Single(Server):
        def __init__(self) -> None:
            super().__init__(b=0.0)
            self.lock = asyncio.Lock()

        async def send(self, request: Request, record: Record, clock: Clock) -> None:
            async with self.lock:
                await super().send(request, record, clock)

    goal = Goal(ttft_s=0.5)
    closed = run(Single(), Settings("concurrency", 120, goal=goal), listed(1))
    assert closed.stages[0].breaks == ""
    opened = run(Single(), Settings("arrivals", 120, goal=goal), listed(1))
    assert "TTFT" in opened.stages[0].breaks or "in flight" in opened.stages[0].breaks


def test_until_slo_finds_the_concurrency_of_the_law() -> None:
    """ITL p95 is 1.45 (a + b·c) for a factor uniform in 0.5 to 1.5; the limit of 0.3 s is that of c = 5.3."""
    goal = Goal(itl_s=0.3)
    outcome = run(Server(), Settings("concurrency", 60, goal=goal), until_slo)
    assert outcome.stop is Stop.SLO_BROKEN
    assert [s.concurrency for s in outcome.stages] == [1, 2, 4, 8, 6, 5]
    assert [s.concurrency for s in outcome.stages if not s.breaks] == [1, 2, 4, 5]


def test_errors_end_the_test_and_the_share_is_said() -> None:
    outcome = run(Server(fails=0.2), Settings("concurrency", 60), listed(1, 4))
    assert (outcome.stop, len(outcome.stages)) == (Stop.ERRORS, 1)
    assert "HTTP 500" in outcome.why
    assert outcome.stages[0].unusable


def test_one_lost_request_in_many_is_no_error() -> None:
    outcome = run(Server(seed=5, fails=0.002), Settings("concurrency", 300), listed(4))
    assert outcome.stop is Stop.DONE


def test_an_interrupt_keeps_finished_stages_and_marks_the_last() -> None:
    outcome = run(Server(), Settings("concurrency", 60), listed(1, 2, 4), stop_at=90)
    assert outcome.stop is Stop.INTERRUPTED
    assert outcome.partial
    assert [bool(stage.unusable) for stage in outcome.stages] == [False, True]


def test_a_dead_server_ends_the_test_at_once() -> None:
    """Nothing is hammered: after each failure a worker pauses, and after a few the phase ends."""
    server = Server(fails=1.0)
    outcome = run(server, Settings("concurrency", 60), listed(8))
    assert outcome.stop is Stop.ERRORS
    assert server.sent < 20


def test_limits_of_requests_and_of_time() -> None:
    server = Server()
    outcome = run(server, Settings("concurrency", 60, most_requests=50), listed(1, 2, 4))
    assert (outcome.stop, server.sent) == (Stop.REQUESTS, 50)
    assert run(Server(), Settings("concurrency", 60, limit_s=50), listed(1, 2)).stop is Stop.TIME


def test_a_phase_is_longer_where_its_requests_are_and_gives_no_entry_where_that_does_not_help() -> None:
    """A request takes 20 · 0.12 = 2.4 s: ten of them do not fit into 10 s but into 40; those of 500 tokens take a minute."""
    assert run(Server(), Settings("concurrency", 10), listed(1)).stages[0].unusable == ""
    slow = run(Server(), Settings("concurrency", 10), listed(1), Lengths(100, 500))
    assert "no request ended" in slow.stages[0].unusable or "fewer than" in slow.stages[0].unusable
    assert entries(SUBJECT, slow.stages, Settings(), Lengths(100, 500), "2026-11-28") == []


def test_the_same_seed_gives_the_same_figures() -> None:
    one, two = (run(Server(3), Settings("arrivals", 60), listed(1, 4)) for _ in range(2))
    assert one == two


def test_requests_that_wait_for_a_place_are_counted_from_when_they_were_due() -> None:
    """Two places, each taken for 2 s, and three arrivals at once: the third waits 2 s."""

    async def main() -> Phase:
        server = Server(a=2.0, b=0.0)
        server.chance.uniform = lambda *_: 1.0  # type: ignore[method-assign]
        loop = asyncio.get_running_loop()
        driver = Driver(server.send, loop.time, asyncio.sleep, asyncio.Event(), 3)
        return await driver.arrive(lambda i: Request(i, "x", 1, 1), iter([0.0, 0.0, 0.0, 100.0]), 2, 50.0, lambda _: 0.0)

    phase = virtually(main)
    assert phase.reason == "RequestLimit"
    assert [(r.wanted, r.sent, r.ended) for r in phase.records] == [(0, 0, 2), (0, 0, 2), (0, 2, 4)]


def test_lengths_that_the_endpoint_counts_otherwise_are_the_entrys() -> None:
    """Answers half as long as asked for: all entries say so alike, and so does the source."""

    class Short(Server):
        async def send(self, request: Request, record: Record, clock: Clock) -> None:
            await super().send(Request(request.index, request.prompt, request.input_tokens, request.max_tokens // 2), record, clock)

    settings = Settings("concurrency", 60)
    outcome = run(Short(), settings, listed(1, 2), Lengths(100, 20, 0.0))
    made = entries(SUBJECT, outcome.stages, settings, Lengths(100, 20, 0.0), "2026-11-28")
    assert [(e.input_tokens, e.output_tokens) for e in made] == [(100, 10), (100, 10)]
    assert "counted 100.0 and 10.0" in made[0].source
    assert "profile as stated" in made[0].source
    assert made[0].confidence == "Medium"  # nobody verified the profile
