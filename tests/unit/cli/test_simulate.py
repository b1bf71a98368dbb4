"""`polyfleet simulate`: bad traces and options by name, single requests by hand, failures, plans that come true, and the report."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from polyfleet.cli.failure import Failure
from polyfleet.cli.simulate import data, faults, loop, page, policies, subject, trace
from polyfleet.cli.simulate.servers import Servers, speed_of
from polyfleet.cli.source import Situation

from autoscaling.replay.fleet import Option as Kind
from autoscaling.replay.loads import COSTS
from autoscaling.types import Costs, Decision, Demand, Direction, Look, MetricState, ReplicaState, Slice, Why
from placement.types import Cell, Model, Node, Option, Replica, Snapshot
from placement.types import Demand as Asked
from tests.unit.cli.lib import ROOT, failed, polyfleet

BURST = str(ROOT / "examples" / "burst.csv")
QWEN = ("--snapshot", "demo", "--model", "mdep/llm/qwen3-32b")


def csv(folder: Path, rows: list[str], head: str = "arrival_s,context_tokens,generated_tokens") -> str:
    path = folder / "t.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    return str(path)


def requests(folder: Path, times: list[float], prompt: int = 512, output: int = 11) -> trace.Trace:
    return trace.read(csv(folder, [f"{at},{prompt},{output}" for at in times]))


def fleet(*, running: int = 1, most: int = 4, slow: float = 0.5, price: float = 5.0) -> Situation:
    """Two pools of two nodes of 4 devices, a replica takes 2: in `a` it carries 1 work/s at 4 an hour, in `b` half of it at `price`."""
    cells = (
        Cell("a", "pool-a", "fast", "nvidia", (1, 2, 4), per_node=4, cost_per_device_hour=2.0),
        Cell("b", "pool-b", "slow", "huawei", (1, 2, 4), per_node=4, cost_per_device_hour=price / 2),
    )
    nodes = tuple(Node(f"{cell}{number}", cell, 4, 4, 0) for cell in "ab" for number in (1, 2))
    options = (
        Option("m|fast", "x/m", "fast", "nvidia", "default", "vllm", 2, work_per_s=1.0, start_seconds=100.0),
        Option("m|slow", "x/m", "slow", "huawei", "default", "vllm", 2, work_per_s=slow, start_seconds=100.0),
    )
    rows = tuple(Replica(f"r{number}", "x/m", "m|fast", "a1", 2) for number in range(running))
    snapshot = Snapshot(cells, nodes, (Model("x/m", min_replicas=1, max_replicas=most),), options, rows)
    return Situation(snapshot, Asked(), None, None, None, "test", "", "")


def about(situation: Situation, **more: object) -> subject.Subject:
    given: dict = {"least": None, "most": None, "cold_start_s": None} | more
    return subject.of(situation, "x/m", 0.0, **given)


def static(count: int) -> loop.Policy:
    return loop.Policy("static", None, count)


def asking(*steps: tuple[float, float], shrink: bool = False) -> loop.Policy:
    """A policy that asks for a work from a time on."""

    def decide(memory: object, look: Look) -> Decision:
        work = next(work for at, work in reversed(steps) if at <= look.now)
        moved = Direction.UP if memory is not None and work > memory else Direction.HOLD
        limits = look.settings
        demand = Demand(
            look.model, Slice.WHOLE, work, (), limits.min_replicas, limits.max_replicas, shrink, 0.0, moved, Why.NEED_ABOVE_CAPACITY,
            f"{work} work/s", MetricState.VALUE, work, work, 0.0, 0.0, 0.0, 0.0, 100.0,
        )  # fmt: skip
        return Decision(demand, work)

    return loop.Policy("asking", decide)


# ---- traces


def test_a_trace_is_read_sorted_with_columns_in_any_order(tmp_path):
    path = tmp_path / "t.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("generated_tokens,who,arrival_s,context_tokens\n7,a,2.5,0\n\n5,b,0.5,100\n")
    read = trace.read(str(path))
    assert read.arrival.tolist() == [0.5, 2.5]
    assert read.prompt.tolist() == [100, 1]  # an empty prompt still is one token
    assert read.output.tolist() == [5, 7]
    assert (read.span_s, read.mean) == (2.5, (50.5, 6.0))


@pytest.mark.parametrize(
    ("rows", "head", "what", "why"),
    [
        (["0,1,1", "1,x,1"], None, "line 3: context_tokens is 'x'", "whole number from 0 to 10000000"),
        (["-1,1,1"], None, "line 2: arrival_s is '-1'", "from 0 to 2678400"),
        (["nan,1,1"], None, "line 2: arrival_s is 'nan'", "seconds"),
        (["0,1.5,1"], None, "context_tokens is '1.5'", "whole number"),
        (["0,1"], None, "line 2: generated_tokens is ''", "whole number"),
        (["0,1,1e9"], None, "generated_tokens is '1e9'", "10000000"),
        (["0,1,1"], "arrival_s,prompt,generated_tokens", "no column context_tokens", "arrival_s,prompt,generated_tokens"),
        ([], None, "holds no request", "no row"),
    ],
)
def test_what_is_no_trace_is_refused_by_line_and_column(tmp_path, rows, head, what, why):
    path = csv(tmp_path, rows, head or "arrival_s,context_tokens,generated_tokens")
    found = failed("simulate", "--trace", path, *QWEN)
    assert what in found[0]
    assert why in found[1]


def test_a_trace_that_is_not_there_is_said(tmp_path):
    assert "No such file" in failed("simulate", "--trace", str(tmp_path / "no.csv"), *QWEN)[1]
    broken = tmp_path / "t.csv.gz"
    broken.write_bytes(b"\x1f\x8b" + bytes(40))
    assert "cannot read the trace" in failed("simulate", "--trace", str(broken), *QWEN)[0]


# ---- options


def test_failures_are_read_with_their_times():
    snapshot = fleet().snapshot
    found = faults.parse(["node=a1@1h+30m", "pool=pool-b@90", "metrics@10m+10m", "vendor=nvidia@1d2h"], snapshot)
    assert [(item.text, item.begin, item.end, sorted(item.nodes)) for item in found] == [
        ("pool pool-b", 90.0, math.inf, ["b1", "b2"]),
        ("metrics", 600.0, 1200.0, []),
        ("node a1", 3600.0, 5400.0, ["a1"]),
        ("vendor nvidia", 93_600.0, math.inf, ["a1", "a2"]),
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("pool=pool-c@10m", "no pool named 'pool-c'"),
        ("pool=pool-a", "cannot be read"),
        ("pool=pool-a@soon", "'soon' is no time"),
        ("pool=pool-a@10m+-5", "'-5' is no time"),
        ("rack=r1@10m", "'rack' is no kind"),
        ("metrics=all@10m", "metrics takes no name"),
    ],
)
def test_failures_that_cannot_be_are_refused_by_name(text, what):
    with pytest.raises(Failure) as caught:
        faults.parse([text], fleet().snapshot)
    assert what in caught.value.what
    assert caught.value.code == 64


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (("--policy", "magic"), "--policy: 'magic' is not known"),
        (("--policy", "static=0"), "'static=0'"),
        (("--min", "5", "--max", "2"), "--min 5 and --max 2"),
        (("--cold-start", "long"), "--cold-start: 'long' is no time"),
        (("--fail", "pool=ppu-2@10m"), "no pool named 'ppu-2'"),
    ],
)
def test_wrong_usage_ends_with_64(more, what):
    told = failed("simulate", "--trace", BURST, *QWEN, *more, code=64)
    assert what in told[0]
    assert more[0] in told[2] or more[0] == "--min"


def test_a_fleet_of_several_models_asks_which(tmp_path):
    what, why, next_ = failed("simulate", "--trace", BURST, "--snapshot", "demo", code=64)
    assert "which model" in what
    assert "llm/qwen3-32b" in why
    assert "--model mdep/" in next_


# ---- single requests by hand


def test_speed_makes_a_replica_do_what_it_is_planned_with():
    # A mean request is 100 + 10 tokens: 100 x 0.3086 ms + 10 x 1.125 ms of the benchmarks' replica. Here it costs 0.22 s of a reference.
    costs = Costs(0.002, 0.002)
    assert speed_of(1.0, costs, (100.0, 10.0)) == pytest.approx((100 * (0.00025 + 0.03 / 512) + 10 * (0.0005 + 0.03 / 48)) / 0.22)
    assert speed_of(0.5, COSTS, (700.0, 30.0)) == pytest.approx(0.5)


def test_an_unloaded_replica_answers_as_the_model_says(tmp_path):
    # One chunk of 512 tokens: 30 ms + 512 x 0.25 ms + 0.5 ms = 158.5 ms; 1024 tokens twice that.
    for prompt, took in ((512, 0.1585), (1024, 0.317)):
        done = loop.run(about(fleet()), requests(tmp_path, [0.0, 50.0], prompt), static(1), (), seed=0)
        assert done.ttft.tolist() == pytest.approx([took, took])
    slow = loop.run(about(fleet()), requests(tmp_path, [0.0, 50.0]), loop.Policy("static", None, 1), (), seed=0)
    assert (slow.met, slow.reached, slow.lost, slow.unserved) == (1.0, True, 0, 0)


def test_money_and_hours_by_hand(tmp_path):
    done = loop.run(about(fleet(running=2)), requests(tmp_path, [0.0, 3595.0]), static(2), (), seed=0)
    # The last request ends within 3600 s: 360 ticks of 10 s, two replicas of 2 devices at 2 an hour.
    assert len(done.ticks) == 360
    body = data.document(done)
    assert body["replicaHours"] == pytest.approx(2.0)
    assert body["cost"] == pytest.approx(8.0)
    (row,) = body["usage"]
    assert row["deviceHours"] == pytest.approx(4.0)
    work = 2 * COSTS.of(512, 11)
    assert row["utilisation"] == pytest.approx(work / 7200, abs=1e-4)
    assert body["events"][0]["reason"] in set(Why)


# ---- plans that come true


def test_more_work_starts_replicas_that_serve_after_their_cold_start(tmp_path):
    done = loop.run(about(fleet(price=3.0)), requests(tmp_path, [0.0, 600.0]), asking((0.0, 0.9), (100.0, 1.4)), (), seed=4)
    first = next(tick for tick in done.ticks if tick.pending)
    # 1.4 work/s: the fast replica stays, and a slow one at 3 an hour carries the rest for less than a second fast one at 4.
    assert (first.at, first.pending) == (100.0, (("slow", 0.5),))
    ready = next(tick.at for tick in done.ticks if ("slow", 0.5) in tick.ready)
    assert 180.0 <= ready <= 230.0  # 100 s ± 20 % after 100 s, seen at the next tick
    assert done.ups == 1
    assert done.starts == 1
    assert {tick.at for tick in done.ticks if tick.asked == 0.9} == {float(at) for at in range(0, 100, 10)}


def test_a_lost_pool_takes_its_requests_and_is_replaced_elsewhere(tmp_path):
    situation = fleet()
    struck = faults.parse(["pool=pool-a@95"], situation.snapshot)
    # At 99.9 s a request is inside (it would take half a second), at 150 s one comes while nothing serves.
    done = loop.run(about(situation), requests(tmp_path, [10.0, 99.9, 150.0, 400.0]), static(1), struck, seed=1)
    assert done.lost == 1
    assert math.isinf(done.ttft[1])
    fault = next(event for event in done.events if event.what == "Fault")
    assert (fault.at, fault.change, "1 requests in flight" in fault.text) == (100.0, "-1 pool-a", True)
    # It waits at the gateway until a slow replica, started at 100 s, serves after 80 to 120 s; then a prefill at half speed.
    assert 30.0 <= done.ttft[2] - 2 * 0.1585 <= 70.0
    assert done.ticks[-1].ready == (("slow", 0.5),)
    assert not done.reached  # 2 of 4 within the goal


def test_a_pool_comes_back_empty_and_is_used_again(tmp_path):
    situation = fleet(slow=0.001, most=8)  # pool b is no place for this load: the 4 replicas that it holds are not enough
    struck = faults.parse(["pool=pool-a@95+300"], situation.snapshot)
    done = loop.run(about(situation), requests(tmp_path, [10.0, 1200.0]), asking((0.0, 0.9)), struck, seed=1)
    assert done.short_s > 0
    assert "have no room" in next(event.text for event in done.events if event.change.startswith("+"))
    assert "fast" in dict(done.ticks[-1].ready)
    back = next(event for event in done.events if event.what == "Restored")
    assert back.at == 400.0


def test_who_is_replaced_stays_until_its_successor_serves(tmp_path):
    # Allowed to shrink and with 0.4 work/s to cover, the placer moves to the slow type, which costs a quarter.
    done = loop.run(about(fleet(price=1.0)), requests(tmp_path, [0.0, 900.0]), asking((0.0, 0.4), shrink=True), (), seed=2)
    assert done.ticks[-1].ready == (("slow", 0.5),)
    assert all(sum(rate for _, rate in tick.ready) >= 0.5 for tick in done.ticks)
    assert done.lost == 0


def test_two_weak_ones_that_were_spilled_over_return_as_one(tmp_path):
    # Pool a is away for 300 s: two slow replicas at 5 an hour carry what one fast one at 4 did. Nothing may shrink by number or by work.
    situation = fleet()
    struck = faults.parse(["pool=pool-a@95+300"], situation.snapshot)
    done = loop.run(about(situation), requests(tmp_path, [10.0, 1200.0]), asking((0.0, 0.9)), struck, seed=1)
    spilled = next(tick.at for tick in done.ticks if dict(tick.ready) == {"slow": 1.0})
    assert 180.0 <= spilled < 400.0
    assert done.ticks[-1].ready == (("fast", 1.0),)
    assert max(dict(tick.pending).get("fast", 0.0) for tick in done.ticks) == 1.0
    assert all(sum(rate for _, rate in tick.ready) >= 1.0 for tick in done.ticks if tick.at >= spilled)


def test_a_look_in_the_middle_of_a_move_makes_the_model_no_larger(tmp_path):
    # The move back to pool a begins at 400 s; at 440 s and 460 s an empty node goes and comes, and all is planned anew.
    situation = fleet()
    struck = faults.parse(["pool=pool-a@95+300", "node=a2@435+20"], situation.snapshot)
    done = loop.run(about(situation), requests(tmp_path, [10.0, 1200.0]), asking((0.0, 0.9)), struck, seed=1)
    assert [event.change for event in done.events if event.what in ("Fault", "Restored") and "a2" in event.text] == ["", ""]
    assert done.ticks[-1].ready == (("fast", 1.0),)
    assert max(sum(rate for _, rate in (*tick.ready, *tick.pending)) for tick in done.ticks) == 2.0


def test_work_beyond_the_maximum_is_no_missing_device(tmp_path):
    done = loop.run(about(fleet(most=2)), requests(tmp_path, [0.0, 400.0]), asking((0.0, 9.0)), (), seed=0)
    assert sum(ready + pending for _, ready, pending in done.ticks[-1].replicas) == 2
    assert done.short_s == 0.0
    # Four devices of each pool less is a lack of devices: three replicas are wanted at most, and two have room.
    struck = faults.parse(["node=a2@5", "pool=pool-b@5"], fleet().snapshot)
    short = loop.run(about(fleet(most=3)), requests(tmp_path, [0.0, 400.0]), asking((0.0, 9.0)), struck, seed=0)
    assert short.short_s > 0.0


def test_a_model_sleeps_while_nobody_asks_and_wakes_for_who_waits(tmp_path):
    model = tmp_path / "m.yaml"
    model.write_text(
        "apiVersion: polyfleet.io/v1alpha1\nkind: ModelDeployment\nmetadata: {name: embed, namespace: search}\n"
        "spec:\n  model: {uri: hf://Qwen/Qwen3-8B}\n  placement: {profiles: [alibaba-ppu-810e]}\n"
        "  scaling: {minReplicas: 0, maxReplicas: 2, scaleToZero: {idleAfter: 10m}}\n"
    )
    late = [f"{at}.0,200,20" for at in (*range(0, 300, 5), *range(5400, 5700, 5))]
    options = ("--snapshot", "demo", "-f", str(model), "--trace", csv(tmp_path, late), "--cold-start", "60s", "-o", "json")
    body = json.loads(polyfleet("simulate", *options).out)
    sizes = {tick["at"]: sum(row["ready"] + row["pending"] for row in tick["replicas"].values()) for tick in body["ticks"]}
    assert sizes[0.0] >= 1
    assert {sizes[float(at)] for at in range(3000, 5390, 10)} == {0}
    assert body["unserved"] == 0
    assert sizes[5500.0] >= 1
    # Who wakes it waits for a cold start: 60 s ± 20 % from the tick after the request, and a prefill.
    assert 48.0 <= loop_wait(body) <= 100.0


def loop_wait(body: dict) -> float:
    """From the waking request to the first tick at which a replica serves."""
    return next(tick["at"] for tick in body["ticks"] if tick["at"] >= 5400 and tick["ready"]) - 5400.0


def test_metrics_that_fail_are_not_seen_and_nothing_else(tmp_path):
    seen: list[tuple[float, bool, bool]] = []

    def decide(memory: object, look: Look) -> Decision:
        seen.append((look.now, look.gateway is not None, all(row.sample is not None for row in look.replicas)))
        return asking((0.0, 0.9)).decide(memory, look)  # type: ignore[misc]

    situation = fleet()
    struck = faults.parse(["metrics@60+30"], situation.snapshot)
    done = loop.run(about(situation), requests(tmp_path, [0.0, 200.0]), loop.Policy("seeing", decide), struck, seed=0)
    assert [at for at, gateway, samples in seen if not gateway and not samples] == [60.0, 70.0, 80.0]
    assert done.lost == 0


def test_what_is_seen_is_what_a_scraper_would_see(tmp_path):
    looks: list[Look] = []

    def decide(memory: object, look: Look) -> Decision:
        looks.append(look)
        return asking((0.0, 0.9)).decide(memory, look)  # type: ignore[misc]

    loop.run(replace(about(fleet()), base=1e9), requests(tmp_path, [1.0, 2.0, 31.0, 51.0]), loop.Policy("seeing", decide), (), seed=0)
    last = looks[-1]
    assert last.now == 1e9 + 50.0
    (row,) = last.replicas
    assert row.state is ReplicaState.READY
    assert row.sample is not None
    assert (row.sample.arrived, row.sample.prompt_tokens, row.sample.at) == (3.0, 3 * 512.0, last.now)
    assert last.gateway is not None
    assert (last.gateway.arrived, last.gateway.at) == (3.0, last.now)
    assert last.now >= 1e9
    # Of a cold start that nobody measured: P90 of a uniform spread of ±20 % about 100 s.
    assert dict(last.start_s) == {"m|fast": pytest.approx(116.0), "m|slow": pytest.approx(116.0)}


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    read = requests(tmp_path, [float(at) for at in range(0, 600, 3)])
    policy = asking((0.0, 0.9), (50.0, 2.2))
    one, two, other = (data.to_json(data.document(loop.run(about(fleet()), read, policy, (), seed=seed))) for seed in (1, 1, 2))
    assert one == two
    assert one != other


def test_a_replica_that_dies_takes_what_is_inside_and_no_more(tmp_path):
    servers = Servers(requests(tmp_path, [0.0, 0.0, 0.0, 5.0], output=200), 2)
    servers.enter("one", 0.0, 0.0, Kind())
    servers.advance(1.0)  # three are inside: none is done before 199 iterations of 30 ms and more
    assert servers.die("one", 1.0) == 3
    assert servers.die("one", 1.0) == 0
    servers.advance(6.0)
    assert (servers.held(), servers.inside()) == (1, 1)
    servers.enter("two", 6.0, 6.0, Kind())
    servers.advance(60.0)
    assert (servers.completed(), servers.inside(), sorted(servers.lost)) == (1, 0, [0, 1, 2])
    assert servers.ttft().tolist() == [math.inf, math.inf, math.inf, pytest.approx(1.1585)]


# ---- the command


def test_the_example_as_data():
    done = polyfleet("simulate", "--trace", BURST, *QWEN, "--policy", "static=3", "--fail", "pool=ppu-1@10m", "-o", "json")
    body = json.loads(done.out)
    assert (done.code == 0) == (body["reached"] and not body["shortSeconds"])
    assert body["goal"] == {"ttft": 2.0, "stated": False, "percentile": 95.0}
    assert body["trace"]["requests"] == len(Path(BURST).read_text().splitlines()) - 1
    assert body["met"] == pytest.approx(1.0, abs=1.0)
    assert [event["what"] for event in body["events"]].count("Fault") == 1
    assert body["cost"] == pytest.approx(sum(tick["hourlyCost"] for tick in body["ticks"]) * 10 / 3600, rel=1e-6)
    assert body["cost"] == pytest.approx(sum(row["cost"] for row in body["usage"]), abs=1e-5)
    assert {row["source"] for row in body["coldStarts"].values()} <= {"given", "measured", "profile", "assumed"}


def test_the_operators_own_decision_keeps_the_bounds():
    done = polyfleet("simulate", "--trace", BURST, *QWEN, "--min", "2", "--max", "6", "--cold-start", "60s", "-o", "json")
    assert done.code in (0, 3)
    body = json.loads(done.out)
    assert body["policy"] == "auto"
    assert {event["reason"] for event in body["events"]} <= set(Why)
    sizes = [sum(row["ready"] + row["pending"] for row in tick["replicas"].values()) for tick in body["ticks"]]
    assert min(sizes) >= 2
    # 7 run at the beginning, above the maximum of 6: what is placed in the end is within it.
    assert sizes[-1] <= 7


@pytest.mark.parametrize("name", ["hpa", "keda", "kpa", "wva", "dynamo"])
def test_other_autoscalers_decide_on_the_same_fleet(name, tmp_path):
    """A load of some three replicas from the beginning: each grows from one, none leaves its bounds."""
    times = [float(at) / 8 for at in range(8 * 600)]
    about_ = about(fleet(most=4))
    done = loop.run(about_, requests(tmp_path, times, 800, 120), policies.policy(name, about_), (), seed=0)
    sizes = [sum(ready + pending for _, ready, pending in tick.replicas) for tick in done.ticks]
    assert sizes[0] >= 1
    assert 1 < max(sizes) <= 4
    assert done.ups >= 1
    assert done.unserved == 0
    assert {event.reason for event in done.events} <= set(Why)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href") and value]


def test_the_page_stands_by_itself_and_is_escaped(tmp_path):
    situation = replace(fleet(), source="<script>alert(1)</script>")
    read = replace(requests(tmp_path, [0.0, 100.0]), name="<b>.csv")
    struck = faults.parse(["pool=pool-b@50"], situation.snapshot)
    text = page.render(loop.run(about(situation), read, static(1), struck, seed=0))
    found = _Page()
    found.feed(text)
    assert "script" not in found.tags
    assert found.links == []
    assert found.tags.count("svg") == 5
    assert "&lt;script&gt;" in text
    assert "pool pool-b fails" in text
    assert "nan" not in text.lower().split("<body>")[1]


def test_the_report_is_written_and_named(tmp_path):
    path = tmp_path / "r.html"
    done = polyfleet("simulate", "--trace", BURST, *QWEN, "--policy", "static=3", "--report", str(path))
    assert path.read_text().startswith("<!doctype html>")
    assert done.lines[-1] == f"report: {path}"
    assert all(len(line) <= 100 for line in done.lines[:-1])
    assert (
        "cannot write" in failed("simulate", "--trace", BURST, *QWEN, "--policy", "static", "--report", str(tmp_path / "no" / "r.html"))[0]
    )


def test_days_that_repeat_are_a_prior_as_in_the_operator(tmp_path):
    """1 work/s, and 3 from noon to one: on the fifth day a look has them one horizon before noon, and never on the first three."""
    given: dict[float, float | None] = {}

    def decide(memory: object, look: Look) -> Decision:
        given[look.now] = look.season
        load = 3.0 if 43_200.0 <= look.now % 86_400.0 < 46_800.0 else 1.0
        known = MetricState.VALUE if look.now < 4 * 86_400.0 else MetricState.UNKNOWN  # nothing of the fifth day is needed for it
        demand = Demand(
            look.model,
            Slice.WHOLE,
            1.0,
            (),
            1,
            4,
            False,
            0.0,
            Direction.HOLD,
            Why.WITHIN_BAND,
            "",
            known,
            load,
            load,
            0.0,
            0.0,
            0.0,
            0.0,
            100.0,
        )
        return Decision(demand, look.now)

    policy = loop.Policy("daily", decide, tick_s=60.0)
    loop.run(about(fleet()), requests(tmp_path, [0.0, 4.6 * 86_400.0]), policy, (), seed=0)
    noon = 4 * 86_400.0 + 43_200.0
    assert {value for at, value in given.items() if at <= 3 * 86_400.0} == {None}
    assert given[noon - 600.0] == 1.0
    # A cold start of 100 s (P90 116 s) and a tick of 10 s: at 11:58 and not at 11:57.
    assert (given[noon - 180.0], given[noon - 120.0], given[noon]) == (1.0, 3.0, 3.0)
    assert given[noon + 3600.0] == 1.0
