"""Cron floors: from `schedule`, `duration` and `timeZone` to the interval that holds now, or the next one. Exact, with time zones.

Five fields: minute hour day-of-month month day-of-week, each `*`, a number, `a-b`, any of them with `/step`, or a list of these by commas.
Months and weekdays may be named (JAN, MON); 0 and 7 are Sunday. As in cron, a day matches if day-of-month OR day-of-week does when both are
restricted, else both must. `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly` are short for the usual.

Daylight saving: a wall time that the clock leaps over starts at the leap (it is not lost), a wall time that comes twice starts at the
first (it does not start twice). A duration is elapsed time, not wall time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MACROS = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
_HORIZON_DAYS = 366 * 5  # 29 February comes at least every eighth year, mostly every fourth; what is further off is not asked for


class CronError(ValueError):
    """A schedule or a time zone that cannot be read: names the field, the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Schedule:
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0 = Sunday
    any_day: bool  # day-of-month begins with *
    any_weekday: bool

    def on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, (day.isoweekday() % 7) in self.weekdays
        return of_month and of_week if self.any_day or self.any_weekday else of_month or of_week


@lru_cache(maxsize=1024)
def parse(text: str) -> Schedule:
    """Raises CronError."""
    parts = _MACROS.get(text.strip().lower(), text).split()
    if len(parts) != len(_FIELDS):
        raise CronError(f"schedule {text!r} has {len(parts)} fields, must have 5: minute hour day-of-month month day-of-week")
    minutes, hours, days, months, weekdays = (_field(part, *about) for part, about in zip(parts, _FIELDS, strict=True))
    return Schedule(
        minutes, hours, days, months, frozenset(day % 7 for day in weekdays), parts[2].startswith("*"), parts[4].startswith("*")
    )


def _field(text: str, name: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, every = part.partition("/")
        step = _number(every, name, 1, high, part) if every or part.endswith("/") else 1
        if span == "*":
            first, last = low, 6 if name == "day of week" else high
        else:
            begin, dash, end = span.partition("-")
            first = _number(begin, name, low, high, part)
            last = _number(end, name, low, high, part) if dash else high if every else first
        if last < first:
            raise CronError(f"schedule field {name}: {part!r} ends before it begins; write {first}-{high},{low}-{last}")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, name: str, low: int, high: int, part: str) -> int:
    words = {"month": _MONTHS, "day of week": _DAYS}.get(name, ())
    if text.upper() in words:
        return words.index(text.upper()) + (1 if name == "month" else 0)
    if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
        allowed = f"{low} to {high}" + (f" or {words[0]} to {words[-1]}" if words else "")
        raise CronError(f"schedule field {name}: {part!r}, allowed: *, numbers {allowed}, a-b, /step, and lists of them by commas")
    return int(text)


@lru_cache(maxsize=256)
def zone(name: str) -> ZoneInfo:
    """Raises CronError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise CronError(f"timeZone {name!r} is not an IANA time zone; write for example UTC or Asia/Shanghai") from error


def starts(schedule: Schedule, where: ZoneInfo, after: float) -> Iterator[float]:
    """Instants (seconds since 1970) at which it starts, ascending, from the first at or after `after`."""
    day = datetime.fromtimestamp(after, where).date() - timedelta(days=1)  # a leap over midnight may belong to the day before
    last = float("-inf")
    for _ in range(_HORIZON_DAYS):
        if schedule.on(day):
            instants = (_instant(day, hour, minute, where) for hour in schedule.hours for minute in schedule.minutes)
            for at in sorted(set(instants)):
                if at >= after and at > last:
                    last = at
                    yield at
        day += timedelta(days=1)


def _instant(day: date, hour: int, minute: int, where: ZoneInfo) -> float:
    wall = datetime(day.year, day.month, day.day, hour, minute, tzinfo=where)
    if wall.astimezone(UTC).astimezone(where).replace(tzinfo=None) == wall.replace(tzinfo=None):
        return wall.timestamp()
    # The clock leaps over it. The leap is where the offset changes between the instants that the two offsets give.
    low, high = int(wall.replace(fold=1).timestamp()), int(wall.replace(fold=0).timestamp())
    before = datetime.fromtimestamp(low, where).utcoffset()
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if datetime.fromtimestamp(middle, where).utcoffset() == before else (low, middle)
    return float(high)


def interval(text: str, time_zone: str, duration_s: float, now: float) -> tuple[float, float] | None:
    """(begin, end) of the run that holds at `now` (the one that ends last), else of the next; None if none comes within five years.

    Overlapping runs are not joined: the floor of the next one is found when this one ends. Raises CronError.
    """
    schedule, where = parse(text), zone(time_zone)
    latest: tuple[float, float] | None = None
    for begin in starts(schedule, where, now - duration_s):
        if begin > now:
            return latest or (begin, begin + duration_s)
        if now < begin + duration_s:
            latest = (begin, begin + duration_s)
    return latest
