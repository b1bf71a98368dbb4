"""What ties the prior of earlier days to the decision: which measurements it learns from, and what a look is given of it.

The operator's tick and the simulation call these two around `decide`, so both do the same. The prior never learns from a load that is not
known, nor from what was decided: only the measured level enters, so what it raises does not come back to it.
"""

from __future__ import annotations

from dataclasses import replace

from autoscaling.capacity import horizon
from autoscaling.season import BIN_S, DAY_BINS, Season
from autoscaling.types import Demand, Look, MetricState, Settings

# Not Recovering: the load is known again, and its level is still that of before the outage.
_BELIEVED = (MetricState.VALUE, MetricState.ZERO, MetricState.PARTIAL)


def measure(settings: Settings) -> str:
    """What the level of a model counts: another metric or target makes another number of the same load."""
    if settings.metric == "Work" or not settings.target_per_replica:
        return "Work"
    return f"{settings.metric}/{settings.target_per_replica:g}"


def given(season: Season, look: Look) -> Look:
    """`look` with what was needed at this time of earlier days, from now until a replica that is asked for now serves; unchanged while
    there is no prior."""
    if season.of != measure(look.settings):
        return look
    ahead = min(horizon(look), BIN_S * DAY_BINS)
    value = season.value(look.now, ahead_s=ahead, slo_class=look.settings.slo.slo_class)
    return look if value is None else replace(look, season=value)


def fed(season: Season, look: Look, demand: Demand) -> Season:
    """With the level that was measured in this tick; unchanged while it is unknown. Another measure begins a new history."""
    if demand.metrics not in _BELIEVED or demand.now_work is None:
        return season
    of = measure(look.settings)
    return (season if season.of == of else Season(of=of)).observed(look.now, demand.now_work)
