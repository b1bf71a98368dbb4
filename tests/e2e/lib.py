"""What the end-to-end scenarios share: one cluster behind kubectl, waiting by watch, talking to replicas.

Everything goes through kubectl and HTTP, as a user's hands would; nothing here knows the operator's inside. Waiting is done on
`kubectl get --watch` streams, never by sleeping.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
Object = dict[str, Any]


class NotReachedError(AssertionError):
    """A state was not reached in time; carries what was seen last."""


@dataclass
class Cluster:
    """One running cluster. `kind` is real, process or external."""

    kubeconfig: Path
    kind: str
    state: Path | None = None
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.env = {**os.environ, "KUBECONFIG": str(self.kubeconfig), **self.env}

    def kubectl(self, *args: str, check: bool = True, stdin: str | None = None) -> str:
        done = subprocess.run(
            [str(BIN / "kubectl"), *args], env=self.env, input=stdin, capture_output=True, text=True, check=False, timeout=300
        )
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout if check else done.stdout + done.stderr

    def get(self, *args: str) -> Object:
        return dict(json.loads(self.kubectl("get", *args, "-o", "json")))

    def items(self, kind: str, selector: str = "", namespace: str = "default") -> list[Object]:
        extra = ["-l", selector] if selector else []
        return list(self.get(kind, "-n", namespace, *extra)["items"])

    def apply(self, manifest: Object | str) -> str:
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        return self.kubectl("apply", "--server-side", "-f", "-", stdin=text)

    def until(
        self, what: str, kind: str, reached: Callable[[list[Object]], bool], *, namespace: str = "default", timeout_s: float = 120
    ) -> list[Object]:
        """Watch one kind until `reached(objects)` is true; returns the objects. `what` names the state for the failure."""
        seen: dict[str, Object] = {}
        ns = ["-A"] if namespace == "*" else ["-n", namespace]
        if reached(list(self.get(kind, *ns)["items"])):
            return list(self.get(kind, *ns)["items"])
        for event, obj in self._watch(kind, ns, timeout_s):
            uid = obj["metadata"]["uid"]
            if event == "DELETED":
                seen.pop(uid, None)
            else:
                seen[uid] = obj
            objects = sorted(seen.values(), key=lambda o: str(o["metadata"]["name"]))
            if reached(objects):
                return objects
        last = [{"name": o["metadata"]["name"], "status": o.get("status", {})} for o in seen.values()]
        raise NotReachedError(f"not reached in {timeout_s:g} s: {what}; last seen: {json.dumps(last)[:4000]}\n{self.diagnose()}")

    def _watch(self, kind: str, ns: list[str], timeout_s: float) -> Iterator[tuple[str, Object]]:
        command = [str(BIN / "kubectl"), "get", kind, *ns, "-w", "--output-watch-events", "-o", "json", f"--request-timeout={timeout_s:g}s"]
        process = subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        stop = threading.Timer(timeout_s, process.kill)
        stop.start()
        decoder, buffer = json.JSONDecoder(), ""
        try:
            assert process.stdout is not None
            for line in process.stdout:
                buffer += line
                try:
                    event, end = decoder.raw_decode(buffer)
                except json.JSONDecodeError:  # the rest of this event comes with the next line
                    continue
                buffer = buffer[end:].lstrip()
                yield str(event["type"]), dict(event["object"])
        finally:
            stop.cancel()
            process.kill()
            process.wait()

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
                    return row.get("status") == status and row.get("reason") == reason
            return False

        found = self.until(f"mdep/{name} {type_}={status} ({reason})", "mdep", reached, timeout_s=timeout_s)
        return next(o for o in found if o["metadata"]["name"] == name)

    def pods(self, model: str) -> list[Object]:
        return self.items("pods", f"polyfleet.io/deployment={model}")

    def url(self, target: str) -> str:
        done = subprocess.run(
            [str(BIN / "polyfleet-sandbox"), "url", target], env=self.env, capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def delete_model(self, name: str) -> None:
        self.kubectl("delete", "mdep", name, "--ignore-not-found", "--wait=true", "--timeout=60s")
        self.until(
            f"no pod of {name} left",
            "pods",
            lambda pods: not any(p["metadata"].get("labels", {}).get("polyfleet.io/deployment") == name for p in pods),
            timeout_s=120,
        )

    def diagnose(self) -> str:
        parts = [
            self.kubectl("get", "mdep,apool,pods", "-A", "-o", "wide", check=False),
            self.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp", check=False)[-3000:],
            self.kubectl("logs", "-n", "polyfleet", "deploy/polyfleet", "--tail=30", check=False)[-6000:],
        ]
        return "\n".join(parts)


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

    The short drain time keeps the pods' grace period short: the namespace controller waits by that number, not by the pod's real end.
    """
    return model(name, **({"model": {"uri": "hf://polyfleet/byte-tiny"}, "drainTimeout": "10s"} | spec))


def fetch(url: str, body: Object | None = None, timeout_s: float = 120) -> str:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"} if data else {})
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        return str(answer.read().decode())


def counter(base: str, series: str) -> float:
    values = [float(line.rsplit(" ", 1)[1]) for line in fetch(f"{base}/metrics").splitlines() if line.startswith(series)]
    assert values, f"{base}/metrics has no {series}"
    return sum(values)
