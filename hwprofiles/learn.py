"""Learning from live traffic: saturated replicas become a Measured throughput entry that anybody can see, edit and delete.

Never a silent factor: the result is an entry of `spec.throughput` like one of `polyfleet bench`, or a reason why nothing was learned.

When is traffic a measurement? Only a replica that always has a request waiting shows its capacity; any other shows its demand. The rule:

- a request waits during at least 90 % of the time, taken as the time between two samples that both show one and lie at most 60 s apart
  (an unknown queue length proves nothing);
- at least 10 minutes and 200,000 output tokens per replica: with answers of 1,500 tokens these are 130 requests, and ten batches of a
  minute each exceed the life of a request on all published points (50 to 90 ms per token), so that neighbouring batches hold mostly
  different requests; where they do not, more time is asked for;
- ten batches per replica; the 95 % half width of their mean (Student's t) is at most 10 %, well inside the 40 % margin that the entry
  replaces, and no replica is more than 20 % off the others;
- mean lengths are known and stay within a quarter of their mean in every third of the time: the entry's range is half to double;
- at most one preemption per twenty finished requests: above that the engine recomputes what it threw away, and that is no capacity.

Pure: samples in, entry or reason out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hwprofiles.entries import same_layout
from hwprofiles.model import Layout, Throughput
from hwprofiles.observation import Sample, batch_rates, grown, half_width, lengths, mean_running, saturated, since_reset


@dataclass(frozen=True, slots=True)
class Rules:
    """When observed traffic counts as a measurement; the defaults are explained above."""

    saturated_share: float = 0.9
    longest_gap_s: float = 60.0
    least_s: float = 600.0
    least_tokens: float = 200_000
    batches: int = 10
    half_width: float = 0.10
    replica_spread: float = 0.20
    length_spread: float = 0.25
    preempted: float = 0.05


RULES = Rules()
MOST_ENTRIES = 128  # of spec.throughput
LEARNED = "learned from "

NOT_SATURATED = "NotSaturated"
TOO_SHORT = "TooShort"
TOO_FEW_TOKENS = "TooFewTokens"
LENGTHS_MIXED = "LengthsMixed"
LENGTHS_UNKNOWN = "LengthsUnknown"
COUNTER_RESET = "CounterReset"
UNSTEADY = "Unsteady"


@dataclass(frozen=True, slots=True)
class Observed:
    """The readings of one replica, in any order."""

    replica: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """What the replicas run: everything of an entry's key that traffic does not tell."""

    model: str
    precision: str | None
    engine: str
    engine_version: str | None
    parallelism: Layout


@dataclass(frozen=True, slots=True)
class NotLearned:
    reason: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class _Good:
    """What one saturated replica showed."""

    replica: str
    seconds: float
    rate: float
    batches: tuple[float, ...]  # tokens/s
    running: float
    input_tokens: float
    output_tokens: float


def learn(observed: Sequence[Observed], key: Key, *, owner: str, today: str, rules: Rules = RULES) -> Throughput | NotLearned:
    """A proposed entry for one replica of `key`, or why not. `owner` is namespace/name of the ModelDeployment, `today` YYYY-MM-DD.

    Replicas that do not qualify are left out; if none does, the reason is that of the one that came furthest.
    """
    name = owner.rsplit("/", 1)[-1]
    hint = f"polyfleet bench --observe mdep/{name} --for 30m, or measure a replica that serves nobody: polyfleet bench mdep/{name}"
    good: list[_Good] = []
    bad: list[tuple[int, NotLearned]] = []
    for one in sorted(observed, key=lambda item: item.replica):
        found = _replica(one, rules, hint)
        if isinstance(found, _Good):
            good.append(found)
        else:
            bad.append((_ORDER.index(found.reason), found))
    if not good:
        if not bad:
            return NotLearned(NOT_SATURATED, f"{owner}: no replica was observed", hint)
        return max(bad, key=lambda item: item[0])[1]
    rate = sum(one.rate for one in good) / len(good)
    odd = max(good, key=lambda one: abs(one.rate - rate))
    if abs(odd.rate - rate) > rules.replica_spread * rate:
        text = f"{odd.replica} does {odd.rate:.0f} tokens/s, the mean of {len(good)} replicas is {rate:.0f}"
        return NotLearned(UNSTEADY, f"{text}; at most {rules.replica_spread:.0%} apart", hint)
    mixed = _apart([one.input_tokens for one in good], "input", "replicas", rules.length_spread) or _apart(
        [one.output_tokens for one in good], "output", "replicas", rules.length_spread
    )
    if mixed:
        return NotLearned(LENGTHS_MIXED, mixed, hint)
    error = half_width([batch for one in good for batch in one.batches]) / rate
    running = sum(one.running for one in good) / len(good)
    seconds = min(one.seconds for one in good)
    many = "1 replica" if len(good) == 1 else f"{len(good)} replicas"
    return Throughput(
        model=key.model,
        precision=key.precision,
        engine=key.engine,
        engine_version=key.engine_version,
        parallelism=key.parallelism,
        input_tokens=max(1, round(sum(one.input_tokens for one in good) / len(good))),
        output_tokens=max(1, round(sum(one.output_tokens for one in good) / len(good))),
        concurrency=max(1, round(running)),
        output_tokens_per_second=f"{rate:.2f}",
        # Little's law: requests in service over tokens per second is the mean time of one token of one request.
        itl=f"{max(1, round(running / rate * 1e3))}ms",
        error_percent=f"{error * 100:.1f}",
        evidence="Measured",
        confidence="High" if len(good) > 1 and error <= rules.half_width / 2 else "Medium",
        source=f"{LEARNED}{many} of {owner} over {_span(seconds)} at saturation",
        date=today,
    )


def merge_learned(entries: Sequence[Throughput], learned: Throughput) -> tuple[Throughput, ...]:
    """The entries with the learned one in the place of the learned one that it renews; entries of other origin are never touched.

    It renews a learned entry of the same model, precision, engine, version and layout whose lengths lie within half to double of its own:
    live lengths drift, and exact equality would pile up an entry per day. Raises ValueError where the profile is full.
    """
    kept = [entry for entry in entries if not _renews(learned, entry)]
    if len(kept) + 1 > MOST_ENTRIES:
        raise ValueError(f"spec.throughput holds {len(kept)} entries of at most {MOST_ENTRIES}; delete one: kubectl edit hwp/PROFILE")
    places = [place for place, entry in enumerate(entries) if _renews(learned, entry)]
    place = places[0] if places else len(kept)
    return (*kept[:place], learned, *kept[place:])


def is_learned(entry: Throughput) -> bool:
    """Made by `learn`, not by `polyfleet bench` and not by a person."""
    return entry.evidence == "Measured" and entry.source.startswith(LEARNED)


def _renews(new: Throughput, old: Throughput) -> bool:
    def near(a: int | None, b: int | None) -> bool:
        return a is not None and b is not None and 0.5 <= a / b <= 2.0

    return (
        is_learned(old)
        and (old.model, old.precision, old.engine, old.engine_version) == (new.model, new.precision, new.engine, new.engine_version)
        and same_layout(old.parallelism, new.parallelism)
        and near(old.input_tokens, new.input_tokens)
        and near(old.output_tokens, new.output_tokens)
    )


# From the first check that fails to the last: who came further is told.
_ORDER = (TOO_SHORT, COUNTER_RESET, NOT_SATURATED, TOO_FEW_TOKENS, LENGTHS_UNKNOWN, LENGTHS_MIXED, UNSTEADY)


def _replica(one: Observed, rules: Rules, hint: str) -> _Good | NotLearned:
    def no(reason: str, text: str) -> NotLearned:
        return NotLearned(reason, f"{one.replica}: {text}", hint)

    ordered = sorted({sample.at_s: sample for sample in one.samples}.values(), key=lambda sample: sample.at_s)
    samples = since_reset(ordered)
    seconds = samples[-1].at_s - samples[0].at_s if samples else 0.0
    if seconds < rules.least_s:
        if len(samples) < len(ordered):
            return no(
                COUNTER_RESET,
                f"its counters restarted {_span(seconds)} before the end; {_span(rules.least_s)} without a restart are needed",
            )
        return no(TOO_SHORT, f"observed for {_span(seconds)}; at least {_span(rules.least_s)} are needed")
    share = saturated(samples, rules.longest_gap_s) / seconds
    if share < rules.saturated_share:
        text = f"a request waited during {share:.0%} of the time; at least {rules.saturated_share:.0%} are needed"
        return no(NOT_SATURATED, f"{text}, else demand is measured and not capacity")
    tokens = samples[-1].output_tokens - samples[0].output_tokens
    if tokens < rules.least_tokens:
        return no(TOO_FEW_TOKENS, f"{tokens:.0f} output tokens; at least {rules.least_tokens} are needed")
    means = lengths(samples)
    if means is None:
        return no(
            LENGTHS_UNKNOWN, "it exports no counters of prompt tokens and finished requests, or none finished in some third of the time"
        )
    thirds, into, out = means
    mixed = _apart([item[0] for item in thirds], "input", "thirds of the time", rules.length_spread) or _apart(
        [item[1] for item in thirds], "output", "thirds of the time", rules.length_spread
    )
    if mixed:
        return no(LENGTHS_MIXED, mixed)
    rate = tokens / seconds
    running = mean_running(samples)
    if running is None:
        return no(NOT_SATURATED, "it does not export how many requests run, so their number is unknown")
    life = running * out / rate
    if life > seconds / rules.batches:
        return no(
            TOO_SHORT,
            f"a request lives {_span(life)}, so {rules.batches} independent batches need {_span(life * rules.batches)};"
            f" observed {_span(seconds)}",
        )
    thrown = grown(samples, "preemptions") or 0.0
    finished = grown(samples, "finished") or 0.0
    if thrown > rules.preempted * finished:
        return no(UNSTEADY, f"{thrown:.0f} preemptions in {finished:.0f} requests; at most {rules.preempted:.0%}, else work is done twice")
    batches = batch_rates(samples, rules.batches)
    width = half_width(batches) / rate
    if width > rules.half_width:
        return no(UNSTEADY, f"{rate:.0f} tokens/s ± {width:.0%} over {rules.batches} batches; at most {rules.half_width:.0%}")
    return _Good(one.replica, seconds, rate, batches, running, into, out)


def _apart(values: Sequence[float], what: str, over: str, spread: float) -> str:
    """Words where a mean length strays too far; empty where it does not."""
    mean = sum(values) / len(values)
    if all(abs(value - mean) <= spread * mean for value in values):
        return ""
    shown = ", ".join(f"{value:.0f}" for value in values)
    return f"mean {what} tokens over the {over} are {shown}; at most {spread:.0%} from their mean"


def _span(seconds: float) -> str:
    return f"{seconds:.0f}s" if seconds < 120 else f"{seconds / 60:.0f}m"
