"""Conditions as values: judged in a fixed order, written with the time at which their status word last changed.

`lastTransitionTime` is taken over from the stored status while the word is the same, so a converged object is not written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polyfleet.api.types import MESSAGE_MAX

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
# Far below what a status accepts: a condition is read in a terminal, and the whole status stays below 64 KiB.
MESSAGE_LIMIT = min(1024, MESSAGE_MAX)


@dataclass(frozen=True, slots=True)
class Judged:
    type: str
    status: str
    reason: str
    message: str = ""


def shorten(text: str, limit: int = MESSAGE_LIMIT) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def counted(texts: Iterable[str]) -> str:
    """Each text once, with how often it came; at most three."""
    counts: dict[str, int] = {}
    for text in sorted(texts):
        counts[text] = counts.get(text, 0) + 1
    parts = [f"{count}x {text}" if count > 1 else text for text, count in list(counts.items())[:3]]
    if len(counts) > 3:
        parts.append(f"and {len(counts) - 3} more")
    return "; ".join(parts)


def write(judged: Sequence[Judged], stored: Mapping[str, Any], generation: int, now: str) -> list[dict[str, Any]]:
    """In the order given. `stored` is the status as it is in the cluster."""
    before = {str(item.get("type")): item for item in stored.get("conditions") or ()}
    found: list[dict[str, Any]] = []
    for item in judged:
        old = before.get(item.type, {})
        same = old.get("status") == item.status and old.get("lastTransitionTime")
        found.append(
            {
                "type": item.type,
                "status": item.status,
                "reason": item.reason,
                "message": shorten(item.message),
                "lastTransitionTime": old["lastTransitionTime"] if same else now,
                "observedGeneration": generation,
            }
        )
    return found


def summary(rows: Sequence[Judged], serving: int, target: int, kind: str) -> Judged:
    """`Ready`: the conjunction of the rows that exist. The first that is not True gives status, reason and message."""
    counts = f"{serving} of {target} replicas serve"
    for row in rows:
        if row.status != TRUE:
            return Judged(kind, row.status, row.reason, f"{counts}; {row.message}" if row.message else counts)
    return Judged(kind, TRUE, "Ready", counts)
