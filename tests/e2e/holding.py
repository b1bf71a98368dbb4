"""Whether any device was ever held twice, from two records that the operator does not write.

- The API server's audit log says when each pod was bound and when its kubelet gave it back: what is bound to a node never exceeds the
  node's devices.
- The device plugins' own record says which devices each allocation got: none is given again before the container that had it ended.

`Holding` watches all pods meanwhile, because audit events of level Metadata name neither a pod's node nor its devices.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sandbox import witness
from tests.e2e.lib import KUBECTL, Cluster, Object
from tests.e2e.watching import Watcher, path_of

RESOURCES = ("nvidia.com/gpu", "huawei.com/Ascend910", "alibabacloud.com/ppu")
PODS = path_of("pods", "*")


def devices(pod: Object) -> int:
    limits = [c.get("resources", {}).get("limits", {}) for c in pod["spec"]["containers"]]
    return sum(int(each.get(name, 0)) for each in limits for name in RESOURCES)


def key(pod: Object) -> tuple[str, str]:
    return str(pod["metadata"]["namespace"]), str(pod["metadata"]["name"])


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@dataclass
class Holding:
    """Use as a context; the fleet has to be empty when it begins."""

    cluster: Cluster
    pods: dict[tuple[str, str], Object] = field(default_factory=dict)  # every pod that was bound to devices, as last seen
    given: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)  # what its container says it has
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    cut: bool = False
    _stopped: bool = False

    def __enter__(self) -> Holding:
        version, seen = Watcher(KUBECTL, self.cluster.env).listed(PODS)
        assert not [key(pod) for pod in seen.values() if devices(pod)], "the fleet is not empty"
        query = f"{PODS}?watch=true&resourceVersion={version}&timeoutSeconds=3600"
        self._stream = subprocess.Popen(
            [KUBECTL, "get", "--raw", query], env=self.cluster.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._stream.kill()
        with self._stream:
            self._thread.join()

    def _read(self) -> None:
        assert self._stream.stdout is not None
        for line in self._stream.stdout:
            try:
                pod = json.loads(line)["object"]
            except json.JSONDecodeError:  # the last line of a stream that was cut
                break
            if pod.get("spec", {}).get("nodeName") and devices(pod):
                self.pods[key(pod)] = pod
        self.cut = not self._stopped

    def ask(self) -> None:
        """Read from each running container's environment which devices it was given."""
        for pod in self.cluster.items("pods"):
            if key(pod) not in self.given and devices(pod) and pod["spec"].get("nodeName"):
                had = witness.devices_of(pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["containerID"])
                self.given[key(pod)] = frozenset(had)
                assert len(had) == devices(pod)

    # ---- the two records

    def _story(self, node: str, bound: dict[tuple[str, str], datetime], gone: dict[tuple[str, str], datetime]) -> str:
        """What is known of the node's pods, for a person who has to find out what went wrong."""
        told = []
        for name in sorted(name for name, pod in self.pods.items() if pod["spec"]["nodeName"] == node):
            had = sorted(self.given.get(name, ()))
            told.append(f"{name[1]}: bound {bound.get(name)}, gone {gone.get(name)}, had {had}, {self.pods[name]['status']}")
        return "; ".join(told)

    def _times(self) -> tuple[dict[tuple[str, str], datetime], dict[tuple[str, str], datetime]]:
        """When each pod was bound, and when its node's kubelet said that it is gone."""
        bound: dict[tuple[str, str], datetime] = {}
        gone: dict[tuple[str, str], datetime] = {}
        for event in witness.audit_events():
            ref, when = event.get("objectRef") or {}, moment(event["requestReceivedTimestamp"])
            if ref.get("resource") != "pods" or when < self.since or event["responseStatus"].get("code") not in (200, 201):
                continue
            name = (ref["namespace"], ref["name"]) if "name" in ref else ("", "")
            if name not in self.pods:
                continue
            if event["verb"] == "create" and ref.get("subresource") == "binding":
                assert name not in bound, f"{name} was bound twice"
                bound[name] = when
            elif event["verb"] == "delete" and event["user"]["username"] == f"system:node:{self.pods[name]['spec']['nodeName']}":
                gone.setdefault(name, when)
        return bound, gone

    def check_audit(self, installed: Callable[[str, datetime], int]) -> None:
        """`installed(node, when)`: how many devices the node could give then."""
        assert not self.cut, "the watch of pods was cut, so a pod may have been missed"
        bound, gone = self._times()
        assert bound.keys() == self.pods.keys()
        events = [(when, 1, name) for name, when in bound.items()] + [(when, -1, name) for name, when in gone.items()]
        held: Counter[str] = Counter()
        for when, sign, name in sorted(events):
            pod = self.pods[name]
            node = pod["spec"]["nodeName"]
            held[node] += sign * devices(pod)
            assert sign < 0 or held[node] <= installed(node, when), f"{name} was bound to {node} at {when}: {held[node]} devices are held"

    def check_plugins(self) -> None:
        """Each allocation belongs to one pod and each pod has one; no device is given again before its container ended."""
        bound, gone = self._times()
        given = [
            each
            for each in witness.allocations()
            if each.at > self.since and each.node in {p["spec"]["nodeName"] for p in self.pods.values()}
        ]
        owners: list[tuple[str, str]] = []
        for each in given:
            fits = [
                name
                for name, had in self.given.items()
                if had == frozenset(each.devices) and self.pods[name]["spec"]["nodeName"] == each.node
                if bound[name] <= each.at and (name not in gone or each.at <= gone[name])
            ]
            assert len(fits) == 1, f"{each} belongs to {fits}; on this node: {self._story(each.node, bound, gone)}"
            owners += fits
        assert Counter(owners) == Counter(self.pods.keys())
        for index, later in enumerate(given):
            for earlier, owner in zip(given[:index], owners, strict=False):
                if earlier.node == later.node and set(earlier.devices) & set(later.devices):
                    ended = self.pods[owner]["status"]["containerStatuses"][0]["state"].get("terminated", {}).get("finishedAt")
                    assert ended, f"{later} gives devices of {owner}, which still runs"
                    assert moment(ended) <= later.at, f"{later} gives devices of {owner}, which ran until {ended}"
