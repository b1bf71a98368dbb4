"""How an earlier revision leaves: a few replicas at a time, each only when its replacement serves.

A replica whose option no longer exists is *stale*. Up to `maxSurge` stale replicas are *superseded*: the placer no longer counts
them, so it plans their replacement beside them; once enough others serve they are drained like any other victim. The choice is a
function of what is observed, so a restarted operator goes on where it was. Nothing is superseded while nothing can replace it,
while the model is held, or while its approval is manual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from polyfleet.api import ModelDeploymentSpec

if TYPE_CHECKING:
    from polyfleet.snapshot import Standing


def share(value: int | str, total: int, *, round_up: bool) -> int:
    """`25%` of the total, or the number itself."""
    if isinstance(value, int):
        return value
    exact = total * int(value.rstrip("%"))
    return -(-exact // 100) if round_up else exact // 100


def superseded(spec: ModelDeploymentSpec, target: int, stale: Sequence[Standing]) -> tuple[Standing, ...]:
    """The stale replicas that are replaced now: those that do not serve first, then the youngest."""
    if not stale or target == 0 or spec.rollout.approval == "Manual":
        return ()
    surge = share(spec.rollout.max_surge, target, round_up=True)
    unavailable = max_unavailable(spec, target)
    count = max(surge, unavailable, 1)
    order = sorted(stale, key=lambda item: (item.serving, _newest_first(item.pod.created), item.pod.uid))
    return tuple(order[:count])


def max_unavailable(spec: ModelDeploymentSpec, target: int) -> int:
    return share(spec.rollout.max_unavailable, target, round_up=False)


def allowance(spec: ModelDeploymentSpec, target: int) -> int:
    """Replicas that may be missing while their successors are made: `allowDowntime` allows one where `maxUnavailable` allows none."""
    return max_unavailable(spec, target) or int(spec.rollout.allow_downtime)


def _newest_first(created: str) -> tuple[int, ...]:
    return tuple(-ord(letter) for letter in created)
