"""From what a cycle wants to what the checker takes: policies, endpoints, pauses between attempts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from accuracy.http.endpoint import Endpoint, Meter
from accuracy.policy import Policy, effective
from polyfleet.clearance.work import Certify, Enter, Replica

FIRST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 600.0


def policy(item: Certify | Enter) -> Policy:
    """The effective policy of a pair; raises PolicyError. `item.pairs` are taken as they come: what they select by is told where it is
    known."""
    known = {"profile": item.profile, "variant": item.variant, "engine": item.engine} if isinstance(item, Certify) else {}
    return effective(item.settings, reference=item.reference_formats, candidate=item.candidate_formats, pairs=item.pairs, **known)


Meters = Callable[[str], Meter | None]  # by pod uid; None: nobody counts what is sent to it


def unmetered(_: str) -> Meter | None:
    return None


def endpoints(replicas: Iterable[Replica], served_name: str, meters: Meters = unmetered) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(url=each.url, model=served_name, name=each.pod, meter=meters(each.uid)) for each in replicas)


def pause(attempts: int) -> float:
    """Seconds until the next attempt after so many in a row that led to no verdict: 30, 60, 120, ... at most 600."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(30, max(0, attempts - 1)))


def later(now: str, seconds: float) -> str:
    """RFC 3339 of `seconds` after `now`."""
    moment = datetime.fromisoformat(now) + timedelta(seconds=seconds)
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def remaining(now: str, until: str) -> float:
    """Seconds from `now` to `until`, never more than the longest pause: the clock may have jumped, and a text may be none of ours."""
    try:
        left = (datetime.fromisoformat(until) - datetime.fromisoformat(now)).total_seconds()
    except (TypeError, ValueError):
        return 0.0
    return min(LONGEST_PAUSE_S, max(0.0, left))


def goes_on(running: Certify, wanted: Certify) -> bool:
    """Whether a run may go on: what is wanted differs only in what a run tells itself, and all replicas that it asks are still there."""
    if not set(map(_engine, running.replicas)) <= set(map(_engine, wanted.replicas)):
        return False
    if running.reference and _engine(running.reference[0]) not in set(map(_engine, wanted.reference)):
        return False
    return _fixed(running) == _fixed(wanted)


def _fixed(item: Certify) -> Certify:
    return replace(item, replicas=(), reference=(), resume="", attempt=0)


def _engine(replica: Replica) -> tuple[str, str, str]:
    return replica.uid, replica.container, replica.url
