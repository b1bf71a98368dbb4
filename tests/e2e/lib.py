"""What the end-to-end scenarios share: one cluster behind kubectl, waiting by watch, talking to replicas.

Everything goes through kubectl and HTTP, as a user's hands would; nothing here knows the operator's inside. Waiting is done on
watch streams, never by sleeping.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.e2e.doors import PortForwards
from tests.e2e.watching import Object as Object
from tests.e2e.watching import Watcher, path_of

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
KUBECTL = str(BIN / "kubectl")
SANDBOX = str(BIN / "polyfleet-sandbox")
MODEL_LABEL = "polyfleet.io/deployment"
NO_GATE = ("--set", "policy.accuracy.gate=Disabled")  # helm's words: what a model answers is not what most scenarios are about


class NotReachedError(AssertionError):
    """A state was not reached in time; carries what was seen last."""


@dataclass
class Cluster:
    """One running cluster. `kind` is real, process or external."""

    kubeconfig: Path
    kind: str
    state: Path | None = None
    env: dict[str, str] = field(default_factory=dict)
    made: list[Object] = field(default_factory=list)  # what `apply` made, for `tidy`

    def __post_init__(self) -> None:
        self.env = {**os.environ, "KUBECONFIG": str(self.kubeconfig), **self.env}
        self.forwards = PortForwards(KUBECTL, self.env)

    def kubectl(self, *args: str, check: bool = True, stdin: str | None = None) -> str:
        done = subprocess.run([KUBECTL, *args], env=self.env, input=stdin, capture_output=True, text=True, check=False, timeout=300)
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout if check else done.stdout + done.stderr

    def get(self, *args: str) -> Object:
        return dict(json.loads(self.kubectl("get", *args, "-o", "json")))

    def items(self, kind: str, selector: str = "", namespace: str = "default") -> list[Object]:
        extra = ["-l", selector] if selector else []
        return list(self.get(kind, "-n", namespace, *extra)["items"])

    def apply(self, manifest: Object | str) -> str:
        """Apply one object, or YAML documents; `tidy` deletes what was applied."""
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        for each in yaml.safe_load_all(text):
            names = {key: each["metadata"][key] for key in ("name", "namespace") if key in each["metadata"]}
            ref = {"apiVersion": each["apiVersion"], "kind": each["kind"], "metadata": names}
            if ref not in self.made:
                self.made.append(ref)
        return self.kubectl("apply", "--server-side", "-f", "-", stdin=text)

    def tidy(self) -> None:
        """Delete what was applied, without waiting: pods end while the next scenario begins (`settled` waits for them)."""
        made, self.made = self.made, []
        if made:
            listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
            self.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=listed)

    def settled(self) -> None:
        """Wait until no replica of any model is left, so that every device is free."""
        self.until("no replica left", "pods", lambda pods: not any(MODEL_LABEL in labels(p) for p in pods), namespace="*", timeout_s=150)

    def until(
        self, what: str, kind: str, reached: Callable[[list[Object]], bool], *, namespace: str = "default", timeout_s: float = 120
    ) -> list[Object]:
        """Watch one kind until `reached(all its objects)` is true; returns the objects. `what` names the state for the failure."""
        done, objects = Watcher(KUBECTL, self.env).until(path_of(kind, namespace), reached, timeout_s)
        if done:
            return objects
        last = [{"name": o["metadata"]["name"], "status": o.get("status", {})} for o in objects]
        raise NotReachedError(f"not reached in {timeout_s:g} s: {what}; last seen: {json.dumps(last)[:4000]}\n{self.diagnose()}")

    def wait_ready(self, name: str, timeout_s: float = 150) -> Object:
        """Wait until the ModelDeployment's Ready is True for its present generation."""

        def ready(objects: list[Object]) -> bool:
            return any(o["metadata"]["name"] == name and condition(o, "Ready") == ("True", o["metadata"]["generation"]) for o in objects)

        found = self.until(f"mdep/{name} Ready", "mdep", ready, timeout_s=timeout_s)
        return next(o for o in found if o["metadata"]["name"] == name)

    def wait_condition(self, name: str, type_: str, status: str, reason: str, timeout_s: float = 90) -> Object:
        def reached(objects: list[Object]) -> bool:
            for o in objects:
                if o["metadata"]["name"] == name:
                    row = condition_row(o, type_)
                    fresh = row.get("observedGeneration") == o["metadata"]["generation"]
                    return fresh and row.get("status") == status and row.get("reason") == reason
            return False

        found = self.until(f"mdep/{name} {type_}={status} ({reason})", "mdep", reached, timeout_s=timeout_s)
        return next(o for o in found if o["metadata"]["name"] == name)

    def pods(self, model: str) -> list[Object]:
        return self.items("pods", f"{MODEL_LABEL}={model}")

    def url(self, target: str) -> str:
        """An address on 127.0.0.1 for `mdep/NAME` or `pod/NAME`."""
        if self.kind == "external":
            kind, name = target.split("/")
            if kind == "mdep":  # the Service is the first name of the address in the status
                target = "svc/" + str(urlsplit(self.get("mdep", name)["status"]["url"]).hostname).split(".")[0]
            return self.forwards.url(target)
        return self.sandbox("url", target).strip()

    def sandbox(self, *args: str) -> str:
        """Run polyfleet-sandbox for the cluster of these tests."""
        done = subprocess.run([SANDBOX, *args], env=self.env, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, f"polyfleet-sandbox {' '.join(args)}: {done.stderr.strip()}"
        return done.stdout

    def delete_model(self, name: str) -> None:
        """Delete and wait until no pod of it is left."""
        self.kubectl("delete", "mdep", name, "--ignore-not-found", "--wait=true", "--timeout=60s")
        self.until(f"no pod of {name} left", "pods", lambda pods: not any(labels(p).get(MODEL_LABEL) == name for p in pods))

    def close(self) -> None:
        self.forwards.close()

    def diagnose(self) -> str:
        parts = [
            self.kubectl("get", "mdep,apool,pods", "-A", "-o", "wide", check=False),
            self.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp", check=False)[-3000:],
            self.kubectl("logs", "-n", "polyfleet", "deploy/polyfleet", "--tail=30", check=False)[-6000:],
        ]
        return "\n".join(parts)


def labels(obj: Object) -> dict[str, str]:
    return dict(obj["metadata"].get("labels") or {})


def condition_row(obj: Object, type_: str) -> Object:
    rows = obj.get("status", {}).get("conditions", [])
    return next((dict(c) for c in rows if c["type"] == type_), {})


def condition(obj: Object, type_: str) -> tuple[str, int]:
    row = condition_row(obj, type_)
    return str(row.get("status", "absent")), int(row.get("observedGeneration", -1))


def model(name: str, **spec: Any) -> Object:
    """A ModelDeployment of the real small model; `spec` is added to, or replaces, its fields."""
    base: Object = {"model": {"uri": "hf://HuggingFaceTB/SmolLM2-135M-Instruct"}}
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "polyfleet.io/v1alpha1", "kind": "ModelDeployment", "metadata": metadata, "spec": base | spec}


def tiny(name: str, **spec: Any) -> Object:
    """The byte model: starts in about a second, so that many scenarios fit into the time.

    The short drain time keeps the pods' grace period short (the namespace controller waits by that number, not by the pod's real end);
    the short pause before the engine is stopped lets the next scenario have the devices sooner. Scenarios of the real model keep both.
    """
    quick = {"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}
    template = {"spec": {"containers": [{"name": "engine", **quick}], **spec.pop("podSpec", {})}}
    return model(name, **({"model": {"uri": "hf://polyfleet/byte-tiny"}, "drainTimeout": "10s", "podTemplate": template} | spec))


def fetch(url: str, body: Object | None = None, timeout_s: float = 120) -> str:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"} if data else {})
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        return str(answer.read().decode())


def counter(base: str, series: str) -> float:
    values = [float(line.rsplit(" ", 1)[1]) for line in fetch(f"{base}/metrics").splitlines() if line.startswith(series)]
    assert values, f"{base}/metrics has no {series}"
    return sum(values)
