"""Learning from live traffic: what becomes an entry, and each reason why something does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hwprofiles import Layout, Throughput
from hwprofiles.learn import Key, NotLearned, Observed, Rules, is_learned, learn, merge_learned
from hwprofiles.observation import Sample, half_width

KEY = Key("m/x", "w8a8", "vllm", "1.0", Layout(tensor=4))


def series(
    minutes: float = 20,
    rate: Callable[[float], float] = lambda _t: 1200.0,
    step: float = 15,
    prompt: float = 3000,
    answer: float = 1000,
    **gauges: Any,
) -> tuple[Sample, ...]:
    """Counters of a replica with these lengths; `rate` in output tokens/s at a time."""
    made, tokens, at = [], 0.0, 0.0
    while at <= minutes * 60:
        shown = {"running": 60.0, "waiting": 5.0, "preemptions": 0.0, **gauges}
        shown = {name: value(at) if callable(value) else value for name, value in shown.items()}
        requests = tokens / answer
        made.append(Sample(at, tokens, prompt_tokens=requests * prompt, finished=requests, **shown))
        tokens += rate(at) * step
        at += step
    return tuple(made)


def run(*samples: tuple[Sample, ...], **more: Any) -> Throughput | NotLearned:
    observed = [Observed(f"pod-{n}", one) for n, one in enumerate(samples)]
    return learn(observed, KEY, owner="llm/qwen", today="2026-11-28", **more)


def learned(*samples: tuple[Sample, ...], **more: Any) -> Throughput:
    found = run(*samples, **more)
    assert isinstance(found, Throughput), found
    return found


def why(*samples: tuple[Sample, ...], **more: Any) -> NotLearned:
    found = run(*samples, **more)
    assert isinstance(found, NotLearned), found
    assert "polyfleet bench --observe mdep/qwen" in found.hint
    return found


def test_saturated_replicas_become_a_measured_entry() -> None:
    """Two replicas at 1200 and 1260 tokens/s for 20 minutes: their mean, the lengths, the running requests, and 60 / 1230 s per token."""
    entry = learned(series(), series(rate=lambda _t: 1260.0))
    assert entry.dump_set() == {
        "model": "m/x",
        "precision": "w8a8",
        "engine": "vllm",
        "engineVersion": "1.0",
        "parallelism": {"tensor": 4},
        "inputTokens": 3000,
        "outputTokens": 1000,
        "concurrency": 60,
        "outputTokensPerSecond": "1230.00",
        "itl": "49ms",
        "errorPercent": "1.2",
        "evidence": "Measured",
        "confidence": "High",
        "source": "learned from 2 replicas of llm/qwen over 20m at saturation",
        "date": "2026-11-28",
    }
    assert is_learned(entry)
    assert learned(series()).confidence == "Medium"


def test_half_width_by_hand() -> None:
    """Ten values 1..10: standard deviation 3.02765, t(9) = 2.262, half width 2.1657."""
    assert half_width([float(n) for n in range(1, 11)]) == pytest.approx(2.262 * 3.02765 / 10**0.5, rel=1e-5)


def test_an_idle_replica_shows_demand_and_not_capacity() -> None:
    """Nothing waits half of the time, or the queue is unknown, or nobody looked for two minutes at a time: NotSaturated."""
    assert why(series(waiting=lambda t: 5.0 if t < 600 else 0.0)).reason == "NotSaturated"
    assert why(series(waiting=None)).reason == "NotSaturated"
    assert why(series(step=120)).reason == "NotSaturated"
    assert why(series(running=None)).reason == "NotSaturated"
    assert learned(series(waiting=lambda t: 0.0 if t == 600 else 5.0)).concurrency == 60


def test_only_the_saturated_replicas_count() -> None:
    """One busy and one idle replica: one replica's entry."""
    entry = learned(series(), series(waiting=0.0, rate=lambda _t: 100.0))
    assert entry.source.startswith("learned from 1 replica of")
    assert entry.output_tokens_per_second == "1200.00"


def test_too_short_and_too_few() -> None:
    """Nine minutes; ten minutes of a slow replica; requests that live longer than a tenth of the time."""
    assert why(series(minutes=9)).reason == "TooShort"
    assert why(series(rate=lambda _t: 100.0)).reason == "TooFewTokens"
    found = why(series(running=300.0))  # 300 * 1000 / 1200 = 250 s each
    assert found.reason == "TooShort"
    assert "a request lives 4m, so 10 independent batches need 42m" in found.message
    assert why().reason == "NotSaturated"
    assert why(()).reason == "TooShort"


def test_a_restart_cuts_the_time_off() -> None:
    """Counters that start again: what lies before is left out; too little after it is CounterReset, enough is learned from."""
    first, second = series(minutes=5), tuple(replace(one, at_s=one.at_s + 400) for one in series(minutes=6))
    assert why((*first, *second)).reason == "CounterReset"
    longer = tuple(replace(one, at_s=one.at_s + 400) for one in series(minutes=20))
    assert learned((*first, *longer)).source.endswith("over 20m at saturation")


def test_lengths_that_move() -> None:
    """Prompts that double half-way, counters that are missing, and replicas that serve different traffic."""
    base = series()
    grown = tuple(
        replace(one, prompt_tokens=one.finished * 3000 + max(0, one.finished - 700) * 6000) for one in base if one.finished is not None
    )
    found = why(grown)
    assert (found.reason, "mean input tokens over the thirds of the time are" in found.message) == ("LengthsMixed", True)
    assert why(tuple(replace(one, finished=None) for one in base)).reason == "LengthsUnknown"
    assert why(series(), series(answer=400)).reason == "LengthsMixed"


def test_unsteady() -> None:
    """A rate that swings, replicas far apart, and an engine that throws work away."""
    assert why(series(rate=lambda t: 400.0 if int(t // 120) % 2 else 2000.0)).reason == "Unsteady"
    assert "pod-2 does 2400 tokens/s, the mean of 3 replicas is 1600" in why(series(), series(), series(rate=lambda _t: 2400.0)).message
    assert why(series(preemptions=lambda t: t)).reason == "Unsteady"


def test_rules_are_arguments() -> None:
    """A small engine may be learned from with smaller demands."""
    assert learned(series(minutes=9), rules=Rules(least_s=500)).evidence == "Measured"


def test_the_order_and_repetition_of_samples_do_not_matter() -> None:
    """Shuffled and doubled samples give the same entry."""
    base = series()
    assert learned((*reversed(base), *base)) == learned(base)


def test_merge_renews_the_learned_entry_and_nothing_else() -> None:
    """The old learned entry of this key gives way in its place; a bench entry of the same key and a learned one of other lengths stay."""
    new = learned(series(rate=lambda _t: 1300.0))
    old = learned(series())
    bench = old.model_copy(update={"source": "polyfleet bench 2026-11-01"})
    far = old.model_copy(update={"input_tokens": 100})
    other = old.model_copy(update={"engine_version": "0.9"})
    assert merge_learned((bench, old, far, other), new) == (bench, new, far, other)
    assert merge_learned((bench,), new) == (bench, new)
    drifted = old.model_copy(update={"input_tokens": 3500, "concurrency": 50})
    assert merge_learned((drifted, old), new) == (new,)
    with pytest.raises(ValueError, match="128 entries of at most 128"):
        merge_learned((bench,) * 128, new)
