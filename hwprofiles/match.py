"""Which profile a node belongs to: a pure function of the node's labels and of what it has installed.

An entry holds when all its labels, patterns, excluded labels and the installed count hold. Among the entries that hold, the one
with the most label keys wins; two profiles that hold equally specifically own nothing, because a wrong guess costs more than an
unused node. An entry whose labels hold while what is installed contradicts it, and that is more specific than every entry that
holds, makes the node belong to nobody: its labels and its devices tell different stories. So do labels that name two profiles of which
each excludes the other's. A resource name alone never identifies
silicon (three Ascend generations share one); it tells an accelerator node from an ordinary one, and it speaks *against* a profile:
 - a node that advertises devices of other profiles and none of this one's is not this one's (that is how HAMi's nodes are told apart,
   which carry one label and the chip in the resource name);
 - a node that advertises whole devices of the winner and of another profile is mixed, and belongs to nobody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from hwprofiles.model import HardwareProfileSpec, MatchEntry
from hwprofiles.resources import installed_devices, resource_names
from hwprofiles.sharing import is_slice

_REMEMBERED = 65536  # distinct nodes, by what matching looks at: far above any fleet's kinds of nodes


class MatchReason(StrEnum):
    MATCHED = "Matched"
    NO_DEVICES = "NoDevices"  # nothing of any profile on this node: not an accelerator node, nothing to report
    DEVICES_MISSING = "DevicesMissing"  # labels fit an entry that counts devices, but no plugin has advertised any yet: wait
    NO_ENTRY = "NoMatchingProfile"  # carries devices, but no entry holds
    AMBIGUOUS = "AmbiguousProfile"
    CONTRADICTION = "LabelsContradictDevices"
    MIXED = "MixedDevices"  # whole devices of more than one profile


@dataclass(frozen=True, slots=True)
class NodeMatch:
    """The profile, or why there is none. `labels` are the node's values of every label key that a tried profile looks at."""

    profile: str | None
    reason: MatchReason
    message: str
    labels: tuple[tuple[str, str], ...] = ()
    tried: tuple[str, ...] = ()
    entry: int | None = None  # index in the profile's match list
    rivals: tuple[str, ...] = ()  # where it is AmbiguousProfile: the profiles that fit equally well, sorted


def match_node(profiles: Mapping[str, HardwareProfileSpec], labels: Mapping[str, str], capacity: Mapping[str, int]) -> NodeMatch:
    """The profile of a node with these labels and this capacity (`status.capacity`, withdrawn devices included)."""
    return Matcher(profiles).match(labels, capacity)


@dataclass(frozen=True, slots=True)
class _Entry:
    profile: str
    index: int
    keys: int  # labels that it looks at: how specific it is
    want: int = 0  # devices that it wants, where they contradict
    other: str = ""  # the resource of another profile that contradicts it


class Matcher:
    """The same for many nodes: what was told for one is remembered for every node with the same labels (of those that any entry looks
    at) and the same devices."""

    def __init__(self, profiles: Mapping[str, HardwareProfileSpec]) -> None:
        self._profiles = {name: profiles[name] for name in sorted(profiles)}
        self._names = {name: frozenset(resource_names(spec)) for name, spec in self._profiles.items()}
        entries = [entry for spec in self._profiles.values() for entry in spec.match]
        self._keys = tuple(sorted({key for entry in entries for key in (*_positive_keys(entry), *(entry.not_labels or {}))}))
        self._known = frozenset(name for names in self._names.values() for name in names)
        self._whole = frozenset(
            name
            for profile, spec in self._profiles.items()
            if spec.unit.kind != "slice"
            for name in self._names[profile]
            if not is_slice(name)
        )
        self._remembered: dict[tuple[object, ...], NodeMatch] = {}

    def match(self, labels: Mapping[str, str], capacity: Mapping[str, int]) -> NodeMatch:
        known = self._known
        key = (tuple(map(labels.get, self._keys)), tuple(item for item in capacity.items() if item[0] in known))
        found = self._remembered.get(key)
        if found is None:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            found = self._remembered[key] = self._match(labels, capacity)
        return found

    def _foreign(self, profile: str, capacity: Mapping[str, int]) -> str:
        """The first resource of whole devices that the node has and the profile does not know; "" if there is none."""
        own = self._names[profile]
        return next((name for name in sorted(capacity) if capacity[name] > 0 and name in self._whole and name not in own), "")

    def _match(self, labels: Mapping[str, str], capacity: Mapping[str, int]) -> NodeMatch:
        full: list[_Entry] = []
        against: list[_Entry] = []
        waiting: list[str] = []
        tried: list[str] = []
        disputed: dict[str, str] = {}  # profile -> which label speaks against the labels that name it
        for name, spec in self._profiles.items():
            installed = installed_devices(spec, capacity)
            foreign = self._foreign(name, capacity) if installed is None else ""
            touched = installed is not None
            for index, entry in enumerate(spec.match):
                if not _labels_hold(entry, labels):
                    if text := _disputed(entry, labels):
                        count = f" with {entry.units_per_node} devices" if entry.units_per_node else ""
                        disputed.setdefault(name, f"{_show(entry, labels)} says {name}{count}, but {text} speaks against it")
                    continue
                touched = True
                keys, want = len(_positive_keys(entry)), entry.units_per_node
                if foreign:
                    against.append(_Entry(name, index, keys, other=foreign))
                elif want is not None and installed is None:
                    waiting.append(name)
                # A name that is left with 0 devices (the plugin is restarting) is unknown and contradicts nothing.
                elif want is not None and installed and installed != want:
                    against.append(_Entry(name, index, keys, want))
                else:
                    full.append(_Entry(name, index, keys))
            if touched and spec.match:
                tried.append(name)
        seen = _seen_labels(self._profiles, tried, labels)
        best = max((item.keys for item in full), default=0)
        strongest = max((item for item in against if item.keys > best), key=lambda item: item.keys, default=None)
        if strongest is not None:
            return NodeMatch(None, MatchReason.CONTRADICTION, self._contradiction(strongest, tried, labels, capacity), seen, tuple(tried))
        # Two profiles that are named, each by a label that the other excludes; one alone is a device that no profile knows.
        if not full and not waiting and len(disputed) > 1:
            have = max((installed_devices(self._profiles[name], capacity) or 0 for name in disputed), default=0)
            said = "; ".join(disputed.values())
            text = f"{said}; the node has {have} installed; profiles tried: {', '.join(tried)}; correct the label, {_OR_NAME_IT}"
            return NodeMatch(None, MatchReason.CONTRADICTION, text, seen, tuple(tried))
        if not full:
            return _none(seen, tried, waiting, _lacking(self._profiles, tried, labels))
        winners = sorted({item.profile for item in full if item.keys == best})
        shown = ", ".join(f"{key}={value}" for key, value in seen)
        if len(winners) > 1:
            text = f"{shown} fits {' and '.join(winners)} equally well; make one match entry more specific, {_OR_NAME_IT}"
            return NodeMatch(None, MatchReason.AMBIGUOUS, text, seen, tuple(tried), rivals=tuple(winners))
        if other := self._foreign(winners[0], capacity):
            text = (
                f"{shown} fits {winners[0]}, but the node also has {capacity[other]} of {other}, which is none of its resources:"
                f" devices of different kinds on one node are told apart by nobody; separate them, {_OR_NAME_IT}"
            )
            return NodeMatch(None, MatchReason.MIXED, text, seen, tuple(tried))
        index = min(item.index for item in full if item.keys == best)
        text = _show(self._profiles[winners[0]].match[index], labels)
        return NodeMatch(winners[0], MatchReason.MATCHED, text, seen, tuple(tried), index)

    def _contradiction(self, item: _Entry, tried: list[str], labels: Mapping[str, str], capacity: Mapping[str, int]) -> str:
        spec = self._profiles[item.profile]
        shown, names = _show(spec.match[item.index], labels), ", ".join(tried)
        if item.other:
            says = f"{shown} says {item.profile}, but the node advertises {item.other} and no resource of that profile"
        else:
            have = installed_devices(spec, capacity)
            says = f"{shown} says {item.profile} with {item.want} devices, but the node has {have} installed"
        return f"{says}; profiles tried: {names}; correct the label, {_OR_NAME_IT}"


_OR_NAME_IT = "or name the profile in an AcceleratorPool"


def _lacking(profiles: Mapping[str, HardwareProfileSpec], tried: list[str], labels: Mapping[str, str]) -> list[str]:
    """`profile (label)` where one label more would make an entry hold, as far as its key goes: nobody sees that it is not there."""
    found: list[str] = []
    for name in tried:
        for entry in profiles[name].match:
            keys = _positive_keys(entry)
            missing = [key for key in keys if key not in labels]
            if len(missing) == 1 < len(keys) and not _against(entry, labels) and _named(entry, labels, skip=missing[0]):
                found.append(f"{name} (label {missing[0]})")
    return list(dict.fromkeys(found))


def _none(seen: tuple[tuple[str, str], ...], tried: list[str], waiting: list[str], lacking: list[str]) -> NodeMatch:
    if not tried:
        return NodeMatch(None, MatchReason.NO_DEVICES, "no resource or label of any profile")
    if waiting:
        names = " and ".join(sorted(set(waiting)))
        text = f"labels fit {names}, but no device is advertised yet; is the device plugin running on this node?"
        return NodeMatch(None, MatchReason.DEVICES_MISSING, text, seen, tuple(tried))
    shown = ", ".join(f"{key}={value}" for key, value in seen) or "no known label"
    missing = f"; only one label is missing for {' and '.join(lacking)}" if lacking else ""
    text = f"{shown} fits no profile{missing}; profiles tried: {', '.join(tried)}; add a match entry to a HardwareProfile, {_OR_NAME_IT}"
    return NodeMatch(None, MatchReason.NO_ENTRY, text, seen, tuple(tried))


def _positive_keys(entry: MatchEntry) -> tuple[str, ...]:
    return tuple(sorted({*(entry.labels or {}), *(entry.label_patterns or {})}))


def _labels_hold(entry: MatchEntry, labels: Mapping[str, str]) -> bool:
    return _named(entry, labels) and not _against(entry, labels)


def _named(entry: MatchEntry, labels: Mapping[str, str], *, skip: str = "") -> bool:
    if not _positive_keys(entry):
        return False
    for key, values in (entry.labels or {}).items():
        if key != skip and labels.get(key) not in values:
            return False
    for key, pattern in (entry.label_patterns or {}).items():
        if key != skip and (key not in labels or _compiled(pattern).fullmatch(labels[key]) is None):
            return False
    return True


def _against(entry: MatchEntry, labels: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The excluded labels that the node has, with the values that exclude; none = any value does."""
    excluded = (entry.not_labels or {}).items()
    return {key: values for key, values in excluded if key in labels and (not values or labels[key] in values)}


def _disputed(entry: MatchEntry, labels: Mapping[str, str]) -> str:
    """The labels that contradict this entry by their value, where its own labels hold; "" = none. An entry that any value of a label
    excludes is only for nodes without it, and no contradiction."""
    against = _against(entry, labels)
    if not against or not all(against.values()) or not _named(entry, labels):
        return ""
    return ", ".join(f"{key}={labels[key]}" for key in sorted(against))


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
