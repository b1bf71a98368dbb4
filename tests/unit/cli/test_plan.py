"""`polyfleet plan` on the demo and on files: outputs that somebody has read, exit codes, objects laid over, bad input."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from polyfleet.cli import archive, demo, source
from polyfleet.cli.fleet import prepared
from polyfleet.cli.planning import Planned, solve
from polyfleet.cli.program import call
from polyfleet.cli.source import Where, situation
from polyfleet.cli.text import cells
from polyfleet.state import Observed

import placement
from hwprofiles.shipped_profiles import SHIPPED
from placement._codec import encode
from tests.unit.cli.lib import failed, golden, polyfleet, snapshot_file
from tests.unit.operator import builders as b

EXAMPLE = "examples/three-vendors.yaml"
HEAD = "apiVersion: polyfleet.io/v1alpha1\n"


def written(folder: Path, *objects: dict[str, Any], name: str = "x.yaml") -> str:
    path = folder / name
    version = {"apiVersion": "polyfleet.io/v1alpha1"}
    path.write_text(yaml.safe_dump_all([{**version, **item} for item in objects], allow_unicode=True), encoding="utf-8")
    return str(path)


def mdep(name: str = "m", namespace: str = "", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"kind": "ModelDeployment", "metadata": metadata, "spec": {"model": {"uri": "hf://Qwen/Qwen3-8B"}, **spec}}


def apool(name: str, profile: str, **spec: Any) -> dict[str, Any]:
    return {"kind": "AcceleratorPool", "metadata": {"name": name}, "spec": {"profile": profile, **spec}}


def planned_of(**more: Any) -> Planned:
    return solve(situation(Where(snapshot="demo", **more)))


# ---- outputs


@pytest.mark.parametrize("form", ["table", "wide", "md", "json", "yaml"])
def test_golden(form: str) -> None:
    """The example of the README: the demo with examples/three-vendors.yaml laid over it."""
    done = polyfleet("plan", "--snapshot", "demo", "-f", EXAMPLE, "-o", form)
    assert (done.code, done.err) == (3, "")
    golden(f"plan-three-vendors.{'txt' if form in ('table', 'wide') else form}".replace(".txt", f"-{form}.txt"), done.out)


def test_golden_of_the_whole_fleet() -> None:
    done = polyfleet("plan", "--snapshot", "demo")
    assert done.code == 3
    golden("plan-demo.txt", done.out)


def test_the_demo_is_what_its_page_says() -> None:
    """4 H100 nodes, 4 of 910C, 2 of PPU, 3 models; money by hand: 2x4x2.20 + 3x4x2.20 + 3x2x5 + 1x2x2.40 + 2x1x2.40."""
    observed, _ = demo.observed()
    kinds = [node.name.split("-")[0] for node in observed.nodes]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"h100": 4, "a3": 4, "ppu": 2}
    assert len(observed.model_deployments) == 3
    planned = planned_of()
    assert planned.plan.hourly_cost == pytest.approx(2 * 4 * 2.20 + 3 * 4 * 2.20 + 3 * 2 * 5 + 1 * 2 * 2.40 + 2 * 1 * 2.40)
    assert not planned.changed, "the demo is at rest"
    assert planned.shortfalls["llm/qwen3-32b"].replicas == 1


def test_json_is_the_placers_document_with_more_beside_it() -> None:
    """`plan_from_json` reads it, and its plan is the placer's own answer to the operator's own snapshot."""
    done = polyfleet("plan", "--snapshot", "demo", "-o", "json")
    observed, taken_at = demo.observed()
    inputs = prepared(observed, taken_at)
    plan, _ = placement.plan(inputs.snapshot, inputs.demand)
    assert placement.plan_from_json(done.out) == plan
    body = json.loads(done.out)
    assert body["plan"] == json.loads(placement.to_json(plan))["plan"]
    assert body["exitCode"] == done.code == 3
    assert yaml.safe_load(polyfleet("plan", "--snapshot", "demo", "-o", "yaml").out) == body


def test_the_snapshot_of_a_fleet_gives_the_plan_of_the_fleet(tmp_path: Path) -> None:
    """Live code path and file: the same bytes, assignments, stops, reasons and prices included."""
    live = json.loads(polyfleet("plan", "--snapshot", "demo", "-f", EXAMPLE, "-o", "json").out)
    file = json.loads(polyfleet("plan", "--snapshot", str(snapshot_file(tmp_path)), "-f", EXAMPLE, "-o", "json").out)
    assert json.dumps(file["plan"]) == json.dumps(live["plan"])
    assert file["models"] == live["models"]


@pytest.mark.parametrize("form", ["table", "md"])
def test_two_runs_are_equal(form: str) -> None:
    first, second = (planned_of(files=(EXAMPLE,)) for _ in range(2))
    assert encode(first.plan) == encode(second.plan)
    assert first.rows == second.rows


def test_no_line_of_a_table_is_wider_than_100_columns_with_long_and_wide_names(tmp_path: Path) -> None:
    """Pool names of 60 letters, models with CJK names; every row keeps its columns."""
    long = "p" * 60
    files = [
        mdep("模型" * 12, "团队" * 8, replicas=2, placement={"pools": [long]}),
        mdep("n" * 60, "s" * 60, replicas=40),
        apool(long, "huawei-910c-752", nodeSelector={"kubernetes.io/none": "x"}),
    ]
    done = polyfleet("plan", "--snapshot", "demo", "-f", written(tmp_path, *files))
    assert done.code == 3
    assert max(map(cells, done.lines)) <= 100
    head = next(line for line in done.lines if line.startswith(" POOL"))
    rows = [line for line in done.lines if " estimated" in line and not line.startswith(" not")]
    at = head.index("DATA")
    assert rows
    assert all(line[at:].startswith(("estimated", "published")) for line in rows)


# ---- exit codes


def test_exit_code_of_a_fleet_at_rest(tmp_path: Path) -> None:
    """Seven replicas asked, seven run: 0. One fewer: a stop is a change, 2. Eight: one is missing, 3."""
    observed, _ = demo.observed()
    for replicas, code in ((7, 0), (6, 2), (8, 3)):
        models = [
            replace(model, spec={**model.spec, "replicas": replicas}) if model.name == "qwen3-32b" else model
            for model in observed.model_deployments
        ]
        path = snapshot_file(tmp_path, replace(observed, model_deployments=tuple(models)))
        done = polyfleet("plan", "--snapshot", str(path))
        assert done.code == code
        assert ("Changes: none" in done.out) == (code != 2)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"placement": {"profiles": ["no-such"]}}, "UnknownProfile"),
        ({"model": {"uri": "hf://nobody/knows"}}, "ModelShapeUnknown"),
        ({"accuracy": {"gate": "Required"}}, "ReferenceMissing"),
    ],
)
def test_a_model_that_gets_no_plan_is_infeasible(tmp_path: Path, spec: dict[str, Any], reason: str) -> None:
    """The operator would hold it: said with the operator's own reason, exit 3."""
    done = polyfleet("plan", "--snapshot", "demo", "-f", written(tmp_path, mdep(**spec)))
    assert done.code == 3
    assert f"default/m: {reason}: " in done.out


def test_a_policy_that_waits_is_told(tmp_path: Path) -> None:
    policy = {"kind": "FleetPolicy", "metadata": {"name": "default"}, "spec": {"approval": "Manual", "accuracy": {"gate": "Disabled"}}}
    done = polyfleet("plan", "--snapshot", "demo", "-f", written(tmp_path, policy))
    assert "note: FleetPolicy spec.approval is Manual" in done.out


# ---- -f


def test_objects_are_added_and_replaced_and_keep_their_identity(tmp_path: Path) -> None:
    """A wider limit places the eighth replica at 2 devices x 2.40; the running replicas stay where they are."""
    planned = planned_of(files=(written(tmp_path, apool("ppu-1", "alibaba-ppu-810e", limits={"devices": 6})),))
    assert planned.situation.laid == (("AcceleratorPool", "ppu-1", "changed"),)
    assert (len(planned.plan.starts), len(planned.plan.stop), planned.code) == (1, 0, 2)
    assert planned.plan.hourly_cost == pytest.approx(83.60 + 2 * 2.40)


def test_the_same_object_again_changes_nothing(tmp_path: Path) -> None:
    """A file as `kubectl get -o yaml` gives it, with status and server fields, laid over the fleet that has it."""
    observed, _ = demo.observed()
    model = next(item for item in observed.model_deployments if item.name == "embed")
    raw = {
        "kind": "ModelDeployment",
        "metadata": {"name": "embed", "namespace": "search", "uid": "other", "resourceVersion": "9", "managedFields": []},
        "spec": model.spec,
        "status": {"url": "x"},
    }
    planned = planned_of(files=(written(tmp_path, raw),))
    assert planned.situation.laid == (("ModelDeployment", "search/embed", "same"),)
    assert encode(planned.plan) == encode(planned_of().plan)


def test_prices_of_an_edited_profile_change_the_plan(tmp_path: Path) -> None:
    """H100 at 0.10 instead of 5.00: the three replicas there cost 0.60 instead of 30.00."""
    observed, _ = demo.observed()
    profile = next(item for item in observed.profiles if item.name == "nvidia-h100-sxm")
    spec = {**profile.spec, "cost": {"perDeviceHour": "0.10", "currency": "USD"}}
    planned = planned_of(files=(written(tmp_path, {"kind": "HardwareProfile", "metadata": {"name": profile.name}, "spec": spec}),))
    assert sum(row.cost for row in planned.rows if row.profile == profile.name) == pytest.approx(0.60)


def test_a_list_several_documents_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kubectl get -o json` gives a List; empty documents between others are nothing."""
    listed = {
        "kind": "List",
        "items": [{"apiVersion": "polyfleet.io/v1alpha1", **mdep("a")}, {"apiVersion": "polyfleet.io/v1alpha1", **mdep("b")}],
    }
    text = "---\n---\n" + json.dumps({"apiVersion": "v1", **listed}) + "\n---\n" + HEAD + yaml.safe_dump(mdep("c", "team"))
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    planned = planned_of(files=("-",), namespace="ns")
    assert [key for _, key, _ in planned.situation.laid] == ["ns/a", "ns/b", "team/c"]


def test_other_kinds_are_left_aside_and_told(tmp_path: Path) -> None:
    path = tmp_path / "mixed.yaml"
    other = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
    report = {"apiVersion": "polyfleet.io/v1alpha1", "kind": "AccuracyReport", "metadata": {"name": "r"}}
    path.write_text(yaml.safe_dump_all([other, report, {"apiVersion": "polyfleet.io/v1alpha1", **mdep()}]), encoding="utf-8")
    planned = planned_of(files=(str(path),))
    assert [note.split(": ")[1] for note in planned.situation.notes] == [
        "Deployment web has no part in a plan and was left aside",
        "AccuracyReport r has no part in a plan and was left aside",
    ]


WRONG: dict[str, tuple[str, str]] = {
    "no YAML": ("a: [1", "expected"),
    "a tab": (HEAD + "kind:\tX\n\tmetadata: 1", "a tab character"),
    "nothing": ("# only a comment\n", "it holds no object"),
    "a text": ("hello", "a document is str"),
    "a list": ("[1]", "a document is list"),
    "no kind": ("metadata: {name: x}", "ModelDeployment"),
    "a typing error": (HEAD + "kind: ModelDeploymnt\nmetadata: {name: x}", "did you mean ModelDeployment?"),
    "another version": ("apiVersion: polyfleet.io/v9\nkind: ModelDeployment\nmetadata: {name: x}", "polyfleet.io/v1alpha1"),
    "no name": (HEAD + "kind: ModelDeployment\nspec: {model: {uri: 'hf://a/b'}}", "metadata.name is missing"),
    "no spec": (HEAD + "kind: ModelDeployment\nmetadata: {name: x}", "spec: missing; it must be an object with"),
    "an unknown field": (
        HEAD + "kind: ModelDeployment\nmetadata: {name: x}\nspec: {model: {uri: 'hf://a/b'}, replica: 2}",
        "spec.replica: unknown field; did you mean replicas?",
    ),
    "an unknown field of a profile": (
        HEAD + "kind: HardwareProfile\nmetadata: {name: x}\nspec: {vendor: v, bandwithTBps: '1'}",
        "spec.bandwithTBps: unknown field; did you mean bandwidthTBps?",
    ),
    "a price as a float": (
        HEAD + "kind: AcceleratorPool\nmetadata: {name: x}\nspec: {profile: p, cost: {perDeviceHour: 2.5}}",
        'spec.cost.perDeviceHour: 2.5 is not allowed; it must be a decimal number in quotes, for example "2.20"',
    ),
    "a key twice": (HEAD + "kind: FleetPolicy\nmetadata: {name: default}\nspec: {}\nspec: {}", "key 'spec' is given twice"),
    "a wrong number": (
        HEAD + "kind: ModelDeployment\nmetadata: {name: x}\nspec: {model: {uri: 'hf://a/b'}, replicas: -1}",
        "spec.replicas",
    ),
    "a price that is NaN": (
        HEAD + "kind: AcceleratorPool\nmetadata: {name: x}\nspec: {profile: p, cost: {perDeviceHour: .nan}}",
        "perDeviceHour",
    ),
    "a broken rule": (
        HEAD + "kind: ModelDeployment\nmetadata: {name: x}\nspec: {model: {uri: 'hf://a/b'}, scaling: {minReplicas: 3, maxReplicas: 2}}",
        "minReplicas 3 must not exceed maxReplicas 2",
    ),
    "another policy": (HEAD + "kind: FleetPolicy\nmetadata: {name: mine}", "its name is default"),
    "twice": (2 * (HEAD + "kind: ModelDeployment\nmetadata: {name: x}\nspec: {model: {uri: 'hf://a/b'}}\n---\n"), "in "),
    "a snapshot": ('{"kind": "PolyfleetSnapshot"}', "-f takes objects"),
    "a number for a list": ("apiVersion: v1\nkind: List\nitems: 3", "a document is int"),
    "metadata that is none": (HEAD + "kind: ModelDeployment\nmetadata: [1]\nspec: {}", "metadata.name is missing"),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_wrong_object_names_the_file_the_field_and_the_next_command(tmp_path: Path, name: str) -> None:
    text, said = WRONG[name]
    path = tmp_path / "wrong.yaml"
    path.write_text(text, encoding="utf-8")
    what, why, next_ = failed("plan", "--snapshot", "demo", "-f", str(path))
    assert said in why
    assert next_
    assert "wrong.yaml" in what or name == "twice"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert failed("plan", "--snapshot", "demo", "-f", str(tmp_path / "no.yaml"))[1] == "No such file or directory"
    (tmp_path / "bin").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in failed("plan", "--snapshot", "demo", "-f", str(tmp_path / "bin"))[1]


# ---- faults of profiles


def l20(**spec: Any) -> dict[str, Any]:
    """The shipped L20 with other fields."""
    raw = yaml.safe_load((SHIPPED / "nvidia-l20.yaml").read_text(encoding="utf-8"))
    return {"kind": "HardwareProfile", "metadata": {"name": "nvidia-l20"}, "spec": {**raw["spec"], **spec}}


def test_faults_of_an_edited_profile_are_told(tmp_path: Path) -> None:
    """A bandwidth in GB/s is left out of planning, and so it is said, in every form; an object that is the same as before says nothing."""
    path = written(tmp_path, l20(bandwidthTBps="864"))
    said = "hwp/nvidia-l20: spec.bandwidthTBps left out: OutOfRange: bandwidthTBps is 864; allowed: up to 50 TB/s; is this GB/s?"
    for form in ("table", "wide", "md"):
        assert said in " ".join(polyfleet("plan", "--snapshot", "demo", "-f", path, "-o", form).out.split())
    body = json.loads(polyfleet("plan", "--snapshot", "demo", "-f", path, "-o", "json").out)
    (fault,) = body["faults"]
    assert (fault["profile"], fault["field"], fault["reason"], fault["state"]) == (
        "nvidia-l20",
        "spec.bandwidthTBps",
        "OutOfRange",
        "leftOut",
    )
    assert yaml.safe_load(polyfleet("plan", "--snapshot", "demo", "-f", path, "-o", "yaml").out)["faults"] == [fault]
    assert json.loads(polyfleet("plan", "--snapshot", "demo", "-f", written(tmp_path, l20()), "-o", "json").out)["faults"] == []


def test_a_fault_that_an_edit_fixes_is_told_too(tmp_path: Path) -> None:
    """The snapshot's profile has the fault, the file has not. A fault of a profile that the file leaves alone is not this plan's matter."""
    observed, _ = demo.observed()
    wrong = tuple(
        replace(state, spec={**state.spec, "bandwidthTBps": "864"}) if state.name in ("nvidia-l20", "amd-mi300x") else state
        for state in observed.profiles
    )
    snapshot = str(snapshot_file(tmp_path, replace(observed, profiles=wrong)))
    body = json.loads(polyfleet("plan", "--snapshot", snapshot, "-f", written(tmp_path, l20()), "-o", "json").out)
    assert [(item["profile"], item["field"], item["state"]) for item in body["faults"]] == [("nvidia-l20", "spec.bandwidthTBps", "fixed")]
    assert "no longer at fault" in polyfleet("plan", "--snapshot", snapshot, "-f", written(tmp_path, l20())).out


# ---- namespaces


def test_a_namespace_limits_what_is_shown_and_not_what_is_planned() -> None:
    shown = polyfleet("plan", "--snapshot", "demo", "-n", "search")
    assert "search/embed" in shown.out
    assert "llm/llama-70b" not in shown.out
    assert "Total 83.60 /h" in shown.out, "the fleet's money is the fleet's"


def test_a_namespace_without_models_offers_the_nearest() -> None:
    what, why, next_ = failed("plan", "--snapshot", "demo", "-n", "serch")
    assert what == "no ModelDeployment in namespace serch"
    assert why == "namespaces with models: llm, search"
    assert next_ == "repeat with -n search"


# ---- a cluster that is not whole


def test_an_unreadable_inventory_grows_nothing_and_says_so(tmp_path: Path) -> None:
    """A file of a cluster whose nodes could not be listed: nothing is started, the reason is InventoryUnknown."""
    observed, taken_at = demo.observed()
    given = replace(observed, unknown={"nodes": "ListForbidden"})
    path = tmp_path / "u.json"
    path.write_text(archive.write(given, taken_at=taken_at, source="s", written_by="0", warm=None), encoding="utf-8")
    done = polyfleet("plan", "--snapshot", str(path))
    assert done.code == 3
    assert "InventoryUnknown" in done.out
    assert "Changes: none" in done.out


def test_an_empty_cluster_is_a_plan_of_nothing(tmp_path: Path) -> None:
    done = polyfleet("plan", "--snapshot", str(snapshot_file(tmp_path, b.observed())))
    assert done.code == 0
    assert "no replica is planned" in done.out
    assert "0 of 0 replicas" in done.out


def test_a_fault_of_polyfleet_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of defence: no traceback, exit 1, and how to see more."""

    def broken(where: Where, environ: Any = None) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr("polyfleet.cli.commands.situation", broken)
    monkeypatch.delenv("POLYFLEET_TRACEBACK", raising=False)
    what, why, next_ = failed("plan", "--snapshot", "demo")
    assert (what, why) == ("polyfleet failed on this input", "RuntimeError: a bug")
    assert next_.startswith("POLYFLEET_TRACEBACK=1 ")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_only_on_a_terminal_and_never_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for set_, coloured in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", set_)
        out = Terminal()
        assert call(["plan", "--snapshot", "demo"], out, io.StringIO()) == 3
        assert ("\x1b[" in out.getvalue()) == coloured


def test_live_and_file_use_one_code_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the reader of the cluster returns is prepared as a file is: the same situation, apart from its names."""
    observed, taken_at = demo.observed()

    def live(where: Where, environ: Any, namespaces: tuple[str, ...] = ()) -> tuple[Observed, str, str, str]:
        return observed, "live, context x", taken_at, "default"

    monkeypatch.setattr(source, "read_live", live)
    found, demoed = situation(Where()), situation(Where(snapshot="demo"))
    assert (found.snapshot, found.demand) == (demoed.snapshot, demoed.demand)
    assert found.option == ""


def test_rows_account_for_every_replica_and_every_cent_when_replicas_move(tmp_path: Path) -> None:
    """H100 at 50 and a wide PPU limit: the three replicas there (6 devices) leave. Rows add up to the plan's own money and counts."""
    observed, _ = demo.observed()
    profile = next(item for item in observed.profiles if item.name == "nvidia-h100-sxm")
    dear = {"kind": "HardwareProfile", "metadata": {"name": profile.name}, "spec": {**profile.spec, "cost": {"perDeviceHour": "50"}}}
    policy = {"kind": "FleetPolicy", "metadata": {"name": "default"}, "spec": {"accuracy": {"gate": "Disabled"}}}
    files = (written(tmp_path, dear, policy, apool("ppu-1", "alibaba-ppu-810e", limits={"devices": 30})),)
    planned = planned_of(files=files)
    (h100,) = [row for row in planned.rows if row.profile == profile.name]
    assert (h100.before, h100.after, h100.cost) == (3, 0, 0.0)
    assert sum(row.cost for row in planned.rows) == pytest.approx(planned.plan.hourly_cost)
    assert {model: sum(row.after for row in planned.rows if row.model == model) for model in planned.after} == planned.after
    assert planned.after["llm/qwen3-32b"] == 8
    out = polyfleet("plan", "--snapshot", "demo", "-f", files[0]).out
    assert "moves (llm/qwen3-32b " in out
    assert re.search(r"h100-a .* -3 ", out)
