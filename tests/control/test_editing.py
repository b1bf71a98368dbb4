"""Hardware profiles edited under a running fleet: the real chart by the real helm, `kubectl edit`, the real cycle; KWOK for the kubelets.

The chart's operator pod finds no node here. A start of the operator is what `main` does at one: the mounted files are applied, then
cycles run. A restart is another start with nothing in memory.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from polyfleet import naming
from polyfleet.state import Observed, PodState

from hwprofiles.shipped_profiles import SHIPPED
from sandbox import fleet, install, virtual
from sandbox.controlplane import ControlPlane
from tests.control import cycling
from tests.control.cycling import Kubectl, condition, policy, ready, replicas, run
from tests.control.editing import (
    NAMESPACE,
    NVIDIA,
    ON_NVIDIA,
    OWN,
    PPU,
    TAINT,
    V1,
    V2,
    A,
    B,
    P,
    edit,
    helm,
    model,
    of_ours,
    patch,
    ppu_node,
    profile,
    row,
    serves,
    started,
    told,
    uids,
)
from tools.paths import ROOT

pytestmark = pytest.mark.control


@pytest.fixture(scope="module")
def chart(control_plane: ControlPlane, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The release is installed as a user would, but for the image; the folder is a copy of the chart that a test may change."""
    files = [argument for path in sorted((ROOT / "crds").glob("*.yaml")) for argument in ("-f", str(path))]
    kubectl("apply", "--server-side", "--force-conflicts", *files, check=True)
    kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s", check=True)
    kubectl("create", "namespace", NAMESPACE, check=True)
    kubectl("-n", NAMESPACE, "wait", "--for=create", "serviceaccount/default", "--timeout=60s", check=True)
    copy = tmp_path_factory.mktemp("chart") / "polyfleet"
    shutil.copytree(install.chart_dir(), copy)
    nodes = (cycling.node(A), fleet.Node(B, dict(cycling.LABELS), (TAINT,), fleet.Devices(cycling.H100, 8, "nvidia")), ppu_node(P))
    virtual.start(control_plane, fleet.Fleet("editing", nodes, ""))
    kubectl("wait", "--for=condition=Ready", *(f"node/{node.name}" for node in nodes), "--timeout=60s", check=True)
    helm(control_plane.kubeconfig, copy)
    try:
        yield copy
    finally:
        install.helm(control_plane.kubeconfig, "uninstall", install.RELEASE, "--namespace", install.NAMESPACE)
        kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")  # while KWOK still ends its pods
        control_plane.processes.stop(("kwok",))
        kubectl("delete", "node", A, B, P, "--ignore-not-found")


@pytest.fixture
def hand(chart: Path, kubectl: Kubectl) -> Iterator[Kubectl]:
    """A cluster as after the installation: nothing of an earlier test is left."""
    try:
        yield kubectl
    finally:
        kubectl("-n", NAMESPACE, "delete", OWN, "--all", check=True)
        kubectl("-n", NAMESPACE, "delete", "pods", "--all", "--force", "--grace-period=0")
        kubectl("-n", NAMESPACE, "wait", "--for=delete", "deployments,replicasets,pods", "--all", "--timeout=60s", check=True)


# ---- the chart, helm and the price


def test_an_edit_survives_upgrades_until_it_is_overwritten(
    apiserver: Path, chart: Path, hand: Kubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The price stays through a `helm upgrade` to a chart with another price, while the field beside it follows the chart; it is listed
    within one cycle, told once over both starts, and gone with overwriteEdited. Taking the edit back leaves no trace."""
    shipped = chart / "files" / "profiles" / f"{NVIDIA}.yaml"
    before = shipped.read_text(encoding="utf-8")

    async def scenario() -> None:
        async with started(apiserver, hand, tmp_path) as op:
            seen = await op.turn()
            assert "editedFields" not in profile(seen, NVIDIA).status
            await edit(op, monkeypatch, NVIDIA, "3.00", "2.75")
            assert profile(await op.turn(), NVIDIA).status["editedFields"] == ["cost.perDeviceHour"]
            assert "editedFields" not in profile(op.cache.observe(), PPU).status
            await op.rests()
        shipped.write_text(before.replace('"3.00"', '"4.00"').replace("displayName: Sandbox", "displayName: Upgraded"), encoding="utf-8")
        await asyncio.to_thread(helm, apiserver, chart)
        async with started(apiserver, hand, tmp_path) as op:
            seen = await op.turn()
            spec = profile(seen, NVIDIA).spec
            assert (spec["cost"]["perDeviceHour"], spec["displayName"].split()[0]) == ("2.75", "Upgraded")
            assert profile(seen, NVIDIA).status["editedFields"] == ["cost.perDeviceHour"]
            assert await told(op, "ProfileEdited", NVIDIA) == ["edited by hand, upgrades keep them: cost.perDeviceHour"]
            await edit(op, monkeypatch, NVIDIA, "2.75", "4.00")
            assert "editedFields" not in profile(await op.turn(), NVIDIA).status
            await edit(op, monkeypatch, NVIDIA, "4.00", "2.75")
        await asyncio.to_thread(helm, apiserver, chart, "--set", "profiles.overwriteEdited=true")
        async with started(apiserver, hand, tmp_path) as op:
            state = profile(await op.turn(), NVIDIA)
            assert state.spec["cost"]["perDeviceHour"] == "4.00"
            assert "editedFields" not in state.status

    try:
        run(scenario)
    finally:
        shipped.write_text(before, encoding="utf-8")
        helm(apiserver, chart)


def test_a_price_moves_something_only_where_it_saves_enough(
    apiserver: Path, hand: Kubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two replicas on the PPU at 0.90. NVIDIA at 0.88 saves 2.2 %, below minSavingPercent 5: no plan, no pod changes. At 0.45 it saves
    half: both move, and the old ones serve until the new ones do."""

    async def scenario() -> None:
        async with started(apiserver, hand, tmp_path) as op:
            await op.apply(policy(stability={"minResidence": "1s"}), model("m", replicas=2))
            seen = await op.until("both serve", serves("m", 2))
            assert set(uids(seen, "m").values()) == {P}
            await op.rests()
            plans, pods = of_ours(seen), uids(seen, "m")
            await edit(op, monkeypatch, NVIDIA, "3.00", "0.88")
            seen = await op.turn()
            assert (of_ours(seen), uids(seen, "m")) == (plans, pods)
            await op.rests()
            await edit(op, monkeypatch, NVIDIA, "0.88", "0.45")
            seen = await op.turn()
            assert len(of_ours(seen)) == len(plans) + 1  # within this one cycle
            lowest = 2

            def moved(seen: Observed) -> bool:
                nonlocal lowest
                lowest = min(lowest, ready(seen, "m"))
                return set(uids(seen, "m").values()) == {A} and serves("m", 2)(seen)

            await op.until("both have moved", moved)
            assert lowest == 2

    run(scenario)


# ---- edits that change pods


def image(pod: PodState, seen: Observed) -> str:
    owner = {rs.uid: rs.owner_uid for rs in seen.replica_sets}[pod.owner_uid]
    child = next(d for d in seen.deployments if d.uid == owner)
    return str(child.spec["template"]["spec"]["containers"][0]["image"])


def test_an_edited_image_waits_for_the_model_and_a_restart_decides_alike(
    apiserver: Path, hand: Kubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OC-030: Promoted=False (ProfileOutdated), no pod changes, also after a restart. An added replica has the new image, a dead one comes
    back with the old, and the model's own change takes all of them to the new one, never below the wanted size."""

    async def scenario() -> None:
        async with started(apiserver, hand, tmp_path) as op:
            await op.apply(policy(), model("m", replicas=2, **ON_NVIDIA))
            seen = await op.until("both serve", serves("m", 2))
            await op.rests()
            pods, plans = uids(seen, "m"), of_ours(seen)
            await edit(op, monkeypatch, NVIDIA, V1, V2)
            seen = await op.turn()
            status, reason, message = condition(seen, "m", "Promoted")
            assert (status, reason) == ("False", "ProfileOutdated")
            assert f"image {V1} -> {V2}" in message
            assert condition(seen, "m", "Ready")[0] == "True"
            seen = await op.rests()
            assert (uids(seen, "m"), of_ours(seen)) == (pods, plans)
            assert len(await told(op, "ProfileEdited", "m")) == 1
        async with started(apiserver, hand, tmp_path) as op:
            seen = await op.rests()
            assert (uids(seen, "m"), of_ours(seen)) == (pods, plans)
            assert condition(seen, "m", "Promoted")[:2] == ("False", "ProfileOutdated")
            assert len(await told(op, "ProfileEdited", "m")) == 1

            await op.apply(model("m", replicas=3, **ON_NVIDIA))
            seen = await op.until("the third serves", serves("m", 3))
            assert sorted(image(pod, seen) for pod in replicas(seen, "m")) == [V1, V1, V2]
            assert pods.keys() < uids(seen, "m").keys()

            victim = next(pod for pod in replicas(seen, "m") if pod.uid in pods)
            await op.hand("-n", NAMESPACE, "delete", "pod", victim.name, "--force", "--grace-period=0")
            seen = await op.until("it was replaced", lambda seen: victim.uid not in uids(seen, "m") and serves("m", 3)(seen))
            assert sorted(image(pod, seen) for pod in replicas(seen, "m")) == [V1, V1, V2]
            await op.rests()

            await op.apply(model("m", replicas=3, runtime={"args": ["--seen"]}, **ON_NVIDIA))
            lowest = 3

            def rolled(seen: Observed) -> bool:
                nonlocal lowest
                lowest = min(lowest, ready(seen, "m"))
                return condition(seen, "m", "Promoted")[0] == "True" and serves("m", 3)(seen) and len(uids(seen, "m")) == 3

            seen = await op.until("all have the new image", rolled, 90)
            assert ({image(pod, seen) for pod in replicas(seen, "m")}, lowest) == ({V2}, 3)

    run(scenario)


def test_a_toleration_lets_new_replicas_in_and_restarts_none(apiserver: Path, hand: Kubectl, tmp_path: Path) -> None:
    """OC-029: the tainted node takes nobody until the profile tolerates the taint; then within one cycle. The replica elsewhere stays.

    OC-031: helm's label on the profile object is neither asked of nodes nor put on pods.
    """

    async def scenario() -> None:
        async with started(apiserver, hand, tmp_path) as op:
            await op.hand("label", "hwp", NVIDIA, "app.kubernetes.io/managed-by=Helm")
            wide = {**ON_NVIDIA, "runtime": {"parallelism": {"tensor": 8}}}
            await op.apply(policy(), model("old", **wide))
            await op.until("the first serves", serves("old", 1))
            await op.apply(model("late", **wide))
            seen = await op.until("the other has no place", lambda seen: condition(seen, "late", "Placed")[0] == "False")
            before = uids(seen, "old")
            assert (list(before.values()), replicas(seen, "late")) == ([A], [])
            taint = {"key": TAINT.key, "value": TAINT.value, "effect": TAINT.effect}
            await patch(op, NVIDIA, [{"op": "add", "path": "/spec/pod/tolerations/-", "value": taint}], "json")
            seen = await op.turn()
            assert condition(seen, "late", "Placed")[0] == "True"  # within this one cycle
            seen = await op.until("it serves there", serves("late", 1))
            assert list(uids(seen, "late").values()) == [B]
            assert uids(seen, "old") == before
            assert condition(seen, "old", "Promoted")[0] == "True"
            assert profile(seen, NVIDIA).status["nodes"] == 2
            for pod in json.loads(await op.hand("-n", NAMESPACE, "get", "pods", "-o", "json"))["items"]:
                assert "nodeSelector" not in pod["spec"]
                assert "app.kubernetes.io/managed-by" not in pod["metadata"]["labels"]

    run(scenario)


def test_an_engine_that_needs_more_memory_gets_more_devices_only_for_new_replicas(apiserver: Path, hand: Kubectl, tmp_path: Path) -> None:
    """OC-033: 70 GiB under version 1 fit one device of 72 usable, 75 GiB under version 2 need two. The edit 1 -> 2 stops nobody."""
    spec = yaml.safe_load((SHIPPED / f"{NVIDIA}.yaml").read_text(encoding="utf-8"))["spec"]
    entry = spec["throughput"][1]

    async def scenario() -> None:
        async with started(apiserver, hand, tmp_path) as op:
            entries = [
                {**entry, "engineVersion": "1", "footprint": "70Gi"},
                {**entry, "engineVersion": "2", "footprint": "75Gi", "parallelism": {"tensor": 2}},
            ]
            engines = {"sandbox": {**spec["engines"]["sandbox"], "version": "1"}}
            await patch(op, NVIDIA, {"spec": {"throughput": entries, "engines": engines, "unit": {"usableFraction": "0.9"}}})
            await op.apply(policy(), model("m", **ON_NVIDIA))
            seen = await op.until("it serves", serves("m", 1))
            before = uids(seen, "m")
            assert [pod.requests for pod in replicas(seen, "m")] == [{cycling.H100: 1}]
            await patch(op, NVIDIA, {"spec": {"engines": {"sandbox": {"version": "2", "image": V2}}}})
            seen = await op.rests()
            assert uids(seen, "m") == before
            assert condition(seen, "m", "Promoted")[:2] == ("False", "ProfileOutdated")
            await op.apply(model("m", replicas=2, **ON_NVIDIA))
            seen = await op.until("the second serves", serves("m", 2))
            assert sorted(pod.requests[cycling.H100] for pod in replicas(seen, "m")) == [1, 2]
            assert before.keys() < uids(seen, "m").keys()

    run(scenario)


# ---- wrong edits


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"cost": {"perDeviceHour": 2.5}}, "spec.cost.perDeviceHour"),
    ({"cost": {"perDeviceHour": "2,50"}}, "spec.cost.perDeviceHour"),
    ({"unit": {"memory": "80GB"}}, "spec.unit.memory"),
    ({"allocation": {"sizes": [1, 3, 16]}}, "no size may exceed unit.perNode"),
    ({"dtypes": {"fp32": "Unsupported"}}, "a throughput entry names a precision that dtypes marks Unsupported"),
)


def test_what_the_schema_refuses_names_the_field(hand: Kubectl) -> None:
    """kubectl shows the API server's own words; nothing is stored."""
    shipped = yaml.safe_load((SHIPPED / f"{NVIDIA}.yaml").read_text(encoding="utf-8"))
    hand("apply", "--server-side", "-f", "-", stdin=json.dumps(shipped), check=True)
    for body, named in REFUSED:
        done = hand("patch", "hwp", NVIDIA, "--type=merge", "-p", json.dumps({"spec": body}))
        assert done.returncode != 0, body
        assert named in done.stderr


def test_a_wrong_entry_is_named_and_only_it_is_left_out(apiserver: Path, hand: Kubectl, tmp_path: Path) -> None:
    """A rate above the roofline and a peak whose provenance went: each is named in Calibrated and listed as ignored, the other entries and
    numbers are used, a restarted operator says the same, and a correction leaves no trace."""
    name = "nvidia-h100-sxm"
    h100 = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8"))
    spec = h100["spec"]
    broken = {**spec["throughput"][0], "inputTokens": 77, "outputTokensPerSecond": "9999999"}
    bare = [item for item in spec["provenance"] if "peakTflops" not in item["fields"]]
    last = len(spec["throughput"])

    async def scenario() -> None:
        async with started(apiserver, hand, tmp_path) as op:
            await op.apply(h100)
            assert row(profile(await op.turn(), name), "Calibrated")[0] == "True"
            await patch(op, name, {"spec": {"throughput": [*spec["throughput"], broken]}})
            state = profile(await op.turn(), name)
            status, reason, message = row(state, "Calibrated")
            assert (status, reason) == ("False", "DataOutOfRange")
            assert f"spec.throughput[{last}].outputTokensPerSecond" in message
            assert [text.split(":")[0] for text in state.status["ignored"]] == [f"spec.throughput[{last}].outputTokensPerSecond"]
            await op.rests()
        async with started(apiserver, hand, tmp_path) as op:
            again = profile(await op.rests(), name)
            assert again.status == state.status
            await patch(op, name, {"spec": {"throughput": spec["throughput"], "provenance": bare}})
            state = profile(await op.turn(), name)
            assert row(state, "Calibrated")[:2] == ("False", "ProvenanceMissing")
            assert any(text.startswith("spec.peakTflops.bf16:") for text in state.status["ignored"])
            await patch(op, name, {"spec": {"provenance": spec["provenance"]}})
            state = profile(await op.turn(), name)
            assert row(state, "Calibrated")[0] == "True"
            assert "ignored" not in state.status

    run(scenario)


def test_a_measurement_that_is_too_old_is_told_and_used(apiserver: Path, hand: Kubectl, tmp_path: Path) -> None:
    """Measured in 2020 with maxAge 720h: Calibrated Unknown (Stale) names the entry and the command; the model is still placed by it."""
    spec = yaml.safe_load((SHIPPED / f"{NVIDIA}.yaml").read_text(encoding="utf-8"))["spec"]
    old = {**spec["throughput"][1], "evidence": "Measured", "date": "2020-02-29"}

    async def scenario() -> None:
        async with started(apiserver, hand, tmp_path) as op:
            await patch(op, NVIDIA, {"spec": {"throughput": [old]}})
            await op.apply(policy(), model("m", **ON_NVIDIA))
            seen = await op.turn()
            assert condition(seen, "m", "ProfilesResolved")[0] == "True"
            assert condition(seen, "m", "Placed")[0] == "True"
            status, reason, message = row(profile(seen, NVIDIA), "Calibrated")
            assert (status, reason) == ("Unknown", "Stale")
            for part in ("2020-02-29", "720h", f"polyfleet bench --profile {NVIDIA} --model polyfleet/byte-tiny"):
                assert part in message
            assert await told(op, "ProfileStale", NVIDIA) == [message]

    run(scenario)


# ---- what matches, and what is deleted


def test_a_renamed_label_stops_nobody(apiserver: Path, hand: Kubectl, tmp_path: Path) -> None:
    """OC-024, OC-032: the label is renamed on the nodes: Discovered=False (MatchesNoNodes) within one cycle, both replicas stay, a new
    model says NoMatchingProfile. The profile is edited to the new key: all as before, no restart."""
    key, new = "aliyun.accelerator/ppu_name", "vendor.example/ppu-name"
    match = [{"labels": {new: ["PPU-ZW810E"], "polyfleet.io/sandbox": ["true"]}}]

    async def scenario() -> None:
        async with started(apiserver, hand, tmp_path) as op:
            await op.apply(policy(), model("m", replicas=2, placement={"profiles": [PPU]}))
            before = uids(await op.until("both serve", serves("m", 2)), "m")
            await op.hand("label", "node", P, f"{key}-", "aliyun.accelerator/xpu_type-", f"{new}=PPU-ZW810E")
            assert await op.cache.wait_for(lambda: any(new in node.labels for node in op.cache.observe().nodes), 30)
            seen = await op.turn()
            assert row(profile(seen, PPU), "Discovered")[:2] == ("False", "MatchesNoNodes")
            assert profile(seen, PPU).status["nodes"] == 0
            await op.apply(model("other", placement={"profiles": [PPU]}))
            seen = await op.rests()
            assert uids(seen, "m") == before
            assert condition(seen, "other", "ProfilesResolved")[:2] == ("False", "NoMatchingProfile")
            await patch(op, PPU, {"spec": {"match": match}})
            seen = await op.until("all as before", lambda seen: serves("m", 2)(seen) and serves("other", 1)(seen))
            assert uids(seen, "m") == before
            assert row(profile(seen, PPU), "Discovered")[0] == "True"
            assert condition(seen, "m", "Ready")[0] == "True"

    try:
        run(scenario)
    finally:
        hand("label", "node", P, "--overwrite", f"{new}-", f"{key}=PPU-ZW810E", "aliyun.accelerator/xpu_type=ppu", check=True)


def test_deleting_a_profile_in_use_leaves_its_replicas_alone(apiserver: Path, hand: Kubectl, tmp_path: Path) -> None:
    """A profile of one's own: both replicas serve on through restarts of the operator, pool, model and an event say so, a cheaper profile
    takes nothing over. Applied again, all is as before. A shipped profile comes back by itself, without its edits."""
    mine = yaml.safe_load((SHIPPED / f"{NVIDIA}.yaml").read_text(encoding="utf-8"))
    mine["metadata"]["name"] = "mine"
    for item in mine["spec"]["match"]:
        item["labels"]["kubernetes.io/hostname"] = [A]  # one key more than the shipped one

    async def scenario() -> None:
        async with started(apiserver, hand, tmp_path) as op:
            await op.apply(policy(), mine, model("m", replicas=2, placement={"excludeProfiles": [PPU]}))
            seen = await op.until("both serve", serves("m", 2))
            before = uids(seen, "m")
            assert {pod.labels[naming.PROFILE] for pod in replicas(seen, "m")} == {"mine"}
            await op.hand("delete", "hwp", "mine")
            assert await op.cache.wait_for(lambda: op.cache.find("HardwareProfile", "", "mine") is None, 30)
            await op.turn()
            seen = await op.rests()
            assert uids(seen, "m") == before
            assert row(next(p for p in seen.pools if p.name == "mine"), "Schedulable")[:2] == ("False", "ProfileMissing")
            assert condition(seen, "m", "Promoted")[:2] == ("False", "ProfileOutdated")
            assert "HardwareProfile mine" in condition(seen, "m", "Promoted")[2]
            assert any("HardwareProfile mine" in text for text in await told(op, "ProfileEdited", "m"))
        async with started(apiserver, hand, tmp_path) as op:
            assert uids(await op.rests(), "m") == before
            await op.apply(mine)
            seen = await op.until("all as before", lambda seen: condition(seen, "m", "Ready")[0] == "True")
            assert uids(seen, "m") == before
            assert condition(seen, "m", "Promoted")[0] == "True"

            await patch(op, PPU, {"spec": {"cost": {"perDeviceHour": "7.77"}}})
            await op.turn()
            uid = profile(op.cache.observe(), PPU).uid
            await op.hand("delete", "hwp", PPU)
            assert await op.cache.wait_for(lambda: op.cache.find("HardwareProfile", "", PPU) is None, 30)
            state = profile(await op.turn(), PPU)
            assert (state.uid != uid, state.spec["cost"]["perDeviceHour"]) == (True, "0.90")
            await op.turn()
            assert len(await told(op, "DriftRepaired", PPU)) == 1

    run(scenario)
