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
        ("POLYFLEET_PROMETHEUS_URL", "prometheus:9090", "http:// or https://"),
        ("POLYFLEET_PROMETHEUS_URL", "https://", "host"),
        ("POLYFLEET_PROMETHEUS_URL", "https://p:99999", "port"),
        ("POLYFLEET_PROMETHEUS_URL", "https://p/x?query=up", "no query"),
        ("POLYFLEET_PROMETHEUS_TOKEN_FILE", "/token", "https://"),
        ("POLYFLEET_PROMETHEUS_CA_FILE", "/ca.crt", "https://"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(name: str, value: str, allowed: str) -> None:
    """The message alone is enough to correct it."""
    with pytest.raises(ConfigError) as error:
        load({name: value})
    assert name in str(error.value)
    assert repr(value) in str(error.value)
    assert allowed in str(error.value)


def test_a_prometheus_is_taken_without_its_api_path() -> None:
    config = load({"POLYFLEET_PROMETHEUS_URL": "https://p.monitoring.svc:9090/prom/api/v1/", "POLYFLEET_PROMETHEUS_TOKEN_FILE": "/token"})
    assert (config.prometheus_url, config.prometheus_token_file) == ("https://p.monitoring.svc:9090/prom", Path("/token"))
    assert (load({}).prometheus_url, load({}).prometheus_ca_file, load({}).prometheus_token_file) == ("", None, None)


@pytest.mark.parametrize("url", ["https://user:hunter2@p:9090", "https://hunter2@p"])
def test_a_password_in_the_address_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        load({"POLYFLEET_PROMETHEUS_URL": url})
    assert "no user" in str(error.value)
    assert "hunter2" not in str(error.value)


def test_a_token_does_not_go_over_an_open_connection() -> None:
    with pytest.raises(ConfigError, match="POLYFLEET_PROMETHEUS_TOKEN_FILE"):
        load({"POLYFLEET_PROMETHEUS_URL": "http://p:9090", "POLYFLEET_PROMETHEUS_TOKEN_FILE": "/token"})
