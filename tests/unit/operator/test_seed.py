"""Shipped profiles: reading the folder, and taking edited fields out of a manifest."""

from __future__ import annotations

from pathlib import Path

from polyfleet.actions import Report, StatusApply
from polyfleet.errors import Conflict
from polyfleet.seed import Edited, Seeded, annotate, conflicting, read_seeds, without

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
    (tmp_path / "pod.yaml").write_text("kind: Pod\napiVersion: v1\nmetadata: {name: p}\n")
    (tmp_path / "..data.yaml").write_text(PROFILE.replace("NAME", "hidden"))
    manifests, failed = read_seeds(tmp_path)
    assert [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests] == [
        ("FleetPolicy", "default"),
        ("HardwareProfile", "a"),
        ("HardwareProfile", "b"),
    ]
    assert sorted(failed) == ["broken.yaml", "pod.yaml"]
    assert "HardwareProfile" in failed["pod.yaml"]


def test_fields_are_removed_by_path() -> None:
    """Plain paths, list items by key and their parts; the original stays as it is."""
    manifest = {"spec": {"cost": {"perDeviceHour": "1", "currency": "USD"}, "match": [{"name": "x", "labels": {"a": "b"}}, {"name": "y"}]}}
    assert without(manifest, [".spec.cost.perDeviceHour"])["spec"]["cost"] == {"currency": "USD"}
    assert without(manifest, ['.spec.match[name="x"].labels'])["spec"]["match"] == [{"name": "x"}, {"name": "y"}]
    assert without(manifest, ['.spec.match[name="x"]'])["spec"]["match"] == [{"name": "y"}]
    assert without(manifest, [".spec.absent.field"]) == manifest
    assert manifest["spec"]["cost"] == {"perDeviceHour": "1", "currency": "USD"}


def test_conflicting_paths_come_from_the_servers_answer() -> None:
    """Only field conflicts count, each once."""
    causes = [
        {"reason": "FieldManagerConflict", "field": ".spec.b"},
        {"reason": "FieldManagerConflict", "field": ".spec.a"},
        {"reason": "FieldManagerConflict", "field": ".spec.a"},
        {"reason": "Other", "field": ".spec.c"},
    ]
    assert conflicting(Conflict(409, "Conflict", "m", details={"causes": causes})) == [".spec.a", ".spec.b"]


def test_edited_fields_show_in_the_status_and_as_one_event() -> None:
    """The edited profile's status lists the paths; others stay as they are."""
    report = Report(statuses=(StatusApply("HardwareProfile", "", "a", "u1", {"x": 1}), StatusApply("HardwareProfile", "", "b", "u2", {})))
    told = annotate(report, Seeded(edited={"HardwareProfile/a": Edited("HardwareProfile", "a", "u1", ("cost.perDeviceHour",))}))
    assert told.statuses[0].status == {"x": 1, "editedFields": ["cost.perDeviceHour"]}
    assert told.statuses[1].status == {}
    assert [(event.reason, event.name, event.uid) for event in told.events] == [("ProfileEdited", "a", "u1")]
