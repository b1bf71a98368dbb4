"""What planning may use of a set of profiles: the faulty entries are left out, each with its reason, and nothing else is.

Pure: the same profiles and day give the same result in any order and after any restart, because nothing is remembered but results.

- A faulty throughput entry is left out, unless this installation measured it: a measurement stays, flagged. A rate of 0 is always out.
- A number without provenance, or one that cannot be, is left out where absence is legal (peaks, bandwidth, assumptions, efficiency,
  derate, links). `unit`, `allocation` and `cost` are flagged and used: without them there is no profile. So is a `derate` in (0, 1] without
  provenance: without the factor every estimate of the profile would be better, and nobody's doubt makes hardware faster.
- Of entries with one key and one evidence the newest stays, of the same day the slowest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from hwprofiles.claims import entry_key, in_order
from hwprofiles.model import Efficiency, HardwareProfileSpec, Throughput
from hwprofiles.plausible import not_monotone, rate_of, roofline
from hwprofiles.schema import camel, decimal
from hwprofiles.validation import Finding, validate

_REMOVABLE = ("peakTflops", "bandwidthTBps", "assume", "efficiency", "derate", "topology")
_SILICON = "peakTflops or bandwidthTBps"
_KEPT, _KEPT_SETS = 256, 8  # results of single profiles and of whole sets that are remembered
_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Fault:
    """One objection to one profile, sorted as people count (entry 4 before entry 14).

    `ignored`: planning leaves the named field or entry out; otherwise it is used as it is."""

    profile: str
    field: str
    reason: (
        str  # ProvenanceMissing | RooflineBroken | NotMonotone | PrecisionUnsupported | DateInFuture | OutOfRange | DuplicateEntry | ...
    )
    message: str
    ignored: bool

    def __lt__(self, other: Fault) -> bool:
        return self._order < other._order

    @property
    def _order(self) -> tuple[object, ...]:
        return self.profile, in_order(self.field), self.reason, self.message, self.ignored


@dataclass(frozen=True, slots=True)
class Trusted:
    specs: Mapping[str, HardwareProfileSpec]  # by name, sorted; the same object where nothing was left out
    faults: tuple[Fault, ...]

    def of(self, profile: str) -> tuple[Fault, ...]:
        return tuple(fault for fault in self.faults if fault.profile == profile)


@dataclass(frozen=True, slots=True)
class _Judged:
    """One profile by itself: its faults without its name, which entries go, and which are doubted."""

    spec: HardwareProfileSpec  # numbers left out, all entries still in
    faults: tuple[tuple[str, str, str, bool], ...]  # field, reason, message, ignored
    gone: frozenset[int]
    doubted: frozenset[int]  # entries with a fault, whether they go or stay


# Results by identity. The specs are held with them, so an id cannot be taken by another object.
_single: OrderedDict[tuple[int, str], tuple[HardwareProfileSpec, _Judged]] = OrderedDict()
_whole: OrderedDict[tuple[object, ...], tuple[tuple[HardwareProfileSpec, ...], Trusted]] = OrderedDict()


def trusted(profiles: Mapping[str, HardwareProfileSpec], *, today: str) -> Trusted:
    """What planning may use on `today` (YYYY-MM-DD; a timestamp that begins so will do), and every objection, sorted.

    Takes about 0.1 ms per entry the first time; unchanged profiles (the same objects) cost nothing after that.
    """
    day = today[:10]
    names = sorted(profiles)
    key = (day, *((name, id(profiles[name])) for name in names))
    found = _whole.get(key)
    if found is None:
        found = (tuple(profiles[name] for name in names), _judge_all({name: profiles[name] for name in names}, day))
        _remember(_whole, key, found, _KEPT_SETS)
    return found[1]


def forget() -> None:
    """Drop all remembered results; they are only a saving of time."""
    _single.clear()
    _whole.clear()


def _judge_all(profiles: Mapping[str, HardwareProfileSpec], day: str) -> Trusted:
    judged = {name: _judge_once(spec, day) for name, spec in profiles.items()}
    slow = not_monotone({name: (item.spec, item.doubted) for name, item in judged.items()})
    faults = [Fault(name, *fault) for name, item in judged.items() for fault in item.faults]
    specs: dict[str, HardwareProfileSpec] = {}
    for name, item in judged.items():
        gone = set(item.gone)
        for (profile, index), text in slow.items():
            if profile == name:
                entry = item.spec.throughput[index]
                ignored = entry.evidence != "Measured"
                faults.append(Fault(name, f"throughput[{index}].outputTokensPerSecond", "NotMonotone", f"{label(entry)}: {text}", ignored))
                gone |= {index} if ignored else set()
        specs[name] = _without(item.spec, gone)
    return Trusted(specs, tuple(sorted(faults)))


def _judge_once(spec: HardwareProfileSpec, day: str) -> _Judged:
    key = (id(spec), day)
    found = _single.get(key)
    if found is None:
        found = (spec, _judge(spec, day))
        _remember(_single, key, found, _KEPT)
    return found[1]


def _judge(spec: HardwareProfileSpec, day: str) -> _Judged:
    faults: list[tuple[str, str, str, bool]] = []
    gone: set[int] = set()
    doubted: set[int] = set()
    numbers: set[str] = set()
    superseded = _superseded(spec.throughput)
    for finding in validate(spec, today=day):
        index = _entry_of(finding)
        if index is None:
            ignored = _is_removable(finding)
            numbers |= {finding.field} if ignored else set()
            ignored |= finding.reason == "PatternInvalid" or finding.field.startswith("provenance[")
        elif finding.reason == "DuplicateEntry" and index not in superseded:
            continue  # the one of them that stays
        else:
            entry = spec.throughput[index]
            # A range that holds no load and a rate of 0 say nothing, whoever measured them.
            ignored = entry.evidence != "Measured" or finding.reason == "OutOfRange"
            doubted.add(index)
            gone |= {index} if ignored else set()
        faults.append((finding.field, finding.reason, finding.message, ignored))
    spec = _without_numbers(spec, numbers)
    broken = {index: text for index, entry in enumerate(spec.throughput) if index not in gone and (text := roofline(spec, entry))}
    # One wrong entry is the entry's fault; several at once have one number in common.
    several = f"; {len(broken)} entries of this profile break it: a number of the silicon may be wrong, {_SILICON}"
    for index, text in broken.items():
        entry = spec.throughput[index]
        text += several if len(broken) > 1 else ""
        ignored = entry.evidence != "Measured"
        doubted.add(index)
        gone |= {index} if ignored else set()
        faults.append((f"throughput[{index}].outputTokensPerSecond", "RooflineBroken", f"{label(entry)}: {text}", ignored))
    return _Judged(spec, tuple(faults), frozenset(gone), frozenset(doubted))


def label(entry: Throughput) -> str:
    """One line that finds the entry again: model, precision, engine, layout."""
    layout = entry.parallelism
    parts = [entry.model, entry.precision or "any precision", entry.engine]
    parts.append(
        "x".join(f"{name}{size}" for name, size in (("tp", layout.tensor), ("pp", layout.pipeline), ("dp", layout.data)) if size > 1)
        or "1 device"
    )
    return " ".join(parts)


def _superseded(entries: tuple[Throughput, ...]) -> set[int]:
    """Of entries with one key, all but the newest; of one day, all but the slowest; of equal ones, all but the first."""
    by_key: dict[tuple[object, ...], list[int]] = {}
    for index, entry in enumerate(entries):
        by_key.setdefault(entry_key(entry), []).append(index)

    def order(index: int) -> tuple[str, float, str, int]:
        entry = entries[index]
        return entry.date, -(rate_of(entry) or float("inf")), entry.model_dump_json(), -index

    return {index for same in by_key.values() for index in same if len(same) > 1 and index != max(same, key=order)}


def _entry_of(finding: Finding) -> int | None:
    if not finding.field.startswith("throughput["):
        return None
    return int(finding.field.removeprefix("throughput[").partition("]")[0])


def _is_removable(finding: Finding) -> bool:
    if finding.reason == "OutOfRange" and finding.field == "unit.usableFraction":
        return True
    block = finding.field.partition(".")[0]
    if block == "derate" and finding.reason == "ProvenanceMissing" and decimal(finding.value) <= 1:
        return False  # a 0 is OutOfRange, and that finding removes it
    return finding.reason in ("ProvenanceMissing", "OutOfRange") and block in _REMOVABLE


def _without(spec: HardwareProfileSpec, gone: Iterable[int]) -> HardwareProfileSpec:
    out = set(gone)
    if not out:
        return spec
    return spec.model_copy(update={"throughput": tuple(entry for index, entry in enumerate(spec.throughput) if index not in out)})


def _without_numbers(spec: HardwareProfileSpec, paths: set[str]) -> HardwareProfileSpec:
    """The profile without the numbers at these paths."""
    if not paths:
        return spec

    def peaks(given: Mapping[str, str] | None, prefix: str) -> dict[str, str] | None:
        return {name: value for name, value in (given or {}).items() if f"{prefix}.{name}" not in paths} or None

    update: dict[str, object] = {"peak_tflops": peaks(spec.peak_tflops, "peakTflops")}
    if "bandwidthTBps" in paths:
        update["bandwidth_tbps"] = None
    if "unit.usableFraction" in paths:
        update["unit"] = spec.unit.model_copy(update={"usable_fraction": None})
    if spec.assume is not None:
        change: dict[str, object] = {"peak_tflops": peaks(spec.assume.peak_tflops, "assume.peakTflops")}
        if "assume.bandwidthTBps" in paths:
            change["bandwidth_tbps"] = None
        update["assume"] = spec.assume.model_copy(update=change)
    if spec.efficiency is not None:
        update["efficiency"] = spec.efficiency.model_copy(update=_absent(Efficiency.model_fields, "efficiency", paths))
    if spec.topology is not None:
        links = {"node_link_gbps": None, "cross_node_link_gbps": None}
        update["topology"] = spec.topology.model_copy(update=_absent(links, "topology", paths))
    if spec.derate is not None:
        update["derate"] = {
            name: item.model_copy(update=_absent(type(item).model_fields, f"derate.{name}", paths)) for name, item in spec.derate.items()
        }
    return spec.model_copy(update=update)


def _absent(fields: Iterable[str], prefix: str, paths: set[str]) -> dict[str, None]:
    return {name: None for name in fields if f"{prefix}.{camel(name)}" in paths}


def _remember(cache: OrderedDict[_K, _V], key: _K, value: _V, most: int) -> None:
    cache[key] = value
    while len(cache) > most:
        cache.popitem(last=False)
