"""Whether a throughput entry can be true: the roofline of its own hardware, and its order among the entries of other devices.

Both checks come from holes in published tables (a public planner's table puts a B200 2.6 to 5.7 times below an H100 for two models).
They judge only what they know: an unknown shape, an unknown peak or bandwidth, an assumed one, or a load that is not stated gives no
judgement.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from hwprofiles.catalogue import find
from hwprofiles.estimate import Load, hardware_of, speed_of_light
from hwprofiles.model import HardwareProfileSpec, Throughput
from hwprofiles.schema import decimal, decimal_float, quantity_bytes

LOWEST_SHARE, HIGHEST_SHARE = 0.1, 1.0  # of the speed-of-light bound
LEAST_RATIO = 0.8  # of the rate per device of a device that is beaten in peak, bandwidth and memory
LIKE = 1.25  # two concurrencies per device, or two times per token, within this factor are one load
_RANK = {"Estimated": 0, "Published": 1, "Measured": 2}


def bound(spec: HardwareProfileSpec, entry: Throughput) -> float | None:
    """Output tokens/s that peak and bandwidth allow at the entry's own load, times `acceptedLength`; at the most requests that memory holds
    where it states no concurrency. None = not known, so that the entry is not judged: `test_shipped_entries` names those that ship."""
    if rate_of(entry) is None or entry.precision is None or entry.input_tokens is None or entry.output_tokens is None:
        return None
    if spec.bandwidth_tbps is None or not spec.peak_tflops:
        return None  # a bound on an assumption proves nothing
    known = find(entry.model)
    if known is None or not known.shape.complete:
        return None
    load = Load(entry.input_tokens, entry.output_tokens, entry.concurrency)
    found = speed_of_light(known.shape, hardware_of(spec, entry.engine), entry.parallelism, entry.precision, load)
    if found is None or found <= 0:
        return None
    return found * (decimal_float(entry.accepted_length) if entry.accepted_length is not None else 1.0)


def roofline(spec: HardwareProfileSpec, entry: Throughput) -> str | None:
    """Why the rate cannot be: below 0.1 or above 1.0 of the bound at its own load; None = no objection.

    An entry without a concurrency is held to the upper limit alone.
    """
    rate, most = rate_of(entry), bound(spec, entry)
    if rate is None or most is None:
        return None
    share = rate / most
    lowest = 0.0 if entry.concurrency is None else LOWEST_SHARE
    if lowest <= share <= HIGHEST_SHARE:
        return None
    where = "any concurrency" if entry.concurrency is None else f"concurrency {entry.concurrency}"
    why = "speculative decoding needs acceptedLength, " if share > HIGHEST_SHARE and entry.accepted_length is None else ""
    return (
        f"{rate:g} tokens/s is {share:.2f} of the {most:.0f} that peak and bandwidth allow at {where};"
        f" allowed: {lowest:g} to {HIGHEST_SHARE:g} of it; {why}check devices, precision and whether the rate is output tokens"
    )


@dataclass(frozen=True, slots=True)
class _Rated:
    profile: str
    index: int
    spec: HardwareProfileSpec
    entry: Throughput
    per_device: float
    witness: bool


def not_monotone(profiles: Mapping[str, tuple[HardwareProfileSpec, Set[int]]]) -> dict[tuple[str, int], str]:
    """(profile, entry) → objection, for entries below 0.8 of what a device that is worse in everything does per device.

    By profile: its spec and which of its entries are doubted already; those are judged, but bear no witness against others. Like is
    compared with like: model, precision, engine, lengths, width of the layout, and either about the same time per token or about the same
    concurrency per device. Better evidence is not judged by worse.
    """
    buckets: dict[tuple[object, ...], list[_Rated]] = {}
    for profile in sorted(profiles):
        spec, doubted = profiles[profile]
        if spec.bandwidth_tbps is None or not spec.peak_tflops:
            continue
        for index, entry in enumerate(spec.throughput):
            rate = rate_of(entry)
            if rate is None or entry.precision is None or entry.input_tokens is None or entry.output_tokens is None:
                continue
            layout = entry.parallelism
            width = (layout.span > 1, layout.devices > 8)
            key = (entry.model.lower(), entry.precision, entry.engine, entry.input_tokens, entry.output_tokens, width)
            buckets.setdefault(key, []).append(_Rated(profile, index, spec, entry, rate / layout.devices, index not in doubted))
    return {found: text for bucket in buckets.values() for found, text in _compare(bucket)}


def _compare(bucket: list[_Rated]) -> Iterator[tuple[tuple[str, int], str]]:
    for item in bucket:
        against = [
            other
            for other in bucket
            if other.witness
            and other.profile != item.profile
            and item.per_device < LEAST_RATIO * other.per_device
            and _RANK[other.entry.evidence] >= _RANK[item.entry.evidence]
            and _alike(item.entry, other.entry)
            and dominates(item.spec, other.spec)
        ]
        if against:
            best = max(against, key=lambda other: (other.per_device, other.profile, -other.index))
            text = (
                f"{item.per_device:g} tokens/s per device is {item.per_device / best.per_device:.2f} of the {best.per_device:g} of"
                f" {best.profile} (throughput[{best.index}]), which has less peak, bandwidth and memory;"
                f" allowed: at least {LEAST_RATIO:g} of it; measure it, or correct either entry"
            )
            yield (item.profile, item.index), text


def dominates(better: HardwareProfileSpec, worse: HardwareProfileSpec) -> bool:
    """At least as good in every peak that the other states, in bandwidth and in memory. Unknown or assumed = no."""
    if not better.peak_tflops or not worse.peak_tflops or better.bandwidth_tbps is None or worse.bandwidth_tbps is None:
        return False
    mine = better.peak_tflops
    return (
        all(name in mine and decimal(mine[name]) >= decimal(value) for name, value in worse.peak_tflops.items())
        and decimal(better.bandwidth_tbps) >= decimal(worse.bandwidth_tbps)
        and quantity_bytes(better.unit.memory) >= quantity_bytes(worse.unit.memory)
    )


def _alike(one: Throughput, two: Throughput) -> bool:
    """The same time per token, as stated or as concurrency / rate makes it (Little's law; predictions at a limit of 50 ms lie there,
    whether or not they name the limit), or about the same concurrency per device."""
    if one.itl is not None and one.itl == two.itl:
        return True  # both are the best that a device does within the same time per token
    if one.concurrency is None or two.concurrency is None:
        return one.concurrency is two.concurrency and one.itl is None and two.itl is None
    per_device = one.concurrency / one.parallelism.devices, two.concurrency / two.parallelism.devices
    per_token = one.concurrency / (rate_of(one) or math.inf), two.concurrency / (rate_of(two) or math.inf)
    return any(max(pair) <= LIKE * min(pair) for pair in (per_device, per_token))


def rate_of(entry: Throughput) -> float | None:
    """Output tokens/s of the replica; None where it is not stated or 0."""
    if entry.output_tokens_per_second is None:
        return None
    return decimal_float(entry.output_tokens_per_second) or None
