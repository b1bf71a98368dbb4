"""The same time of earlier days: what one model needed in this 10-minute bin, as a prior that may only raise.

It is offered only after three days of history in that bin and only while it pays: over the last days, the level raised to the median of
the bin must have come closer to what arrived than the level alone. Most loads do not pass that test (`python -m
bench.autoscaling_forecast` prints how the 14-day series fare), and then there is no prior.

Pure: the state is a frozen value, time is an argument. Bins are cut at UTC multiples of ten minutes since 1970, so two runs agree.
Source of the rule: same bin of earlier days, quantile by service class, three days at least, backtest against the moving average.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

BIN_S = 600.0
DAY_BINS = 144
DAYS = 7  # days kept; the state is bounded by it: 1,008 numbers, of at most 10 characters where they are stored, 8 bytes in memory
LEAST_DAYS = 3  # of the same bin, before there is a prior
LEVEL_S = 180.0  # decay of the level it is judged against: that of the policy's own
COVERED = 0.5  # share of a bin that must have been seen; less makes the bin unknown, never low
LONGEST_STEP_S = 60.0  # one reading stands for at most so long
BACK_S = 2 * BIN_S  # a clock that went back by more had run ahead: what it filed in times that are yet to come is dropped
WORTH = 0.05  # a bin that differs by more from what was written last is worth writing
WORTH_LEAST = 0.05  # work/s that it must differ by too: a twentieth of a replica is noise, and nothing is decided by it
LARGEST = 1e9  # work/s: no fleet does so much
TRIAL_HALF_LIFE = DAY_BINS  # bins
TRIAL_LEAST = DAY_BINS / 2  # weight of judged bins before a verdict: half a day, by decayed count
TRIAL_MARGIN = 1.02  # the raised level must be better by this, so that a tie leaves the prior off
QUANTILES: Mapping[str, float | None] = {"Strict": 0.9, "Standard": 0.5, "Batch": None}  # by `slo.class`; None = no prior
VERSION = 1
_DECAY = 0.5 ** (1.0 / TRIAL_HALF_LIFE)
TRIAL_LARGEST = 1.01 * LARGEST / (1.0 - _DECAY)  # a decayed sum of such errors, rounded


class SeasonError(ValueError):
    """A stored season that cannot be read; callers go on without one."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Decayed absolute errors of two forecasts of the same values, in the unit of the values."""

    challenger: float = 0.0
    holder: float = 0.0
    weight: float = 0.0  # decayed count of judged values

    @property
    def wins(self) -> bool:
        """Whether the challenger has been better for long enough."""
        return self.weight >= TRIAL_LEAST and self.challenger * TRIAL_MARGIN < self.holder

    def judged(self, challenger: float, holder: float, value: float) -> Trial:
        return Trial(
            self.challenger * _DECAY + abs(challenger - value),
            self.holder * _DECAY + abs(holder - value),
            self.weight * _DECAY + 1.0,
        )


@dataclass(frozen=True, slots=True)
class Season:
    """History of one model: means of work/s by bin, oldest first, not a number = not seen for half of the bin.

    `begin` is the index of the oldest bin, in bins since 1970. `level` is the moving average that the prior has to beat, `lead` what it
    was when the open bin began. `of`: what the numbers measure, where the caller tells measures apart; only equals may be compared."""

    begin: int = 0
    packed: bytes = b""  # doubles: a week as Python numbers takes four times the memory, for every model
    last: float | None = None  # stamp of the newest reading; None = the open bin has none
    work: float = 0.0  # of the open bin, work-seconds
    seen_s: float = 0.0
    level: float | None = None
    lead: float | None = None
    trial: Trial = Trial()
    of: str = ""

    @property
    def view(self) -> memoryview[float]:
        return memoryview(self.packed).cast("d")

    @property
    def bins(self) -> tuple[float | None, ...]:
        """The means, None = not seen."""
        return tuple(None if math.isnan(value) else value for value in self.view)

    @property
    def end(self) -> int:
        """Index of the open bin."""
        return self.begin + len(self.packed) // 8

    def value(self, now: float, *, ahead_s: float = 0.0, slo_class: str = "Standard") -> float | None:
        """Work/s at this time of earlier days, the highest of the bins from `now` to `ahead_s` later. None: no prior (too little
        history, the backtest does not win, or the class wants none). Raises ValueError for an unknown class or a negative `ahead_s`."""
        if slo_class not in QUANTILES:
            raise ValueError(f"slo_class: {slo_class!r} is none of {', '.join(QUANTILES)}")
        if not 0.0 <= ahead_s <= BIN_S * DAY_BINS:
            raise ValueError(f"ahead_s: {ahead_s} is not in 0 to {BIN_S * DAY_BINS:.0f} s")
        quantile = QUANTILES[slo_class]
        if quantile is None or not self.trial.wins:
            return None
        bins = self.view
        found = (prior(bins, index - self.begin, quantile) for index in range(_bin(now), _bin(now + ahead_s) + 1))
        return max((value for value in found if value is not None), default=None)

    def observed(self, at: float, work_per_s: float) -> Season:
        """With one reading of the measured load. Readings that are no number from 0 to `LARGEST` change nothing, nor do those that go
        back in time; by more than `BACK_S`, and the clock had run ahead: then what lies after `at` is dropped."""
        if not (0.0 <= work_per_s <= LARGEST and math.isfinite(at)):
            return self
        index = _bin(at)
        if self.last is None and not self.packed:
            return replace(self, begin=index, last=at, level=work_per_s)
        last = self.last if self.last is not None else self.end * BIN_S
        if at < last - BACK_S:
            kept = self.packed[: 8 * max(0, index - self.begin)]
            begin = min(index, self.begin)
            return replace(self, begin=begin, packed=kept, last=at, work=0.0, seen_s=0.0, level=work_per_s, lead=None)
        if at <= last:
            return self
        state = self if index == self.end else _closed(self, index)
        step = min(at - max(last, index * BIN_S), LONGEST_STEP_S)
        keep = math.exp(-(at - last) / LEVEL_S)
        level = work_per_s if self.level is None else work_per_s + (self.level - work_per_s) * keep
        return replace(state, last=at, work=state.work + work_per_s * step, seen_s=state.seen_s + step, level=level)


def pack(bins: Iterable[float | None]) -> bytes:
    """`Season.packed` of these means."""
    return array("d", [math.nan if value is None else value for value in bins]).tobytes()


def _bin(at: float) -> int:
    return math.floor(at / BIN_S)


def prior(bins: Sequence[float | None], index: int, quantile: float) -> float | None:
    """Quantile (linear between neighbours) of the values at `index` less whole days, at most `DAYS` back; None with fewer than
    `LEAST_DAYS` of them. `index` may lie beyond the end. None and not a number are unknown values."""
    found = []
    for day in range(1, DAYS + 1):
        place = index - day * DAY_BINS
        if 0 <= place < len(bins) and (value := bins[place]) is not None and not math.isnan(value):
            found.append(value)
    if len(found) < LEAST_DAYS:
        return None
    found.sort()
    position = quantile * (len(found) - 1)
    low = math.floor(position)
    high = min(low + 1, len(found) - 1)
    return found[low] + (found[high] - found[low]) * (position - low)


def _closed(season: Season, index: int) -> Season:
    """With the open bin closed and judged, the bins that nobody saw unknown, and `index` open."""
    value = season.work / season.seen_s if season.seen_s >= COVERED * BIN_S else None
    trial = season.trial
    median = prior(season.view, season.end - season.begin, 0.5)
    if value is not None and median is not None and season.lead is not None:
        trial = trial.judged(max(season.lead, median), season.lead, value)
    missed = index - season.end - 1
    kept = DAYS * DAY_BINS
    # The newest value is rounded as it will be stored: a state that was written and read again is the same state.
    closed = (None if value is None else _short(value), *(None,) * min(missed, kept))
    packed = (season.packed + pack(closed))[-8 * kept :]
    return replace(
        season, begin=index - len(packed) // 8, packed=packed, work=0.0, seen_s=0.0, lead=season.level if missed == 0 else None, trial=trial
    )


def _short(value: float) -> float:
    """Four significant digits: what the state is stored with."""
    return float(f"{value:.4g}")


def mark(season: Season) -> Season:
    """What `worth_writing` has to know of a season that was written: where it ends, and its newest value."""
    values = season.view.tolist()
    known = next((place for place in reversed(range(len(values))) if not math.isnan(values[place])), len(values))
    return Season(begin=season.begin + known, packed=season.packed[8 * known :], of=season.of)


def worth_writing(old: Season, new: Season) -> bool:
    """Whether a bin of `new` that `old`, the `mark` of what was written last, does not have is more than 5 % and `WORTH_LEAST` away
    from the newest that it has. So a load that stays as it is causes no write, and what a restart loses then is what was known
    anyway."""
    if old.of != new.of:
        return bool(new.packed)
    first = max(0, old.end - new.begin) if new.end >= old.end else 0  # a clock that went back: everything is new
    anchor = next((value for value in reversed(old.view.tolist()) if not math.isnan(value)), None)
    for value in new.view.tolist()[first:]:
        if math.isnan(value):
            continue
        if anchor is None:
            anchor = value
        elif abs(value - anchor) > max(WORTH * max(value, anchor), WORTH_LEAST):
            return True
    return False


def stored(season: Season) -> dict[str, Any]:
    """What survives a restart, as JSON: at most 12 KiB. The open bin is not kept; it counts as unseen where it was left."""
    trial = season.trial
    return {
        "version": VERSION,
        "of": season.of,
        "begin": season.begin,
        "bins": list(season.bins),
        "trial": [_short(trial.challenger), _short(trial.holder), _short(trial.weight)],
    }


def restored(body: object) -> Season:
    """Of `stored`. Raises SeasonError, naming the field, for anything else."""
    if not isinstance(body, Mapping):
        raise SeasonError(f"season: {type(body).__name__} is no object")
    if body.get("version") != VERSION:
        raise SeasonError(f"season.version: {body.get('version')!r} is not {VERSION}")
    begin, bins, trial = body.get("begin"), body.get("bins"), body.get("trial")
    if not isinstance(begin, int) or isinstance(begin, bool) or not 0 <= begin <= LARGEST:
        raise SeasonError(f"season.begin: {str(begin)[:40]} is no whole number from 0 to {LARGEST:.0f}")
    of = body.get("of", "")
    if not isinstance(of, str) or len(of) > 80:
        raise SeasonError("season.of: not a text of at most 80 characters")
    if not isinstance(bins, list) or len(bins) > DAYS * DAY_BINS:
        raise SeasonError(f"season.bins: not a list of at most {DAYS * DAY_BINS}")
    if not isinstance(trial, list) or len(trial) != 3:
        raise SeasonError("season.trial: not three numbers")
    numbers = [_number(value, f"season.trial[{place}]", TRIAL_LARGEST) for place, value in enumerate(trial)]
    packed = pack(None if value is None else _number(value, f"season.bins[{place}]") for place, value in enumerate(bins))
    if not packed:
        return Season(trial=Trial(*numbers), of=of)
    return Season(begin=begin, packed=packed, last=(begin + len(bins)) * BIN_S, trial=Trial(*numbers), of=of)


def _number(value: object, name: str, most: float = LARGEST) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= most:
        raise SeasonError(f"{name}: {str(value)[:40]} is no finite number from 0 to {most:.0f}")
    return float(value)
