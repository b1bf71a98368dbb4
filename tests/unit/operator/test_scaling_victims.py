"""Who leaves when a decision is to shrink: the replica with the fewest requests in flight (OC-053)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from polyfleet.scaling.board import Board
from polyfleet.state import InFlight, NodeState

from autoscaling.memory import Memory
from autoscaling.types import Decision, Direction
from autoscaling.windows import Windows
from tests.unit.operator import builders as b
from tests.unit.operator.cycle import cycle
from tests.unit.operator.forces import KEY, aimed, child_of, demand, force, look, scaled
from tests.unit.operator.looks import H100, POOLS, PPU, PROFILES, deleted
from tests.unit.operator.test_scaling_sizes import OLD

SINCE = "2026-11-25T08:00:00Z"
SPARE = replace(PPU, name="ppu-1", labels={**PPU.labels, "kubernetes.io/hostname": "ppu-1"})


def shrunk(counts: dict[str, float], *, nodes: dict[str, str] | None = None, size: int = 2, extra: tuple[NodeState, ...] = ()) -> Any:
    """Three replicas, p0 the oldest and p2 the youngest, and a decision for `size` work/s."""
    model = aimed(scaled(), 3)
    child = child_of(model, "sandbox-ppu", 3)
    where = nodes or {}
    pods = tuple(
        b.replica(child, f"p{i}", node=where.get(f"p{i}", "ppu-0"), serving=True, created=f"2026-11-25T0{i + 1}:00:00Z") for i in range(3)
    )
    said = force(float(size), shrink=True)
    busy = tuple(sorted((f"uid-{name}", count) for name, count in counts.items()))
    return look(model, replace(said, busy=busy), deployments=(child,), pods=pods, nodes=(H100, PPU, *extra))


@pytest.mark.parametrize(
    ("counts", "first", "then"),
    [
        ({"p0": 12, "p1": 0, "p2": 3}, "uid-p1", {"uid-p1", "uid-p2"}),  # OC-053
        ({"p0": 0, "p1": 12, "p2": 3}, "uid-p0", {"uid-p0", "uid-p2"}),
        ({"p0": 12, "p2": 3}, "uid-p2", {"uid-p0", "uid-p2"}),  # of p1 nobody knows: it may have the most
        ({"p0": 1, "p1": 1, "p2": 1}, "uid-p2", {"uid-p1", "uid-p2"}),  # equals: the youngest
        ({}, "uid-p2", {"uid-p1", "uid-p2"}),  # nobody has counted
    ],
)
@pytest.mark.parametrize("spread", [False, True], ids=["one node", "two nodes"])
def test_oc_053_the_first_to_leave_has_the_fewest_requests(counts: dict[str, float], first: str, then: set[str], spread: bool) -> None:
    """In flight 12, 0 and 3: from three to two the second goes, from three to one the third goes with it."""
    if spread and len(set(counts.values())) < 2:
        first, then = "uid-p1", {"uid-p1", "uid-p2"}  # the emptiest node
    nodes = {"p0": "ppu-0", "p1": "ppu-1", "p2": "ppu-0"} if spread else None
    extra = (SPARE,) if spread else ()
    assert shrunk(counts, nodes=nodes, extra=extra).plan.stop == (first,)
    assert set(shrunk(counts, nodes=nodes, extra=extra, size=1).plan.stop) == then


def test_oc_053_the_second_serves_its_requests_of_200_s_and_is_not_cut() -> None:
    """drainTimeout 300 s: at 199 s three requests still run, so it stays and takes no new ones; at 201 s they have ended, and it goes. One
    whose requests never end goes at 300 s."""
    model = aimed(b.model("m", {"scaling": {"minReplicas": 1, "maxReplicas": 8}, "drainTimeout": "300s"}), 1)
    child = child_of(model, "sandbox-ppu", 2)
    stays = b.replica(child, "p0", node="ppu-0", serving=True, created=OLD)
    leaves = b.replica(
        child, "p2", node="ppu-0", serving=True, draining=True, created=OLD, annotations={"polyfleet.io/draining-since": SINCE}
    )
    assert leaves.conditions["polyfleet.io/serving"].status == "False"  # its Service has it no more
    found = b.observed(models=[model], profiles=PROFILES, pools=POOLS, nodes=(H100, PPU), deployments=(child,), pods=(stays, leaves))
    said = force(1.0, shrink=True)

    def replicas(now: str, requests: float) -> int:
        """Of the child after this cycle; nothing is deleted besides."""
        quiet = "2026-11-25T08:03:20Z" if requests == 0 else ""
        reading = InFlight(requests, now, SINCE, quiet)
        done = cycle(replace(found, scaling={KEY: said}, in_flight={leaves.uid: reading}), now=now)
        assert set(deleted(done)) <= {"p2"}
        return b.sizes(done.actions)[child.name]

    assert replicas("2026-11-25T08:03:19Z", 3.0) == 2
    assert replicas("2026-11-25T08:03:21Z", 0.0) == 1
    assert replicas("2026-11-25T08:04:59Z", 3.0) == 2
    assert replicas("2026-11-25T08:05:00Z", 3.0) == 1


def test_requests_are_counted_for_a_decision_and_not_for_every_sample() -> None:
    """A count that moves wakes no cycle; a new decision to shrink brings new counts, one to grow none."""
    board = Board()
    board.entry(KEY, "uid")
    told = []
    for at, (work, direction, busy) in enumerate(
        [
            (4.0, Direction.HOLD, 1.0),
            (3.0, Direction.DOWN, 2.0),
            (3.0, Direction.HOLD, 7.0),
            (2.0, Direction.DOWN, 8.0),
            (5.0, Direction.UP, 9.0),
        ]
    ):
        decision = Decision(demand(work, direction=direction), Memory(Windows(float(at))))
        board.tell(KEY, decision, 10.0 * at, busy={"uid-p0": busy})
        told.append(dict(board.forces()[KEY].busy))
    assert told == [{}, {"uid-p0": 2.0}, {"uid-p0": 2.0}, {"uid-p0": 8.0}, {}]
