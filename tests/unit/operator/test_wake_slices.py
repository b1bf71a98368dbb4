"""Ports, and EndpointSlices as they are written and read. Values by hand; the shapes are those of discovery.k8s.io/v1."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from polyfleet.state import EndpointsState
from polyfleet.wake import ports, slices
from polyfleet.wake.names import FIRST_PORT, LAST_PORT

from tests.unit.operator.builders import model

OWNER = model("m", namespace="a")


def raw(manifest: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """As the API server gives it back."""
    more = {"uid": "u1", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z", **metadata}
    return {**manifest, "metadata": {**manifest["metadata"], **more}}


def held(**more: Any) -> EndpointsState:
    given: dict[str, Any] = {"family": "IPv4", "number": 20007, "pods": (), "hold_s": 300.0, "wake_s": 120.4, "served": "llama"}
    found = slices.parse(raw(slices.manifest(OWNER, **{**given, **more})))
    assert found is not None
    return found


def controllers(role: str, endpoints: list[dict[str, Any]], port: int = 8000, **labels: str) -> EndpointsState:
    managed = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io", "polyfleet.io/activator": role, **labels}
    found = slices.parse(
        {
            "metadata": {"name": "m-x1", "namespace": "a", "uid": "u2", "resourceVersion": "8", "labels": managed},
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        }
    )
    assert found is not None
    return found


# ---- ports


def test_a_port_that_is_recorded_is_kept_and_others_begin_at_their_own_place() -> None:
    found = ports.assign(["a/m", "b/n"], {"a/m": 20100, "gone/x": 20101})
    assert found == {"a/m": 20100, "b/n": FIRST_PORT + ports.begin("b/n")}
    assert ports.assign(["b/n", "a/m"], {"a/m": 20100}) == found


def test_two_models_never_get_one_port() -> None:
    assert ports.assign(["b/n", "a/m"], {"a/m": 20100, "b/n": 20100})["a/m"] == 20100
    first = FIRST_PORT + ports.begin("a/m")
    assert ports.assign(["a/m", "b/n"], {"b/n": first})["a/m"] == (first + 1 if first < LAST_PORT else FIRST_PORT)
    many = [f"n/{i}" for i in range(3000)]
    assert len(set(ports.assign(many, {}).values())) == 3000


@pytest.mark.parametrize("port", [0, FIRST_PORT - 1, LAST_PORT + 1, 70000])
def test_a_recorded_port_outside_the_range_is_not_taken_over(port: int) -> None:
    assert ports.assign(["a/m"], {"a/m": port})["a/m"] != port


def test_a_port_of_another_releases_model_is_free_for_nobody() -> None:
    first = ports.assign(["a/m"], {})["a/m"]
    assert ports.assign(["a/m"], {}, {first})["a/m"] == (first + 1 if first < LAST_PORT else FIRST_PORT)
    assert ports.assign(["a/m"], {"a/m": first}, {first})["a/m"] != first


def test_when_no_port_is_left_the_last_get_none() -> None:
    everyone = [f"n/{i:05d}" for i in range(LAST_PORT - FIRST_PORT + 3)]
    assert everyone[-2:] == sorted(set(everyone) - ports.assign(everyone, {}).keys())


# ---- slices


def test_a_slice_says_to_the_activator_what_the_operator_meant() -> None:
    pods = [slices.Endpoint("10.0.0.9"), slices.Endpoint("10.0.0.2")]
    manifest = slices.manifest(OWNER, family="IPv4", number=20007, pods=pods, hold_s=300.0, wake_s=120.4, served="llama")
    assert manifest["metadata"]["labels"]["kubernetes.io/service-name"] == "m"
    assert manifest["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == "polyfleet.io"
    assert [each["addresses"] for each in manifest["endpoints"]] == [["10.0.0.2"], ["10.0.0.9"]]
    assert manifest["ports"] == [{"name": "http", "port": 20007, "protocol": "TCP"}]
    assert slices.route(held()) == slices.Route("a", "m", "m", 20007, 300.0, 120.0, "llama")
    assert slices.route(held(wake_s=None)) == slices.Route("a", "m", "m", 20007, 300.0, None, "llama")


@pytest.mark.parametrize(
    "wrong",
    [
        {"annotations": {}},
        {"annotations": {"polyfleet.io/model-deployment": "m", "polyfleet.io/hold-seconds": "nan"}},
        {"annotations": {"polyfleet.io/model-deployment": "m", "polyfleet.io/hold-seconds": "-5"}},
        {"annotations": {"polyfleet.io/model-deployment": "m", "polyfleet.io/hold-seconds": "soon"}},
        {"spec": {"ports": [{"name": "http", "port": 22}]}},
        {"spec": {"ports": [{"name": "other", "port": 20007}]}},
        {"spec": {"ports": None}},
        {"labels": {"polyfleet.io/activator": "held", "kubernetes.io/service-name": "m"}},
    ],
)
def test_a_slice_that_does_not_say_all_of_it_is_no_route(wrong: dict[str, Any]) -> None:
    assert slices.route(replace(held(), **wrong)) is None


def test_a_port_that_two_slices_name_is_the_older_ones() -> None:
    mine = held()
    forged = replace(mine, namespace="evil", uid="u9", created="2026-01-02T00:00:00Z")
    assert slices.routes([forged, mine])[20007].namespace == "a"


def test_only_the_controllers_ready_endpoints_are_replicas() -> None:
    rows = [
        {"addresses": ["10.0.0.3"], "conditions": {"ready": True}, "targetRef": {"uid": "p3"}},
        {"addresses": ["10.0.0.4"], "conditions": {"ready": False, "serving": True, "terminating": True}},
        {"addresses": ["10.0.0.5"], "conditions": {"ready": False}},
        {"addresses": ["10.0.0.6"]},  # "a nil value should be interpreted as true"
    ]
    found = controllers("serving", rows)
    assert slices.ready(found) == (slices.Endpoint("10.0.0.3", "p3"), slices.Endpoint("10.0.0.6"))
    assert slices.role(found) == "serving"
    assert slices.role(replace(found, labels={**found.labels, "endpointslice.kubernetes.io/managed-by": "me"})) == ""
    assert slices.role(replace(held(), labels={**held().labels, "endpointslice.kubernetes.io/managed-by": "me"})) == ""
    assert slices.ready(controllers("serving", [])) == ()
