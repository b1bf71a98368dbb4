"""`make demo`: a real three-vendor cluster on this machine, two models on it, each vendor shown equivalent before it serves, one completion
from every vendor's replica, and a wrong engine that the accuracy gate keeps out.

Everything it prints was answered by the cluster: node and device ids come from the pods, tokens from the engines' counters.
The cluster stays up for trying things; `make demo-down` ends it. Nothing is left half-done by Ctrl-C: the next run goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import foreground, install
from tools.paths import ROOT

BIN = Path(sys.executable).parent
SANDBOX = str(BIN / "polyfleet-sandbox")
KUBECTL = str(BIN / "kubectl")
MODEL = "tiny"  # of the examples that the gate is shown with
PROMPT = "The list of"  # the tiny model has read help texts of a programming language, and goes on with what it is given
READY_TIMEOUT_S = 300  # without any news of it; a busy machine takes its time, and each verdict is news
BLOCK_TIMEOUT_S = 120


class DemoError(RuntimeError):
    """A step failed; the message says what and what to do next."""


@dataclass
class Clock:
    """Prints steps with the time since the start, so that a long build is visibly alive."""

    start: float

    def step(self, text: str) -> None:
        print(f"[{time.monotonic() - self.start:6.1f} s] {text}", flush=True)


def run(*command: str, env: dict[str, str] | None = None) -> str:
    done = foreground.run(command, capture=True, env=env, cwd=ROOT)
    if done.returncode:
        raise DemoError(f"{Path(command[0]).name} {' '.join(command[1:])}\n{(done.stderr or done.stdout).strip()}")
    return done.stdout


def show(*command: str, env: dict[str, str] | None = None) -> None:
    """Run with the output going straight to the user."""
    if foreground.run(command, env=env, cwd=ROOT).returncode:
        raise DemoError(f"{Path(command[0]).name} {' '.join(command[1:])} failed (its output is above)")


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Hold this checkout's demo lock; a second demo is told so at once."""
    path = ROOT / ".sandbox.demo.lock"
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise DemoError(
                f"a demo of this checkout is already running (process {handle.read().strip() or '?'}); "
                "wait for it, or end it with Ctrl-C there"
            ) from None
        handle.seek(0)
        handle.truncate()
        handle.write(str(os.getpid()))
        handle.flush()
        yield  # the file stays: removing it would let two more demos hold two different files


def fetch(url: str, body: dict[str, Any] | None = None, timeout_s: float = 120) -> str:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"} if data else {})
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        return str(answer.read().decode())


def generated_tokens(base: str) -> float:
    """Sum of the engine's own counter; a missing series is an error, not zero."""
    values = [
        float(line.rsplit(" ", 1)[1]) for line in fetch(f"{base}/metrics").splitlines() if line.startswith("vllm:generation_tokens_total")
    ]
    if not values:
        raise DemoError(f"{base}/metrics has no vllm:generation_tokens_total")
    return sum(values)


def complete(base: str, model: str) -> dict[str, Any]:
    body = {"model": model, "prompt": PROMPT, "max_tokens": 24, "temperature": 0}
    return dict(json.loads(fetch(f"{base}/v1/completions", body)))


def answer_text(answer: dict[str, Any]) -> str:
    return PROMPT + str(answer["choices"][0]["text"])


def pods_of(kube: dict[str, str], model: str) -> list[dict[str, Any]]:
    out = json.loads(run(KUBECTL, "get", "pods", "-l", f"polyfleet.io/deployment={model}", "-o", "json", env=kube))
    return sorted(out["items"], key=lambda p: (p["metadata"]["labels"].get("polyfleet.io/vendor", ""), p["metadata"]["name"]))


def ask_replica(pod: dict[str, Any], model: str) -> str:
    """One completion from exactly this replica, checked against its own counter; returns the line for the user."""
    name, labels = pod["metadata"]["name"], pod["metadata"]["labels"]
    base = run(SANDBOX, "url", f"pod/{name}").strip()
    card = json.loads(fetch(f"{base}/v1/models"))["data"][0]["polyfleet"]
    devices = ", ".join(f"{k}={v}" for k, v in sorted(card["devices"].items()))
    if not devices:
        raise DemoError(f"pod {name} got no device environment from the device plugin")
    before = generated_tokens(base)
    answer = complete(base, model)
    tokens = int(answer["usage"]["completion_tokens"])
    rose = generated_tokens(base) - before
    if rose != tokens:
        raise DemoError(f"pod {name} answered {tokens} tokens but its generation_tokens_total rose by {rose:g}")
    vendor = labels["polyfleet.io/vendor"]
    counted = f"{tokens} tokens (counter +{rose:g})"
    return f"{vendor:8} node {pod['spec']['nodeName']:8} {devices}  {card['backend']}/{card['dtype']}  {counted}: {answer_text(answer)!r}"


def wait(kube: dict[str, str], model: str, clock: Clock) -> None:
    """Until a model is Ready; each new word about its accuracy is a line."""
    until, told = time.monotonic() + READY_TIMEOUT_S, ""
    while True:
        left = until - time.monotonic()
        found = json.loads(run(KUBECTL, "get", f"mdep/{model}", "-o", "json", env=kube)).get("status", {})
        rows = {row["type"]: row for row in found.get("conditions", [])}
        if rows.get("Ready", {}).get("status") == "True":
            clock.step(
                f"mdep/{model} is Ready: {rows['Ready']['message']}, {found['summary']['accuracy']} pairs of device and revision verified"
            )
            return
        said = "; ".join(f"{row['profile']} {row.get('verdict') or 'is under test'}" for row in found.get("accuracy", []))
        if said and said != told:
            clock.step(said)
            told, until = said, time.monotonic() + READY_TIMEOUT_S
        if left <= 0:
            lacking = [f"  {row['type']}: {row['reason']}: {row['message']}" for row in rows.values() if row["status"] != "True"]
            raise DemoError(
                "\n".join([f"mdep/{model} is not Ready, and there was no news of it for {READY_TIMEOUT_S} s", *lacking])
                + f"\nnext: make demo goes on waiting; KUBECONFIG={kube['KUBECONFIG']} {KUBECTL} describe mdep {model}"
            )
        # The next change, or a few seconds: kubectl ends either way.
        foreground.run(
            (KUBECTL, "wait", f"mdep/{model}", "--for=condition=Ready", f"--timeout={min(left, 3):.0f}s"), env=kube, capture=True, cwd=ROOT
        )


def show_block(kube: dict[str, str], clock: Clock) -> None:
    """A wrong engine on one vendor: blocked, while the old replica serves on."""
    clock.step("a mistake: kubectl apply -f examples/bad-accuracy.yaml (a wrong RoPE base on Ascend)")
    show(KUBECTL, "apply", "-f", "examples/bad-accuracy.yaml", env=kube)
    said = "jsonpath={.status.conditions[?(@.type=='Promoted')].message}"
    try:
        run(
            KUBECTL, "wait", f"mdep/{MODEL}", "--for=jsonpath={.status.accuracy[?(@.variant=='wrong-rope')].verdict}=Block",
            f"--timeout={BLOCK_TIMEOUT_S}s", env=kube,
        )  # fmt: skip
    except DemoError as error:
        why = run(KUBECTL, "get", f"mdep/{MODEL}", "-o", said, env=kube)
        raise DemoError(f"the wrong engine was not blocked in {BLOCK_TIMEOUT_S} s: {error}\nPromoted: {why}") from None
    clock.step("blocked: " + run(KUBECTL, "get", f"mdep/{MODEL}", "-o", said, env=kube))
    show(KUBECTL, "get", f"mdep/{MODEL}", env=kube)


def up(clock: Clock) -> None:
    clock.step("cluster: polyfleet-sandbox up (a first run builds Kubernetes from source: 8 to 10 minutes on two cores)")
    show(SANDBOX, "up", "--fleet", "three-vendors")
    kubeconfig = run(SANDBOX, "kubeconfig").strip()
    kube = {**os.environ, "KUBECONFIG": kubeconfig}
    clock.step("chart: helm upgrade --install polyfleet charts/polyfleet")
    # What somebody set since (activator.enabled, say) stays when the demo is run again.
    install.install(Path(kubeconfig), "--reset-then-reuse-values")
    clock.step("models: kubectl apply -f examples/smol.yaml -f examples/three-vendors-tiny.yaml")
    show(KUBECTL, "apply", "-f", "examples/smol.yaml", "-f", "examples/three-vendors-tiny.yaml", env=kube)
    print(
        "           Nothing serves yet: each kind of device first answers golden prompts, and its log-probabilities are compared with the"
    )
    print("           reference's (sandbox/policy.yaml has the numbers). Watch it elsewhere: kubectl get mdep,accr -w", flush=True)
    wait(kube, MODEL, clock)
    show(KUBECTL, "get", "accr", "-l", f"polyfleet.io/deployment={MODEL}", env=kube)
    clock.step(f"one completion from every vendor's replica of {MODEL}")
    pods = pods_of(kube, MODEL)
    for pod in pods:
        print("           " + ask_replica(pod, MODEL), flush=True)
    vendors = sorted({p["metadata"]["labels"]["polyfleet.io/vendor"] for p in pods})
    if len(vendors) < 3:
        raise DemoError(f"replicas of three vendors were expected, found {', '.join(vendors)}")
    endpoint = run(SANDBOX, "url", f"mdep/{MODEL}").strip()
    answer = complete(endpoint, MODEL)
    clock.step(f"through the model's endpoint {endpoint}/v1: {answer_text(answer)!r}")
    show_block(kube, clock)
    print()
    show(KUBECTL, "get", "mdep,accr,apool,hwp", env=kube)
    print(f"\nThe cluster stays up. Try:\n  export KUBECONFIG={os.path.relpath(kubeconfig, ROOT)} PATH=$PWD/.venv/bin:$PATH")
    print("  kubectl get mdep smol -w                                # a larger model: its check takes some minutes")
    print("  kubectl describe accr                                   # every gate with its numbers")
    print("  kubectl get pods -o wide -L polyfleet.io/vendor         # pods of containerd, pinned by the plan")
    print(f"  kubectl get mdep {MODEL} -o yaml                          # why here, why not there")
    print("  polyfleet-sandbox fault node/ppu-0 rope-base=100        # a node that computes wrongly: its next replica stays out")
    print("make demo-down ends it.")
    clock.step("done")


def main() -> int:
    parser = argparse.ArgumentParser(prog="demo")
    parser.add_argument("what", choices=["up", "down"])
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with only_one():
            if args.what == "down":
                show(SANDBOX, "down")
            else:
                up(Clock(time.monotonic()))
    except KeyboardInterrupt:
        print("\nstopped; what was built is kept. next: make demo goes on, make demo-down cleans up", file=sys.stderr)
        return 130
    except (DemoError, RuntimeError, urllib.error.URLError, subprocess.TimeoutExpired) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
