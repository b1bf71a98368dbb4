"""How well the load of the next 10 to 60 minutes is known from earlier days: the 14-day series, tuned on days 1 to 7, reported on 8 to 14.

Prints a table (mean absolute error as a share of the mean rate, and in brackets the part by which the forecast was too low) and one
JSON line. Usage: python -m bench.autoscaling_forecast --trace-dir DIR, where DIR holds servegen_rate_10min.csv.gz (columns model, t_s,
rate_rps).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import sys
from pathlib import Path

from autoscaling.forecast import METHODS, ForecastError, Verdict, backtest
from autoscaling.season import BIN_S

FILE = "servegen_rate_10min.csv.gz"
HORIZONS = (1, 2, 3, 4, 5, 6)  # bins
TIE = 0.01  # of the naive error: less is no difference


def series(path: Path) -> dict[str, list[float]]:
    """Rates by model, in order of time. Raises ForecastError for a hole or a value that is no rate, naming the row."""
    found: dict[str, list[float]] = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := {"model", "t_s", "rate_rps"} - set(reader.fieldnames or ()):
            raise ForecastError(f"{path.name}: no column {', '.join(sorted(missing))}")
        for number, row in enumerate(reader, 2):
            try:
                at, rate = float(row["t_s"]), float(row["rate_rps"])
            except (TypeError, ValueError):
                raise ForecastError(f"{path.name} row {number}: t_s {row['t_s']!r} or rate_rps {row['rate_rps']!r} is no number") from None
            values = found.setdefault(row["model"], [])
            if not math.isclose(at, len(values) * BIN_S):
                raise ForecastError(
                    f"{path.name} row {number}: t_s is {at:.0f}, {len(values) * BIN_S:.0f} was expected: the series has a hole"
                )
            values.append(rate)
    return found


def table(judged: dict[str, list[Verdict]]) -> list[str]:
    lines = [f"{'series':<10} {'min':>4}  " + "  ".join(f"{name:>15}" for name in METHODS) + "   share  prior on"]
    for model in sorted(judged):
        for verdict in judged[model]:
            cells = "  ".join(f"{score.error:7.3f} ({score.short:.3f})" for score in verdict.scores)
            lines.append(f"{model:<10} {verdict.horizon_s / 60:4.0f}  {cells}   {verdict.share:5.2f}  {verdict.open:7.0%}")
    return lines


def against_naive(judged: dict[str, list[Verdict]], method: str) -> str:
    """Where `method` is better or worse than the naive forecast by more than 1 % of its error; the rest is a tie."""
    rows = [(f"{model} {v.horizon_s / 60:.0f} min", v.error(method) / v.error("naive")) for model in sorted(judged) for v in judged[model]]
    better = [name for name, ratio in rows if ratio < 1 - TIE]
    worse = [name for name, ratio in rows if ratio > 1 + TIE]
    told = f"{method}: better than naive in {len(better)} of {len(rows)} rows ({', '.join(better) or 'none'})"
    return f"{told}, worse in {len(worse)} ({', '.join(worse) or 'none'}), within {TIE:.0%} in the rest"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.autoscaling_forecast", description=__doc__)
    parser.add_argument("--trace-dir", type=Path, required=True, metavar="DIR", help=f"holds {FILE}")
    chosen = parser.parse_args(arguments)
    path = chosen.trace_dir / FILE
    try:
        read = series(path)
    except (OSError, EOFError) as error:
        print(f"cannot read {path}: {error}; --trace-dir names the folder that holds {FILE}", file=sys.stderr)
        return 1
    except ForecastError as error:
        print(f"{error}; correct the file, or fetch it again", file=sys.stderr)
        return 1
    judged: dict[str, list[Verdict]] = {}
    left_out: dict[str, str] = {}
    for model, values in sorted(read.items()):
        try:
            judged[model] = [backtest(values, horizon) for horizon in HORIZONS]
        except ForecastError as error:
            left_out[model] = str(error)
    for line in table(judged):
        print(line)
    for model, why in left_out.items():
        print(f"left out: {model}: {why}")
    for method in ("used", "moved"):
        print(against_naive(judged, method))
    body = {
        model: [
            {"horizon_s": v.horizon_s, "share": v.share, "open": round(v.open, 4)} | {s.method: round(s.error, 4) for s in v.scores}
            for v in found
        ]
        for model, found in judged.items()
    }
    print(json.dumps({"series": body, "left_out": left_out}, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
