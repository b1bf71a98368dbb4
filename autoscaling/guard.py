"""The closed loop (§4.2.8): if the replicas themselves say that they are overloaded, one more is asked for, whatever the model says.

Overloaded: the capacity-weighted saturation, max(KV use, waiting work over what can wait within the TTFT goal), is above 0.9 for 30 s; or
fresh latency histograms show more requests late than the percentile allows. One replica per horizon, so that what was asked can arrive
first.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from autoscaling.capacity import Supply
from autoscaling.policy import DEFAULT_TTFT_S, GUARD_DECAY_S, GUARD_HOT_S, GUARD_SATURATION, GUARD_SEEN
from autoscaling.types import Look, ReplicaState
from autoscaling.windows import Measured


@dataclass(frozen=True, slots=True)
class Guard:
    hot: float = 0.0  # s that the fleet has been saturated without a break
    seen: float = 0.0  # decayed observations of TTFT
    late: float = 0.0
    acted: float | None = None  # clock of the last replica that was asked for


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


def watch(guard: Guard, look: Look, measured: Measured, supplied: Supply, clock: float, work_of_request: float) -> tuple[Guard, str]:
    """The next state, and what is wrong ("" = nothing, or it was acted on within the horizon)."""
    seconds = measured.seconds
    full = saturation(look, measured, work_of_request)
    hot = guard.hot + seconds if full is not None and full > GUARD_SATURATION else 0.0
    keep = exp(-seconds / GUARD_DECAY_S)
    seen, late = guard.seen * keep + measured.ttft.seen, guard.late * keep + measured.ttft.late
    wrong = ""
    if hot >= GUARD_HOT_S:
        wrong = f"saturation {full:.2f} for {hot:.0f} s"
    elif measured.ttft.seen > 0.0 and seen >= GUARD_SEEN and late > (1.0 - look.settings.slo.percentile / 100.0) * seen:
        wrong = f"{late / seen:.1%} of the requests are later than {look.settings.slo.ttft_s or DEFAULT_TTFT_S:g} s"
    acted = guard.acted
    if wrong and (any(due > 0.0 for due, _ in supplied.coming) or (acted is not None and clock - acted < supplied.horizon)):
        wrong = ""  # what was asked for has not arrived yet
    if wrong:
        acted = clock
    return Guard(hot, seen, late, acted), wrong
