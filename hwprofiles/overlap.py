"""Which profiles would fight over a node: label sets are made from the match entries, and the matcher itself is asked about each.

A node that two profiles match equally belongs to neither, and whoever wrote the second sees it only once such a node is there. An entry's
own words say which nodes it is about: every combination of its literal values, with each resource of its profile. Of a pattern count the
alternatives that it spells out (`A|B`, `X(-1|-2)?`), and those of other entries that it fits; what else it may fit is not guessed. Profiles
of which each has a resource of its own may share labels: there the resource tells them apart (HAMi labels every Ascend alike).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product

from hwprofiles.match import Matcher, MatchReason
from hwprofiles.model import HardwareProfileSpec, MatchEntry
from hwprofiles.resources import resource_names

MOST = 512  # label sets of one entry; the shipped profiles have at most a dozen
_GROUPS = 4  # of one pattern that are taken apart
_GROUP = re.compile(r"\(([^()]*)\)(\?)?")
_PLAIN = re.compile(r"[A-Za-z0-9_.\-]+")


@dataclass(frozen=True, slots=True)
class Overlap:
    """Nodes with these labels and this resource fit all of the profiles equally well. `entries`: which match entry of each."""

    profiles: tuple[str, ...]
    entries: tuple[int, ...]
    labels: tuple[tuple[str, str], ...]
    resource: str


def overlaps(profiles: Mapping[str, HardwareProfileSpec]) -> tuple[Overlap, ...]:
    """One per set of profiles, the first that was found in the order of names and entries."""
    matcher = Matcher(profiles)
    alone = {name: Matcher({name: spec}) for name, spec in profiles.items()}
    names = {name: frozenset(resource_names(spec)) for name, spec in profiles.items()}
    literals = _literals(profiles.values())
    found: dict[tuple[str, ...], Overlap] = {}
    for spec in (profiles[name] for name in sorted(profiles)):
        for entry in spec.match:
            units = entry.units_per_node or spec.unit.per_node or 1
            for labels, resource in product(islice(_label_sets(entry, literals), MOST), resource_names(spec)):
                told = matcher.match(labels, {resource: units})
                if told.reason is MatchReason.AMBIGUOUS and told.rivals not in found and not _told_apart(told.rivals, names):
                    entries = tuple(alone[name].match(labels, {resource: units}).entry or 0 for name in told.rivals)
                    found[told.rivals] = Overlap(told.rivals, entries, tuple(sorted(labels.items())), resource)
    return tuple(found[key] for key in sorted(found))


def _told_apart(rivals: tuple[str, ...], names: Mapping[str, frozenset[str]]) -> bool:
    """Whether each has a resource that none of the others knows."""
    return all(names[name] - frozenset().union(*(names[other] for other in rivals if other != name)) for name in rivals)


def _literals(specs: Iterable[HardwareProfileSpec]) -> dict[str, list[str]]:
    """By label key, every value that an entry names."""
    found: dict[str, set[str]] = {}
    for spec in specs:
        for entry in spec.match:
            for key, values in (entry.labels or {}).items():
                found.setdefault(key, set()).update(values)
            for key, pattern in (entry.label_patterns or {}).items():
                found.setdefault(key, set()).update(_alternatives(pattern))
    return {key: sorted(values) for key, values in found.items()}


def _label_sets(entry: MatchEntry, literals: Mapping[str, list[str]]) -> Iterator[dict[str, str]]:
    """None where a pattern gives no value."""
    choices: dict[str, list[str]] = {key: sorted(values) for key, values in (entry.labels or {}).items()}
    for key, pattern in (entry.label_patterns or {}).items():
        fits = [value for value in literals.get(key, []) if _fits(pattern, value)]
        choices[key] = [value for value in choices[key] if value in fits] if key in choices else fits
    keys = sorted(choices)
    return (dict(zip(keys, values, strict=True)) for values in product(*(choices[key] for key in keys)))


def _alternatives(pattern: str) -> list[str]:
    """The plain texts that a pattern spells out: `A|B`, `X(-1|-2)?`. A dot that is not escaped stands for itself, which it also fits."""
    texts = [pattern]
    for _ in range(_GROUPS):
        texts = [text for each in texts[:MOST] for text in _without_group(each)]
    words = {word.replace("\\.", ".").replace("\\-", "-") for text in texts for word in text.split("|")}
    return sorted(word for word in words if _PLAIN.fullmatch(word) and _fits(pattern, word))


def _without_group(text: str) -> list[str]:
    """The text once for each alternative of its first innermost group, and once without it where it may be absent."""
    group = _GROUP.search(text)
    if group is None:
        return [text]
    choices = [*group[1].removeprefix("?:").split("|"), *([""] if group[2] else [])]
    return [text[: group.start()] + choice + text[group.end() :] for choice in choices]


def _fits(pattern: str, value: str) -> bool:
    try:
        return re.fullmatch(pattern, value) is not None
    except (re.error, RecursionError, OverflowError):
        return False  # `validate` reports it; here it fits nothing
