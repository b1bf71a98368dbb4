"""Outages of the metrics, as the autoscaling design's 3c injects them: what the policy sees is wrong, what the replicas do is not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from autoscaling.replay.fleet import Seen, View
from autoscaling.types import Gateway, Histogram, Sample


class Kind(StrEnum):
    ZERO = "zero-filled"  # every series reads 0: counters go back, gauges say idle
    FLAT = "frozen at idle"  # counters stand still, gauges read 0: the nastiest form of zero-filling
    ABSENT = "absent"  # nothing of a page can be read
    NAN = "NaN"  # pages come, no value in them is a number
    ERROR = "HTTP 500"


@dataclass(slots=True)
class Outage:
    """From `begin` on and before `end`, s of the load. The gateway's counters fail with the pods' pages."""

    kind: Kind
    begin: float
    end: float
    last: dict[str, Sample] = field(default_factory=dict)
    gateway: Gateway | None = None
    told: tuple[float, float] | None = None

    def __call__(self, view: View) -> View:
        if not self.begin <= view.now < self.end:
            self.last = {seen.id: seen.sample for seen in view.replicas if seen.sample is not None}
            self.gateway, self.told = view.gateway, view.told
            return view
        if self.kind is Kind.ZERO:
            gateway = None if view.gateway is None else replace(view.gateway, arrived=0.0, prompt_tokens=0.0, waiting=0.0)
            told: tuple[float, float] | None = (0.0, 0.0)
        elif self.kind is Kind.FLAT:
            gateway = (
                None
                if self.gateway is None or view.gateway is None
                else replace(self.gateway, at=view.gateway.at, waiting=0.0, waiting_prompt_tokens=0.0)
            )
            told = self.told
        else:
            gateway = told = None
        return replace(view, replicas=tuple(self._distorted(seen) for seen in view.replicas), gateway=gateway, told=told)

    def _distorted(self, seen: Seen) -> Seen:
        if seen.sample is None:
            return seen
        if self.kind is Kind.ZERO:
            return replace(seen, sample=zeroed(seen.sample))
        if self.kind is Kind.FLAT:
            kept = self.last.get(seen.id, zeroed(seen.sample))
            return replace(seen, sample=replace(kept, at=seen.sample.at, running=0.0, waiting=0.0, kv_used=0.0))
        if self.kind is Kind.NAN:
            return replace(seen, sample=Sample(seen.sample.at))
        # The newest reading stays, whatever its age: it is for the policy to see that it is old.
        why = "HTTP 500" if self.kind is Kind.ERROR else "no series of the engine on its page"
        return replace(seen, sample=self.last.get(seen.id), failed=why)


def zeroed(sample: Sample) -> Sample:
    empty = Histogram((), (), 0.0) if sample.ttft is None else Histogram(sample.ttft.bounds, (0.0,) * len(sample.ttft.bounds), 0.0)
    return Sample(sample.at, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, kv_used=0.0, kv_capacity=sample.kv_capacity, ttft=empty)
