"""The state folder: one command at a time, nothing foreign touched, a lost file hides nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import state
from sandbox.errors import SandboxError


def test_second_command_says_who_works_and_exits(tmp_path: Path) -> None:
    """While one holds the lock, the next is refused with its name and process id; afterwards it may go on."""
    folder = tmp_path / "s"
    refused = pytest.raises(SandboxError, match=r"`polyfleet-sandbox up` \(process \d+\) is at work")
    with state.exclusive(folder, "up"), refused, state.exclusive(folder, "down"):
        pass
    with state.exclusive(folder, "down"):
        assert (folder / "lock").exists()


def test_folder_with_foreign_files_is_refused(tmp_path: Path) -> None:
    """`down` removes the whole folder, so a folder that was never a sandbox's must not become one."""
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(SandboxError, match="files that are not a sandbox's"), state.exclusive(tmp_path, "up"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("lock", ["", "4711\n"])
def test_foreign_folder_with_a_file_called_lock_is_refused(tmp_path: Path, lock: str) -> None:
    """Many programs keep a file called `lock`: it is the words in it that make a folder a sandbox's."""
    (tmp_path / "lock").write_text(lock)
    (tmp_path / "data.db").write_text("x")
    with pytest.raises(SandboxError, match="files that are not a sandbox's"), state.exclusive(tmp_path, "down"):
        pass
    assert (tmp_path / "lock").read_text() == lock


@pytest.mark.parametrize("make", [lambda path: path.write_text("x"), lambda path: (path / "lock").mkdir(parents=True)])
def test_file_in_place_of_the_folder_or_folder_in_place_of_the_lock_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Neither is anything that a sandbox makes."""
    make(tmp_path / "s")
    with pytest.raises(SandboxError, match="files that are not a sandbox's"), state.exclusive(tmp_path / "s", "up"):
        pass


def test_folder_of_a_command_that_was_killed_is_taken_up(tmp_path: Path) -> None:
    """Killed at once, a command leaves an empty lock; killed later, its words and files. Both folders are a sandbox's."""
    (tmp_path / "lock").touch()
    with state.exclusive(tmp_path, "up"):
        (tmp_path / "cluster.json").write_text("{}")
    with state.exclusive(tmp_path, "down"):
        assert (tmp_path / "lock").read_text() == f"`polyfleet-sandbox down` (process {os.getpid()})"


def test_cluster_file_reads_back(tmp_path: Path) -> None:
    """What is saved is loaded, private to its owner."""
    cluster = state.Cluster(kind="real", fleet="tiny", why="because", fleet_text="nodes: []", api_port=1234, ready=True)
    state.save(tmp_path, cluster)
    assert state.load(tmp_path) == cluster
    assert (tmp_path / "cluster.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "real"}'])
def test_damaged_cluster_file_is_no_cluster(tmp_path: Path, text: str) -> None:
    """A file that was cut short means "not running", never a traceback."""
    (tmp_path / "cluster.json").write_text(text)
    assert state.load(tmp_path) is None


def test_commands_without_a_cluster_name_the_next_command(tmp_path: Path) -> None:
    """The way out is in the message."""
    with pytest.raises(SandboxError, match="Start one: polyfleet-sandbox up"):
        state.require(tmp_path)


def test_state_folder_of_a_checkout_and_its_override(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.sandbox` beside pyproject.toml, from any folder below; the environment may name another."""
    monkeypatch.delenv("POLYFLEET_SANDBOX_STATE", raising=False)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert state.state_dir() == tmp_path / ".sandbox"
    monkeypatch.setenv("POLYFLEET_SANDBOX_STATE", str(tmp_path / "other"))
    assert state.state_dir() == tmp_path / "other"


def test_two_checkouts_have_two_names() -> None:
    """Control groups of two checkouts never meet."""
    assert state.short_id(Path("/a/.sandbox")) != state.short_id(Path("/b/.sandbox"))
