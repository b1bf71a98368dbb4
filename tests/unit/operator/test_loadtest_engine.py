"""The load test against the real sandbox engine as a process of its own: what it finds out, what it measures, an interrupt."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hwprofiles.model import Throughput

POLYFLEET = str(Path(sys.executable).parent / "polyfleet")
MODEL = "polyfleet/byte-tiny"


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """The address of an engine with the byte model, ready."""
    command = [sys.executable, "-m", "sandbox.engine", "--backend=byte", f"--model={MODEL}", "--served-model-name=tiny"]
    process = subprocess.Popen([*command, "--host=127.0.0.1", "--port=0"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert process.stderr is not None
        port = ""
        for line in process.stderr:
            found = re.search(r"listening on \('127\.0\.0\.1', (\d+)\)", line)
            port = found[1] if found else port
            if "ready after" in line:
                break
        assert port, "the engine ended before it was ready"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def arguments(engine: str, *more: str) -> list[str]:
    stated = ["--profile", "sandbox-nvidia", "--model", MODEL, "--url", f"{engine}/v1", "--engine-version", "dev"]
    return [POLYFLEET, "bench", *stated, "--input", "20", "--output", "16", *more]


def test_the_engine_is_identified_measured_and_its_own_count_agrees(engine: str) -> None:
    """The served name differs from the model's; `root` tells. The engine's counter rises by what was received, the one probe included."""

    def made() -> float:
        with urllib.request.urlopen(f"{engine}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("vllm:generation_tokens_total"))

    before = made()
    command = arguments(engine, "--concurrency", "2", "--duration", "2s", "-o", "json")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    body = json.loads(done.stdout)
    assert (body["stop"], body["partial"], body["verified"]) == ("Done", False, False)
    entries = [Throughput.parse(item) for item in body["entries"]]
    # On a machine that is busy with other things a rate may not settle; then there is no entry, and that is the only reason for none.
    assert len(entries) == sum(not stage["unusable"] for stage in body["stages"])
    assert done.returncode == (0 if entries else 1), done.stderr
    for entry in entries:
        key = (entry.model, entry.precision, entry.engine, entry.engine_version, entry.parallelism.devices)
        assert key == (MODEL, "fp32", "sandbox", "dev", 1)
        assert entry.output_tokens == 16  # ignore_eos: exactly as many as were asked for, on average
        assert entry.input_tokens is not None
        assert 14 <= entry.input_tokens <= 28  # bytes of random words, aimed at by two probes
        assert "Poisson arrivals/s" in entry.source or "could not be kept up with" in entry.source
    counted = sum(
        stage["requests"] * stage["outputTokens"] for stage in body["stages"] if stage["outputTokens"]
    )  # those that ended in the closed loops' windows: a lower bound
    assert made() - before > counted


def test_an_interrupt_shows_what_was_measured_as_partial_and_ends_with_1(engine: str) -> None:
    process = subprocess.Popen(
        arguments(engine, "--concurrency", "1,2", "--duration", "2s", "--mode", "concurrency", "-o", "yaml"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("1 in flight"):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, (lines, err)
    assert out.startswith("# partial (Interrupted)")
    body = yaml.safe_load(out) or {"throughput": []}
    said = " ".join([*lines, err])
    settled = not any(word in said for word in ("not settle", "fewer than", "too wide"))
    assert [entry["concurrency"] for entry in body["throughput"]] == ([1] if settled else [])


def test_another_user_of_the_engine_is_noticed(engine: str) -> None:
    """A second test runs beside: the engine makes more tokens than either received, so neither gives an entry."""
    commands = [arguments(engine, "--concurrency", "2", "--duration", "2s", "--mode", "concurrency", "-o", "json") for _ in range(2)]
    processes = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for c in commands]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 1, err
        assert json.loads(out)["entries"] == []
        assert "somebody else used it" in " ".join(err.split())
