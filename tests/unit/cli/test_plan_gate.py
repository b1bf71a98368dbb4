"""`polyfleet plan` where verdicts are still awaited, and snapshot files that hold AccuracyReports."""

from __future__ import annotations

from pathlib import Path

from polyfleet.cli import archive

from tests.unit.cli.lib import polyfleet, snapshot_file
from tests.unit.operator import builders as b


def test_a_plan_shows_what_will_be_once_the_verdicts_are_there(tmp_path: Path) -> None:
    """Nothing is verified yet: the plan is the one that a promotion leads to, and says what it waits for."""
    gate = b.policy({"accuracy": {"gate": "Required", "reference": {"profile": "sandbox-ppu"}}})
    observed = b.observed(models=[b.model("m")], profiles=b.profiles(*b.SANDBOX), nodes=[b.sandbox(b.ppu())], policy=gate)
    done = polyfleet("plan", "--snapshot", str(snapshot_file(tmp_path, observed, b.NOW)))
    assert done.code == 2
    assert "no accuracy verdict yet, one candidate each is tried before anything serves there: llm/m on sandbox-ppu" in " ".join(
        done.out.split()
    )
    assert "sandbox-ppu" in done.out


def test_a_plan_without_anything_to_compare_with_says_so(tmp_path: Path) -> None:
    observed = b.observed(models=[b.model("m")], profiles=b.profiles(*b.SANDBOX), nodes=[b.sandbox(b.ppu())], gated=True)
    done = polyfleet("plan", "--snapshot", str(snapshot_file(tmp_path, observed, b.NOW)))
    assert done.code == 3
    assert "HELD llm/m: ReferenceMissing: spec.accuracy.reference.profile of FleetPolicy default is not set" in " ".join(done.out.split())


def test_a_snapshot_keeps_the_reports(tmp_path: Path) -> None:
    """A bug report shows the verdicts that the operator saw."""
    report = b.custom("AccuracyReport", "r", {"deployment": "m"}, namespace="llm", status={"verdict": "Promote"})
    observed = b.observed(models=[b.model("m")], profiles=b.profiles(*b.SANDBOX), nodes=[b.sandbox(b.ppu())], reports=[report])
    kept = archive.read(str(snapshot_file(tmp_path, observed))).observed
    assert kept is not None
    assert kept.reports == (report,)
