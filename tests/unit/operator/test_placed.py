"""Why replicas have no place: the condition `Placed`, its numbers, and `status.shortfall`, case by case."""

from __future__ import annotations

from polyfleet.state import Taint

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done, cycle
from tests.unit.operator.looks import children, look

H100_PROFILE = b.profiles("nvidia-h100-sxm")


def placed(done: Done, name: str = "m") -> tuple[str, str, str]:
    return b.condition(done.status("ModelDeployment", name), "Placed")


def test_oc_001_a_stranded_device_is_told() -> None:
    """OC-001: one healthy device waits behind the pod on the failed one; the pool counts it and the message says it."""
    node, holder = b.h100("n1", devices=2, allocatable=1), b.holder("x", "n1", b.H100, 1)
    pools = [b.pool("p", "nvidia-h100-sxm")]
    done = cycle(b.observed(models=[b.big_model(tensor=1)], profiles=H100_PROFILE, nodes=[node], pods=[holder], pools=pools))
    assert placed(done)[:2] == ("False", "DevicesUnavailable")
    assert "1 healthy device on n1 waits" in placed(done)[2]
    assert done.status("AcceleratorPool", "p")["devices"]["stranded"] == 1
    freed = cycle(b.observed(models=[b.big_model(tensor=1)], profiles=H100_PROFILE, nodes=[node], pools=pools))
    assert len(freed.plan.starts) == 1


def test_oc_002_more_held_than_allocatable() -> None:
    """OC-002: nothing is started, no number is negative."""
    node, holder = b.h100("n1", allocatable=6), b.holder("x", "n1", b.H100, 8)
    done = cycle(b.observed(models=[b.big_model(tensor=4)], profiles=H100_PROFILE, nodes=[node], pods=[holder]))
    assert done.plan.starts == ()
    (row,) = done.status("ModelDeployment", "m")["shortfall"]["reasons"]
    assert (row["largestFree"], row["totalFree"]) == (0, 0)


def test_oc_003_a_restarting_plugin_moves_nothing() -> None:
    """OC-003: allocatable 0 for a while: the running replica is kept, the pool says DevicesWithdrawn."""
    model = b.model("m", {"placement": {"profiles": ["sandbox-ascend"]}, "runtime": {"parallelism": {"tensor": 16}}})
    nodes = (b.sandbox(b.a3("n1")), b.sandbox(b.a3("n2")))
    child = children(model, nodes=nodes)["sandbox-ascend"]
    pod = b.replica(child, "pod-1", node="n1", serving=True)
    gap = (b.sandbox(b.a3("n1", allocatable=0)), nodes[1])
    done = look(model, nodes=gap, deployments=(child,), pods=(pod,))
    assert (done.plan.stop, done.plan.starts, done.actions.deletes) == ((), (), ())
    assert done.status("AcceleratorPool", "sandbox-ascend")["excluded"] == [{"reason": "DevicesWithdrawn", "nodes": 1, "examples": ["n1"]}]


def test_oc_005_a_shrunken_node_is_named() -> None:
    """OC-005: a model for 8 devices, 7 allocatable of 8: never capacity in place of allocatable, and the message says both."""
    done = cycle(b.observed(models=[b.big_model(tensor=8)], profiles=H100_PROFILE, nodes=[b.h100("n1", allocatable=7)]))
    assert placed(done)[:2] == ("False", "DevicesUnavailable")
    assert "n1: allocatable 7 of capacity 8" in placed(done)[2]


def test_oc_006_a_new_node_without_its_devices_is_waited_for() -> None:
    """OC-006: the message says whose devices are missing; the wanted size stays and exactly one replica is pending."""
    full, new = b.h100("n1"), b.h100("n9", devices=None)
    pods = [b.holder("x", "n1", b.H100, 8)]
    for node, starts in ((new, 0), (b.h100("n9"), 1)):
        done = cycle(b.observed(models=[b.big_model(tensor=8)], profiles=H100_PROFILE, nodes=[full, node], pods=pods))
        assert len(done.plan.starts) == starts
        assert done.status("ModelDeployment", "m")["desiredReplicas"] == 1
        if not starts:
            assert "waiting for devices on n9" in placed(done)[2]


def test_oc_008_excluded_nodes_are_no_room() -> None:
    """OC-008: cordoned and tainted nodes have 8 free each, but only n3 counts: one replica placed, the other not created."""
    nodes = [b.h100("n1", cordoned=True), b.h100("n2", taints=[Taint("gpu", "x", "NoSchedule")]), b.h100("n3")]
    model = b.big_model(tensor=8, spec={"replicas": 2})
    done = cycle(b.observed(models=[model], profiles=H100_PROFILE, nodes=nodes))
    assert [start.node for start in done.plan.starts] == ["n3"]
    assert list(b.sizes(done.actions).values()) == [1]
    assert placed(done)[:2] == ("False", "DevicesUnavailable")
    assert "need 8 on one node" in placed(done)[2]


def test_oc_011_a_sum_over_nodes_is_no_room() -> None:
    """OC-011: 4 + 4 free: tensor 8 gets nothing (largest 4, total 8), three replicas of one device start in the same cycle."""
    pods = [b.holder(f"x{i}", node, b.H100, 4) for i, node in enumerate(("n1", "n2"))]
    models = [b.big_model("a", tensor=8), b.big_model("b", tensor=1, spec={"replicas": 3})]
    done = cycle(b.observed(models=models, profiles=H100_PROFILE, nodes=[b.h100("n1"), b.h100("n2")], pods=pods))
    (row,) = done.status("ModelDeployment", "a")["shortfall"]["reasons"]
    assert (row["reason"], row["missing"]) == ("DevicesUnavailable", 1)
    assert len([start for start in done.plan.starts if start.model == "llm/b"]) == 3


def test_oc_013_a_size_that_no_node_has_never_fits() -> None:
    """OC-013: 12 devices on 6 nodes of 2 cannot hold tensor 4: NeverFits, not DevicesUnavailable, and no pod."""
    nodes = [b.h100(f"n{i}", devices=2) for i in range(6)]
    done = cycle(b.observed(models=[b.big_model(tensor=4)], profiles=H100_PROFILE, nodes=nodes))
    assert placed(done)[:2] == ("False", "NeverFits")
    assert b.sizes(done.actions) == {}


def test_oc_016_devices_in_other_pools_do_not_count() -> None:
    """OC-016: 8 free where the model may not run, none where it may: PoolRestricted with both numbers."""
    pools = [b.pool(name, "nvidia-h100-sxm", {"nodeSelector": {"pool": name}}) for name in ("a", "b")]
    nodes = [b.h100("n1", labels={"pool": "a"}), b.h100("n2", labels={"pool": "b"})]
    model = b.big_model(tensor=4, spec={"replicas": 2, "placement": {"pools": ["b"]}})
    held = [b.holder("x", "n2", b.H100, 8)]
    done = cycle(b.observed(models=[model], profiles=H100_PROFILE, nodes=nodes, pools=pools, pods=held))
    assert done.plan.starts == ()
    assert placed(done)[0] == "False"
    assert placed(done)[1] == "PoolRestricted"


def test_oc_020_whole_cards_under_a_scheduler_that_packs_them() -> None:
    """OC-020: dies 2 and 5 taken on 16: six complete cards, so six replicas of two dies although 14 dies are free."""
    taken = b.holder("x", "n1", b.ASCEND, 2, annotations={"huawei.com/AscendReal": "Ascend910-2,Ascend910-5"})
    pools = [b.pool("a3", "huawei-910c-752", {"scheduler": "volcano"})]
    model = b.big_model(tensor=2, spec={"replicas": 8})
    done = cycle(b.observed(models=[model], profiles=b.profiles("huawei-910c-752"), nodes=[b.a3("n1")], pods=[taken], pools=pools))
    assert len(done.plan.starts) == 6


def test_a_shortfall_is_told_once_as_an_event() -> None:
    """PlacementShortfall with count, reason and what is needed; while others come and go it is the same sentence, and no second Event. What
    is free at the moment stands in the condition."""

    def told(used: int) -> tuple[str, str]:
        held = [b.holder("x", "n1", b.H100, used)] if used else []
        done = cycle(b.observed(models=[b.big_model(tensor=8)], profiles=H100_PROFILE, nodes=[b.h100("n1", allocatable=7)], pods=held))
        (note,) = [note for note in done.report.events if note.reason == "PlacementShortfall"]
        assert (note.type, note.name) == ("Warning", "m")
        return note.message, placed(done)[2]

    text = (
        "1 of 1 replicas have no place: DevicesUnavailable: nvidia-h100-sxm: need 8 on one node; "
        "free devices or add nodes; see who holds them: kubectl describe apool nvidia-h100-sxm"
    )
    whole, busy = told(0), told(3)
    assert (whole[0], busy[0]) == (text, text)
    assert "largest free 7" in whole[1]
    assert "largest free 4" in busy[1]


def test_a_spread_that_waits_for_a_vendor_says_what_keeps_its_pool_from_being_used() -> None:
    """minVendors 3 and the one H100 node cordoned: the spread is the first reason, and the node is what somebody has to look at."""
    nodes = (b.sandbox(b.h100(cordoned=True)), b.sandbox(b.a3()), b.sandbox(b.ppu()))
    done = look(b.model("m", {"replicas": 3, "placement": {"spread": {"minVendors": 3}}}), nodes=nodes)
    status, reason, text = placed(done)
    assert (status, reason) == ("False", "SpreadUnsatisfied")
    assert "DevicesUnavailable: sandbox-nvidia: need 1, largest free 0, total free 0" in text
    assert "h100-0 is left out (Cordoned)" in text
