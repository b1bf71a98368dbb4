"""When a replica that leaves may really go: not before its requests have ended, or `spec.drainTimeout` is over.

Taking a pod out of its Service stops new connections only. A connection that a client keeps open goes on carrying requests, so the drain
waits for the requests themselves, as the engine counts them. An engine that cannot be read may have requests in flight: unknown is not
zero, and the whole `drainTimeout` is given. The pod's preStop sleep and its grace period are the backstop behind this.

Nothing is waited for where nothing can be lost: the replica did not serve when it began to leave, its engine is down, or its node is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from hwprofiles.schema import duration_seconds
from polyfleet import naming
from polyfleet.inputs import ModelView
from polyfleet.load.targets import metrics_of
from polyfleet.serving import engine_up
from polyfleet.state import InFlight, Observed, PodState

# A Service's proxies learn of a pod's leaving within a second or two; a count taken earlier may miss what they still send.
SETTLE_S = 3.0
DEFAULT_S = 300.0  # of a model whose spec cannot be read; the schema's default


@dataclass(frozen=True, slots=True)
class Drain:
    """One replica that is being drained. `left_s`: until it goes whatever it does."""

    pod: PodState
    left_s: float
    requests: float | None  # None = not known
    engine: str = ""  # whose names of metrics its engine publishes; "" = not known


def drains(view: ModelView, observed: Observed, now: str | None) -> tuple[Drain, ...]:
    """Replicas of a model that must not be removed yet, in the order of their names. Without a clock (`now` None) no time is over."""
    timeout = duration_seconds(view.spec.drain_timeout) if view.spec is not None else DEFAULT_S
    nodes = {node.name: node.ready for node in observed.nodes}
    found = []
    for child in view.children:
        for pod in child.live:
            if pod.labels.get(naming.DRAINING) != "true" or not (since := pod.annotations.get(naming.DRAIN_SINCE)):
                continue
            if not engine_up(pod) or not pod.node or nodes.get(pod.node) is not True:
                continue
            gone = _seconds(since, now)
            if gone is None:
                continue  # nobody can say when it began: as before there was a record of it, the backstop is all
            requests = _counted(observed.in_flight, pod, since)
            if requests != 0 and gone < timeout:
                found.append(Drain(pod, timeout - gone, requests, metrics_of(view, child)))
    return tuple(sorted(found, key=lambda item: (item.pod.namespace, item.pod.name)))


def next_end(found: tuple[Drain, ...]) -> float | None:
    """Seconds until the first of them has had all its time; None without any."""
    return min((item.left_s for item in found), default=None)


def _counted(in_flight: Mapping[str, InFlight], pod: PodState, since: str) -> float | None:
    """Requests in flight by a reading that is recent enough to be believed."""
    reading = in_flight.get(pod.uid)
    if reading is None or reading.requests is None:
        return None
    after = _seconds(since, reading.at)
    return reading.requests if reading.requests > 0 or (after is not None and after >= SETTLE_S) else None


def _seconds(since: str, now: str | None) -> float | None:
    """From one moment to another; a clock that jumped back has let no time pass. None: not to be read."""
    if now is None:
        return 0.0
    try:
        return max(0.0, (datetime.fromisoformat(now) - datetime.fromisoformat(since)).total_seconds())
    except (ValueError, TypeError):
        return None
