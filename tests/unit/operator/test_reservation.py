"""When a promise of devices ends (`preemption.reservationTimeout`), who gets them then, and who is told (case OC-099)."""

from __future__ import annotations

from typing import Any

import pytest
from polyfleet import naming, reservation
from polyfleet.decide import prepare
from polyfleet.state import CustomState, PodState

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done, cycle
from tests.unit.operator.looks import PROFILES, deleted, patches, pinned_node
from tests.unit.operator.test_reserve import CHILD, NODE, PIN_FOUR, A, B, C, child_of, victim

SINCE = "2026-11-25T08:00:00Z"
BEFORE, AFTER = "2026-11-25T08:09:59Z", "2026-11-25T08:10:00Z"  # the default is 10 minutes
D = b.model("d", {**PIN_FOUR, "priority": 2})
CHILDREN = {**CHILD, "d": child_of(D)}


def see(*pods: PodState, now: str, models: tuple[CustomState, ...] = (B, C, D), **more: Any) -> Done:
    given = {"profiles": PROFILES, "nodes": [NODE], "deployments": CHILDREN.values(), **more}
    return cycle(b.observed(models=models, pods=pods, **given), now=now)


def promised(since: str = SINCE, waits_for: str = "uid-pod-a,uid-pod-b") -> PodState:
    notes = {naming.PLANNED_NODE: "n1", naming.WAITS_FOR: waits_for, **({naming.RESERVED_SINCE: since} if since else {})}
    return b.replica(CHILDREN["c"], "pod-c", annotations=notes)


def leaving(since: str = SINCE) -> PodState:
    """B's replica, terminating since the promise was made: something holds it back."""
    return victim("b", draining=True, deleting=True, annotations={naming.DRAIN_SINCE: since})


def waiting(name: str = "d") -> PodState:
    return b.replica(CHILDREN[name], f"pod-{name}2")


def test_to_the_last_second_it_is_held() -> None:
    """A has gone, B has not; D waits for four devices and four are free: they are C's."""
    done = see(leaving(), promised(), waiting(), now=BEFORE)
    assert (deleted(done), patches(done, "Pin"), done.plan.starts) == ({}, {}, ())
    assert [note for note in done.report.events if note.reason == "ReservationEnded"] == []


def test_then_somebody_else_may_take_what_is_free() -> None:
    """C's pod is deleted and planned anew; B's devices are not counted on any more, so C fits nowhere and D takes the four of A."""
    done = see(leaving(), promised(), waiting(), now=AFTER)
    assert list(deleted(done)) == ["pod-c"]
    (act,) = done.actions.deletes
    assert act.reason == "what was reserved for it did not come free in time"
    assert {name: pinned_node(patch) for name, patch in patches(done, "Pin").items()} == {"pod-d2": "n1"}
    assert b.condition(done.status("ModelDeployment", "c"), "Placed")[:2] == ("False", "DevicesUnavailable")
    told = {note.name: note.message for note in done.report.events if note.reason == "ReservationEnded"}
    assert list(told) == ["c"]
    assert told["c"].startswith("n1 was held for it for 10m, and its 8 devices did not all come free: llm/pod-b did not leave. Others may")


def test_it_is_not_promised_the_same_again() -> None:
    """The next look: C has a new pod, B is still there. A promise is made again only where the one who leaves began a second later."""
    done = see(leaving(), waiting("c"), now=AFTER, models=(B, C))
    assert ([s.model for s in done.plan.starts], patches(done, "Reserve")) == (["llm/b"], {})
    later = see(leaving("2026-11-25T08:00:01Z"), waiting("c"), now=AFTER, models=(B, C))
    assert list(patches(later, "Reserve")) == ["pod-c2"]


def test_once_the_last_one_has_gone_all_are_free_like_any_others() -> None:
    done = see(waiting("c"), now=AFTER, models=(C,))
    assert {name: pinned_node(patch) for name, patch in patches(done, "Pin").items()} == {"pod-c2": "n1"}


def test_a_stranger_who_took_a_device_does_not_keep_the_rest_idle_for_ever() -> None:
    """Nobody is waited for; a pod of others holds one. Held until the time is over, then D takes four of the seven."""
    stranger = b.holder("x", "n1", b.H100, 1)
    for now, gone, pins in ((BEFORE, [], []), (AFTER, ["pod-c"], ["pod-d2"])):
        done = see(stranger, promised(waits_for=""), waiting(), now=now, models=(C, D))
        assert (list(deleted(done)), list(patches(done, "Pin"))) == (gone, pins)
    (note,) = [note for note in done.report.events if note.reason == "ReservationEnded"]
    assert "others hold some" in note.message


def test_the_field_is_what_counts() -> None:
    soon = b.policy({"preemption": {"reservationTimeout": "1m"}})
    for now, gone in (("2026-11-25T08:00:59Z", []), ("2026-11-25T08:01:00Z", ["pod-c"])):
        assert list(deleted(see(leaving(), promised(), waiting(), now=now, policy=soon))) == gone


@pytest.mark.parametrize("since", ["", "yesterday"])
def test_what_nobody_recorded_does_not_end(since: str) -> None:
    assert deleted(see(leaving(since), promised(since), waiting(), now="2027-01-01T00:00:00Z")) == {}


def test_the_cycle_is_woken_when_the_next_one_ends() -> None:
    """60 s after the promise 540 s are left; without a promise nobody has to be woken."""
    given: dict[str, Any] = {"models": (A, B, C), "profiles": PROFILES, "nodes": [NODE], "deployments": CHILD.values()}
    at = "2026-11-25T08:01:00Z"
    assert reservation.next_of(prepare(b.observed(pods=[leaving(), promised()], **given), now=at), at) == 540.0
    assert reservation.next_of(prepare(b.observed(pods=[leaving()], **given), now=at), at) is None
    assert reservation.next_of(prepare(b.observed(pods=[leaving(), promised()], **given), now=AFTER), AFTER) == 0.0
