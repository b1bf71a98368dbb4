"""Cold starts as they were measured here, per option and cache state, and what is said of those that are on their way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from polyfleet.decide import prepare
from polyfleet.inputs import ModelView
from polyfleet.scaling import look, rows, stuck
from polyfleet.scaling.starts import COLD, KEPT, WARM, Starts, expected, load, nearest_rank, slowest
from polyfleet.state import Condition, ContainerState, PodState

from tests.unit.operator import builders as b
from tests.unit.operator.forces import KEY, aimed, child_of, force, scaled
from tests.unit.operator.looks import A3, H100, POOLS, PPU, PROFILES

NOW = 1_795_593_600.0  # b.NOW
MODEL = aimed(scaled(), 3)
CHILD = child_of(MODEL, "sandbox-ppu", 3)
OPTION = "llm/m|sandbox-ppu|default|sandbox|1"


def came_up(name: str, bound: float, took: float, *, node: str = "ppu-0", restarts: int = 0) -> PodState:
    """Bound so many seconds before now, and let in `took` seconds later."""
    pod = b.replica(CHILD, name, node=node, serving=True, created=stuck.stamp(NOW - bound - 3))
    conditions = dict(pod.conditions)
    conditions["PodScheduled"] = Condition("PodScheduled", "True", last_transition=stuck.stamp(NOW - bound))
    # Without a time, as the API server stores the gate's condition; the kubelet's own conditions have one.
    assert not conditions["polyfleet.io/serving"].last_transition
    conditions["Ready"] = Condition("Ready", "True", last_transition=stuck.stamp(NOW - bound + took))
    containers = tuple(ContainerState("engine", c.container_id, True, restarts, "running") for c in pod.containers)
    return replace(pod, conditions=conditions, containers=containers)


def view(*pods: PodState, spec: dict[str, Any] | None = None) -> ModelView:
    model = replace(MODEL, spec={**MODEL.spec, **(spec or {})})
    found = b.observed(models=[model], profiles=PROFILES, pools=POOLS, nodes=(H100, A3, PPU), deployments=(CHILD,), pods=pods)
    return prepare(replace(found, scaling={KEY: force(3.0, starts=((OPTION, 60.0),))}), now=b.NOW).models[KEY]


def test_a_start_is_from_bound_to_let_in_and_counts_once() -> None:
    starts = Starts()
    starts.look(view(), first=True)
    assert starts.look(view(came_up("p1", 200, 120)), first=False) == [(OPTION, COLD, 120.0)]
    assert starts.look(view(came_up("p1", 200, 120)), first=False) == []
    assert starts.p90(OPTION) == 120.0


def test_a_replica_whose_kubelet_has_not_seen_the_gate_yet_counts_when_it_has() -> None:
    starts, done = Starts(), came_up("p1", 200, 120)
    early = replace(done, conditions=done.conditions | {"Ready": Condition("Ready", "False", last_transition=stuck.stamp(NOW - 200))})
    assert starts.look(view(early), first=False) == []
    assert starts.look(view(done), first=False) == [(OPTION, COLD, 120.0)]


def test_the_second_start_on_a_node_is_warm() -> None:
    starts = Starts()
    starts.look(view(came_up("p1", 300, 120)), first=False)
    assert starts.look(view(came_up("p1", 300, 120), came_up("p2", 100, 40)), first=False) == [(OPTION, WARM, 40.0)]
    assert starts.rows == {(OPTION, COLD): [120.0], (OPTION, WARM): [40.0]}
    assert starts.p90(OPTION) == 120.0  # which node comes next is not known, so the slower counts


def test_what_served_before_this_process_looked_is_no_start_and_neither_is_a_restarted_one() -> None:
    starts = Starts()
    assert starts.look(view(came_up("p1", 500, 100)), first=True) == []
    assert starts.look(view(came_up("p1", 500, 100), came_up("p2", 300, 250, restarts=1)), first=False) == []
    assert starts.rows == {}


@pytest.mark.parametrize(("row", "share", "found"), [([5.0], 0.9, 5.0), (list(range(1, 11)), 0.9, 9), (list(range(1, 12)), 0.9, 10)])
def test_p90_is_the_nearest_rank(row: list[float], share: float, found: float) -> None:
    """Of ten the ninth, of eleven the tenth (0.9 x 11 = 9.9)."""
    assert nearest_rank(row, share) == found


def test_only_the_newest_are_kept_and_they_survive_a_restart() -> None:
    starts = Starts()
    for number in range(KEPT + 5):
        starts.add(OPTION, COLD, float(number))
    again = load(starts.dump())
    assert again.rows == {(OPTION, COLD): [float(n) for n in range(5, KEPT + 5)]}


@pytest.mark.parametrize("stored", [None, {}, [3], [{"option": "o"}], [{"option": "o", "cache": "Cold", "seconds": ["x", -1, 1e9, True]}]])
def test_stored_rows_that_cannot_be_read_are_left_out(stored: Any) -> None:
    assert load(stored).rows == {}


def test_the_profiles_entry_stands_in_until_one_was_measured() -> None:
    """The sandbox's profiles say 5 s for this model."""
    assert dict(expected(view(), Starts()))[OPTION] == 5.0
    starts = Starts()
    starts.add(OPTION, COLD, 42.0)
    assert dict(expected(view(), starts))[OPTION] == 42.0


def test_the_longest_wait_is_the_p95_of_the_slowest_option() -> None:
    """20 starts of 1 to 20 s: rank 19 of 20. The profiles say 5 s for the others; who is not measured and not listed is not known."""
    starts = Starts()
    for took in range(1, 21):
        starts.add(OPTION, COLD, float(took))
    assert slowest(view(), Starts()) == max(dict(expected(view(), Starts())).values())
    assert slowest(view(), starts) == max(19.0, *(took for option, took in expected(view(), Starts()) if option != OPTION))


def test_the_status_tells_when_the_last_of_those_on_their_way_is_expected() -> None:
    """Bound 20 s and 10 s ago, a start takes 60 s: the last in 50 s."""
    pods = []
    for name, bound in (("p1", 20), ("p2", 10)):
        pod = b.replica(CHILD, name, node="ppu-0", created=stuck.stamp(NOW - 30))
        row = Condition("PodScheduled", "True", last_transition=stuck.stamp(NOW - bound))
        pods.append(replace(pod, conditions={**pod.conditions, "PodScheduled": row}))
    assert rows.coming(view(*pods)) == f"2 on their way, the last expected at {stuck.stamp(NOW + 50)}"
    assert rows.coming(view(came_up("p1", 200, 100))) == ""


def test_a_wake_that_is_too_slow_names_both_numbers_and_the_way_out() -> None:
    spec = {"scaling": {"minReplicas": 0, "maxReplicas": 4, "scaleToZero": {"maxWakeSeconds": 60}}}
    seconds, why = look.wake([(OPTION, 90.2)], view(spec=spec))
    assert seconds == 90.2
    assert "a start takes 90 s (P90)" in why
    assert "maxWakeSeconds is 60" in why
    assert "set maxWakeSeconds to 91 or more" in why
    assert look.wake([(OPTION, 60.0)], view(spec=spec)) == (60.0, "")
    assert look.wake([], view(spec=spec)) == (None, "")  # what is not known refuses nothing
