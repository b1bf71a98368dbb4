"""Snapshots and plans as JSON: the round trip, the golden file, and refusals in plain words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import placement
from placement.snapshot import from_json, normalised, problems, to_json, validated
from placement.types import Cell, Demand, ModelDemand, Node, PlacementError, Replica, Snapshot
from tests.unit.placement.fleet import cell, model, node, option, planned, replica, snap
from tests.unit.placement.instances import instance

GOLDEN = Path(__file__).parent / "golden"


def three_vendors() -> tuple[Snapshot, Demand]:
    """A small fleet with one running replica, a shortfall and every vendor."""
    cells = [cell("h100", failure_domain="z1"), cell("a3"), cell("ppu", limit_devices=8, reserve_devices=1)]
    nodes = [node("h100-0", cells[0], 8), node("a3-0", cells[1], 16), node("ppu-0", cells[2], 16)]
    options = [option("smol", p, 1) for p in ("h100", "a3", "ppu")] + [option("big", "h100", 8)]
    models = [model("smol", 3, min_vendors=3), model("big", 1)]
    running = [replica("uid-1", options[0], "h100-0", age_order=3)]
    return snap(cells, nodes, models, options, running), Demand((ModelDemand("ns/smol"), ModelDemand("ns/big")))


@pytest.mark.parametrize("seed", range(40))
def test_round_trip(seed: int) -> None:
    snapshot, demand = instance(seed)
    back, asked = from_json(to_json(snapshot, demand))
    assert back == normalised(snapshot)
    assert sorted(asked.models, key=str) == sorted(demand.models, key=str)
    plan, _ = placement.plan(snapshot, demand, solvers=[])
    assert placement.plan_from_json(placement.to_json(plan)) == plan


def test_golden_files() -> None:
    """The stored form of version 2. A change here breaks every stored snapshot: raise the version instead."""
    snapshot, demand = three_vendors()
    plan = planned(snapshot, demand)
    for name, text in (("snapshot.json", to_json(snapshot, demand, indent=1)), ("plan.json", placement.to_json(plan, indent=1))):
        assert text + "\n" == (GOLDEN / name).read_text(encoding="utf-8"), f"{name} differs"
    assert from_json((GOLDEN / "snapshot.json").read_text(encoding="utf-8"))[0] == normalised(snapshot)


def test_a_field_that_came_later_may_be_absent() -> None:
    """`defragment` and `busy` are newer than version 2: snapshots stored before them are read as if they said what the default says."""
    snapshot, demand = three_vendors()
    body = json.loads(to_json(snapshot, demand))
    del body["snapshot"]["policy"]["defragment"]
    for each in body["snapshot"]["replicas"]:
        del each["busy"]
    assert from_json(json.dumps(body))[0] == normalised(snapshot)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "snapshot.version: 1 is not supported, this placer reads 2; write it again with `polyfleet snapshot -o FILE`"),
        ({"kind": "Pod"}, 'must be an object with kind "PlacementSnapshot"'),
        ({"snapshot": []}, "snapshot: [], must be an object"),
    ],
)
def test_other_documents_are_refused(change: dict[str, object], message: str) -> None:
    body = json.loads(to_json(three_vendors()[0])) | change
    with pytest.raises(PlacementError) as error:
        from_json(json.dumps(body))
    assert message in str(error.value)


def test_a_plan_of_another_version_is_refused() -> None:
    body = json.loads(placement.to_json(planned(*three_vendors()))) | {"version": 1}
    with pytest.raises(PlacementError, match=r"plan\.version: 1 is not supported, allowed is 2; make the plan anew"):
        placement.plan_from_json(json.dumps(body))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("stock", "Maybe", "snapshot.cells[0].stock: 'Maybe', allowed Known, Unknown"),
        ("colour", "red", "snapshot.cells[0]: unknown field 'colour'"),
        ("align_to", True, "snapshot.cells[0].align_to: True, must be int"),
        ("sizes", 4, "snapshot.cells[0].sizes: 4, must be a list"),
    ],
)
def test_wrong_fields_are_named(field: str, value: object, message: str) -> None:
    body = json.loads(to_json(three_vendors()[0]))
    body["snapshot"]["cells"][0][field] = value
    with pytest.raises(PlacementError) as error:
        from_json(json.dumps(body))
    assert message in str(error.value)


def test_truncated_text_is_no_json() -> None:
    with pytest.raises(PlacementError, match="no JSON"):
        from_json(to_json(three_vendors()[0])[:-5])


def one(**changes: object) -> Snapshot:
    base = snap([cell("h100")], [node("n1", cell("h100"), 8)], [model("a", 1)], [option("a", "h100", 1)])
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("snapshot", "message"),
    [
        (one(nodes=(Node("n1", "nowhere", 8, 8, 0),)), "nodes[n1].cell: 'nowhere' is no cell of this snapshot"),
        (one(nodes=(Node("n1", "h100", 8, -1, 0),)), "nodes[n1].allocatable: -1, must be a whole number of at least 0"),
        (one(nodes=(Node("n1", "h100", 8, 8, 0), Node("n1", "h100", 8, 8, 0))), "nodes: 'n1' appears twice"),
        (one(cells=(replace(cell("h100"), sizes=(4, 2)),)), "cells[h100].sizes: [4, 2], must ascend"),
        (one(cells=(replace(cell("h100"), cost_per_device_hour=float("nan")),)), "cells[h100].cost_per_device_hour: nan"),
        (one(models=(replace(model("a", 2), max_replicas=1),)), "models[ns/a].max_replicas: 1, must be at least min_replicas 2"),
        (one(replicas=(Replica("r", "ns/b", None, "n1", 1),)), "replicas[r].model: 'ns/b' is no model of this snapshot"),
        (one(replicas=(Replica("r", "ns/a", "gone", "n1", 1),)), "use null for one that no longer exists"),
        (one(version=7), "snapshot.version: 7, this placer reads 2"),
    ],
)
def test_bad_input_names_field_value_and_what_is_allowed(snapshot: Snapshot, message: str) -> None:
    with pytest.raises(PlacementError) as error:
        placement.plan(snapshot, Demand())
    assert message in str(error.value)


def test_many_faults_are_counted_and_not_all_printed() -> None:
    cells = tuple(Cell(f"c{i}", "p", "h100", "nvidia", (0,)) for i in range(9))
    with pytest.raises(PlacementError, match=r"\(and 4 more\)"):
        validated(one(cells=cells, nodes=()), Demand())
    assert len(problems(one(cells=cells, nodes=()), Demand())) == 9
