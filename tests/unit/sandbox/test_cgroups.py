"""Control groups: which hierarchy is which on the machines that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.cgroups import Subtree, hierarchies
from sandbox.errors import SandboxError

_HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
_UNIFIED = "30 23 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_hybrid_machine_tracks_by_the_named_hierarchy() -> None:
    """Version 1 with an empty unified tree: all roots are ours to clean, daemons join name=systemd."""
    found = hierarchies(_HYBRID)
    assert (found.version, found.tracker) == (1, Path("/sys/fs/cgroup/systemd"))
    assert [path.name for path in found.roots] == ["cpuset", "pids", "systemd", "unified"]


def test_cpuset_is_never_the_tracker() -> None:
    """cpuset takes no process before it is filled in."""
    assert hierarchies("\n".join(_HYBRID.splitlines()[1:3])).tracker.name == "pids"


def test_unified_machine() -> None:
    """Version 2 has one root."""
    found = hierarchies(_UNIFIED)
    assert (found.version, found.roots) == (2, (Path("/sys/fs/cgroup"),))


def test_machine_without_cgroups_is_refused() -> None:
    """Nothing mounted is an error in words."""
    with pytest.raises(SandboxError, match="no cgroup hierarchy"):
        hierarchies("22 27 0:21 / /proc rw - proc proc rw\n")


def test_node_groups_are_made_in_every_hierarchy_and_removed(tmp_path: Path) -> None:
    """The kubelet wants its root everywhere; daemons join one file; afterwards nothing is left."""
    lines = [
        f"1 2 0:1 / {tmp_path / name} rw - cgroup cgroup rw,{option}" for name, option in (("pids", "pids"), ("systemd", "name=systemd"))
    ]
    group = Subtree("polyfleet-test", hierarchies("\n".join(lines)))
    assert group.make_node("a") == tmp_path / "systemd/polyfleet-test/a/daemons/cgroup.procs"
    assert (tmp_path / "pids" / group.pods_root("a").lstrip("/")).is_dir()
    group.remove()
    assert not group.exists()
    assert list((tmp_path / "systemd").iterdir()) == []
