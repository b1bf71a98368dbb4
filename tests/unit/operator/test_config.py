"""Settings from the environment: defaults, and errors that name the variable, the value and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
from polyfleet.config import ConfigError, load


def test_defaults_are_those_of_the_chart() -> None:
    """An empty environment is a valid configuration."""
    config = load({})
    assert (config.lease_namespace, config.lease_name, config.lease_duration_s) == ("kube-system", "polyfleet", 15)
    assert (config.http_port, config.log_format, config.watch_namespaces) == (8080, "json", ())
    assert config.profiles_dir == Path("/etc/polyfleet/profiles")
    assert not config.overwrite_edited


def test_values_are_taken() -> None:
    """Blanks and repetitions in the list of namespaces do not matter."""
    config = load({"POLYFLEET_WATCH_NAMESPACES": " llm, team-a ,llm", "POLYFLEET_OVERWRITE_EDITED": "true", "POLYFLEET_HTTP_PORT": "0"})
    assert config.watch_namespaces == ("llm", "team-a")
    assert config.overwrite_edited
    assert config.http_port == 0


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("POLYFLEET_HTTP_PORT", "80800", "0 to 65535"),
        ("POLYFLEET_HTTP_PORT", "eighty", "a whole number"),
        ("POLYFLEET_HTTP_PORT", "80.5", "a whole number"),
        ("POLYFLEET_LEASE_DURATION", "1", "3 to 600"),
        ("POLYFLEET_DEBOUNCE_IDLE", "nan", "0 to 60"),
        ("POLYFLEET_OVERWRITE_EDITED", "yes", "true, false"),
        ("POLYFLEET_LOG_FORMAT", "xml", "json, text"),
        ("POLYFLEET_NAMESPACE", "Not_A_Name", "DNS label"),
        ("POLYFLEET_WATCH_NAMESPACES", "a,B", "comma-separated"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(name: str, value: str, allowed: str) -> None:
    """The message alone is enough to correct it."""
    with pytest.raises(ConfigError) as error:
        load({name: value})
    assert name in str(error.value)
    assert repr(value) in str(error.value)
    assert allowed in str(error.value)
