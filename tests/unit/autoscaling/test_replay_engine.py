"""The engine of the replay against formulas worked out by hand and against a second one that walks every single iteration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaling.replay.fleet import Fleet, Option
from autoscaling.replay.loads import Load, make


def fleet_of(load: Load, replicas: int, option: Option | None = None) -> Fleet:
    fleet = Fleet(load, 8)
    for _ in range(replicas):
        fleet.start(0.0, 0.0, option)
    return fleet


def finished(load: Load, replicas: int, option: Option | None = None) -> Fleet:
    fleet = fleet_of(load, replicas, option)
    fleet.advance(math.inf)
    assert fleet.done
    return fleet


def test_one_request_alone_takes_the_unloaded_prefill() -> None:
    load = make("one", [3.0], [1000], [5])
    fleet = finished(load, 1)
    # two iterations with one sequence: 2 x 30.5 ms + 1000 x 0.25 ms
    assert fleet.state.first[0] == pytest.approx(3.0 + 0.311)
    # the other four tokens decode alone, 30.5 ms each; the replica has cost since 0
    assert fleet.spent()[0] * 3600 == pytest.approx(3.311 + 4 * 0.0305)


def test_a_replica_of_half_the_speed_takes_twice_as_long() -> None:
    fleet = finished(make("one", [0.0], [1000], [5]), 1, Option("half", 0.5, 80_000, 3.0))
    assert fleet.state.first[0] == pytest.approx(0.622)
    assert fleet.spent()[1] == pytest.approx(3.0 * fleet.spent()[0])


def test_the_second_prompt_waits_for_the_first_and_shares_its_iterations() -> None:
    fleet = finished(make("two", [0.0, 0.0], [512, 512], [100, 1]), 1)
    assert fleet.state.first[0] == pytest.approx(0.0305 + 0.128)
    # the first now decodes: 511 tokens and two sequences, then the last token of the prompt
    assert fleet.state.first[1] == pytest.approx(0.1585 + (0.030 + 511 * 0.00025 + 0.001) + (0.030 + 0.00025 + 0.001))


def test_an_arrival_is_let_in_at_the_next_boundary() -> None:
    fleet = finished(make("cut", [0.0, 1.0], [1, 1], [200, 1]), 1)
    first = 0.0305 + 0.00025
    boundary = first + math.ceil((1.0 - first) / 0.0305) * 0.0305
    assert fleet.state.first[1] == pytest.approx(boundary + 0.030 + 0.00025 + 0.001)


def test_the_cache_lets_in_what_fits_and_in_order() -> None:
    fleet = finished(make("kv", [0.0, 0.0, 0.0], [100, 60, 10], [50, 50, 1]), 1, Option("small", 1.0, 200, 1.0))
    first, second, third = fleet.state.first
    # 150 of 200 are reserved: the second (110) waits for the end of the first, the third (11) may not overtake it
    assert second > first + 49 * 0.0305
    assert third > second


def test_requests_wait_at_the_gateway_while_nothing_serves() -> None:
    load = make("held", [1.0, 2.0], [10, 20], [2, 2])
    fleet = Fleet(load, 4)
    fleet.start(0.0, 30.0)
    fleet.advance(29.0)
    gateway = fleet.gateway(29.0)
    assert (gateway.arrived, gateway.prompt_tokens, gateway.waiting, gateway.waiting_prompt_tokens) == (2, 30, 2, 30)
    fleet.advance(math.inf)
    assert fleet.state.first[0] == pytest.approx(30.0 + 0.0305 + 10 * 0.00025)


def test_a_draining_replica_finishes_what_it_has_and_takes_nothing() -> None:
    load = make("drain", [0.0, 0.5], [10, 10], [100, 1])
    fleet = fleet_of(load, 2)
    fleet.advance(0.2)  # the first request runs on one of them
    fleet.stop(0.2)  # the idle one goes at once
    fleet.start(0.2, 0.3)
    fleet.advance(0.4)
    fleet.stop(0.4)  # the new one is idle: it goes
    assert fleet.ready == 1
    fleet.start(0.4, 0.45)
    fleet.advance(0.45)
    busy = next(seen for seen in fleet.seen(0.45) if seen.sample and seen.sample.running)
    assert busy.sample is not None
    assert busy.sample.finished == 0


def test_counters_are_what_an_engine_would_publish() -> None:
    fleet = fleet_of(make("c", [0.0, 0.0], [512, 100], [3, 50]), 1)
    fleet.advance(0.2)
    sample = fleet.seen(0.2)[0].sample
    assert sample is not None
    assert (sample.arrived, sample.finished, sample.running, sample.waiting) == (2, 0, 2, 0)
    assert sample.prompt_tokens == 512  # the second prompt is not done: 0.1585 + 0.030 + 0.025 + 0.001 > 0.2
    assert sample.output_tokens == 1
    assert sample.ttft is not None
    assert sample.ttft.counts[-1] == 1
    assert sample.ttft.total == pytest.approx(0.1585)
    fleet.advance(math.inf)
    sample = fleet.seen(fleet.state.sums[2])[0].sample
    assert sample is not None
    assert (sample.finished, sample.output_tokens, sample.prompt_tokens, sample.running) == (2, 53, 612, 0)


def walked(load: Load, room: int) -> list[float]:
    """Times of the first tokens on one replica, every iteration on its own."""
    n = len(load.arrival)
    first = [-1.0] * n
    queue: list[int] = []
    decoding: dict[int, int] = {}  # request -> tokens left
    filling, rest, now, coming = -1, 0, 0.0, 0
    while coming < n or queue or decoding or filling >= 0:
        if not queue and not decoding and filling < 0:
            now = max(now, float(load.arrival[coming]))
        while coming < n and load.arrival[coming] <= now + 1e-9:
            queue.append(coming)
            coming += 1
        used = sum(int(load.prompt[r] + load.output[r]) for r in decoding)
        head = used + int(load.prompt[queue[0]] + load.output[queue[0]]) if queue else 0
        if filling < 0 and queue and (not decoding or (len(decoding) < 48 and head <= room)):
            filling, rest = queue[0], int(load.prompt[queue.pop(0)])
        chunk = min(rest, 512 - len(decoding)) if filling >= 0 else 0
        now += 0.030 + 0.00025 * chunk + 0.0005 * (len(decoding) + (filling >= 0))
        decoding = {r: left - 1 for r, left in decoding.items() if left > 1}
        if filling >= 0:
            rest -= chunk
            if rest == 0:
                first[filling] = now
                if load.output[filling] > 1:
                    decoding[filling] = int(load.output[filling]) - 1
                filling = -1
    return first


requests = st.lists(
    st.tuples(st.integers(0, 4000), st.integers(1, 1500), st.integers(1, 90)), min_size=1, max_size=70
)  # arrival in ms, prompt, output


@settings(max_examples=60, deadline=None)
@given(requests, st.sampled_from([2000, 80_000]))
def test_runs_of_iterations_equal_iterations_walked_one_by_one(drawn: list[tuple[int, int, int]], room: int) -> None:
    # an odd offset keeps arrivals off the boundaries, where the two may round apart
    load = make("any", [at / 1000 + 0.000123 for at, _, _ in drawn], [p for _, p, _ in drawn], [o for _, _, o in drawn])
    fleet = finished(load, 1, Option("one", 1.0, room, 1.0))
    assert np.allclose(np.asarray(fleet.state.first), walked(load, room), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(requests, st.lists(st.floats(0.1, 6.0), min_size=1, max_size=12))
def test_looking_changes_nothing(drawn: list[tuple[int, int, int]], times: list[float]) -> None:
    load = make("any", [at / 1000 for at, _, _ in drawn], [p for _, p, _ in drawn], [o for _, _, o in drawn])
    looked = fleet_of(load, 2)
    before = (0.0, 0.0)
    for at in sorted(times):
        looked.advance(at)
        samples = [seen.sample for seen in looked.seen(at) if seen.sample]
        now = (sum(s.output_tokens or 0.0 for s in samples), sum(s.prompt_tokens or 0.0 for s in samples))
        assert now[0] >= before[0]
        assert now[1] >= before[1]
        before = now
    looked.advance(math.inf)
    assert list(looked.state.first) == list(finished(load, 2).state.first)
