"""`real`: two implementations that really differ, SmolLM2-135M on the llama.cpp server and in numpy, compared by `polyfleet accuracy run`
as anybody would: llama.cpp quantises activations to int8, rounds elsewhere and sums in another order; the weights are the same file.

The reference is captured once (kept under .bench/accuracy), each candidate is then compared with the record. Engines and CLI are
processes of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accuracy.golden import builtin
from bench.accuracy.engines import engine
from bench.accuracy.models import CACHE
from tools.paths import ROOT

Row = dict[str, Any]
LLAMA, NUMPY = ("--backend=llamacpp",), ("--backend=numpy", "--dtype=fp32")
# llama.cpp cannot score a prompt at once: every position is a request of its own. So prompts are short.
RUN = ("--level=Quick", "--mode=Stepwise", "--positions=4", "--top-k=5", "--concurrency=1,4", "--timeout=600s")
PROMPTS, CHARACTERS = 190, 48
# Neither engine shows much noise of its own under another load; stated instead, as sandbox/policy.yaml does and for its reason.
NOISE = "--noise-kl=0.002"
INT8 = ("--declare-reference=activations=int8", "--declare=activations=fp32")
EXITS = {0: "Promote", 4: "Block", 5: "Inconclusive"}


@dataclass(frozen=True, slots=True)
class Case:
    """A candidate before the record of the llama.cpp server."""

    name: str
    flags: tuple[str, ...]
    declare: tuple[str, ...] = ()


CASES: dict[str, Case] = {
    "numpy": Case("numpy, fp32", NUMPY, INT8),
    "rope": Case("numpy, fp32, RoPE base 1e4", (*NUMPY, "--fault=rope-base=1e4"), INT8),
    "undeclared": Case("numpy, fp32, int8 activations of the reference not declared", NUMPY),
    "self": Case("llama.cpp again", LLAMA),
}


def measure(only: list[str] | None = None) -> list[Row]:
    """A row of each case. Raises EngineError where the weights are missing, RuntimeError where the CLI breaks."""
    rows = []
    record, golden = CACHE / "real-llama.gz", CACHE / "real-short.jsonl"
    if not record.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        _short(golden)
        with engine(*LLAMA) as running:
            words = ["capture", f"--reference={running.url}/v1", "--reference-name=llama.cpp", "--yes", *RUN, NOISE]
            _cli([*words, f"--golden={golden}", f"--out={record}"], {0})
    with tempfile.TemporaryDirectory() as folder:
        for key, case in CASES.items():
            if not only or key in only:
                rows.append(_row(case, record, golden, Path(folder) / key))
                print(json.dumps(rows[-1]), flush=True)
    return rows


def _short(path: Path) -> None:
    """The beginnings of built-in prompts, as raw text: a dozen tokens each."""
    texts: dict[str, str] = {}
    for item in builtin().items:
        text = (item.text or next((str(one["content"]) for one in item.messages if isinstance(one.get("content"), str)), ""))[:CHARACTERS]
        if len(text) == CHARACTERS:
            texts.setdefault(text, item.id)
    rows = [json.dumps({"id": name, "text": text}) for text, name in list(texts.items())[:: max(1, len(texts) // PROMPTS)][:PROMPTS]]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def _row(case: Case, record: Path, golden: Path, out: Path) -> Row:
    with engine(*case.flags) as running:
        begun = time.monotonic()
        words = [
            "run",
            f"--record={record}",
            f"--candidate={running.url}/v1",
            "--yes",
            *RUN,
            NOISE,
            f"--golden={golden}",
            *case.declare,
            f"--out={out}",
        ]
        code = _cli([*words, "--output=json"], set(EXITS))
        seconds = time.monotonic() - begun
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    verified = _cli(["verify", str(out / "report.json")], set(EXITS)) == code
    decision = report["decision"]
    samples = [sample for sample in report["samples"] if sample.get("dKl") is not None]
    return {
        "case": case.name,
        "declared": report.get("declared") or "nothing",
        "verdict": EXITS[code],
        "reason": decision["reason"],
        "prompts": decision["prompts"],
        "ratio": decision.get("noiseRatio"),
        "mean KL": sum(each["dKl"] for each in samples) / max(1, len(samples)),
        "largest KL": max((each["maxKl"] for each in samples), default=None),
        "mode": report["mode"],
        "verified offline": verified,
        "seconds": round(seconds),
        "message": decision["message"],
    }


def _cli(words: list[str], allowed: set[int]) -> int:
    done = subprocess.run([sys.executable, "-m", "polyfleet", "accuracy", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in allowed:
        raise RuntimeError(f"polyfleet accuracy {' '.join(words)}: exit code {done.returncode}: {done.stderr[-2000:]}")
    return done.returncode
