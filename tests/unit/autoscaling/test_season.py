"""The prior of earlier days: values by hand, the trial that admits it, and the state that survives a restart."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaling.season import BIN_S, DAY_BINS, DAYS, Season, SeasonError, Trial, mark, pack, prior, restored, stored, worth_writing

DAY = 86_400.0
EMPTY = Season()


def fed(days: float, load, *, season: Season = EMPTY, start: float = 0.0, step: float = 60.0) -> Season:
    """A season that read `load(seconds of the day)` every minute."""
    for tick in range(int(days * DAY / step)):
        at = start + tick * step
        season = season.observed(at, load(at % DAY))
    return season


def noon_step(second: float) -> float:
    """2 work/s, and 10 for two hours from noon: what a moving average sees ten minutes late, every day."""
    return 10.0 if 43_200 <= second < 50_400 else 2.0


def saw(second: float) -> float:
    """Climbs from 1 to 10 work/s and falls at once, ten times a day: late for most of the time without the prior."""
    return 1.0 + 9.0 * (second % 8640) / 8640


def test_quantiles_of_the_same_bin_of_earlier_days():
    bins = [float(day * 1000 + place) for day in range(4) for place in range(DAY_BINS)]
    # Bin 5 of day 4: 5, 1005, 2005, 3005. Median between 1005 and 2005; 0.9 is 0.7 of the way from 2005 to 3005.
    assert prior(bins, 4 * DAY_BINS + 5, 0.5) == pytest.approx(1505.0)
    assert prior(bins, 4 * DAY_BINS + 5, 0.9) == pytest.approx(2705.0)
    assert prior(bins, 4 * DAY_BINS + 5, 1.0) == pytest.approx(3005.0)


def test_three_days_of_the_bin_are_needed_and_unseen_bins_do_not_count():
    bins: list[float | None] = [7.0] * (3 * DAY_BINS)
    assert prior(bins, 3 * DAY_BINS, 0.5) == 7.0
    bins[0] = None
    assert prior(bins, 3 * DAY_BINS, 0.5) is None
    assert prior(bins, 3 * DAY_BINS + 1, 0.5) == 7.0
    assert prior(bins[: 3 * DAY_BINS - 1], 3 * DAY_BINS - 1, 0.5) is None  # the third day of this bin is not over


def test_a_load_that_repeats_wins_and_the_prior_says_what_comes():
    season = fed(5, saw)
    assert season.trial.wins
    # Bin 10 of the day: seconds 6000 to 6600 of the first tooth, read each minute, on average 1 + 9 x 6270/8640 = 7.53, give or take
    # one minute's rise.
    assert season.value(5 * DAY + 6100.0) == pytest.approx(7.53, abs=0.07)


def test_ahead_takes_the_highest_bin_on_the_way():
    season = fed(5, saw)
    at = 5 * DAY + 6100.0
    later = season.value(at + 1200.0)
    assert later is not None
    assert season.value(at, ahead_s=1200.0) == later
    assert later > 8.0


def test_a_constant_load_never_wins_because_a_tie_leaves_the_prior_off():
    season = fed(6, lambda _: 5.0)
    assert season.trial.challenger == season.trial.holder == 0.0
    assert season.value(6 * DAY + 60.0) is None


def test_two_days_are_no_history():
    assert fed(2.9, saw).value(2.9 * DAY) is None


def test_a_pattern_that_ends_loses_its_place_within_two_days():
    season = fed(5, noon_step)
    for day in (5, 6, 7):
        season = fed(1, lambda _: 2.0, season=season, start=day * DAY)
    assert not season.trial.wins
    assert season.value(8 * DAY + 43_260.0) is None


def test_classes_take_their_quantile_and_batch_takes_none():
    bins = [float(day) for day in (1, 2, 3, 4, 5) for _ in range(DAY_BINS)]
    season = Season(begin=0, packed=pack(bins), trial=Trial(challenger=1.0, holder=2.0, weight=200.0))
    now = 5 * DAY + 60.0
    assert season.value(now, slo_class="Standard") == 3.0
    assert season.value(now, slo_class="Strict") == pytest.approx(4.6)  # 0.9 of the way along 1, 2, 3, 4, 5
    assert season.value(now, slo_class="Batch") is None
    with pytest.raises(ValueError, match="none of Strict, Standard, Batch"):
        season.value(now, slo_class="Gold")
    with pytest.raises(ValueError, match="ahead_s"):
        season.value(now, ahead_s=-1.0)


def test_the_trial_by_hand():
    trial = Trial().judged(5.0, 3.0, 4.0).judged(4.0, 1.0, 4.0)
    keep = 0.5 ** (1 / DAY_BINS)
    assert trial.challenger == pytest.approx(keep)  # errors 1, then 0
    assert trial.holder == pytest.approx(keep + 3.0)
    assert trial.weight == pytest.approx(1 + keep)
    assert not trial.wins  # better, but on two values


def test_half_a_bin_must_be_seen():
    season = Season().observed(0.0, 4.0)
    for at in range(30, 330, 30):  # 300 s of 600
        season = season.observed(float(at), 4.0)
    assert season.observed(630.0, 4.0).bins == (4.0,)
    less = Season().observed(0.0, 4.0)
    for at in range(30, 300, 30):
        less = less.observed(float(at), 4.0)
    assert less.observed(630.0, 4.0).bins == (None,)


def test_an_outage_leaves_unknown_bins_and_no_lows():
    season = fed(0.5, lambda _: 6.0)
    season = season.observed(0.5 * DAY + 3600.0, 6.0)
    assert season.bins[-5:] == (None,) * 5
    assert all(value in (None, 6.0) for value in season.bins)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_what_is_no_load_changes_nothing(bad: float):
    season = Season().observed(100.0, 3.0)
    assert season.observed(110.0, bad) is season
    assert season.observed(90.0, 3.0) is season  # time went back


def test_state_survives_a_restart_and_is_bounded():
    season = fed(9, lambda second: 123.456 + math.sin(second) + saw(second))
    text = json.dumps(stored(season))
    assert len(text) <= 12 * 1024
    again = restored(json.loads(text))
    assert again.bins == season.bins
    assert len(again.bins) == DAYS * DAY_BINS
    assert again.trial.wins == season.trial.wins
    now = 9 * DAY + 4000.0
    assert again.value(now) == season.value(now)
    assert restored(stored(again)) == again


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"version": 2}, "version"),
        ({"begin": -1}, "begin"),
        ({"begin": True}, "begin"),
        ({"begin": 10**400}, "begin"),
        ({"bins": [10**400]}, r"bins\[0\]"),
        ({"bins": [1e300]}, r"bins\[0\]"),
        ({"of": 3}, "of"),
        ({"bins": [1.0, "x"]}, r"bins\[1\]"),
        ({"bins": [math.nan]}, r"bins\[0\]"),
        ({"bins": [1.0] * 1009}, "1008"),
        ({"trial": [1.0]}, "trial"),
        ({"trial": [1.0, -1.0, 0.0]}, r"trial\[1\]"),
    ],
)
def test_a_state_that_is_none_is_refused_by_name(change: dict, named: str):
    with pytest.raises(SeasonError, match=named):
        restored(stored(fed(0.1, saw)) | change)
    with pytest.raises(SeasonError, match="no object"):
        restored([])


@given(st.lists(st.tuples(st.floats(0.1, 50_000.0), st.floats(0.0, 1e6)), max_size=60))
def test_whatever_is_read_the_state_stays_bounded_and_in_step(readings: list[tuple[float, float]]):
    season, at = Season(), 1000.0
    low, high = math.inf, 0.0
    for step, value in readings:
        at += step
        season = season.observed(at, value)
        low, high = min(low, value), max(high, value)
        assert len(season.bins) <= DAYS * DAY_BINS
        assert season.end == int(at // BIN_S)
        assert all(seen is None or low * 0.999 <= seen <= high * 1.001 for seen in season.bins)
        assert restored(stored(season)).bins == season.bins


def constant(bins: int, value: float = 5.0, *, begin: int = 1000) -> Season:
    return Season(begin=begin, packed=pack([value] * bins))


@pytest.mark.parametrize(
    ("old", "new", "worth"),
    [
        (Season(), constant(1), False),  # one bin says nothing yet
        (Season(), constant(500), False),  # a load that stays
        (constant(10), constant(500), False),
        (constant(10), constant(11, 5.24), False),  # the bins that both have are not looked at; 4.6 % of the larger
        (constant(10), Season(begin=1000, packed=pack([5.0] * 10 + [5.3])), True),  # 5.7 %
        (constant(10), Season(begin=1000, packed=pack([5.0] * 10 + [None, 4.7])), True),
        (constant(10), Season(begin=1000, packed=pack([5.0] * 10 + [None])), False),
        (constant(10, 0.02), Season(begin=1000, packed=pack([0.02] * 10 + [0.06])), False),  # a twenty-fifth of a replica
        (constant(10), constant(10, 9.0, begin=1010), True),
        (constant(10, begin=9000), constant(10, 9.0), True),  # what was written is of a time to come
        (constant(10), Season(begin=1000, packed=pack([5.0] * 10), of="InFlight/4"), True),
    ],
)
def test_only_a_load_that_moved_is_worth_a_write(old: Season, new: Season, worth: bool):
    assert worth_writing(old, new) is worth
    assert worth_writing(mark(old), new) is worth


def test_the_mark_of_what_was_written_is_its_end_and_its_newest_value():
    found = mark(Season(begin=7, packed=pack([1.0, 2.0, None]), of="Work"))
    assert (found.begin, found.bins, found.end, found.of) == (8, (2.0, None), 10, "Work")
    assert (mark(Season(begin=7, packed=pack([None]))).end, mark(Season()).end) == (8, 0)


def test_a_clock_that_ran_ahead_loses_what_it_filed_there():
    season = fed(1, lambda _: 4.0)
    ahead = season.observed(3 * DAY, 4.0).observed(3 * DAY + 60.0, 4.0)
    assert ahead.end == 3 * DAY_BINS
    back = ahead.observed(DAY + 60.0, 4.0)
    assert (back.begin, back.bins) == (0, (4.0,) * DAY_BINS)  # the last was open when the clock went, and seen for 540 s
    assert back.end == DAY_BINS
    assert back.observed(DAY + 120.0, 4.0).last == DAY + 120.0
    before = back.observed(-5000.0, 4.0)
    assert (before.begin, before.bins) == (-9, ())


def test_a_history_without_a_reading_of_today_goes_on_where_it_ends():
    season = Season(begin=10, packed=pack([4.0] * 3))
    assert season.observed(13 * BIN_S + 5.0, 4.0).begin == 10
    assert season.observed(15 * BIN_S + 5.0, 4.0).bins == (4.0, 4.0, 4.0, None, None)


def test_a_small_step_back_waits():
    season = fed(0.1, lambda _: 4.0)
    assert season.observed(0.1 * DAY - 600.0, 9.0) is season


def test_numbers_out_of_this_world_are_not_read():
    season = fed(0.1, lambda _: 4.0)
    assert season.observed(DAY, 1e10) is season
