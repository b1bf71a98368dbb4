"""Shipped profiles: reading the folder, and taking edited fields out of a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from polyfleet.actions import Report, StatusApply
from polyfleet.errors import Conflict
from polyfleet.seed import Seeded, annotate, conflicting, edited_fields, read_seeds, restore, without

from tests.unit.operator import builders as b

PROFILE = "apiVersion: polyfleet.io/v1alpha1\nkind: HardwareProfile\nmetadata: {name: NAME}\nspec: {vendor: v}\n"


def test_a_missing_folder_has_no_profiles(tmp_path: Path) -> None:
    """No mounted ConfigMap means nothing to seed, not an error."""
    assert read_seeds(tmp_path / "absent") == ([], {})


def test_bad_files_are_told_and_do_not_hide_good_ones(tmp_path: Path) -> None:
    """Two profiles and the policy are read; broken YAML and a foreign kind are named. Links of a mounted ConfigMap are left out."""
    (tmp_path / "b.yaml").write_text(PROFILE.replace("NAME", "b"))
    (tmp_path / "a.yml").write_text(PROFILE.replace("NAME", "a"))
    (tmp_path / "policy.yaml").write_text("apiVersion: polyfleet.io/v1alpha1\nkind: FleetPolicy\nmetadata: {name: default}\n")
    (tmp_path / "broken.yaml").write_text("{")
    (tmp_path / "twice.yaml").write_text(PROFILE.replace("NAME", "twice") + "spec: {vendor: w}\n")
    (tmp_path / "pod.yaml").write_text("kind: Pod\napiVersion: v1\nmetadata: {name: p}\n")
    (tmp_path / "..data.yaml").write_text(PROFILE.replace("NAME", "hidden"))
    manifests, failed = read_seeds(tmp_path)
    assert [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests] == [
        ("FleetPolicy", "default"),
        ("HardwareProfile", "a"),
        ("HardwareProfile", "b"),
    ]
    assert sorted(failed) == ["broken.yaml", "pod.yaml", "twice.yaml"]
    assert "HardwareProfile" in failed["pod.yaml"]


def test_an_unquoted_date_stays_a_text(tmp_path: Path) -> None:
    """As kubectl reads it: a manifest is sent as JSON, which has no dates."""
    (tmp_path / "a.yaml").write_text(PROFILE.replace("NAME", "a").replace("{vendor: v}", "{provenance: [{date: 2026-11-24}]}"))
    ((manifest,), failed) = read_seeds(tmp_path)
    assert (manifest["spec"], failed) == ({"provenance": [{"date": "2026-11-24"}]}, {})


def test_fields_are_removed_by_path() -> None:
    """Plain paths, list items by key and their parts; the original stays as it is."""
    manifest = {"spec": {"cost": {"perDeviceHour": "1", "currency": "USD"}, "match": [{"name": "x", "labels": {"a": "b"}}, {"name": "y"}]}}
    assert without(manifest, [".spec.cost.perDeviceHour"])["spec"]["cost"] == {"currency": "USD"}
    assert without(manifest, ['.spec.match[name="x"].labels'])["spec"]["match"] == [{"name": "x"}, {"name": "y"}]
    assert without(manifest, ['.spec.match[name="x"]'])["spec"]["match"] == [{"name": "y"}]
    assert without(manifest, [".spec.absent.field"]) == manifest
    assert manifest["spec"]["cost"] == {"perDeviceHour": "1", "currency": "USD"}


def test_a_key_with_a_dot_is_removed_whole() -> None:
    """The API server writes keys as they are (`.annotations.huawei.com/schedule_policy`); keys that are there decide, the longest first."""
    manifest = {
        "annotations": {"huawei.com/schedule_policy": "chip2-node16", "a.b": "1", "a": {"b": "2", "c": "3"}},
        "labels": {"ring-controller.atlas": "x"},
    }
    path = ".spec.pod.perScheduler.volcano"
    spec = {"spec": {"pod": {"perScheduler": {"volcano": manifest}}}}

    def left(*paths: str) -> object:
        return without(spec, [path + each for each in paths])["spec"]["pod"]["perScheduler"]["volcano"]

    assert left(".annotations.huawei.com/schedule_policy") == {**manifest, "annotations": {"a.b": "1", "a": {"b": "2", "c": "3"}}}
    assert left(".labels.ring-controller.atlas") == {**manifest, "labels": {}}
    assert left(".annotations.a.b", ".annotations.a.c")["annotations"] == {"huawei.com/schedule_policy": "chip2-node16", "a": {"b": "2"}}  # type: ignore[index]
    assert left(".annotations.huawei.com/other", ".annotations.huawei") == manifest


def test_an_item_of_a_list_is_found_by_its_keys() -> None:
    """Several keys, numbers, and a text that holds a bracket and a quote (the API server quotes as Go does)."""
    ports = [{"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "UDP"}]
    assert without({"ports": ports}, ['.ports[port=80,protocol="UDP"]']) == {"ports": ports[:1]}
    odd = [{"name": 'a]"b', "v": 1}, {"name": "c", "v": 2}]
    assert without({"l": odd}, ['.l[name="a]\\"b"].v']) == {"l": [{"name": 'a]"b'}, odd[1]]}


def test_conflicting_paths_come_from_the_servers_answer() -> None:
    """Only field conflicts count, each once."""
    causes = [
        {"reason": "FieldManagerConflict", "field": ".spec.b"},
        {"reason": "FieldManagerConflict", "field": ".spec.a"},
        {"reason": "FieldManagerConflict", "field": ".spec.a"},
        {"reason": "Other", "field": ".spec.c"},
    ]
    assert conflicting(Conflict(409, "Conflict", "m", details={"causes": causes})) == [".spec.a", ".spec.b"]


def shipped(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "polyfleet.io/v1alpha1", "kind": "HardwareProfile", "metadata": {"name": name}, "spec": {"vendor": "v", **spec}}


def seeded(*manifests: dict[str, Any], overwrite: bool = False) -> Seeded:
    return Seeded(manifests={f"{m['kind']}/{m['metadata']['name']}": m for m in manifests}, overwrite=overwrite)


def test_edited_fields_show_in_the_status_and_as_one_event() -> None:
    """The edited profile's status lists the path; others stay as they are. What the API server or somebody adds is no edit of ours."""
    live = {"vendor": "v", "cost": {"perDeviceHour": "3", "currency": "USD"}, "family": "added"}
    observed = b.observed(profiles=[b.custom("HardwareProfile", "a", live), b.custom("HardwareProfile", "b", {"vendor": "v"})])
    report = Report(statuses=(StatusApply("HardwareProfile", "", "a", "u1", {"x": 1}), StatusApply("HardwareProfile", "", "b", "u2", {})))
    ours = seeded(shipped("a", cost={"perDeviceHour": "2.20"}, bandwidthTBps=None), shipped("b"))
    told = annotate(report, ours, observed)
    assert told.statuses[0].status == {"x": 1, "editedFields": ["cost.perDeviceHour"]}
    assert told.statuses[1].status == {}
    (event,) = told.events
    assert (event.reason, event.name, event.uid) == ("ProfileEdited", "a", "uid-HardwareProfile-a")
    assert event.message == "edited by hand, upgrades keep them: cost.perDeviceHour"


def test_an_edit_that_the_next_start_takes_back_says_so() -> None:
    """With overwriteEdited an edit lasts until the next start only."""
    observed = b.observed(profiles=[b.custom("HardwareProfile", "a", {"vendor": "w"})])
    (event,) = annotate(Report(), seeded(shipped("a"), overwrite=True), observed).events
    assert "taken back at the next start" in event.message


@pytest.mark.parametrize(
    ("want", "live", "paths"),
    [
        ({"a": "1"}, {"a": "1"}, ()),
        ({"a": "1.50"}, {"a": "1.5"}, ()),  # one number in two spellings
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, ("a.c",)),
        ({"l": [{"x": 1}]}, {"l": [{"x": 1, "default": True}]}, ()),  # the API server's default
        ({"l": [{"x": 1}]}, {"l": []}, ("l",)),
        ({"l": [{"x": 1}]}, {}, ("l",)),
        ({"l": [{"x": 1}], "m": {"k": "v"}}, {"l": [{"x": 1}, {"x": 2}]}, ("l", "m")),
        ({"gone": None}, {}, ()),
    ],
)
def test_edited_fields_are_those_with_another_value(want: dict[str, Any], live: dict[str, Any], paths: tuple[str, ...]) -> None:
    """Maps go down to their keys, a list is one field; absent in the cluster is an edit, null in the chart is not."""
    assert edited_fields({"spec": want}, b.custom("HardwareProfile", "a", live)) == paths


def test_a_deleted_shipped_profile_comes_back_and_is_told_once_there() -> None:
    """Only what the chart ships, never on a list that cannot be read, and never while it is still being deleted."""
    ours = seeded(shipped("a", bandwidthTBps=None), shipped("b"))
    there = b.custom("HardwareProfile", "b", {"vendor": "v"})
    assert restore(ours, b.observed(profiles=[there], unknown={"hardwareprofiles": "ListFailed"})) == ()
    (act,) = restore(ours, b.observed(profiles=[there]))
    assert (act.manifest["metadata"]["name"], act.manifest["spec"], act.force) == ("a", {"vendor": "v"}, False)
    again = b.observed(profiles=[b.custom("HardwareProfile", "a", {"vendor": "v"}), there])
    assert restore(ours, again) == ()
    assert [(e.reason, e.name) for e in annotate(Report(), ours, again).events] == [("DriftRepaired", "a")]
    going = b.custom("HardwareProfile", "a", {"vendor": "v"}, deleting=True)
    assert restore(ours, b.observed(profiles=[going, there])) == ()
