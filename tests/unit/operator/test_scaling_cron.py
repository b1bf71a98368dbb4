"""Cron floors against instants that were worked out by hand, from the rules of the time zones concerned."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polyfleet.scaling import cron


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def show(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def first(schedule: str, zone: str, after: str, count: int = 1) -> list[str]:
    found = cron.starts(cron.parse(schedule), cron.zone(zone), at(after))
    return [show(next(found)) for _ in range(count)]


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "wanted"),
    [
        # 29 November 2026 is a Sunday; 09:00 in Shanghai is 01:00 UTC.
        ("0 9 * * 1-5", "Asia/Shanghai", "2026-11-28T00:00:00Z", ["2026-11-30T01:00:00Z", "2026-12-01T01:00:00Z"]),
        ("0 9 * * MON-FRI", "Asia/Shanghai", "2026-11-27T01:00:00Z", ["2026-11-27T01:00:00Z", "2026-11-30T01:00:00Z"]),
        # Berlin, 29 March 2026: 02:00 becomes 03:00 at 01:00 UTC; 02:30 does not exist that day and comes with the leap.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]),
        # Berlin, 25 October 2026: 03:00 CEST becomes 02:00 CET at 01:00 UTC; 02:30 comes twice and counts once, the first time.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
        # New York, 1 November 2026: 02:00 EDT becomes 01:00 EST; 01:30 EDT is 05:30 UTC.
        ("30 1 * * *", "America/New_York", "2026-11-01T00:00:00Z", ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]),
        # Both days restricted: either will do. The Fridays of November 2026 are 6, 13, 20, 27.
        ("0 0 14 * 5", "UTC", "2026-11-07T00:00:00Z", ["2026-11-13T00:00:00Z", "2026-11-14T00:00:00Z", "2026-11-20T00:00:00Z"]),
        ("0 0 29 2 *", "UTC", "2026-11-29T00:00:00Z", ["2028-02-29T00:00:00Z"]),
        ("*/20 22-23 * * *", "UTC", "2026-11-29T22:10:00Z", ["2026-11-29T22:20:00Z", "2026-11-29T22:40:00Z", "2026-11-29T23:00:00Z"]),
        ("5/25 1,3 * * 7", "UTC", "2026-11-29T01:06:00Z", ["2026-11-29T01:30:00Z", "2026-11-29T01:55:00Z", "2026-11-29T03:05:00Z"]),
        ("@daily", "Asia/Kolkata", "2026-11-29T00:00:00Z", ["2026-11-29T18:30:00Z"]),
    ],
)
def test_starts(schedule: str, zone: str, after: str, wanted: list[str]) -> None:
    assert first(schedule, zone, after, len(wanted)) == wanted


def test_the_interval_that_holds_and_the_next_one() -> None:
    """Two hours from 09:00 in Shanghai on working days."""
    two_hours = 7200.0

    def span(now: str) -> list[str]:
        found = cron.interval("0 9 * * 1-5", "Asia/Shanghai", two_hours, at(now))
        assert found is not None
        return [show(each) for each in found]

    monday = ["2026-11-30T01:00:00Z", "2026-11-30T03:00:00Z"]
    assert span("2026-11-29T12:00:00Z") == monday  # the next
    assert span("2026-11-30T01:00:00Z") == monday  # from its first second
    assert span("2026-11-30T02:59:59Z") == monday
    assert span("2026-11-30T03:00:00Z") == ["2026-12-01T01:00:00Z", "2026-12-01T03:00:00Z"]  # it is over: the end is not part of it


def test_overlapping_runs_give_the_one_that_ends_last() -> None:
    """Every hour for 90 minutes: at 10:15 those of 09:00 (to 10:30) and 10:00 (to 11:30) hold."""
    found = cron.interval("@hourly", "UTC", 5400.0, at("2026-11-29T10:15:00Z"))
    assert found == (at("2026-11-29T10:00:00Z"), at("2026-11-29T11:30:00Z"))


def test_a_day_that_never_comes_has_no_interval() -> None:
    assert cron.interval("0 0 31 2 *", "UTC", 60.0, at("2026-11-29T00:00:00Z")) is None


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("0 9 * *", "has 4 fields, must have 5"),
        ("60 * * * *", "minute: '60', allowed: *, numbers 0 to 59"),
        ("0 9 * * FUN", "day of week: 'FUN', allowed: *, numbers 0 to 7 or SUN to SAT"),
        ("0 17-9 * * *", "hour: '17-9' ends before it begins; write 17-23,0-9"),
        ("*/0 * * * *", "minute: '*/0'"),
        ("0 9 1, * *", "day of month: ''"),
        ("٣ * * * *", "minute: '٣'"),
    ],
)
def test_what_cannot_be_read_is_named(schedule: str, words: str) -> None:
    with pytest.raises(cron.CronError, match="schedule") as fault:
        cron.parse(schedule)
    assert words in str(fault.value)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "/etc/passwd", "Asia/Shanghai\x00"])
def test_an_unknown_time_zone_is_named(name: str) -> None:
    with pytest.raises(cron.CronError, match="is not an IANA time zone"):
        cron.zone(name)


@given(
    now=st.integers(min_value=0, max_value=4_000_000_000),
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]),
    hours=st.integers(1, 30),
)
def test_a_daily_floor_is_never_further_off_than_two_days(now: int, minute: int, hour: int, zone: str, hours: int) -> None:
    """Whatever the time zone does: an interval comes or holds, has its length, and begins at that minute of some hour unless leapt over.
    Two days, for a zone that changed sides of the date line had a day less."""
    found = cron.interval(f"{minute} {hour} * * *", zone, hours * 3600.0, float(now))
    assert found is not None
    begin, end = found
    assert end - begin == hours * 3600.0
    assert end > now
    assert begin <= now + 49 * 3600
