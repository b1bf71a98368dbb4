"""When a replica that leaves may really go: not before its requests have ended, or `spec.drainTimeout` is over.

Taking a pod out of its Service stops new connections only. A connection that a client keeps open goes on carrying requests, so the drain
waits for the requests themselves, as the engine counts them. Between two of them such a connection has none in flight for a moment, so one
reading of zero ends nothing: the replica must be out of its Service for long enough that the proxies know it, and idle from one reading to
the next, with no request counted in between. An engine that cannot be read may have requests in flight: unknown is not zero, and the whole
`drainTimeout` is given. The pod's preStop sleep and its grace period are the backstop behind this.

Nothing is waited for where nothing can be lost: the replica did not serve when it began to leave, its engine is down, or its node is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hwprofiles.schema import duration_seconds
from polyfleet import naming
from polyfleet.children import condition_true
from polyfleet.inputs import ModelView
from polyfleet.load.targets import metrics_of
from polyfleet.serving import engine_up
from polyfleet.state import InFlight, Observed, PodState

# A Service's proxies learn of a pod's leaving within a second or two; a count taken earlier may miss what they still send.
SETTLE_S = 3.0
QUIET_S = 1.0  # and so long nothing may have come since: one more reading
DEFAULT_S = 300.0  # of a model whose spec cannot be read; the schema's default


@dataclass(frozen=True, slots=True)
class Drain:
    """One replica that is being drained. `left_s`: until it goes whatever it does."""

    pod: PodState
    left_s: float
    requests: float | None  # None = not known
    engine: str = ""  # whose names of metrics its engine publishes; "" = not known
    closed: bool = False  # it is out of its Service: the kubelet has taken up the readiness gate


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
            reading = observed.in_flight.get(pod.uid)
            requests = reading.requests if reading is not None else None
            if gone < timeout and not (reading is not None and idle(reading)):
                found.append(Drain(pod, timeout - gone, requests, metrics_of(view, child), not condition_true(pod, "Ready")))
    return tuple(sorted(found, key=lambda item: (item.pod.namespace, item.pod.name)))


def next_end(found: tuple[Drain, ...]) -> float | None:
    """Seconds until the first of them has had all its time; None without any."""
    return min((item.left_s for item in found), default=None)


def idle(reading: InFlight) -> bool:
    """Whether nothing is in flight, and nothing will come any more."""
    if reading.requests != 0 or not reading.closed or not reading.quiet:
        return False
    out, rest = _seconds(reading.closed, reading.at), _seconds(reading.quiet, reading.at)
    return out is not None and rest is not None and out >= SETTLE_S + QUIET_S and rest >= QUIET_S


def _seconds(since: str, now: str | None) -> float | None:
    """From one moment to another; a clock that jumped back has let no time pass. None: not to be read."""
    if now is None:
        return 0.0
    try:
        return max(0.0, (datetime.fromisoformat(now) - datetime.fromisoformat(since)).total_seconds())
    except (ValueError, TypeError):
        return None
