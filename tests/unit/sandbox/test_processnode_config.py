"""From a pod's specification to a local command, and the small readers around it: rewriting, images, scenario, endpoints, logs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sandbox.processnode import images, rewrite, scenario, timestamps
from sandbox.processnode.deadline import Deadline
from sandbox.processnode.endpoints import ProxyError, Target, addresses, find_port
from sandbox.processnode.fleetnode import FleetNode, capacity
from sandbox.processnode.logs import LogOptions, read_log, render

MOUNTS = {"/etc/conf": "/state/conf", "/etc/conf/deep": "/state/deep", "/tmp": "/state/tmp"}

# -- rewriting -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/etc/conf", "/state/conf"),
        ("/etc/conf/", "/state/conf/"),
        ("/etc/conf/a.yaml", "/state/conf/a.yaml"),
        ("/etc/conf/deep/x", "/state/deep/x"),
        ("/etc/config", "/etc/config"),
        ("see /etc/conf", "see /etc/conf"),
        ("--file=/etc/conf/a", "--file=/state/conf/a"),
        ("--url=http://x/tmp", "--url=http://x/tmp"),
    ],
)
def test_rewrite_argument(text: str, expected: str) -> None:
    """Whole path components at the start, the longest mount first, also behind --flag=."""
    assert rewrite.rewrite_argument(text, MOUNTS) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("$(A)/x", "1/x"), ("$(NONE)", "$(NONE)"), ("$$(A)", "$(A)"), ("$A $", "$A $"), ("$(A)$(B)", "12")]
)
def test_expand(text: str, expected: str) -> None:
    """Kubernetes' own rules for $(NAME)."""
    assert rewrite.expand(text, {"A": "1", "B": "2"}) == expected


def test_bind_host_replaces_the_wildcard_only() -> None:
    """0.0.0.0 as a value of its own; nothing that merely contains it."""
    given = ["--host", "0.0.0.0", "--bind=0.0.0.0", "--x=10.0.0.0", "http://0.0.0.0:1"]
    assert rewrite.bind_host(given, "127.1.2.3") == ["--host", "127.1.2.3", "--bind=127.1.2.3", "--x=10.0.0.0", "http://0.0.0.0:1"]


POD = {
    "metadata": {"name": "p", "namespace": "d", "uid": "u", "labels": {"a": '1"2', "b": "x"}, "annotations": {"k/l": "v"}},
    "spec": {"nodeName": "n", "serviceAccountName": "s"},
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "p"),
        ("metadata.labels['b']", "x"),
        ("metadata.annotations['k/l']", "v"),
        ("metadata.labels['absent']", ""),
        ("metadata.labels", 'a="1\\"2"\nb="x"'),
        ("spec.nodeName", "n"),
        ("status.podIP", "127.1.2.3"),
        ("status.hostIP", "127.1.2.1"),
    ],
)
def test_field_value(path: str, expected: str) -> None:
    """The downward API."""
    assert rewrite.field_value(POD, path, pod_ip="127.1.2.3", host_ip="127.1.2.1") == expected


def test_field_value_refuses_unknown_paths_with_the_allowed_ones() -> None:
    """The message names what would be accepted."""
    with pytest.raises(ValueError, match=r"'status.phase' is not one of metadata.name"):
        rewrite.field_value(POD, "status.phase", pod_ip="", host_ip="")


@pytest.mark.parametrize(
    ("text", "milli"),
    [("1", 1000), ("500m", 500), ("1.5", 1500), ("0.0001", 1), ("1Ki", 1024000), ("1k", 1000000), ("2Gi", 2 * 2**30 * 1000)],
)
def test_quantity(text: str, milli: int) -> None:
    """Quantities in thousandths, rounded up."""
    assert rewrite.quantity_milli(text) == milli


def test_resource_value_uses_divisor_and_falls_back_to_allocatable() -> None:
    """limits.memory in Mi; a limit that is not set is what the node has."""
    containers = [{"name": "c", "resources": {"limits": {"memory": "1Gi"}}}]
    assert rewrite.resource_value(containers, "c", {"resource": "limits.memory", "divisor": "1Mi"}, {}) == "1024"
    assert rewrite.resource_value(containers, "c", {"resource": "limits.cpu"}, {"cpu": "2"}) == "2"


# -- images ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["sandbox.polyfleet.io/engine:dev", "sandbox.polyfleet.io/engine:dev2"])
def test_known_images(reference: str) -> None:
    """The engine's image runs the engine's module."""
    assert images.find(reference, "IfNotPresent").entrypoint[1:] == ("-m", "sandbox.engine")


@pytest.mark.parametrize(
    ("reference", "policy", "reason"),
    [
        ("sandbox.polyfleet.io/engine:missing", "IfNotPresent", "ErrImagePull"),
        ("sandbox.polyfleet.io/engine", "IfNotPresent", "ErrImagePull"),
        ("engine:dev", "IfNotPresent", "ErrImagePull"),
        ("sandbox.polyfleet.io/engine:dev", "Always", "ErrImagePull"),
        ("registry.invalid/x:1", "Never", "ErrImageNeverPull"),
    ],
)
def test_images_that_cannot_be_had(reference: str, policy: str, reason: str) -> None:
    """There is no registry, so a node either has an image or never will."""
    with pytest.raises(images.ImageError) as caught:
        images.find(reference, policy)
    assert caught.value.reason == reason


# -- scenario --------------------------------------------------------------------------------------------------------------------


def test_scenario_first_fitting_rule_counts(tmp_path: Path) -> None:
    """Rules are tried in order; a container that no rule fits has no faults."""
    path = tmp_path / "s.yaml"
    path.write_text("pods: [{match: {name: 'a-*'}, neverReady: true}, {crashAfterSeconds: 2}]\nnode: {silent: true}\n")
    found = scenario.read(path)
    assert found.node.silent
    assert found.faults({"metadata": {"name": "a-1", "namespace": "d"}}, "c").never_ready
    assert found.faults({"metadata": {"name": "b", "namespace": "d"}}, "c").crash_after_seconds == 2
    assert scenario.read(tmp_path / "absent.yaml") == scenario.Scenario()


@pytest.mark.parametrize("text", ["pods: [{neverRaedy: true}]", "pods: [{startDelaySeconds: -1}]", "pods: [", "[]x"])
def test_scenario_mistakes_are_named(tmp_path: Path, text: str) -> None:
    """A misspelt key, a negative delay, broken YAML: the error carries the file's name."""
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"s\.yaml"):
        scenario.read(path)


# -- the node --------------------------------------------------------------------------------------------------------------------


def test_fleet_node_labels_and_capacity() -> None:
    """The fleet file's labels win, the sandbox's are added, the devices are counted."""
    node = FleetNode.read('{"name": "x", "labels": {"a": "b"}, "devices": {"kind": "ppu", "count": 16}, "capacity": {"cpu": "96"}}')
    labels = node.all_labels("ppu-0")
    assert (labels["a"], labels["polyfleet.io/sandbox"], labels["kubernetes.io/hostname"]) == ("b", "true", "ppu-0")
    total = capacity(node, node.offer("ppu-0"))
    assert (total["cpu"], total["pods"], total["alibabacloud.com/ppu"]) == ("96", "110", "16")


def test_fleet_node_refuses_what_is_not_one() -> None:
    """The message names the option."""
    with pytest.raises(ValueError, match="--fleet-node"):
        FleetNode.read('{"labels": 3}')


# -- endpoints -------------------------------------------------------------------------------------------------------------------


def backend(name: str, *, ready: bool = True, deleting: bool = False, app: str = "m") -> dict[str, Any]:
    """A pod behind a Service."""
    return {
        "metadata": {"name": name, "namespace": "d", "labels": {"app": app}, **({"deletionTimestamp": "t"} if deleting else {})},
        "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8000}]}]},
        "status": {"podIP": f"127.0.0.{name}", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


SERVICE: dict[str, Any] = {"metadata": {"name": "m"}, "spec": {"selector": {"app": "m"}, "ports": [{"port": 80, "targetPort": "http"}]}}
TARGET = Target("service", "d", "m", 80)


def behind(*pods: dict[str, Any], service: dict[str, Any] | None = None) -> list[str]:
    """The addresses that the proxy would use."""
    listed = {("d", pod["metadata"]["name"]): pod for pod in pods}
    return [f"{host}:{port}" for host, port in addresses(TARGET, {("d", "m"): service or SERVICE}, listed)]


def test_only_ready_pods_of_the_selector_that_stay() -> None:
    """Not ready, on the way out, of another app: none of them gets a connection."""
    assert behind(backend("3"), backend("2"), backend("4", ready=False), backend("5", deleting=True), backend("6", app="x")) == [
        "127.0.0.2:8000",
        "127.0.0.3:8000",
    ]


def test_publish_not_ready_addresses() -> None:
    """The Service may ask for pods that are not ready."""
    assert behind(backend("4", ready=False), service={**SERVICE, "spec": {**SERVICE["spec"], "publishNotReadyAddresses": True}}) == [
        "127.0.0.4:8000"
    ]


def test_ports_of_services_and_pods() -> None:
    """A Service has its ports only, a pod any; one port needs no naming."""
    assert find_port("service", SERVICE, None) == 80
    assert find_port("pod", backend("1"), None) == 8000
    assert find_port("pod", backend("1"), 9) == 9
    with pytest.raises(ProxyError, match='port of service "m" is 81; allowed: 80'):
        find_port("service", SERVICE, 81)


# -- logs and times --------------------------------------------------------------------------------------------------------------

LOG = (
    b"2026-01-01T00:00:01.000000001Z stdout F one\n2026-01-01T00:00:02.000000001Z stderr P tw\n2026-01-01T00:00:02.000000002Z stderr F o\n"
)


def test_render_joins_parts_and_drops_old_lines() -> None:
    """A part has no line end; sinceTime compares each line's own time."""
    lines = LOG.splitlines()
    assert b"".join(render(line, LogOptions()) or b"" for line in lines) == b"one\ntwo\n"
    late = LogOptions.parse({"sinceTime": "2026-01-01T00:00:02Z"})
    assert render(lines[0], late) is None
    assert render(lines[0], LogOptions(with_time=True)) == b"2026-01-01T00:00:01.000000001Z one\n"


async def _read(folder: Path, options: LogOptions) -> bytes:
    return b"".join([data async for data in read_log(folder, options)])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, b"one\ntwo\n"),
        ({"tailLines": "1"}, b"o\n"),
        ({"tailLines": "0"}, b""),
        ({"limitBytes": "5"}, b"one\nt"),
        ({"follow": "true"}, b"one\ntwo\n"),
    ],
)
def test_read_log_of_an_ended_run(tmp_path: Path, query: dict[str, str], expected: bytes) -> None:
    """Options of kubectl logs; following an ended run ends by itself."""
    (tmp_path / "log").write_bytes(LOG)
    (tmp_path / "exit.json").write_text("{}")
    assert asyncio.run(_read(tmp_path, LogOptions.parse(query))) == expected


def test_log_options_name_a_bad_number() -> None:
    """The message names the option and its value."""
    with pytest.raises(ValueError, match="tailLines is '-1'"):
        LogOptions.parse({"tailLines": "-1"})


def test_times_of_every_precision_are_read() -> None:
    """Seconds, microseconds, nanoseconds and an offset."""
    for text in ("2026-01-01T00:00:01Z", "2026-01-01T00:00:01.000000Z", "2026-01-01T00:00:01.000000999Z", "2026-01-01T01:00:01+01:00"):
        assert timestamps.seconds(timestamps.parse(text)) == "2026-01-01T00:00:01Z"


def test_deadline_moves_closer_only() -> None:
    """A second, more urgent deletion shortens the grace; a longer one does not prolong it."""

    async def check() -> None:
        deadline = Deadline(1000)
        deadline.at_most(2000)
        assert deadline.remaining_seconds > 900
        waiting = asyncio.create_task(deadline.passed())
        await asyncio.sleep(0)
        deadline.at_most(0)
        await waiting

    asyncio.run(check())
