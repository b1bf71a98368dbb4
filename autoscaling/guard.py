"""The closed loop (§4.2.8): whether the replicas themselves say that they are overloaded, whatever the model says.

Overloaded, for 30 s without a break: the capacity-weighted saturation, max(KV use, waiting work over what can wait within the TTFT goal),
is above 0.9; or fresh latency histograms show more late requests than the percentile allows and chance explains.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, sqrt

from autoscaling.policy import DEFAULT_TTFT_S, GUARD_DECAY_S, GUARD_HOT_S, GUARD_SATURATION, GUARD_SEEN, GUARD_SIGMAS
from autoscaling.types import Look, ReplicaState
from autoscaling.windows import Measured


@dataclass(frozen=True, slots=True)
class Guard:
    hot: float = 0.0  # s that the fleet has been overloaded without a break
    seen: float = 0.0  # decayed observations of TTFT
    late: float = 0.0


def saturation(look: Look, measured: Measured, work_of_request: float) -> float | None:
    """Capacity-weighted mean over the ready replicas that were read; None if none was."""
    ttft = look.settings.slo.ttft_s or DEFAULT_TTFT_S
    total = weight = 0.0
    for part in measured.parts:
        work = part.replica.work_per_s
        if part.replica.state is not ReplicaState.READY or not work or (part.kv is None and part.waiting is None):
            continue
        queue = (part.waiting or 0.0) * work_of_request / (work * ttft)
        total += work * min(1.0, max(part.kv or 0.0, queue))
        weight += work
    return total / weight if weight > 0.0 else None


def watch(guard: Guard, look: Look, measured: Measured, work_of_request: float, least_s: float = GUARD_HOT_S) -> tuple[Guard, str]:
    """The next state, and what is wrong ("" = nothing). `least_s`: how long it must last."""
    seconds = measured.seconds
    keep = exp(-seconds / GUARD_DECAY_S)
    seen, late = guard.seen * keep + measured.ttft.seen, guard.late * keep + measured.ttft.late
    expected = (1.0 - look.settings.slo.percentile / 100.0) * seen
    full = saturation(look, measured, work_of_request)
    saturated = full is not None and full > GUARD_SATURATION
    tardy = measured.ttft.late > 0.0 and seen >= GUARD_SEEN and late > expected + GUARD_SIGMAS * sqrt(expected)
    after = Guard(guard.hot + seconds if saturated or tardy else 0.0, seen, late)
    if after.hot < least_s:
        return after, ""
    if saturated:
        return after, f"saturation {full:.2f} for {after.hot:.0f} s"
    return after, f"{late / seen:.1%} of the requests are later than {look.settings.slo.ttft_s or DEFAULT_TTFT_S:g} s"
