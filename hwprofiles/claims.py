"""What a profile claims: its numbers with their paths, the key of a throughput entry, and what a date may be."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping

from hwprofiles.model import HardwareProfileSpec, Throughput

# Blocks whose leaves are claims about silicon or money. Rules of identity (match, resources, engines, pod) claim no quantity.
QUANTITIES = ("unit", "allocation", "topology", "peakTflops", "bandwidthTBps", "assume", "efficiency", "derate", "cost")
# Names among them; a name may consist of digits.
_NAMES = frozenset({"topology.domainLabel", "allocation.wholeNodeSchedulers", "allocation.roundUpSchedulers"})
_COUNTED = re.compile(r"([^0-9]*)([0-9]{0,18})")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti)?")


def numbers(spec: HardwareProfileSpec) -> Mapping[str, str]:
    """Every number outside `throughput`, by path in API spelling; a list of numbers is one. Only what was given, no defaults."""
    dumped = spec.dump_set()
    return {path: text for block in QUANTITIES for path, text in _numbers(dumped.get(block), block) if path not in _NAMES}


def _numbers(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _numbers(value[key], f"{path}.{key}")
    elif isinstance(value, list | tuple):
        if any(_is_number(item) for item in value):
            yield path, str(list(value))
    elif _is_number(value):
        yield path, str(value)


def _is_number(value: object) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, str) and _NUMBER.fullmatch(value) is not None)


def in_order(path: str) -> tuple[tuple[str, int], ...]:
    """A key that sorts paths as people count: throughput[4] before throughput[14]."""
    return tuple((text, int(number or -1)) for text, number in _COUNTED.findall(path))


def entry_key(entry: Throughput) -> tuple[object, ...]:
    """What makes two throughput entries the same: whose model, how it is run, at which load and latency, of which evidence.

    What an entry is about counts too, so that one with the footprint and one with the rate may stand side by side.
    """
    stated = (entry.output_tokens_per_second is not None, entry.footprint is not None, entry.cold_start is not None)
    return (
        entry.model,
        entry.precision,
        entry.engine,
        entry.engine_version,
        tuple(entry.parallelism.model_dump().items()),
        entry.input_tokens,
        entry.output_tokens,
        entry.concurrency,
        entry.ttft,
        entry.itl,
        entry.evidence,
        stated,
    )


def date_fault(date: str, today: str | None) -> tuple[str, str] | None:
    """(reason, allowed) of a date that cannot be: no day of the calendar, or after `today` (YYYY-MM-DD; None = not checked).

    A month counts as past as soon as it has begun.
    """
    if len(date) == len("YYYY-MM-DD"):
        try:
            datetime.date.fromisoformat(date)
        except ValueError:
            return "DateInvalid", "a day of the calendar, YYYY-MM-DD"
    if today is not None and date > today[: len(date)]:
        return "DateInFuture", f"up to {today}"
    return None
