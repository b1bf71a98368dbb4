"""Rollouts that something holds up: each says why and what would help, and holds up nobody else."""

from __future__ import annotations

from polyfleet.state import CustomState

from tests.unit.operator.rolling import REQUIRED
from tests.unit.operator.test_rollouts import GATES, V1, V2, model, node, runtime, settled

# ---- no room


def test_broken_replicas_on_a_full_fleet_that_may_lose_none_say_what_would_help() -> None:
    """Two of four are broken, maxUnavailable is 0: nothing stops, and the condition names both ways out."""
    c = settled([model("a", 4, 1)], [node("n1", 4)], REQUIRED)
    c.sick = set(sorted(c.pods)[:2])
    c.turns(2)
    assert c.serving("a") == 2
    c.spec("a", runtime=runtime(V2, 1))
    c.turns(3)
    status, reason, message = c.row("a", "Promoted")
    assert (status, reason) == ("False", "RolloutBlocked")
    assert "spec.rollout.maxUnavailable: 1, so that it takes the place of a replica that does not serve" in message
    c.spec("a", rollout={"maxUnavailable": 1})
    c.until(lambda: c.revisions("a") == {V2: 4})


@GATES
def test_a_full_fleet_that_may_lose_none_says_why_it_does_not_roll(policy: CustomState) -> None:
    """Four healthy replicas on all four devices, maxUnavailable 0 by default: either setting would let it roll one at a time."""
    c = settled([model("a", 4, 1)], [node("n1", 4)], policy)
    c.spec("a", runtime=runtime(V2, 1))
    c.turns(3)
    status, reason, message = c.row("a", "Promoted")
    assert (status, reason) == ("False", "RolloutBlocked")
    assert "needs 1 free devices" in message
    assert "spec.rollout.allowDowntime: true" in message
    assert "spec.rollout.maxUnavailable: 1, so that one replica stops for it (now none of 4 may)" in message
    assert (c.revisions("a"), c.least["a"]) == ({V1: 4}, 4)
    c.spec("a", rollout={"maxUnavailable": 1})
    c.until(lambda: c.revisions("a") == {V2: 4})
    assert c.least["a"] == 3
