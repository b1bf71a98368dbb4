"""Faults of a node: the file that its engines read, and what is refused. A replica's own are set end to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import faulty, fleet, state
from sandbox.engine.faults import parse_file
from sandbox.errors import SandboxError


def cluster(kind: str) -> state.Cluster:
    text = (Path(fleet.__file__).parent / "fleets/three-vendors.yaml").read_text()
    return state.Cluster(kind=kind, fleet="three-vendors", why="", fleet_text=text, ready=True)


@pytest.mark.parametrize(
    ("kind", "place"), [("real", "nodes/a3-0/var-lib/polyfleet-sandbox/devices/faults"), ("process", "nodes/a3-0/faults")]
)
def test_a_node_gets_its_faults_and_loses_them(tmp_path: Path, kind: str, place: str) -> None:
    """One a line, readable for the container's user; no fault means no file."""
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    said = faulty.on_node(tmp_path, cluster(kind), "a3-0", ["rope-base=1e2", "nan@share=0.5"])
    assert "rope-base=100" in said
    assert [fault.text for fault in parse_file(path.read_text())] == ["rope-base=100", "nan@share=0.5"]
    assert path.stat().st_mode & 0o777 == 0o644
    faulty.on_node(tmp_path, cluster(kind), "a3-0", [])
    faulty.on_node(tmp_path, cluster(kind), "a3-0", [])
    assert not path.exists()


@pytest.mark.parametrize(
    ("kind", "node", "fault", "said"),
    [
        ("process", "a3-1", "nan", "there is no node 'a3-1'; there are: "),
        ("process", "system-0", "nan", "has no devices"),
        ("process", "a3-0", "rope", "there is no switch 'rope'"),
        ("virtual", "a3-0", "nan", "pods of virtual nodes do not run"),
    ],
)
def test_what_cannot_be_is_refused_in_words(tmp_path: Path, kind: str, node: str, fault: str, said: str) -> None:
    with pytest.raises(SandboxError, match=said):
        faulty.on_node(tmp_path, cluster(kind), node, [fault])


def test_a_replica_that_does_not_run_takes_no_fault() -> None:
    pod = {"metadata": {"name": "p", "uid": "u"}, "status": {"containerStatuses": [{"state": {"waiting": {}}}]}}
    with pytest.raises(SandboxError, match="no container of pod p runs now"):
        faulty.in_pod(cluster("process"), pod, ["nan"])
