"""The end-to-end scenarios' way of waiting, against the real API server: whole lists only, and nothing that vanishes is missed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.lib import KUBECTL, Cluster, NotReachedError, labels
from tests.e2e.watching import Object, Watcher, path_of

PATH = path_of("configmaps", "default")


def _make(cluster: Cluster, *names: str) -> None:
    for name in names:
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", "labels": {"w": "x"}}})


def _ours(objects: list[Object]) -> list[str]:
    return [o["metadata"]["name"] for o in objects if labels(o).get("w") == "x"]


@pytest.fixture
def cluster(apiserver: Path) -> Cluster:
    return Cluster(apiserver, "external")


def test_a_state_is_judged_on_the_whole_list_and_sees_what_vanishes(cluster: Cluster) -> None:
    """ "One left" of three is not true of the first object of a list; it is true after the other two are deleted, and not before."""
    _make(cluster, "w-a", "w-b", "w-c")
    judged: list[list[str]] = []

    def one_left(objects: list[Object]) -> bool:
        judged.append(_ours(objects))
        if len(judged) == 1:
            cluster.kubectl("delete", "configmap", "w-a", "w-c")  # between the list and the watch
        return len(judged[-1]) == 1

    left = cluster.until("one left", "configmaps", one_left)
    assert _ours(left) == ["w-b"]
    assert judged[0] == ["w-a", "w-b", "w-c"]
    cluster.tidy()
    cluster.until("none left", "configmaps", lambda objects: not _ours(objects))


def test_what_comes_later_is_seen(cluster: Cluster) -> None:
    """An object that is made while we wait ends the wait."""
    timer = threading.Timer(0.5, _make, [cluster, "w-late"])
    timer.start()
    assert _ours(cluster.until("it came", "configmaps", lambda objects: "w-late" in _ours(objects), timeout_s=30)) == ["w-late"]
    timer.join()
    cluster.tidy()


def test_a_version_that_is_too_old_leads_to_a_new_list(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch from a version the server no longer has (410) is no end and no gap: the list is read again."""
    versions: list[str] = []
    real: Callable[[Watcher, str], tuple[str, dict[str, Object]]] = Watcher.listed

    def old_at_first(self: Watcher, path: str) -> tuple[str, dict[str, Object]]:
        version, seen = real(self, path)
        versions.append(version)
        if len(versions) == 1:
            _make(cluster, "w-new")
            return "1", {}  # the server has compacted nothing yet, but answers "too old" for what its cache never held
        return version, seen

    monkeypatch.setattr(Watcher, "listed", old_at_first)
    assert "w-new" in _ours(cluster.until("seen after all", "configmaps", lambda objects: "w-new" in _ours(objects), timeout_s=30))
    cluster.tidy()


def test_a_state_that_never_comes_fails_with_what_was_seen(cluster: Cluster) -> None:
    """The failure names the state, and the wait ends at its time although the stream goes on."""
    with pytest.raises(NotReachedError, match="not reached in 2 s: never true"):
        cluster.until("never true", "configmaps", lambda objects: False, timeout_s=2)


def test_a_server_that_is_gone_is_an_error_at_once() -> None:
    """No kubeconfig, no list: kubectl's own words are passed on."""
    env = {**os.environ, "KUBECONFIG": "/nonexistent"}
    with pytest.raises(AssertionError, match="kubectl get --raw"):
        Watcher(KUBECTL, env).until(PATH, lambda objects: True, 1)
