"""Whether the fleet may become smaller, and to what (§4.2.7): every reason that speaks against it, in a fixed order.

The highest raw need of a whole window must fit what stays. To it come what the caches of those who leave saved, and what the KV cache
in use and the waiting requests need; the token latency must hold with one replica less.
"""

from __future__ import annotations

from dataclasses import dataclass

from autoscaling.memory import Memory
from autoscaling.need import Needed
from autoscaling.observe import Seen
from autoscaling.policy import CLEAR_S, FRESH_SHARE, GUARD_SEEN, KV_FULL, PART, VANISHED_S
from autoscaling.safety import Bounds, stays
from autoscaling.types import Why


@dataclass(frozen=True, slots=True)
class Shrink:
    """Either `why` (not now), or `work` (corrected work/s that must stay) and `kv_floor` (tokens)."""

    why: Why | None
    message: str = ""
    work: float = 0.0
    kv_floor: float = 0.0


def shrink(memory: Memory, seen: Seen, limits: Bounds, need: Needed, wrong: str, base: float) -> Shrink:
    """`base` is the capacity that there will be without a decision, corrected work/s; `wrong` what the guard finds."""
    settings, measured = seen.look.settings, seen.measured
    if not seen.look.stock_known:
        return Shrink(Why.UNKNOWN_STOCK, "the inventory cannot be read, so nothing shrinks")
    if seen.supply.count <= limits.least:
        return Shrink(limits.why, f"at least {limits.least} replicas are due" if limits.why is not Why.MINIMUM else stays(seen, limits))
    if memory.recovering is not None or seen.clock - memory.began < seen.first:
        since = seen.clock - (memory.recovering[0] if memory.recovering is not None else memory.began)
        return Shrink(Why.FIRST_WINDOW, f"the load is known for {since:.0f} of {seen.first:.0f} s")
    if measured.fresh < FRESH_SHARE:
        return Shrink(Why.TOO_FEW_FRESH, f"{measured.fresh:.0%} of the replicas were read")
    if memory.vanished and memory.idle is not None and settings.down_window_s is None and seen.clock - memory.idle < VANISHED_S:
        return Shrink(
            Why.WINDOW, f"the load vanished between two polls {seen.clock - memory.idle:.0f} s ago; it is believed after {VANISHED_S:.0f} s"
        )
    if memory.ups and seen.clock - memory.ups[-1] < seen.window:
        return Shrink(Why.WINDOW, f"it grew {seen.clock - memory.ups[-1]:.0f} s ago")
    highest = max((n.give for n in memory.needs if n.clock > seen.clock - seen.window), default=base)
    if highest > base - seen.stop + 1e-9:
        return Shrink(Why.WINDOW, f"{highest:.3g} within the last {seen.window:.0f} s")
    if seen.supply.blocked:
        return Shrink(Why.LOADING, "a replica loads")
    limit = settings.down_events_per_hour
    if limit is not None and len(memory.downs) >= limit:
        return Shrink(Why.EVENT_BUDGET, f"{len(memory.downs)} times down within the hour, {limit} are allowed")
    if memory.verdict.calm and highest > need.give + seen.stop and base - highest < PART * (base - need.give):
        return Shrink(Why.WINDOW, f"{highest:.3g} within the last {seen.window:.0f} s; more will fit when it is over")
    if limit is not None and highest > need.give + seen.stop and base - highest < seen.stop * limit / (limit - len(memory.downs)):
        # the window empties and more will fit soon: the fewer events are left, the more each must bring
        return Shrink(Why.EVENT_BUDGET, f"{base - highest:.3g} work/s are too little for one of {limit - len(memory.downs)} events left")
    if wrong:
        return Shrink(Why.SLO_GUARD, wrong)
    return _consolidated(seen, need, highest, base)


def _consolidated(seen: Seen, need: Needed, highest: float, base: float) -> Shrink:
    """What must stay so that those who stay can take over what is cached, what waits and what runs."""
    measured = seen.measured
    allowed = 1.0 - seen.look.settings.slo.percentile / 100.0
    if measured.itl.seen >= GUARD_SEEN and measured.itl.late > allowed * measured.itl.seen:
        return Shrink(Why.CONSOLIDATION, "with one replica less the tokens would come too slowly")
    saved = measured.saved * (1.0 - highest / base) if base > 0.0 else 0.0
    used = measured.kv_tokens / measured.kv_room if measured.kv_room > 0.0 else 0.0
    work = max(highest + saved, seen.supply.ready * used / KV_FULL, _clears(seen, need))
    if work > base - seen.stop + 1e-9:
        return Shrink(Why.CONSOLIDATION, f"{work:.3g} work/s must stay for what is cached, waits and runs")
    return Shrink(None, "", work, measured.kv_tokens / KV_FULL)


def _clears(seen: Seen, need: Needed) -> float:
    """Least capacity c that would not ask for more because of what waits: c = ask + (backlog - (c - level) x horizon) / 60 s."""
    ask = need.ask - need.extra
    horizon, waits = seen.supply.horizon, seen.measured.backlog or 0.0
    if waits <= (ask - need.level) * horizon:
        return ask
    return (ask + (waits + need.level * horizon) / CLEAR_S) / (1.0 + horizon / CLEAR_S)
