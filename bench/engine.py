"""The small serving engine: process start to `/health` 200, resident memory after a completion, decoding speed; one backend at a time."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

VARIANTS = {
    "llamacpp": ["--backend", "llamacpp"],
    "fp16": ["--backend", "numpy", "--dtype", "fp16"],
    "bf16": ["--backend", "numpy", "--dtype", "bf16"],
}
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
TOKENS = 32
LIMIT_S = 120.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _healthy(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _peak_mb(pid: int) -> float:
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    if found is None:
        raise RuntimeError(f"process {pid} has no VmHWM")
    return int(found[1]) / 1024


def _one(flags: list[str]) -> tuple[float, float, float]:
    """(seconds to ready, peak resident MB, generated tokens per second)."""
    port = _free_port()
    base = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-m",
        "sandbox.engine",
        "--model",
        MODEL,
        "--served-model-name",
        "m",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    begin = time.monotonic()
    process = subprocess.Popen([*command, *flags], env={**os.environ, "POLYFLEET_THREADS": "1"}, stdout=subprocess.DEVNULL)
    try:
        while not _healthy(base):
            if process.poll() is not None or time.monotonic() - begin > LIMIT_S:
                raise RuntimeError(f"the engine with {flags} did not become ready in {LIMIT_S:g} s (exit {process.poll()})")
            time.sleep(0.05)
        ready = time.monotonic() - begin
        body = json.dumps({"model": "m", "prompt": "Once upon a time", "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}).encode()
        request = urllib.request.Request(f"{base}/v1/completions", data=body, headers={"Content-Type": "application/json"})
        started = time.monotonic()
        with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
            usage = json.loads(answer.read())["usage"]
        return ready, _peak_mb(process.pid), usage["completion_tokens"] / (time.monotonic() - started)
    finally:
        process.terminate()
        process.wait(timeout=60)


def measure() -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, flags in VARIANTS.items():
        ready, peak, speed = _one(flags)
        figures |= {f"engine_{name}_ready_s": ready, f"engine_{name}_rss_mb": peak, f"engine_{name}_tokens_per_s": speed}
    return figures
