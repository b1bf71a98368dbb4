"""The backtest: errors by hand, no look into the future, and the prior used only while it wins."""

from __future__ import annotations

import gzip
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaling.forecast import METHODS, ForecastError, backtest, levels
from autoscaling.season import DAY_BINS
from bench.autoscaling_forecast import main

WEEK = 7 * DAY_BINS


def daily(days: int) -> list[float]:
    """One high hour a day, else 1."""
    return [11.0 if 72 <= place < 78 else 1.0 for _ in range(days) for place in range(DAY_BINS)]


def test_errors_of_a_daily_hour_by_hand():
    verdict = backtest(daily(9), 1)
    mean = (6 * 11 + 138) / 144
    # The last value is wrong twice a day, by 10: once too low, once too high. Yesterday is never wrong, nor is the median.
    assert verdict.error("naive") == pytest.approx(20 / 144 / mean)
    assert {s.method: s.short for s in verdict.scores}["naive"] == pytest.approx(10 / 144 / mean)
    assert verdict.error("seasonal naive") == verdict.error("season") == 0.0
    assert verdict.error("moved") == 0.0
    assert verdict.share == 1.0
    # Raised: right at the start of the hour; at its end the level is still high (one bin), which the prior may not lower; the
    # moving average then keeps exp(-600/180) of the step for a bin, and of that for the next.
    keep = math.exp(-600 / 180)
    late = 10 * (1 - keep**6) / (1 - keep)  # sum of what is left over, bin by bin
    assert verdict.error("raised") == pytest.approx(late / 144 / mean, rel=1e-3)
    assert verdict.error("used") == verdict.error("raised")  # the trial was won before the days reported
    assert verdict.open == 1.0


def test_a_load_without_days_leaves_the_prior_off():
    days = [5.0, 30.0, 8.0, 2.0, 25.0, 40.0, 6.0, 3.0, 9.0]  # each flat, none like the one before
    verdict = backtest(np.repeat(days, DAY_BINS), 1)
    assert verdict.open == 0.0
    assert verdict.error("used") == verdict.error("level")
    assert verdict.error("raised") > verdict.error("level")


def test_levels_by_hand():
    keep = math.exp(-600 / 180)
    assert levels(np.array([2.0, 4.0, 4.0])).tolist() == pytest.approx([2.0, 4 - 2 * keep, 4 - 2 * keep**2])


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 6), st.integers(0, DAY_BINS - 1), st.floats(0.0, 100.0))
def test_no_forecast_knows_the_value_it_is_made_for(horizon: int, place: int, value: float):
    """Two series that differ in the last value only: every forecast of it is the same, so errors differ by exactly that value's own."""
    base = [*daily(8)[: WEEK + place], 3.0]
    other = [*base[:-1], value]
    one, two = backtest(base, horizon), backtest(other, horizon)
    count, mean_one, mean_two = place + 1, float(np.mean(base[WEEK:])), float(np.mean(other[WEEK:]))
    for method in METHODS:
        rest = (one.error(method) * mean_one - two.error(method) * mean_two) * count  # |f - 3| - |f - value|
        assert abs(rest) <= abs(3.0 - value) + 1e-6


@pytest.mark.parametrize(
    ("values", "horizon", "named"),
    [
        ([1.0] * WEEK, 1, "1008 values; more than 1008"),
        ([1.0] * WEEK + [math.nan], 1, r"series\[1008\]"),
        ([1.0] * 5 + [-2.0] + [1.0] * WEEK, 1, r"series\[5\]: -2"),
        ([1.0] * (WEEK + 1), 0, "horizon_bins: 0 is not in 1 to 143"),
        ([1.0] * (WEEK + 1), 144, "horizon_bins: 144"),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(values: list[float], horizon: int, named: str):
    with pytest.raises(ForecastError, match=named):
        backtest(values, horizon)


def test_a_load_of_nothing_has_no_error():
    assert all(score.error == 0.0 for score in backtest([0.0] * (WEEK + 3), 2).scores)


def written(folder, rows: list[str]) -> str:
    with gzip.open(folder / "servegen_rate_10min.csv.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(rows) + "\n")
    return str(folder)


def test_the_command_prints_a_table_and_one_line_of_json(tmp_path, capsys):
    rows = ["model,t_s,rate_rps"] + [f"daily,{600 * place},{value}" for place, value in enumerate(daily(9))]
    rows += [f"short,{600 * place},1.0" for place in range(144)]
    assert main(["--trace-dir", written(tmp_path, rows)]) == 0
    lines = capsys.readouterr().out.splitlines()
    body = json.loads(lines[-1])
    assert [row["horizon_s"] for row in body["series"]["daily"]] == [600.0, 1200.0, 1800.0, 2400.0, 3000.0, 3600.0]
    assert body["series"]["daily"][0]["seasonal naive"] == 0.0
    assert "1008" in body["left_out"]["short"]
    assert any(line.startswith("used: better than naive in 6 of 6 rows") for line in lines)


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (["model,t_s", "a,0"], "no column rate_rps"),
        (["model,t_s,rate_rps", "a,0,1", "a,1200,1"], "row 3: t_s is 1200, 600 was expected"),
        (["model,t_s,rate_rps", "a,0,x"], "row 2: t_s '0' or rate_rps 'x' is no number"),
    ],
)
def test_a_series_with_a_hole_is_refused_by_row(tmp_path, capsys, rows: list[str], named: str):
    assert main(["--trace-dir", written(tmp_path, rows)]) == 1
    assert named in capsys.readouterr().err


def test_a_folder_without_the_series_is_said(tmp_path, capsys):
    assert main(["--trace-dir", str(tmp_path)]) == 1
    assert "--trace-dir" in capsys.readouterr().err
