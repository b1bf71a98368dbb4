"""Somebody edits the size of a child: set back in the next cycle, and told (OC-050)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from polyfleet.scaling.drift import Drift
from polyfleet.state import DeploymentState, Observed

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done, cycle
from tests.unit.operator.forces import child_of
from tests.unit.operator.looks import H100, POOLS, PPU, PROFILES, replace_size

ONE = b.model("m", {"replicas": 1, "placement": {"profiles": ["sandbox-ppu"]}})
CHILD = child_of(ONE, "sandbox-ppu", 1)


def seen(child: DeploymentState, pods: int) -> Observed:
    mine = tuple(b.replica(child, f"p{i}", node="ppu-0" if i == 0 else "", serving=i == 0) for i in range(pods))
    return b.observed(models=[ONE], profiles=PROFILES, pools=POOLS, nodes=(H100, PPU), deployments=(child,), pods=mine)


def sizes(done: Done) -> dict[tuple[str, str], int]:
    return {("llm", name): size for name, size in b.sizes(done.actions).items()}


def looked(drift: Drift, child: DeploymentState, pods: int = 1) -> tuple[Done, list[str]]:
    done = cycle(seen(child, pods))
    return done, [f"{note.reason} {note.kind} {note.name}: {note.message}" for note in drift.notes(done.inputs, sizes(done))]


def test_oc_050_the_size_is_set_back_within_one_cycle_and_the_field_is_named() -> None:
    """Desired 1; somebody sets the Deployment to 2, and its second pod waits at its gate."""
    drift = Drift()
    assert looked(drift, CHILD)[1] == []
    done, told = looked(drift, replace_size(CHILD, 2), pods=2)
    assert b.sizes(done.actions) == {CHILD.name: 1}
    text = f"Deployment {CHILD.name}: spec.replicas was set to 2 by somebody else, 1 was wanted: set back to 1"
    assert told == [f"DriftRepaired ModelDeployment m: {text}"]
    status = done.status("ModelDeployment", "m")
    assert (status["desiredReplicas"], status["readyReplicas"]) == (1, 1)
    assert looked(drift, CHILD)[1] == []


def test_a_size_that_we_change_is_no_drift() -> None:
    drift = Drift()
    looked(drift, CHILD)
    done = cycle(seen(CHILD, 1))
    assert drift.notes(done.inputs, {("llm", CHILD.name): 3}) == []  # a larger size is wanted now
    assert drift.notes(cycle(seen(replace_size(CHILD, 3), 1)).inputs, {("llm", CHILD.name): 3}) == []


@pytest.mark.parametrize("lost", ["restart", "failed write", "made again"])
def test_what_is_not_known_to_be_ours_is_no_drift(lost: str) -> None:
    drift = Drift()
    looked(drift, CHILD)
    edited = replace_size(CHILD, 2)
    if lost == "restart":
        drift = Drift()
    elif lost == "failed write":
        assert drift.notes(cycle(seen(CHILD, 1)).inputs, None) == []
    else:
        edited = replace(edited, uid="uid-another")
    done = cycle(seen(edited, 1))
    assert drift.notes(done.inputs, sizes(done)) == []
