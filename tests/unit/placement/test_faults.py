"""Bad input: the message names field, value and what is allowed; input that only looks odd passes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from placement.faults import problems, validated
from placement.types import Cell, Demand, Model, ModelDemand, Node, Option, PlacementError, Policy, Quota, Replica, Snapshot

CELL = Cell("c", "p", "box", "huawei", (1, 2, 4, 8), ring=8, per_node=16)
NODE = Node("n", "c", 16, 16, 0)
MODEL = Model("m")
OPTION = Option("o", "m", "box", "huawei", "v", "e", 8, bucket_work=(1.0, 2.0))
ROLE = (ModelDemand("m", 1.0, role="decode"), ModelDemand("m", 1.0, role="prefill"))
TWO = ModelDemand("m", 3.0, (1.0, 2.0))


def snap(**changes: Any) -> Snapshot:
    return replace(Snapshot((CELL,), (NODE,), (MODEL,), (OPTION,)), **changes)


def asked(*entries: ModelDemand) -> Demand:
    return Demand(entries or (TWO,))


def cell(**changes: Any) -> Snapshot:
    return snap(cells=(replace(CELL, **changes),))


def node(**changes: Any) -> Snapshot:
    return snap(nodes=(replace(NODE, **changes),))


def model(**changes: Any) -> Snapshot:
    return snap(models=(replace(MODEL, **changes),))


def option(**changes: Any) -> Snapshot:
    return snap(options=(replace(OPTION, **changes),))


def policy(**changes: Any) -> Snapshot:
    return snap(policy=replace(Policy(), **changes))


def test_the_base_is_good() -> None:
    assert problems(snap(), asked()) == []
    assert problems(Snapshot((), (), (), ()), Demand()) == []


@pytest.mark.parametrize(
    ("snapshot", "demand", "message"),
    [
        (cell(ring=0), asked(), "cells[c].ring: 0, must be a whole number of at least 1"),
        (cell(ring=3), asked(), "cells[c].ring: 3, must divide per_node 16"),
        (cell(ring=8, align_to=3), asked(), "cells[c].ring: 8, must be whole blocks of align_to 3"),
        (cell(per_node=0), asked(), "cells[c].per_node: 0"),
        (cell(limit_devices=-1), asked(), "cells[c].limit_devices: -1"),
        (cell(cost_per_device_hour=math.inf), asked(), "cells[c].cost_per_device_hour: inf, must be a finite number"),
        (cell(schedulable=1), asked(), "cells[c].schedulable: 1, must be true or false"),
        (node(allocatable=17), asked(), "nodes[n].allocatable: 17, at most installed 16"),
        (node(held_by_others=True), asked(), "nodes[n].held_by_others: True, must be a whole number"),
        (node(free_rings=(8, 9)), asked(), "nodes[n].free_rings: [8, 9]"),
        (node(free_rings=(8,)), asked(), "nodes[n].free_rings: [8], must name 2 rings"),
        (node(free_rings=(8, -1)), asked(), "nodes[n].free_rings: -1"),
        (node(allocatable=12, free_rings=(8, 8)), asked(), "nodes[n].free_rings: [8, 8], in sum at most allocatable 12"),
        (node(free_blocks=17), asked(), "nodes[n].free_blocks: 17, at most 16"),
        (node(name="a,b"), asked(), "nodes[a,b].name: 'a,b', must have no comma"),
        (model(max_domain_share_percent=0), asked(), "models[m].max_domain_share_percent: 0, must be a whole number of at least 1"),
        (model(max_domain_share_percent=101), asked(), "models[m].max_domain_share_percent: 101, allowed 1 to 100"),
        (model(min_replicas=2), asked(), "models[m].max_replicas: 1, must be at least min_replicas 2"),
        (model(same_network=True), asked(), "models[m].same_network: true, but its demand has no roles"),
        (option(span=0), asked(), "options[o].span: 0"),
        (option(span=3), asked(), "options[o].devices: 8, must be a multiple of span 3"),
        (option(bucket_work=(1.0,)), asked(), "options[o].bucket_work: 1 buckets, the demand has 2"),
        (option(bucket_work=(1.0, math.nan)), asked(), "options[o].bucket_work: nan"),
        (option(kv_tokens=-1.0), asked(), "options[o].kv_tokens: -1.0"),
        (option(start_seconds=math.nan), asked(), "options[o].start_seconds: nan"),
        (option(role="both"), asked(), "options[o].role: 'both', allowed"),
        (option(role="decode"), asked(), "options[o].role: 'decode', but the demand names no decode"),
        (option(bucket_work=()), asked(*ROLE), "options[o].role: '', but the demand names roles"),
        (snap(), asked(ModelDemand("m", 1.0)), "options[o].bucket_work: 2 buckets, the demand has 1"),
        (snap(), asked(TWO, TWO), "demand.models: 'm' appears twice"),
        (snap(), asked(ROLE[0], TWO), "demand.models[m]: roles ['', 'decode']"),
        (snap(), asked(ModelDemand("m", 4.0, (1.0, 2.0))), "demand.models[m].work_per_s: 4.0, must be the sum of bucket_work 3.0"),
        (snap(), asked(replace(TWO, bucket_work=(-1.0, 4.0))), "demand.models[m].bucket_work: -1.0"),
        (snap(), asked(replace(TWO, kv_floor=-1.0)), "demand.models[m].kv_floor: -1.0"),
        (snap(), asked(replace(TWO, may_shrink=None)), "demand.models[m].may_shrink: None, must be true or false"),  # type: ignore[arg-type]
        (policy(start_price=-1.0), asked(), "policy.start_price: -1.0"),
        (policy(max_moves=-1), asked(), "policy.max_moves: -1"),
        (policy(time_limit_s=0.0), asked(), "policy.time_limit_s: 0.0, must be a finite number above 0"),
        (policy(quotas=(Quota("t", -1),)), asked(), "policy.quotas[t].devices: -1"),
        (policy(quotas=(Quota("t", 1, ("a", "b")), Quota("t", 2, ("b", "a")))), asked(), "policy.quotas: 't/a/b' appears twice"),
        (snap(replicas=(Replica("r", "m", "o", "b,a", 8),)), asked(), "replicas[r].node: 'b,a', several nodes must be distinct, sorted"),
        (snap(replicas=(Replica("r", "m", "o", 7, 8),)), asked(), "replicas[r].node: 7, must be text"),  # type: ignore[arg-type]
        (snap(replicas=(Replica("r", "m", "o", "n", 8, busy=float("nan")),)), asked(), "replicas[r].busy: nan, must be a finite number"),
        (snap(cells=({"name": "c"},)), asked(), "must be a Cell"),
    ],
)  # fmt: skip
def test_faults_name_field_value_and_what_is_allowed(snapshot: Snapshot, demand: Demand, message: str) -> None:
    with pytest.raises(PlacementError) as error:
        validated(snapshot, demand)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("snapshot", "demand"),
    [
        (node(allocatable=6, held_by_others=8), asked()),  # devices withdrawn under a running pod
        (node(installed=16, allocatable=0), asked()),  # the device plugin restarts
        (node(free_rings=(8, 3)), asked()),
        (snap(), Demand()),  # a fixed size: the rates of its options say nothing
        (option(work_per_s=None, bucket_work=()), asked()),
        (model(max_replicas=0, min_replicas=0), asked()),
        (snap(replicas=(Replica("r", "m", None, "gone", 0),)), asked()),
        (policy(quotas=(Quota("t", 1, ("a",)), Quota("t", 2))), asked()),
        (option(role="decode", bucket_work=()), asked(*ROLE)),
    ],
)
def test_what_only_looks_odd_passes(snapshot: Snapshot, demand: Demand) -> None:
    assert problems(snapshot, demand) == []
