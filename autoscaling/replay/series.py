"""The 14-day load: one model of ServeGen, client by client, thinned to a mean of 8 replicas.

Every client sends Gamma arrivals with its rate and variation of each 10-minute window (`servegen_clients_10min`); the superposition is
thinned with one probability, which keeps its shape and its bursts as far as thinning does. Lengths come from the quantiles of their
6-hour window (`servegen_lengths_6h`), by straight lines in the logarithm, scaled to the stated mean. Days 1 to 7 are for tuning, days
8 to 14 for reports.
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from autoscaling.replay.loads import COSTS, Load, LoadError, make

WINDOW_S = 600.0
LENGTHS_S = 21_600.0
DAY_S = 86_400.0
FILES = ("servegen_clients_10min.csv.gz", "servegen_lengths_6h.csv.gz")
MODEL = "m-large"
MEAN_REPLICAS = 8.0
_RANKS = {"p10": 0.10, "p25": 0.25, "p50": 0.50, "p75": 0.75, "p90": 0.90, "p99": 0.99}
_PIECES = 256  # Gamma gaps that are drawn at once at least


def _rows(path: Path, model: str, names: tuple[str, ...]) -> Iterator[dict[str, str]]:
    if not path.is_file():
        raise LoadError(f"{path}: no such file; --trace-dir takes the folder that holds {', '.join(FILES)}")
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        if missing := [name for name in names if name not in (rows.fieldnames or ())]:
            raise LoadError(f"{path}: no column {missing[0]}; wanted are {', '.join(names)}")
        yield from (row for row in rows if row["model"] == model)


def series(folder: Path, seed: int, *, first_day: int = 8, last_day: int = 14, model: str = MODEL, hours: float | None = None) -> Load:
    """Days `first_day` to `last_day`, counted from 1; `hours`: only so many from the beginning. The thinning is that of all 14 days."""
    clients: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for row in _rows(folder / FILES[0], model, ("t_s", "rate_rps", "cv")):
        clients[int(float(row["t_s"]) // WINDOW_S)].append((float(row["rate_rps"]), float(row["cv"])))
    lengths: dict[tuple[int, str], dict[str, float]] = {}
    for row in _rows(folder / FILES[1], model, ("t_s", "field", "mean", *_RANKS)):
        names = ("mean", *_RANKS)
        lengths[int(float(row["t_s"]) // LENGTHS_S), row["field"]] = {name: float(row[name]) for name in names}
    if not clients or not lengths:
        raise LoadError(f"{folder / FILES[0]}: no rows of model {model!r}")
    keep = _kept(clients, lengths)
    begin, end = (first_day - 1) * DAY_S, last_day * DAY_S
    end = end if hours is None else min(end, begin + hours * 3600.0)
    parts = [_window(number, clients[number], lengths, keep, seed) for number in range(int(begin // WINDOW_S), int(end // WINDOW_S))]
    arrival, prompt, output = (np.concatenate(column) for column in zip(*parts, strict=True))
    return make("series14", arrival - begin, prompt, output)


def _kept(clients: dict[int, list[tuple[float, float]]], lengths: dict[tuple[int, str], dict[str, float]]) -> float:
    """The probability that leaves a mean of MEAN_REPLICAS, at most 1."""
    work = 0.0
    for number, found in clients.items():
        prompt, output = (_of(lengths, number, name)["mean"] for name in ("input_tokens", "output_tokens"))
        work += sum(rate for rate, _ in found) * COSTS.of(prompt, output)
    return min(1.0, MEAN_REPLICAS / (work / (max(clients) + 1)))


def _of(lengths: dict[tuple[int, str], dict[str, float]], window: int, field: str) -> dict[str, float]:
    """Of the 6-hour window, or the last one before it."""
    number = int(window * WINDOW_S // LENGTHS_S)
    while number > 0 and (number, field) not in lengths:
        number -= 1
    return lengths[number, field]


def _window(
    number: int, clients: list[tuple[float, float]], lengths: dict[tuple[int, str], dict[str, float]], keep: float, seed: int
) -> tuple[Any, Any, Any]:
    dice = np.random.default_rng([seed, 14, number])
    times = [_arrivals(rate, cv, dice) for rate, cv in clients]
    arrival = np.sort(np.concatenate(times)) if times else np.zeros(0)
    arrival = arrival[dice.random(len(arrival)) < keep]
    tokens = [_tokens(_of(lengths, number, name), len(arrival), dice) for name in ("input_tokens", "output_tokens")]
    return arrival + number * WINDOW_S, tokens[0], tokens[1]


def _arrivals(rate: float, cv: float, dice: np.random.Generator) -> Any:
    """Gamma gaps with that mean and variation, begun somewhere in a gap."""
    shape = 1.0 / max(cv, 0.05) ** 2
    size = int(rate * WINDOW_S * 1.2) + _PIECES
    times = np.zeros(0)
    last = -float(dice.gamma(shape, 1.0 / (rate * shape)) * dice.random())
    while last < WINDOW_S:
        more = last + np.cumsum(dice.gamma(shape, 1.0 / (rate * shape), size))
        times = np.concatenate((times, more))
        last = float(more[-1])
    return times[(times >= 0.0) & (times < WINDOW_S)]


def _tokens(stated: dict[str, float], number: int, dice: np.random.Generator) -> Any:
    ranks = [0.0, *_RANKS.values(), 1.0]
    known = [max(1.0, stated[name]) for name in _RANKS]
    marks = np.log([max(1.0, known[0] / 2.0), *known, known[-1] * 1.5])
    drawn = np.exp(np.interp(dice.random(number), ranks, marks))
    even = np.exp(np.interp(np.linspace(0.0, 1.0, 2001), ranks, marks)).mean()
    return np.maximum(1, np.rint(drawn * stated["mean"] / even)).astype(np.int64)
