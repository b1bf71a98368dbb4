"""What the accuracy checker has sent to each replica, counted where it is sent, so that it is not taken for users' load. No I/O.

A request counts when it leaves, as it is then inside the engine; tokens when the answer tells them. Counters only rise while the operator
runs; after a restart they begin anew, which the reader of the samples sees as no growth.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from accuracy.http.endpoint import Meter as Sent  # the checker's client adds to it
from autoscaling.types import Sample

__all__ = ["Sent", "Tally", "beside"]


@dataclass(slots=True)
class Tally:
    """By pod uid."""

    _by: dict[str, Sent] = field(default_factory=dict)

    def to(self, uid: str) -> Sent:
        """The counters to add to."""
        return self._by.setdefault(uid, Sent())

    def of(self, uid: str) -> Sent | None:
        """None: nothing was ever sent to it."""
        return self._by.get(uid)

    def prune(self, uids: Iterable[str]) -> None:
        """Forgets pods that are gone."""
        there = set(uids)
        self._by = {uid: sent for uid, sent in self._by.items() if uid in there}


def beside(sample: Sample, sent: Sent | None) -> Sample:
    """The reading of a replica with what of its load was the checker's."""
    if sent is None:
        return sample
    return replace(
        sample, checker_requests=sent.requests, checker_prompt_tokens=sent.prompt_tokens, checker_output_tokens=sent.output_tokens
    )
