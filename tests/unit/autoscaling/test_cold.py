"""P90 of measured cold starts, by hand."""

from __future__ import annotations

import json
from math import inf, nan

import pytest

from autoscaling.cold import HALF_LIFE_S, KEEP, ColdStartFault, ColdStarts, add, p90, restored, stored


def of(*seconds: float, at: float = 0.0) -> ColdStarts:
    starts = ColdStarts()
    for s in seconds:
        starts = add(starts, "o", "hot", at, s)
    return starts


def test_never_started_is_not_known() -> None:
    assert p90(ColdStarts(), "o", "hot", 0.0) is None
    assert p90(of(60.0), "o", "cold", 0.0) is None


def test_the_nineth_of_ten_is_the_p90() -> None:
    assert p90(of(*(float(x) for x in range(10, 110, 10))), "o", "hot", 0.0) == 90.0


def test_few_starts_count_with_the_longest() -> None:
    assert p90(of(50.0, 80.0), "o", "hot", 0.0) == 80.0


def test_old_starts_fade() -> None:
    """One start of 300 s, ten half-lives old, weighs 1/1024; two of 60 s now: 60 reaches 90 % of 2.001."""
    starts = add(add(of(300.0), "o", "hot", 10.0 * HALF_LIFE_S, 60.0), "o", "hot", 10.0 * HALF_LIFE_S, 60.0)
    assert p90(starts, "o", "hot", 10.0 * HALF_LIFE_S) == 60.0


def test_no_more_are_kept_than_stated_and_the_oldest_go() -> None:
    starts = ColdStarts()
    for i in range(KEEP + 10):
        starts = add(starts, "o", "hot", float(i), 100.0 if i < 10 else 50.0)
    ((_, entries),) = starts.measured
    assert len(entries) == KEEP
    assert p90(starts, "o", "hot", 0.0) == 50.0


@pytest.mark.parametrize("seconds", [0.0, -1.0, nan, inf, 1e6])
def test_a_time_that_cannot_be_is_refused(seconds: float) -> None:
    with pytest.raises(ColdStartFault, match="seconds"):
        of(seconds)


def test_it_survives_a_restart() -> None:
    starts = add(of(60.0, 90.0), "p|q", "cold", 5.0, 120.0)
    assert restored(json.loads(json.dumps(stored(starts)))) == starts


@pytest.mark.parametrize(
    "bad", [{"o": []}, {"o|hot": 3}, {"o|hot": [[1.0]]}, {"o|hot": [[1.0, "x"]]}, {"o|hot": [[1.0, -3.0]]}, {"o|hot": [[0.0, 1.0]] * 65}]
)
def test_a_list_that_cannot_be_read_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ColdStartFault):
        restored(bad)
