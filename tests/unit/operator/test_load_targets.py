"""Which pods are asked, where and under whose names; and what is kept between polls."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from polyfleet import naming
from polyfleet.inputs import Inputs
from polyfleet.load.feed import Feed
from polyfleet.load.scraper import Failed, Scraper
from polyfleet.load.tally import Sent, Tally
from polyfleet.load.targets import Target, address, targets
from polyfleet.state import PodState

from autoscaling.types import Sample
from hwprofiles.model import Engine
from tests.unit.operator import builders as b
from tests.unit.operator.looks import NVIDIA_ONLY, children, look

SCALED: dict[str, Any] = {**NVIDIA_ONLY, "scaling": {"minReplicas": 2, "maxReplicas": 4}}


def seen(*pods: Mapping[str, Any], spec: Mapping[str, Any] = SCALED, name: str = "m", extra: Sequence[PodState] = ()) -> Inputs:
    """A model with replicas as they are described, each with an address."""
    model = b.model(name, spec)
    (child,) = children(model).values()
    replicas = [replace(b.replica(child, **{"node": "h100-0", **pod}), ip=f"10.0.0.{at}") for at, pod in enumerate(pods, 1)]
    return look(model, deployments=(child,), pods=(*replicas, *extra)).inputs


def test_replicas_that_serve_or_leave_are_asked_and_those_that_load_are_not() -> None:
    inputs = seen(
        {"name": "a", "serving": True}, {"name": "b", "up": True}, {"name": "c"}, {"name": "d", "serving": True, "draining": True}
    )
    found = targets(inputs, ["llm/m"])
    assert [(item.uid, item.url, item.leaving) for item in found] == [
        ("uid-a", "http://10.0.0.1:8000/metrics", False),
        ("uid-b", "http://10.0.0.2:8000/metrics", False),
        ("uid-d", "http://10.0.0.4:8000/metrics", True),
    ]
    assert {item.engine for item in found} == {"vllm"}
    assert {item.model for item in found} == {inputs.models["llm/m"].resolution.options[0].wanted.served_name}
    assert targets(inputs, ["llm/other"]) == ()


def test_a_pod_with_our_labels_and_another_owner_is_not_ours() -> None:
    """OC-043: labels can be copied, owners cannot."""
    inputs = seen({"name": "a", "serving": True})
    (child,) = inputs.models["llm/m"].children
    stranger = replace(child.pods[0], name="x", uid="uid-x", owner_uid="uid-of-somebody", ip="10.0.0.9")
    again = seen({"name": "a", "serving": True}, extra=(stranger,))
    assert [item.uid for item in targets(again, ["llm/m"])] == ["uid-a"]


@pytest.mark.parametrize(
    ("engine", "url"),
    [
        ("vllm", "http://10.0.0.1:8000/metrics"),
        ("sglang", "http://10.0.0.1:8000/metrics"),
        ("mindie", "http://10.0.0.1:1027/metrics"),
        ("trtllm", "http://10.0.0.1:8000/prometheus/metrics"),
        ("unheard-of", "http://10.0.0.1:8000/metrics"),
    ],
)
def test_where_an_engine_is_asked(engine: str, url: str) -> None:
    assert address(replace(b.pod("p"), ip="10.0.0.1"), engine) == (url, "")


def test_a_pod_may_say_where_it_is_to_be_asked() -> None:
    pod = replace(b.pod("p", annotations={naming.METRICS_PORT: "9100", naming.METRICS_PATH: "/metrics?model=a"}), ip="fd00::7")
    assert address(pod, "vllm") == ("http://[fd00::7]:9100/metrics?model=a", "")
    assert address(b.pod("p"), "vllm")[0] == ""


@pytest.mark.parametrize("port", ["0", "65536", "-1", "80a", "", "１２", "9" * 40])
def test_a_port_that_is_none_is_said(port: str) -> None:
    url, fault = address(replace(b.pod("p", annotations={naming.METRICS_PORT: port}), ip="10.0.0.1"), "vllm")
    assert (url, "1 to 65535" in fault) == ("", True)


@pytest.mark.parametrize("path", ["metrics", "//evil host/", "/a b", "/a\r\nX: y", "/" + "a" * 300, "@elsewhere/metrics"])
def test_a_path_that_is_none_is_said(path: str) -> None:
    url, fault = address(replace(b.pod("p", annotations={naming.METRICS_PATH: path}), ip="10.0.0.1"), "vllm")
    assert (url, "begins with /" in fault) == ("", True)


def test_the_profile_says_whose_names_an_engine_publishes() -> None:
    inputs = seen({"name": "a", "serving": True})
    (view,) = inputs.models.values()
    (option,) = view.resolution.options
    profile = option.wanted.profile
    engines = {option.wanted.engine: Engine(metrics="sglang")}
    wanted = replace(option.wanted, profile=profile.model_copy(update={"engines": engines}))
    changed = replace(view, resolution=replace(view.resolution, options=(replace(option, wanted=wanted),)))
    (item,) = targets(replace(inputs, models={view.key: changed}), [view.key])
    assert item.engine == "sglang"


# ---- between polls


@dataclass(slots=True)
class Answers:
    """Stands for the scraper: what it gives is written here, what it was asked is kept."""

    rows: list[dict[str, Sample | Failed]]
    asked: list[list[str]] = field(default_factory=list)
    closed: bool = False

    async def poll(self, asked: Sequence[Target], now: float) -> Mapping[str, Sample | Failed]:
        self.asked.append([item.uid for item in asked])
        return self.rows.pop(0)

    async def close(self) -> None:
        self.closed = True


def test_a_reading_is_kept_with_its_age_until_its_pod_is_gone() -> None:
    both = seen({"name": "a", "serving": True}, {"name": "b", "serving": True})
    one = seen({"name": "a", "serving": True})
    answers = Answers(
        [
            {"uid-a": Sample(1.0, running=1.0), "uid-b": Sample(1.0, running=2.0)},
            {"uid-a": Failed("no connection"), "uid-b": Sample(11.0, running=3.0)},
            {"uid-a": Failed("no connection")},
        ]
    )
    tally = Tally()
    tally.to("uid-a").requests = 1.0
    tally.to("uid-b").requests = 1.0
    feed = Feed(answers, tally)  # type: ignore[arg-type]

    async def run() -> None:
        first = await feed.poll(both, 1.0)
        assert (dict(first.samples), dict(first.failed)) == ({"uid-a": Sample(1.0, running=1.0), "uid-b": Sample(1.0, running=2.0)}, {})
        second = await feed.poll(both, 11.0)
        assert second.samples == {"uid-a": Sample(1.0, running=1.0), "uid-b": Sample(11.0, running=3.0)}
        assert second.failed == {"uid-a": "no connection"}
        third = await feed.poll(one, 21.0)
        assert third.samples == {"uid-a": Sample(1.0, running=1.0)}
        await feed.close()

    asyncio.run(run())
    assert answers.asked == [["uid-a", "uid-b"], ["uid-a", "uid-b"], ["uid-a"]]
    assert answers.closed
    assert (tally.of("uid-a"), tally.of("uid-b")) == (Sent(1.0), None)


def test_prometheus_answers_for_those_that_do_not_and_for_nobody_else() -> None:
    """a answers itself; b and c do not: of b Prometheus has a newer scrape, of c an older one than c gave itself, then none."""
    inputs = seen({"name": "a", "serving": True}, {"name": "b", "serving": True}, {"name": "c", "serving": True})
    first = Answers(
        [
            {"uid-a": Sample(1.0, running=1.0), "uid-b": Failed("no connection"), "uid-c": Sample(1.0, running=3.0)},
            {"uid-a": Sample(11.0, running=1.0), "uid-b": Failed("no connection"), "uid-c": Failed("no connection")},
            {"uid-a": Sample(21.0, running=1.0), "uid-b": Sample(21.0, running=4.0), "uid-c": Failed("no connection")},
        ]
    )
    second = Answers(
        [
            {"uid-b": Sample(-5.0, running=2.0, every=15.0)},
            {"uid-b": Sample(10.0, running=2.0, every=15.0), "uid-c": Sample(0.5, running=9.0, every=15.0)},
            {"uid-c": Failed("Prometheus: no series")},
        ]
    )
    feed = Feed(first, prometheus=second)  # type: ignore[arg-type]

    async def run() -> None:
        found = await feed.poll(inputs, 1.0)
        assert (found.samples["uid-b"].at, found.failed, found.second) == (-5.0, {}, {"uid-b"})
        found = await feed.poll(inputs, 11.0)
        assert (found.samples["uid-b"].at, found.samples["uid-c"], found.second) == (10.0, Sample(1.0, running=3.0), {"uid-b"})
        assert found.failed == {"uid-c": "no connection"}
        found = await feed.poll(inputs, 21.0)
        assert (found.samples["uid-b"], found.second) == (Sample(21.0, running=4.0), frozenset())
        assert found.failed == {"uid-c": "no connection; Prometheus: no series"}
        await feed.close()

    asyncio.run(run())
    assert second.asked == [["uid-b"], ["uid-b", "uid-c"], ["uid-c"]]
    assert second.closed


def test_a_replica_that_gives_nothing_twice_is_told_once_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    inputs = seen({"name": "a", "serving": True})
    silent: Mapping[str, Sample | Failed] = {"uid-a": Failed("no connection")}
    feed = Feed(Answers([silent, silent, silent, {"uid-a": Sample(31.0, running=1.0)}, silent, silent]))  # type: ignore[arg-type]

    async def run() -> None:
        for now, lines in ((1.0, 0), (11.0, 1), (21.0, 1), (31.0, 1), (41.0, 1), (51.0, 2)):
            await feed.poll(inputs, now)
            assert [record.__dict__["detail"] for record in caplog.records] == ["llm/a: no connection"] * lines
        await feed.close()

    with caplog.at_level("WARNING", logger="polyfleet.load.feed"):
        asyncio.run(run())


def test_a_target_says_which_pod_it_is_where_somebody_else_asks_it() -> None:
    (found,) = targets(seen({"name": "a", "serving": True, "created": "2026-01-01T00:00:30Z"}), ["llm/m"])
    assert (found.namespace, found.pod, found.created) == ("llm", "a", 1767225630.0)


def test_models_without_scaling_are_not_asked() -> None:
    inputs = seen({"name": "a", "serving": True}, spec=NVIDIA_ONLY)
    answers = Answers([{}])

    async def run() -> None:
        found = await Feed(answers).poll(inputs, 1.0)  # type: ignore[arg-type]
        assert (found.samples, found.failed) == ({}, {})

    asyncio.run(run())
    assert answers.asked == [[]]


def test_nobody_to_ask_is_no_fault() -> None:
    async def run() -> None:
        scraper = Scraper()
        assert await scraper.poll([], 1.0) == {}
        await scraper.close()

    asyncio.run(run())
