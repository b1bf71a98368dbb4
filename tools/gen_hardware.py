"""The tables of docs/hardware.md, from the shipped profiles: `generate()` gives the page with its generated parts replaced.

The prose of the page is written by hand; what stands between two marks is not. The same profiles give the same bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from hwprofiles import HardwareProfileSpec, Throughput, load_shipped
from tools.paths import ROOT

PAGE = ROOT / "docs/hardware.md"
_PART = re.compile(r"(<!-- generated: ([a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_UNKNOWN = "–"


def generate() -> dict[Path, str]:
    profiles = load_shipped()
    parts = {"devices": _devices(profiles), "entries": _entries(profiles)}
    return {PAGE: _PART.sub(lambda found: f"{found[1]}\n{parts[found[2]]}\n\n{found[3]}", PAGE.read_text(encoding="utf-8"))}


def _devices(profiles: dict[str, HardwareProfileSpec]) -> str:
    rows = [
        "| profile | one device | per node | memory | TB/s | bf16 | 8 bit | link GB/s | Measured | Published | Estimated | oldest |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, spec in sorted(profiles.items()):
        counts = Counter(entry.evidence for entry in spec.throughput)
        peaks = spec.peak_tflops or {}
        assumed = spec.assume.bandwidth_tbps if spec.assume is not None else None
        bandwidth = spec.bandwidth_tbps or (f"{assumed} assumed" if assumed else _UNKNOWN)
        link = (spec.topology.node_link_gbps if spec.topology is not None else None) or _UNKNOWN
        oldest = min((entry.date for entry in spec.throughput), default=_UNKNOWN)
        eight = peaks.get("fp8") or peaks.get("w8a8") or _UNKNOWN
        unit, bf16 = spec.unit, peaks.get("bf16", _UNKNOWN)
        rows.append(
            f"| `{name}` | {unit.kind} | {unit.per_node or _UNKNOWN} | {unit.memory} | {bandwidth} | {bf16} | {eight}"
            f" | {link} | {counts['Measured']} | {counts['Published']} | {counts['Estimated']} | {oldest} |"
        )
    return "\n".join(rows)


def _entries(profiles: dict[str, HardwareProfileSpec]) -> str:
    rows = [
        "| profile | model | precision | engine | layout | in / out | in flight | output tokens/s | evidence | source |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, spec in sorted(profiles.items()):
        for entry in sorted(spec.throughput, key=lambda item: (item.model, item.engine, item.precision or "", item.model_dump_json())):
            engine = f"{entry.engine} {entry.engine_version}" if entry.engine_version else entry.engine
            rows.append(
                f"| `{name}` | {entry.model} | {entry.precision or _UNKNOWN} | {engine} | {_layout(entry)}"
                f" | {entry.input_tokens or _UNKNOWN} / {entry.output_tokens or _UNKNOWN} | {entry.concurrency or _UNKNOWN}"
                f" | {entry.output_tokens_per_second or _UNKNOWN} | {entry.evidence}, {entry.confidence}, {entry.date} | {entry.source} |"
            )
    return "\n".join(rows)


def _layout(entry: Throughput) -> str:
    layout = entry.parallelism
    sizes = (("tp", layout.tensor), ("pp", layout.pipeline), ("dp", layout.data), ("ep", layout.expert or 1), ("nodes ", layout.span))
    return " ".join(f"{name}{size}" for name, size in sizes if size > 1) or "1 device"
