"""The dirty set and its back-off, with a clock that the test turns."""

from __future__ import annotations

import asyncio

from polyfleet.queue import Backoff, DirtyQueue


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def queue() -> tuple[DirtyQueue, Clock]:
    clock = Clock()
    return DirtyQueue(clock, idle=1.0, longest=10.0), clock


def test_nothing_is_due_while_nothing_changed() -> None:
    """An untouched queue never starts a cycle."""
    q, _ = queue()
    assert q.due() is None
    assert q.take() == frozenset()


def test_a_change_waits_for_quiet() -> None:
    """One second without a further change starts the cycle, not earlier."""
    q, clock = queue()
    q.mark("pods")
    clock.now += 0.99
    assert q.take() == frozenset()
    clock.now += 0.01
    assert q.take() == {"pods"}
    assert q.take() == frozenset()


def test_each_new_change_starts_the_quiet_anew_but_never_beyond_the_limit() -> None:
    """Changes every half second: the cycle starts ten seconds after the first one."""
    q, clock = queue()
    for _ in range(20):
        q.mark("pods")
        assert q.take() == frozenset()
        clock.now += 0.5
    assert clock.now == 110.0
    assert q.take() == {"pods"}


def test_keys_are_collected_once() -> None:
    """Many marks of few keys are one set."""
    q, clock = queue()
    for key in ("pods", "nodes", "pods"):
        q.mark(key)
    clock.now += 1
    assert q.take() == {"pods", "nodes"}


def test_a_change_during_a_cycle_is_not_lost() -> None:
    """What is marked after `take` belongs to the next cycle."""
    q, clock = queue()
    q.mark("pods")
    clock.now += 1
    q.take()
    q.mark("nodes")
    clock.now += 1
    assert q.take() == {"nodes"}


def test_a_later_mark_comes_by_itself_and_at_once_when_due() -> None:
    """A retry needs no further quiet: it has waited already. The earliest wish wins."""
    q, clock = queue()
    q.mark_later("cycle", 30)
    q.mark_later("cycle", 5)
    assert q.due() == 105.0
    clock.now = 105.0
    assert q.take() == {"cycle"}
    assert q.due() is None


def test_wait_returns_the_keys_of_a_due_cycle() -> None:
    """The coroutine wakes up on a mark that comes after it began to wait."""

    async def scenario() -> frozenset[str]:
        q = DirtyQueue(asyncio.get_running_loop().time, idle=0.0, longest=0.0)
        waiting = asyncio.create_task(q.wait())
        await asyncio.sleep(0)
        q.mark("seed")
        return await waiting

    assert asyncio.run(scenario()) == {"seed"}


def test_backoff_grows_is_bounded_and_ends_with_success() -> None:
    """1, 2, 4, ... seconds with at most a quarter of jitter, never over the limit."""
    backoff = Backoff(first=1.0, longest=8.0)
    delays = [backoff.failed("a", 0.0) for _ in range(6)]
    for delay, base in zip(delays, (1, 2, 4, 8, 8, 8), strict=True):
        assert base <= delay <= base * 1.25
    assert backoff.resting("a", 7.9)
    assert not backoff.resting("b", 0.0)
    backoff.succeeded("a")
    assert not backoff.resting("a", 0.0)
    assert backoff.failed("a", 0.0) <= 1.25


def test_backoff_obeys_the_servers_wish() -> None:
    """Retry-After is a lower limit."""
    assert Backoff().failed("a", 0.0, at_least=30.0) == 30.0


def test_backoff_is_the_same_for_the_same_seed() -> None:
    """Jitter comes from the seed alone, so that a run can be repeated."""
    first, second = Backoff(seed=7), Backoff(seed=7)
    assert [first.failed("a", 0) for _ in range(5)] == [second.failed("a", 0) for _ in range(5)]


def test_backoff_forgets_what_is_gone() -> None:
    """A key that nobody tried again long after it might have been is forgotten; one that still fails keeps its count."""
    backoff = Backoff()
    backoff.failed("gone", 0.0)
    for now in (0.0, 100.0, 900.0):
        backoff.failed("here", now)
    backoff.prune(910.0)
    assert backoff.failures("gone") == 0
    assert backoff.failures("here") == 3
