"""The operator's own `prepare`, called the way its cycle calls it, and the warm state that a cluster publishes."""

from __future__ import annotations

import logging
import math
from typing import Any

from placement.types import RowPrice, Warm
from polyfleet.inputs import Inputs
from polyfleet.plans import stored
from polyfleet.prepare import prepare
from polyfleet.state import Observed


def prepared(observed: Observed, now: str) -> Inputs:
    """`now` (RFC 3339): when the cluster was read."""
    log = logging.getLogger("polyfleet.prepare")
    log.addHandler(logging.NullHandler())
    log.propagate = False  # a model on which the operator fails is shown as held; a traceback helps nobody here
    return prepare(observed, now=now or None)


def warm_of(observed: Observed) -> Warm | None:
    """Prices that the plan in force published, if any. The operator's own start values live in its memory and are not public."""
    force = stored.in_force(stored.read(observed.plans))
    rows = force.state.status.get("bindingConstraints") if force is not None else None
    found = [_price(row) for row in rows or ()]
    prices = tuple(sorted((item for item in found if item is not None), key=lambda item: item.name))
    return Warm(prices=prices) if prices else None


def _price(row: Any) -> RowPrice | None:
    try:
        price = RowPrice(str(row["name"]), float(row.get("slack") or 0), float(row["shadowPrice"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None  # of another version: a start value that is missing costs time, not correctness
    return price if math.isfinite(price.price) and math.isfinite(price.slack) else None
