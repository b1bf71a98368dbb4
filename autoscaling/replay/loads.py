"""The loads that are replayed: requests with their times and lengths, built from the stored traces (autoscaling design, §2.1).

| name | built from | what it is |
|---|---|---|
| `conv3` | `azure_llm_2023_conv`, three copies, the second and third with ±15 s uniform jitter per request | 58 098 requests in 59 min |
| `code1` | `azure_llm_2023_code` as it is | 8 819 requests in 57 min, very bursty |
| `ramp10h` | `servegen_mlarge_10h_sampled`, five copies, four of them with the jitter | 624 980 requests in 10 h, two steps |
| `series14` | `servegen_clients_10min` and `servegen_lengths_6h`, one model over 14 days: `series.py` | thinned to a mean of 8 replicas |
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoscaling.replay.engine import BASE_S, CHUNK, PREFILL_S, SEQUENCE_S, SEQUENCES
from autoscaling.types import Costs

# Work of a token (§2.3): its own time and its share of an iteration's base at full load.
COSTS = Costs(PREFILL_S + BASE_S / CHUNK, SEQUENCE_S + BASE_S / SEQUENCES)
JITTER_S = 15.0
TRACES = {
    "conv3": ("azure_llm_2023_conv.csv.gz", 3),
    "code1": ("azure_llm_2023_code.csv.gz", 1),
    "ramp10h": ("servegen_mlarge_10h_sampled.csv.gz", 5),
}
START = {
    "conv3": 10,
    "code1": 2,
    "ramp10h": 8,
    "series14": 8,
}  # ready replicas at the beginning: dominates a one-hour trace, so it is fixed (§2.3)


class LoadError(ValueError):
    """A trace that cannot be replayed: the message names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Load:
    """Requests in the order of arrival. `arrival` in s from 0, `prompt` and `output` in tokens, output >= 1."""

    name: str
    arrival: Any
    prompt: Any
    output: Any

    @property
    def work(self) -> Any:
        """Reference work-seconds of each request, by its true output: for the clairvoyant and for reports only."""
        return COSTS.prompt * self.prompt + COSTS.output * self.output

    def limits(self, within_s: float) -> Any:
        """Longest allowed time to the first token of each request: `within_s`, or three times the unloaded prefill if that is longer."""
        return np.maximum(within_s, 3.0 * (np.ceil(self.prompt / CHUNK) * (BASE_S + SEQUENCE_S) + PREFILL_S * self.prompt))


def make(name: str, arrival: Any, prompt: Any, output: Any) -> Load:
    """Sorts by arrival; a request has at least one prompt and one output token."""
    order = np.argsort(arrival, kind="stable")
    return Load(
        name,
        np.maximum(np.asarray(arrival, float)[order], 0.0),
        np.maximum(np.asarray(prompt, np.int64)[order], 1),
        np.maximum(np.asarray(output, np.int64)[order], 1),
    )


def trace(path: Path) -> tuple[Any, Any, Any]:
    """Columns arrival_s, context_tokens, generated_tokens of a gzip or plain CSV. LoadError: no such file, a missing column, no number."""
    names = ("arrival_s", "context_tokens", "generated_tokens")
    if not path.is_file():
        raise LoadError(f"{path}: no such file; --trace-dir takes the folder that holds {path.name}")
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as stream:
        rows = csv.reader(stream)
        header = next(rows, [])
        if missing := [name for name in names if name not in header]:
            raise LoadError(f"{path}: no column {missing[0]}; it has {', '.join(header) or 'none'}, wanted are {', '.join(names)}")
        places = [header.index(name) for name in names]
        try:
            table = np.array([[float(row[place]) for place in places] for row in rows if row])
        except (ValueError, IndexError) as error:
            raise LoadError(f"{path}: line {rows.line_num}: {error}; every line needs three numbers: {', '.join(names)}") from error
    if not len(table) or not np.isfinite(table).all() or (table < 0).any():
        raise LoadError(f"{path}: needs at least one request, with finite times and tokens of 0 or more")
    return table[:, 0], table[:, 1].astype(np.int64), table[:, 2].astype(np.int64)


def superposed(name: str, columns: tuple[Any, Any, Any], copies: int, seed: int) -> Load:
    """The trace `copies` times over itself; all but the first with uniform jitter of ±15 s per request."""
    arrival, prompt, output = columns
    dice = np.random.default_rng([seed, 15])
    times = [arrival, *(arrival + dice.uniform(-JITTER_S, JITTER_S, len(arrival)) for _ in range(copies - 1))]
    return make(name, np.concatenate(times), np.tile(prompt, copies), np.tile(output, copies))


def load(name: str, folder: Path, seed: int) -> Load:
    """A load by its name. LoadError: the name is none of TRACES, or its file cannot be read."""
    if name not in TRACES:
        raise LoadError(f"load {name!r}: not known; choose one of {', '.join(sorted(TRACES))}")
    file, copies = TRACES[name]
    return superposed(name, trace(folder / file), copies, seed)
