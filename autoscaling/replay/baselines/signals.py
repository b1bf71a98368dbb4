"""What the baselines read of a view: sums over serving replicas, arrival work from a gateway's counters, windows of values in time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import exp

from autoscaling.replay.engine import SEQUENCES
from autoscaling.replay.fleet import Seen, View
from autoscaling.replay.loads import COSTS
from autoscaling.types import Gateway, ReplicaState, Sample

SLOTS = float(SEQUENCES)  # sequences that a replica serves at once: what the originals call its concurrency
MIX_S = 300.0


def serving(view: View) -> list[Seen]:
    return [seen for seen in view.replicas if seen.state is ReplicaState.READY]


def read(seen: Seen) -> Sample | None:
    """The reading of this tick; an old one is none."""
    return None if seen.failed else seen.sample


def in_flight(seen: Seen) -> float | None:
    """Running and waiting requests of one replica; None = not read."""
    sample = read(seen)
    return None if sample is None else sample.inside


def kv(seen: Seen) -> float | None:
    sample = read(seen)
    return None if sample is None else sample.kv_used


def waiting(seen: Seen) -> float | None:
    sample = read(seen)
    return None if sample is None else sample.waiting


@dataclass(slots=True)
class Window:
    """Values of the last `span_s` seconds."""

    span_s: float
    kept: deque[tuple[float, float]] = field(default_factory=deque)

    def add(self, now: float, value: float) -> None:
        self.kept.append((now, value))
        while self.kept and self.kept[0][0] <= now - self.span_s + 1e-9:
            self.kept.popleft()

    def highest(self) -> float:
        return max((value for _, value in self.kept), default=0.0)

    def mean(self) -> float:
        return sum(value for _, value in self.kept) / len(self.kept) if self.kept else 0.0


@dataclass(slots=True)
class Arrivals:
    """Work per second that arrives, from the gateway's counters; outputs by the decayed mean of completed requests (§4.2b.1)."""

    before: tuple[Gateway, tuple[float, float]] | None = None
    requests: float = 0.0
    tokens: float = 0.0
    rate: float = 0.0  # requests per s
    prompt: float = 0.0  # mean of the last requests

    def work(self, view: View) -> float | None:
        """None: not known, because nothing was seen before or now."""
        if view.gateway is None or view.told is None or view.gateway.arrived is None or view.gateway.prompt_tokens is None:
            return None
        before, self.before = self.before, (view.gateway, view.told)
        if before is None:
            return None
        (old, told), span = before, view.gateway.at - before[0].at
        came, tokens = view.gateway.arrived - (old.arrived or 0.0), view.gateway.prompt_tokens - (old.prompt_tokens or 0.0)
        if span <= 0 or came < 0 or tokens < 0:
            came, tokens = 0.0, 0.0  # a counter that went back reads as a rate of nothing, as it does for the originals
        keep = exp(-span / MIX_S)
        done = max(0.0, view.told[0] - told[0])
        self.requests = self.requests * keep + done
        self.tokens = self.tokens * keep + max(0.0, view.told[1] - told[1])
        self.rate = came / span if span > 0 else 0.0
        self.prompt = tokens / came if came else self.prompt
        mean = self.tokens / self.requests if self.requests else 0.0
        return (COSTS.prompt * tokens + COSTS.output * mean * came) / span if span > 0 else 0.0
