"""From `spec.scaling`, `spec.slo` and the FleetPolicy to what the decision takes, and what of them is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from polyfleet.api import FleetPolicySpec, ModelDeploymentSpec
from polyfleet.scaling import settings
from polyfleet.scaling.force import Reference
from polyfleet.scaling.store import LIMIT, Learned, decode, encode

from autoscaling.season import DAY_BINS, DAYS, Season, pack, stored
from autoscaling.types import Costs, CronFloor, FallbackRule, SleepRule, Slo
from tests.unit.operator.forces import condition, force, look, scaled


def spec(scaling: dict[str, Any] | None = None, **more: Any) -> ModelDeploymentSpec:
    given = {"minReplicas": 1, "maxReplicas": 8, **(scaling or {})}
    return ModelDeploymentSpec.model_validate({"model": {"uri": "hf://polyfleet/byte-tiny"}, "scaling": given, **more})


def policy(**scaling: Any) -> FleetPolicySpec:
    return FleetPolicySpec.model_validate({"scaling": scaling})


def test_defaults_follow_the_slo_and_the_loads_own_volatility() -> None:
    found = settings.of(spec(), policy(), 0.0)
    assert (found.min_replicas, found.max_replicas, found.slo) == (1, 8, Slo(None, None, 95.0, "Standard"))
    assert (found.burst_quantile, found.utilization) == (None, None)
    assert (found.down_window_s, found.down_events_per_hour, found.up_window_s, found.up_events_per_hour) == (None, 6, 0.0, None)
    assert (found.max_horizon_s, found.hold_unknown_s, found.tick_s) == (240.0, 300.0, 10.0)
    assert settings.of(spec(), policy(), 0.0, at_zero=True).tick_s == 5.0


def test_what_is_stated_is_taken() -> None:
    stated = {
        "fallback": {"replicas": 4, "failureThreshold": 5, "behavior": "Static"},
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300, "maxEventsPerHour": 2}},
        "minReplicas": 0,
        "scaleToZero": {"idleAfter": "20m", "maxWakeSeconds": 90},
    }
    found = settings.of(spec(stated, slo={"class": "Strict", "ttft": "500ms", "itl": "60ms", "percentile": 99}), policy(), 0.0)
    assert found.fallback == FallbackRule(4, 5, "Static")
    assert (found.down_window_s, found.down_events_per_hour) == (300.0, 2)
    assert found.sleep == SleepRule(1200.0, 90)
    assert found.slo == Slo(0.5, 0.06, 99.0, "Strict")


def test_a_class_that_somebody_set_counts_and_one_that_only_the_schema_wrote_does_not() -> None:
    """The API server wrote the defaults of earlier releases into every stored policy."""
    shipped = policy(classes=[{"name": "Standard", "burstQuantile": "0.8", "utilization": "0.9"}])
    assert settings.of(spec(), shipped, 0.0).utilization is None
    own = policy(classes=[{"name": "Standard", "burstQuantile": "0.9", "utilization": "0.75"}])
    found = settings.of(spec(), own, 0.0)
    assert (found.burst_quantile, found.utilization) == (0.9, 0.75)


def test_a_cron_floor_is_the_interval_that_holds_or_comes_next_and_never_above_the_maximum() -> None:
    """09:00 in Shanghai is 01:00 UTC; 25 November 2026 is a Wednesday."""
    floor = {"schedule": "0 9 * * 1-5", "duration": "2h", "timeZone": "Asia/Shanghai", "minReplicas": 20}
    at = datetime(2026, 11, 25, 1, 30, tzinfo=UTC).timestamp()
    begin = datetime(2026, 11, 25, 1, 0, tzinfo=UTC).timestamp()
    assert settings.of(spec({"floors": [floor]}), policy(), at).floors == (CronFloor(begin, begin + 7200, 8),)
    later = datetime(2026, 11, 25, 4, 0, tzinfo=UTC).timestamp()
    assert settings.of(spec({"floors": [floor]}), policy(), later).floors == (CronFloor(begin + 86400, begin + 93600, 8),)


@pytest.mark.parametrize(
    ("floor", "words"),
    [
        ({"schedule": "61 9 * * *", "duration": "1h", "minReplicas": 2}, "spec.scaling.floors[0]: schedule field minute: '61'"),
        ({"schedule": "9 * * *", "duration": "1h", "minReplicas": 2}, "has 4 fields, must have 5"),
        ({"schedule": "0 9 * * *", "duration": "1h", "minReplicas": 2, "timeZone": "Mars/Base"}, "timeZone 'Mars/Base' is not an IANA"),
    ],
)
def test_a_floor_that_cannot_be_read_is_refused_with_its_field(floor: dict[str, Any], words: str) -> None:
    done = look(scaled({"scaling": {"minReplicas": 1, "maxReplicas": 8, "floors": [floor]}}), force(1.0))
    assert condition(done, "Accepted")[:2] == ("False", "InvalidSpec")
    assert words in condition(done, "Accepted")[2]


def test_a_floor_above_the_maximum_is_told_and_counts_as_the_maximum() -> None:
    floors = [{"schedule": "0 9 * * *", "duration": "1h", "minReplicas": count} for count in (8, 12)]
    done = look(scaled({"scaling": {"minReplicas": 1, "maxReplicas": 8, "floors": floors}}), force(1.0))
    text = "spec.scaling.floors[1].minReplicas 12 is above maxReplicas 8 and counts as 8: raise maxReplicas"
    assert condition(done, "Accepted") == ("True", "Valid", text)


# ---- what is stored


UNIT = Reference("llm/m|p|default|vllm|1", Costs(0.001, 0.004), "entries")


def test_what_is_stored_comes_back() -> None:
    learned = Learned({"version": 1, "kappas": {"o": 1.1}}, [{"option": "o", "cache": "Cold", "seconds": [60.0]}], UNIT)
    for found in (learned, replace(learned, season=stored(Season(begin=7, packed=pack([1.5, None]), of="Work")))):
        text = encode(found)
        assert text is not None
        assert decode(text) == found


def test_a_full_week_beside_a_full_memory_has_room() -> None:
    """The longest numbers that can be: 360 bins, two tables of 128 a side, 1,008 bins of the season."""
    table = [[1.23e-100] * 128] * 2
    memory = {"version": 1, "bins": [1.23e-100] * 360, "trials": {"late": table, "supplied": table}}
    season = stored(Season(begin=10**9, packed=pack([1.234e-100] * DAYS * DAY_BINS), of="KVCacheUse/0.123457"))
    assert len(json.dumps(season, separators=(",", ":"))) <= 12 * 1024
    text = encode(Learned(memory, [{"option": "o", "cache": "Cold", "seconds": [600.0] * 32}] * 20, UNIT, season))
    assert text is not None
    assert decode(text).season == season


def test_the_season_goes_before_the_cold_starts() -> None:
    many = [{"option": f"o{i}", "cache": "Cold", "seconds": [1.0] * 32} for i in range(100)]
    text = encode(Learned({"version": 1}, many, UNIT, {"bins": [1.234] * 4000}))
    assert text is not None
    assert (decode(text).season, len(decode(text).starts)) == (None, 100)


def test_cold_starts_go_first_where_there_is_no_room_and_without_any_nothing_is_stored() -> None:
    many = [{"option": f"o{i}", "cache": "Cold", "seconds": [1.0] * 32} for i in range(500)]
    text = encode(Learned({"version": 1}, many, UNIT))
    assert text is not None
    assert len(text.encode()) <= LIMIT
    assert decode(text).starts == []
    assert encode(Learned({"version": 1, "x": "y" * LIMIT}, [], UNIT)) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"version":2,"memory":{}}', '{"version":1,"memory":[]}',
        '{"version":1,"memory":{},"unit":{"prompt":0,"output":1}}',
        '{"version":1,"memory":{},"unit":{"prompt":1,"output":1,"basis":"guess"}}', '{"version":1,"memory":{}' + " " * LIMIT + "}",
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_so(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(text)
