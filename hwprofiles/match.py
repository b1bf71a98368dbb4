"""Which profile a node belongs to: a pure function of the node's labels and of what it has installed.

An entry holds when all its labels, patterns, excluded labels and the installed count hold. Among the entries that hold, the one
with the most label keys wins; two profiles that hold equally specifically own nothing, because a wrong guess costs more than an
unused node. An entry whose labels hold while the installed count contradicts it, and that is more specific than every entry that
holds, makes the node belong to nobody: its labels and its devices tell different stories. A resource name alone never identifies
silicon (three Ascend generations share one); it only tells an accelerator node from an ordinary one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from hwprofiles.model import HardwareProfileSpec, MatchEntry
from hwprofiles.resources import installed_devices


class MatchReason(StrEnum):
    MATCHED = "Matched"
    NO_DEVICES = "NoDevices"  # nothing of any profile on this node: not an accelerator node, nothing to report
    DEVICES_MISSING = "DevicesMissing"  # labels fit an entry that counts devices, but no plugin has advertised any yet: wait
    NO_ENTRY = "NoMatchingProfile"  # carries devices, but no entry holds
    AMBIGUOUS = "AmbiguousProfile"
    CONTRADICTION = "LabelsContradictDevices"


@dataclass(frozen=True, slots=True)
class NodeMatch:
    """The profile, or why there is none. `labels` are the node's values of every label key that a tried profile looks at."""

    profile: str | None
    reason: MatchReason
    message: str
    labels: tuple[tuple[str, str], ...] = ()
    tried: tuple[str, ...] = ()
    entry: int | None = None  # index in the profile's match list


def match_node(profiles: Mapping[str, HardwareProfileSpec], labels: Mapping[str, str], capacity: Mapping[str, int]) -> NodeMatch:
    """The profile of a node with these labels and this capacity (`status.capacity`, withdrawn devices included)."""
    full: list[tuple[int, str, int]] = []  # (label keys, profile, entry)
    contradicted: list[tuple[int, str, int, int]] = []  # the same with the units that the entry wants
    waiting: list[str] = []
    tried: list[str] = []
    for name in sorted(profiles):
        spec = profiles[name]
        installed = installed_devices(spec, capacity)
        touched = installed is not None
        for index, entry in enumerate(spec.match):
            if not _labels_hold(entry, labels):
                continue
            touched = True
            keys = len(_positive_keys(entry))
            want = entry.units_per_node
            if want is not None and installed is None:
                waiting.append(name)
            # A name that is left with 0 devices (the plugin is restarting) is unknown and contradicts nothing.
            elif want is not None and installed and installed != want:
                contradicted.append((keys, name, index, want))
            else:
                full.append((keys, name, index))
        if touched and spec.match:
            tried.append(name)
    seen = _seen_labels(profiles, tried, labels)
    best = max((keys for keys, _, _ in full), default=0)
    against = [item for item in contradicted if item[0] > best]
    if against:
        top = max(item[0] for item in against)
        _, name, index, want = min(item for item in against if item[0] == top)
        have = installed_devices(profiles[name], capacity)
        return NodeMatch(
            None,
            MatchReason.CONTRADICTION,
            f"{_show(profiles[name].match[index], labels)} says {name} with {want} devices, but the node has {have} installed;"
            f" profiles tried: {', '.join(tried)}; correct the label, or name the profile in an AcceleratorPool",
            seen,
            tuple(tried),
        )
    if not full:
        if not tried:
            return NodeMatch(None, MatchReason.NO_DEVICES, "no resource or label of any profile")
        if waiting:
            names = " and ".join(sorted(set(waiting)))
            text = f"labels fit {names}, but no device is advertised yet; is the device plugin running on this node?"
            return NodeMatch(None, MatchReason.DEVICES_MISSING, text, seen, tuple(tried))
        shown = ", ".join(f"{key}={value}" for key, value in seen) or "no known label"
        return NodeMatch(
            None,
            MatchReason.NO_ENTRY,
            f"{shown} fits no profile; profiles tried: {', '.join(tried)};"
            " add a match entry to a HardwareProfile, or name the profile in an AcceleratorPool",
            seen,
            tuple(tried),
        )
    winners = sorted({name for keys, name, _ in full if keys == best})
    if len(winners) > 1:
        shown = ", ".join(f"{key}={value}" for key, value in seen)
        return NodeMatch(
            None,
            MatchReason.AMBIGUOUS,
            f"{shown} fits {' and '.join(winners)} equally well; make one match entry more specific,"
            " or name the profile in an AcceleratorPool",
            seen,
            tuple(tried),
        )
    index = min(index for keys, name, index in full if keys == best)
    return NodeMatch(winners[0], MatchReason.MATCHED, _show(profiles[winners[0]].match[index], labels), seen, tuple(tried), index)


def _positive_keys(entry: MatchEntry) -> tuple[str, ...]:
    return tuple(sorted({*(entry.labels or {}), *(entry.label_patterns or {})}))


def _labels_hold(entry: MatchEntry, labels: Mapping[str, str]) -> bool:
    if not _positive_keys(entry):
        return False
    for key, values in (entry.labels or {}).items():
        if labels.get(key) not in values:
            return False
    for key, pattern in (entry.label_patterns or {}).items():
        if key not in labels or _compiled(pattern).fullmatch(labels[key]) is None:
            return False
    return all(not (key in labels and (not values or labels[key] in values)) for key, values in (entry.not_labels or {}).items())


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error:
        # `validate` reports a broken expression; here it fits nothing.
        return re.compile(r"(?!)")


def _show(entry: MatchEntry, labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={labels.get(key, '')}" for key in _positive_keys(entry))


def _seen_labels(profiles: Mapping[str, HardwareProfileSpec], tried: list[str], labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    keys: set[str] = set()
    for name in tried:
        for entry in profiles[name].match:
            keys.update(_positive_keys(entry))
            keys.update(entry.not_labels or {})
    return tuple((key, labels[key]) for key in sorted(keys) if key in labels)
