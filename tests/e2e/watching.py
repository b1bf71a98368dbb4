"""Watch one kind of objects without gaps: list, then watch from the list's version, and list again whenever the stream ends.

`kubectl get --watch` sends what exists one object at a time and says nothing about what went away before it began, so a wait for "one
pod left" could end on the first of three. Here a state is judged on whole lists only.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
Objects = dict[str, Object]  # by uid

_OWN = "/apis/polyfleet.io/v1alpha1"
# kind as the scenarios say it -> (group's path, plural, lives in a namespace)
KINDS: Mapping[str, tuple[str, str, bool]] = {
    "configmaps": ("/api/v1", "configmaps", True),
    "deployments": ("/apis/apps/v1", "deployments", True),
    "nodes": ("/api/v1", "nodes", False),
    "pods": ("/api/v1", "pods", True),
    "secrets": ("/api/v1", "secrets", True),
    "services": ("/api/v1", "services", True),
    "endpointslices": ("/apis/discovery.k8s.io/v1", "endpointslices", True),
    "accr": (_OWN, "accuracyreports", True),
    "mdep": (_OWN, "modeldeployments", True),
    "apool": (_OWN, "acceleratorpools", False),
    "hwp": (_OWN, "hardwareprofiles", False),
    "pplan": (_OWN, "placementplans", False),
}


def path_of(kind: str, namespace: str) -> str:
    """The API path of a kind in one namespace, or in all of them ("*")."""
    group, plural, namespaced = KINDS[kind]
    return f"{group}/namespaces/{namespace}/{plural}" if namespaced and namespace != "*" else f"{group}/{plural}"


@dataclass
class Watcher:
    """kubectl's raw access to one API server. `env` holds KUBECONFIG."""

    kubectl: str
    env: Mapping[str, str]

    def listed(self, path: str) -> tuple[str, Objects]:
        """The list's version and its objects."""
        done = subprocess.run([self.kubectl, "get", "--raw", path], env=self.env, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise AssertionError(f"kubectl get --raw {path}: {done.stderr.strip()}")
        found = json.loads(done.stdout)
        return str(found["metadata"]["resourceVersion"]), {str(o["metadata"]["uid"]): o for o in found["items"]}

    def changes(self, path: str, version: str, seconds: float) -> Iterator[tuple[str, Object]]:
        """(ADDED, MODIFIED or DELETED, object) until the server ends the stream, calls the version too old, or the time is up."""
        query = f"{path}?watch=true&resourceVersion={version}&timeoutSeconds={max(1, round(seconds))}"
        process = subprocess.Popen(
            [self.kubectl, "get", "--raw", query], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        stop = threading.Timer(seconds, process.kill)
        stop.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                try:
                    event = json.loads(line)
                except json.JSONDecodeError:  # the last line of a stream that was cut
                    return
                if event["type"] == "ERROR":  # 410 Gone: the caller lists again
                    return
                yield str(event["type"]), dict(event["object"])
        finally:
            stop.cancel()
            process.kill()
            with process:  # closes the pipe and reaps
                pass

    def until(self, path: str, reached: Callable[[list[Object]], bool], timeout_s: float) -> tuple[bool, list[Object]]:
        """(reached?, the objects that were judged last), sorted by namespace and name."""
        deadline = time.monotonic() + timeout_s
        while True:
            version, seen = self.listed(path)
            objects = _sorted(seen)
            if reached(objects):
                return True, objects
            for change, obj in self.changes(path, version, max(0.1, deadline - time.monotonic())):
                if change == "DELETED":
                    seen.pop(str(obj["metadata"]["uid"]), None)
                else:
                    seen[str(obj["metadata"]["uid"])] = obj
                objects = _sorted(seen)
                if reached(objects):
                    return True, objects
            if time.monotonic() >= deadline:
                return False, objects


def _sorted(seen: Objects) -> list[Object]:
    return sorted(seen.values(), key=lambda o: (str(o["metadata"].get("namespace", "")), str(o["metadata"]["name"])))
