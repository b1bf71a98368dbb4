"""The cluster ends in the plan that `polyfleet plan` computed for the same snapshot, and no device is ever held twice.

One story on the fleet of three vendors (8 H100 at 3.00, 16 dies at 1.60 and 16 PPU at 0.90 an hour), because each change needs the
fleet that the one before left. Before each change the plan of the changed fleet is computed from a snapshot of the fleet as it is; the
expected places are also written down here, from prices and free devices by hand.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sandbox import witness
from tests.e2e.holding import Holding
from tests.e2e.lib import BIN, MODEL_LABEL, ROOT, Cluster, Object, condition_row, labels, tiny
from tests.e2e.operating import kill_operator

POLYFLEET = str(BIN / "polyfleet")
PPU, ASCEND, NVIDIA = ("sandbox-ppu", "ppu-0"), ("sandbox-ascend", "a3-0"), ("sandbox-nvidia", "h100-0")
WITHDRAWN = "ppu-15"  # idle, because the plugin prefers the lowest: the devices that are held stay healthy

Places = Counter[tuple[str, str, str]]  # (model, pool, node) -> replicas


def sized(name: str, devices: int, **spec: Any) -> Object:
    return tiny(name, runtime={"parallelism": {"tensor": devices}}, **spec)


def whole() -> Object:
    return sized("whole", 16, priority=20, placement={"profiles": ["sandbox-ascend"]})


def middle(replicas: int) -> Object:
    return sized("middle", 4, priority=10, replicas=replicas)


def mixed(replicas: int) -> Object:
    return sized("mixed", 2, replicas=replicas, placement={"spread": {"minVendors": 2}})


def urgent() -> Object:
    return sized("urgent", 4, priority=100)


def places(**models: dict[tuple[str, str], int]) -> Places:
    return Counter({(f"default/{name}", *where): count for name, found in models.items() for where, count in found.items()})


def standing(pods: list[Object]) -> Places:
    """Where pods of models are bound or told to go; terminating ones too, so that an end state has none."""
    return Counter(
        (f"default/{labels(p)[MODEL_LABEL]}", labels(p)["polyfleet.io/pool"], str(p["spec"].get("nodeName", "")))
        for p in pods
        if MODEL_LABEL in labels(p)
    )


@dataclass
class Story:
    cluster: Cluster
    folder: Path
    holding: Holding
    count: int = 0
    limits: list[tuple[datetime, str, int]] = field(default_factory=list)

    def polyfleet(self, *args: str, codes: tuple[int, ...]) -> str:
        env = {**self.cluster.env, "NO_COLOR": "1"}
        done = subprocess.run([POLYFLEET, *args], env=env, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
        assert done.returncode in codes, f"polyfleet {' '.join(args)}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def snapshot(self, edit: Callable[[Object], None] | None = None) -> Path:
        """What the cluster holds now, `edit` applied to the file."""
        self.count += 1
        path = self.folder / f"{self.count}.json"
        self.polyfleet("snapshot", "-o", str(path), codes=(0,))
        if edit is not None:
            body = json.loads(path.read_text())
            edit(body["observed"])
            path.write_text(json.dumps(body))
        return path

    def plan(self, snapshot: Path, *objects: Object, code: int = 2) -> Places:
        """What `polyfleet plan` makes of it, by model, pool and node."""
        given: list[str] = []
        for each in objects:
            path = self.folder / f"{each['metadata']['name']}.json"
            path.write_text(json.dumps(each))
            given += ["-f", str(path)]
        found = json.loads(self.polyfleet("plan", "--snapshot", str(snapshot), *given, "-o", "json", codes=(code,)))
        rows = found["plan"]["assignments"]
        return Counter({(row["model"], row["cell"].split("/")[0], row["node"]): row["replicas"] for row in rows})

    def ends_in(self, expected: Places) -> None:
        """Wait for it; then every pod is asked for its devices."""
        self.cluster.until(
            f"pods stand as planned: {dict(expected)}",
            "pods",
            lambda pods: (
                standing(pods) == expected
                and all(condition_row(p, "Ready").get("status") == "True" for p in pods if MODEL_LABEL in labels(p))
            ),
        )
        self.holding.ask()

    def applied(self, expected: Places, changes: str) -> Object:
        """The newest PlacementPlan is carried out and holds exactly this."""
        found = self.cluster.until(
            "the newest plan is applied", "pplan", lambda plans: plans[-1].get("status", {}).get("state") == "Applied", namespace="*"
        )
        newest = found[-1]
        assert assigned(newest) == expected
        status = newest["status"]
        assert (status["outcome"], status["gapPercent"], status["changesText"]) == ("Optimal", "0.0", changes)
        assert condition_row(newest, "Applied")["status"] == "True"
        # Only one plan is in force; those before were overtaken.
        assert [p["metadata"]["name"] for p in found if p["status"]["state"] in ("Applied", "Applying", "Proposed")] == [
            newest["metadata"]["name"]
        ]
        return newest

    def withdraw(self) -> None:
        self.cluster.sandbox("device", "withdraw", PPU[1], WITHDRAWN)
        self.cluster.until("one PPU withdrawn", "apool", lambda ps: withdrawn(ps) == 1, namespace="*")
        self.limits.append((datetime.now(UTC), PPU[1], 15))

    def installed(self, node: str, when: datetime) -> int:
        later = [count for since, name, count in self.limits if name == node and since <= when]
        return later[-1] if later else {NVIDIA[1]: 8, ASCEND[1]: 16, PPU[1]: 16}[node]


def assigned(plan: Object) -> Places:
    found: Places = Counter()
    for row in plan["spec"]["assignments"]:
        for node in row["nodes"]:
            found[(row["deployment"], row["pool"], node["name"])] += node["replicas"]
    return found


def withdrawn(pools: list[Object]) -> int:
    return next(int(p["status"]["devices"].get("withdrawn", 0)) for p in pools if p["metadata"]["name"] == PPU[0])


def cordoned(observed: Object) -> None:
    next(node for node in observed["nodes"] if node["name"] == PPU[1])["unschedulable"] = True


def one_less(observed: Object) -> None:
    next(node for node in observed["nodes"] if node["name"] == PPU[1])["allocatable"]["alibabacloud.com/ppu"] -= 1


def identity(cluster: Cluster) -> tuple[list[Any], ...]:
    """Plans with their versions, Deployments with their generations, and pods with their restarts."""
    plans = [(p["metadata"]["name"], p["metadata"]["resourceVersion"]) for p in cluster.items("pplan")]
    pods = [(p["metadata"]["uid"], p["status"]["containerStatuses"][0]["restartCount"]) for p in cluster.items("pods")]
    deployments = [(d["metadata"]["uid"], d["metadata"]["generation"]) for d in cluster.items("deployments")]
    return plans, deployments, pods


def test_the_cluster_ends_in_the_computed_plan_and_no_device_is_held_twice(cluster: Cluster, tmp_path: Path) -> None:
    if cluster.kind == "external":
        pytest.skip("needs the sandbox's audit log and plugins")
    cluster.settled()
    with Holding(cluster) as holding:
        story = Story(cluster, tmp_path, holding)
        try:
            three_models(story)
            a_cordoned_node(story)
            a_withdrawn_device(story)
            a_fourth_model_that_waits_for_its_approval(story)
            a_restart_changes_nothing(story)
        finally:
            cluster.kubectl("patch", "fpol", "default", "--type=merge", "-p", '{"spec":{"approval":"Automatic"}}')
            cluster.kubectl("uncordon", PPU[1])
            cluster.sandbox("device", "restore", PPU[1], WITHDRAWN)
    holding.check_audit(story.installed)
    holding.check_plugins()
    withdrawn_at = story.limits[0][0]
    assert not [a for a in witness.allocations() if a.node == PPU[1] and a.at > withdrawn_at and WITHDRAWN.split("-")[1] in a.devices]


def three_models(story: Story) -> None:
    """16 dies for who may run nowhere else; PPU is cheapest for the others, but one pair goes to a second vendor (H100: 6.00)."""
    objects = (whole(), middle(2), mixed(3))
    expected = places(whole={ASCEND: 1}, middle={PPU: 2}, mixed={PPU: 2, NVIDIA: 1})
    assert story.plan(story.snapshot(), *objects) == expected
    story.cluster.apply("\n---\n".join(json.dumps(each) for each in objects))
    story.ends_in(expected)
    name = story.applied(expected, "+6 ~0 -0")["metadata"]["name"]
    header, row = story.cluster.kubectl("get", "mdep", "mixed", "-o", "wide").splitlines()
    assert "PLAN" in header.split()
    assert name in row.split()
    header, row = story.cluster.kubectl("get", "pplan", name).splitlines()
    assert header.split() == ["NAME", "STATE", "APPROVAL", "TRIGGER", "CHANGES", "COST/H", "OUTCOME", "GAP%", "AGE"]
    # 16 x 1.60 + 2 x 4 x 0.90 + 2 x 2 x 0.90 + 2 x 3.00
    assert row.split()[1:-1] == ["Applied", "NotNeeded", "SpecChanged", "+6", "~0", "-0", "42.40", "Optimal", "0.0"]


def a_cordoned_node(story: Story) -> None:
    """4 PPU are free, but their node is cordoned: what runs there stays, and one more pair goes to the dearer H100. It does not come back
    when the node returns, because it has not stayed its 15 minutes: the next plans say so."""
    expected = places(whole={ASCEND: 1}, middle={PPU: 2}, mixed={PPU: 2, NVIDIA: 2})
    assert story.plan(story.snapshot(cordoned), mixed(4)) == expected
    story.cluster.kubectl("cordon", PPU[1])
    story.cluster.apply(mixed(4))
    story.ends_in(expected)
    story.applied(expected, "+1 ~0 -0")
    story.cluster.kubectl("uncordon", PPU[1])


def a_withdrawn_device(story: Story) -> None:
    """3 of 4 free PPU are left, too few for four: those go to the H100, which is full then; one more pair still has room."""
    expected = places(whole={ASCEND: 1}, middle={PPU: 2, NVIDIA: 1}, mixed={PPU: 3, NVIDIA: 2})
    assert story.plan(story.snapshot(one_less), middle(3), mixed(5)) == expected
    story.withdraw()
    story.cluster.apply("\n---\n".join(json.dumps(each) for each in (middle(3), mixed(5))))
    story.ends_in(expected)
    story.applied(expected, "+2 ~0 -0")


def a_fourth_model_that_waits_for_its_approval(story: Story) -> None:
    """1 PPU and no other device is free. `urgent` needs four: two pairs of the lowest priority leave the PPU (on the H100 the two pairs
    would be the last of their second vendor). Nothing moves before a person says so."""
    cluster = story.cluster
    before = standing(cluster.items("pods"))
    expected = places(whole={ASCEND: 1}, middle={PPU: 2, NVIDIA: 1}, mixed={PPU: 1, NVIDIA: 2}, urgent={PPU: 1})
    assert story.plan(story.snapshot(), urgent(), code=3) == expected
    cluster.kubectl("patch", "fpol", "default", "--type=merge", "-p", '{"spec":{"approval":"Manual"}}')
    cluster.apply(urgent())
    waiting = cluster.until("a plan waits", "pplan", lambda plans: plans[-1]["spec"]["approval"] == "Pending", namespace="*")[-1]
    name = waiting["metadata"]["name"]
    told = cluster.wait_condition("urgent", "Placed", "False", "AwaitingApproval")
    assert name in condition_row(told, "Placed")["message"]
    assert assigned(waiting) == expected
    assert story.plan(story.snapshot(), code=3) == expected
    assert standing(cluster.items("pods")) == before
    cluster.kubectl("patch", "pplan", name, "--type=merge", "-p", '{"spec":{"approval":"Approved"}}')
    story.ends_in(expected)
    assert story.applied(expected, "+1 ~0 -2")["metadata"]["name"] == name
    short = cluster.wait_condition("mixed", "Placed", "False", "DevicesUnavailable")
    assert short["status"]["shortfall"]["replicas"] == 2
    why = " ".join(story.polyfleet("explain", "mdep/urgent", codes=(0,)).split())  # its lines are folded
    assert why.startswith("default/urgent: 1 of 1 replica, 3.60 /h")
    assert "sandbox-ppu: CheapestWithinSlo: 3.6 per hour and replica, the cheapest that fits" in why
    assert "sandbox-nvidia: CostsMore: costs 8.4 more per hour and replica" in why  # 4 x (3.00 - 0.90)
    assert "sandbox-ascend: SizeNotAllowed: parallelism asks for 4 devices; sandbox-ascend allows 1, 16 devices" in why


def a_restart_changes_nothing(story: Story) -> None:
    """A new process solves without what the old one knew, and writes no plan and touches no pod. A suspended model tells when it has
    gone once through its cycle."""
    before = identity(story.cluster)
    kill_operator(story.cluster)
    story.cluster.apply(tiny("asleep", suspend=True))
    story.cluster.until(
        "the new process has looked at everything",
        "mdep",
        lambda ms: any(m["metadata"]["name"] == "asleep" and condition_row(m, "Ready") for m in ms),
    )
    assert identity(story.cluster) == before
