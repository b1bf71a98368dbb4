"""What the adapters read of each engine's page. The pages are typed from the engines' documentation; the numbers are added up by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from autoscaling.signals import ALIASES, ENGINES, MOST_BYTES, Sticky, Unreadable, names, read
from autoscaling.signals.page import _line, _plain
from autoscaling.types import Histogram, Sample

PAGES = Path(__file__).parent / "pages"
AT = 1_800_000_000.0
INF = math.inf


def page(name: str) -> bytes:
    return (PAGES / f"{name}.txt").read_bytes()


def sample(engine: str, text: bytes | str, *, model: str = "", sticky: Sticky | None = None) -> Sample:
    found = read(engine, text, at=AT, model=model, sticky=sticky)
    assert isinstance(found, Sample), found
    return found


def unreadable(engine: str, text: bytes | str, *, model: str = "") -> str:
    found = read(engine, text, at=AT, model=model)
    assert isinstance(found, Unreadable), found
    return found.text


# ---- every engine


def test_vllm() -> None:
    """finished 1500 + 480 + 20; capacity 16 x 20000; latencies of requests are another family and left alone."""
    assert sample("vllm", page("vllm_0_11"), model="acme/chat-70b") == Sample(
        at=AT,
        finished=2000.0,
        running=12.0,
        waiting=3.0,
        prompt_tokens=4_250_000.0,
        output_tokens=812_345.0,
        cached_tokens=1_000_000.0,
        queried_tokens=4_000_000.0,
        kv_used=0.625,
        kv_capacity=320_000.0,
        ttft=Histogram((0.1, 1.0, 10.0, INF), (400.0, 1900.0, 2000.0, 2003.0), 900.5),
        itl=Histogram((0.01, 0.05, INF), (100.0, 700_000.0, 810_000.0), 28350.25),
    )
    assert sample("vllm", page("vllm_0_11")).counted == 2015.0


def test_the_vllm_before_the_rename_is_read_too() -> None:
    """1 waits and 2 are parked on the host; how many blocks there are is not known yet ("None")."""
    assert sample("vllm", page("vllm_0_8")) == Sample(
        at=AT,
        finished=10.0,
        running=5.0,
        waiting=3.0,
        prompt_tokens=1000.0,
        output_tokens=300.0,
        kv_used=0.9,
        itl=Histogram((0.01, 0.025, INF), (10.0, 120.0, 290.0), 9.5),
    )


def test_replicas_of_data_parallelism_are_added_and_the_fullest_cache_counts() -> None:
    """Old and new names of the same number stand side by side in some versions: they are not added to each other."""
    assert sample("vllm-ascend", page("vllm_ascend_dp2"), model="qwen") == Sample(
        at=AT,
        finished=15.0,
        running=10.0,
        waiting=1.0,
        prompt_tokens=170.0,
        output_tokens=70.0,
        cached_tokens=15.0,
        queried_tokens=150.0,
        kv_used=0.75,
        kv_capacity=256_000.0,
        ttft=Histogram((0.5, 1.0, INF), (4.0, 13.0, 15.0), 11.75),
    )


def test_sglang() -> None:
    """11008 + 12 aborted; 2826 wait and 4 compile a grammar; low-priority ones are already among those that run."""
    found = sample("sglang", page("sglang_0_5"), model="meta-llama/Llama-3.1-8B-Instruct")
    assert found == Sample(
        at=AT,
        finished=11_020.0,
        running=162.0,
        waiting=2830.0,
        prompt_tokens=8e6,
        output_tokens=7.5e6,
        cached_tokens=60_000.0,
        queried_tokens=8e6,
        kv_used=0.28,
        kv_capacity=442_353.0,
        ttft=Histogram((0.001, 1.0, 30.0, INF), (0.0, 27.0, 2513.0, 11008.0), 2.3518979474117756e06),
        itl=Histogram((0.002, INF), (1.0, 7.400757e06), 866964.5),
    )


def test_ranks_that_hold_the_same_requests_are_not_added() -> None:
    """Replica 0 runs 10 (told by two ranks), replica 1 runs 7 (one rank is a step behind): 17. 2 wait, 1 waits for its cache."""
    found = sample("sglang", page("sglang_ranks"))
    assert (found.running, found.waiting, found.kv_capacity, found.kv_used) == (17.0, 3.0, 2000.0, 0.5)
    assert found.finished is None  # no counter is there before its first event: unknown, not zero
    assert found.counted is None
    assert found.inside == 20.0


def test_mindie() -> None:
    found = sample("mindie", page("mindie"))
    assert found == Sample(
        at=AT,
        arrived=3188.0,
        finished=2270.0,
        running=20.0,
        waiting=11.0,
        prompt_tokens=9564.0,
        output_tokens=84_425.0,
        kv_used=0.3,
        ttft=Histogram((0.001, 0.5, 10.0, INF), (0.0, 40.0, 2500.0, 2523.0), 9740.00288),
        itl=Histogram((0.05, INF), (60_000.0, 80_000.0), 4000.0),
    )
    assert found.counted == 3188.0


def test_per_cent_is_remembered_for_a_replica() -> None:
    """1 means full until the replica has shown that it writes per cent; from then on it is one per cent."""
    low = page("mindie").replace(b'npu_cache_usage_perc{model_name="llama2-7b"} 30', b'npu_cache_usage_perc{model_name="llama2-7b"} 1')
    assert low != page("mindie")
    sticky = Sticky()
    assert sample("mindie", low, sticky=sticky).kv_used == 1.0
    assert sample("mindie", page("mindie"), sticky=sticky).kv_used == 0.3
    assert sample("mindie", low, sticky=sticky).kv_used == 0.01
    assert sample("vllm", "vllm:kv_cache_usage_perc 30\n").kv_used is None  # vLLM has no such doubt: this is no share


def test_tgi() -> None:
    assert sample("tgi", page("tgi_3")) == Sample(
        at=AT,
        arrived=120.0,
        finished=105.0,
        running=12.0,
        waiting=3.0,
        prompt_tokens=64_000.0,
        output_tokens=20_500.0,
        itl=Histogram((0.015, 0.0225, INF), (10.0, 80.0, 100.0), 1.9),
    )


def test_llamacpp() -> None:
    """It counts no requests: how many came is unknown, what is inside is known."""
    found = sample("llama.cpp", page("llamacpp"))
    assert found == Sample(at=AT, running=4.0, waiting=2.0, prompt_tokens=1500.0, output_tokens=820.0, uncounted=True)
    assert (found.counted, found.inside) == (None, 6.0)


def test_trtllm() -> None:
    """5000 blocks of 32 tokens; a dotted prefix, as Dynamo writes it, is the same."""
    found = sample("trtllm", page("trtllm_1_2"))
    assert found == Sample(
        at=AT,
        finished=101.0,
        running=8.0,
        waiting=0.0,
        prompt_tokens=51_200.0,
        output_tokens=12_800.0,
        cached_tokens=6400.0,
        queried_tokens=51_200.0,
        kv_used=0.4,
        kv_capacity=160_000.0,
        ttft=Histogram((0.25, INF), (60.0, 100.0), 31.0),
        itl=Histogram((0.01, INF), (90.0, 100.0), 0.875),
    )
    assert sample("TensorRT-LLM", page("trtllm_1_2").replace(b"trtllm_", b"trtllm:")) == found


def test_the_sandbox_engine_as_it_really_answers() -> None:
    from sandbox.engine.backend import Load
    from sandbox.engine.metrics import EngineMetrics, RequestMeter

    now = iter([0.0, 0.2, 0.25, 0.5])
    metrics = EngineMetrics("chat", lambda: next(now))
    metrics.observe_load(lambda: Load(running=2, waiting=1, kv_used=0.5, prefix_queries=40, prefix_hits=10, preemptions=0))
    metrics.describe({"backend": "paced"}, kv_blocks=100, block_size=16)
    meter = RequestMeter(metrics, prompt_tokens=7)
    meter.token()
    meter.token()
    meter.finished("stop")
    found = sample("sandbox", metrics.render(), model="chat")
    assert (found.finished, found.running, found.waiting, found.prompt_tokens, found.output_tokens) == (1.0, 2.0, 1.0, 7.0, 2.0)
    assert (found.queried_tokens, found.cached_tokens, found.kv_used, found.kv_capacity) == (40.0, 10.0, 0.5, 1600.0)
    assert found.ttft is not None
    assert (found.ttft.total, found.ttft.counts[-1]) == (pytest.approx(0.2), 1.0)
    assert found.itl is not None
    assert found.itl.total == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("engine", "name"),
    [("vllm", "vllm_0_11"), ("vllm", "vllm_0_8"), ("vllm", "vllm_ascend_dp2"), ("sglang", "sglang_0_5"), ("sglang", "sglang_ranks")],
)
def test_a_stack_that_rewrites_colons_changes_nothing(engine: str, name: str) -> None:
    text = page(name)
    assert read(engine, text.replace(b"vllm:", b"vllm_").replace(b"sglang:", b"sglang_"), at=AT) == read(engine, text, at=AT)


@pytest.mark.parametrize("path", sorted(PAGES.glob("*.txt")), ids=lambda path: path.stem)
def test_the_pages_are_prometheus_text_by_another_reader_too(path: Path) -> None:
    families = list(text_string_to_metric_families(path.read_text(encoding="utf-8")))
    assert sum(len(family.samples) for family in families) > 5


# ---- old and new names: OC-040


def test_a_mixed_fleet_reads_the_same_use_of_the_cache_under_either_name() -> None:
    old = "vllm:gpu_cache_usage_perc 0.9\n"
    new = "vllm:kv_cache_usage_perc 0.9\n"
    used = [sample("vllm", text).kv_used for text in (old, old, new, new)]
    assert used == [0.9] * 4
    assert names("vllm", "kv_used") == ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
    said = unreadable("vllm", "vllm:num_lora_adapters 3\n")
    assert "vllm:kv_cache_usage_perc" in said
    assert "vllm:gpu_cache_usage_perc" in said


def test_names_of_what_is_not_published_are_none() -> None:
    assert names("llamacpp", "ttft") == ()
    assert names("no such engine", "running") == ()
    assert names("mindie", "running") == ("num_requests_running",)
    assert names("trtllm", "kv_capacity") == ("trtllm_kv_cache_max_blocks", "trtllm_kv_cache_tokens_per_block")


# ---- what is not readable


@pytest.mark.parametrize("engine", [*ENGINES, *ALIASES])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" \n\n", "empty"),
        ("<!DOCTYPE html>\n<html><body>502 Bad Gateway</body></html>\n", "HTML"),
        ('[{"iter": 1, "numActiveRequests": 2}]\n', "JSON"),
        ('{"detail": "Not Found"}\n', "JSON"),
        ('"# HELP llamacpp:requests_processing x\\nllamacpp:requests_processing 0\\n"\n', "JSON"),
        ("# HELP up x\n# TYPE up gauge\nup 1\nprocess_cpu_seconds_total 4\n", "no series of"),
    ],
)
def test_a_page_that_says_nothing_is_no_zero(engine: str, text: str, why: str) -> None:
    assert why in unreadable(engine, text)


@pytest.mark.parametrize("name", [path.stem for path in sorted(PAGES.glob("*.txt"))])
def test_a_page_that_ends_in_the_middle_of_a_line_is_not_read(name: str) -> None:
    engine = name.split("_", maxsplit=1)[0]
    whole = page(name)
    for end in range(1, len(whole), 97):
        found = read(engine, whole[:end], at=AT)
        assert isinstance(found, Unreadable) or whole[end - 1 : end] == b"\n"


def test_too_large_a_page_is_not_read() -> None:
    text = b"vllm:num_requests_running 1\n"
    assert sample("vllm", text + b"#" * (MOST_BYTES - len(text) - 1) + b"\n").running == 1.0
    assert str(MOST_BYTES) in unreadable("vllm", text + b"#" * (MOST_BYTES - len(text)) + b"\n")


def test_an_engine_without_adapter_says_which_there_are() -> None:
    said = unreadable("lmdeploy", "lmdeploy_running 0\n")
    assert "lmdeploy" in said
    assert "sglang" in said
    assert "HardwareProfile" in said


def test_where_to_look_is_said() -> None:
    assert "--enable-metrics" in unreadable("sglang", "up 1\n")
    assert "/prometheus/metrics" in unreadable("trtllm", "[]\n")
    assert "metricsPort" in unreadable("mindie", "up 1\n")


# ---- values


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "1e400", "", "one", "0x10", "1,5", "--1"])
def test_what_is_no_number_from_nought_up_is_unknown(value: str) -> None:
    """Also among others: the sum without it would be too small."""
    found = sample(
        "vllm", f'vllm:num_requests_running{{engine="0"}} 4\nvllm:num_requests_running{{engine="1"}} {value}\nvllm:num_requests_waiting 2\n'
    )
    assert found.running is None
    assert found.waiting == 2.0
    assert found.inside is None


def test_a_true_zero_is_a_zero() -> None:
    found = sample("vllm", "vllm:num_requests_running 0\nvllm:num_requests_waiting -0.0\nvllm:request_success_total 0\n")
    assert found.counted == 0.0
    assert math.copysign(1.0, found.waiting or 0.0) == 1.0


def test_a_series_that_is_there_twice_counts_once() -> None:
    line = 'vllm:num_requests_running{engine="0"} 4\n'
    assert sample("vllm", line + line).running == 4.0


def test_time_stamps_exemplars_and_ends_of_lines_are_passed_over() -> None:
    text = (
        'vllm:num_requests_running{engine="0"} 4 1800000000000\r\n'
        "vllm:num_requests_waiting\t 2 \n"
        'vllm:request_success_total{engine="0"} 9.0 1800000000.123 # {trace_id="a b"} 1.0 1800000000.0\n'
        "# EOF\n"
    )
    assert sample("vllm", text) == Sample(at=AT, finished=9.0, running=4.0, waiting=2.0)


def test_labels_may_hold_anything() -> None:
    labels = 'model_name="a} 9 \\"x\\\\"'
    text = f'vllm:num_requests_running{{{labels},engine="0"}} 4\nvllm:num_requests_running{{{labels},engine="1"}} 5\n'
    assert sample("vllm", text, model='a} 9 "x\\').running == 9.0
    assert sample("vllm", 'vllm:num_requests_running{model_name="a 4\n').running is None


# ---- several models on a page

SEVERAL = "".join(
    f'num_requests_running{{model_name="{model}"}} {running}\nnum_requests_waiting{{model_name="{model}"}} {waiting}\n'
    for model, running, waiting in (("a", 1, 2), ("b", 10, 20))
)


def test_only_the_served_model_counts() -> None:
    assert sample("mindie", SEVERAL, model="b").inside == 30.0
    assert sample("mindie", SEVERAL).inside == 33.0
    said = unreadable("mindie", SEVERAL, model="c")
    assert "a, b" in said


def test_the_one_model_of_a_page_may_have_another_name() -> None:
    """Engines label with the first of several served names, or with a path."""
    assert sample("vllm", page("vllm_0_11"), model="chat").running == 12.0


# ---- histograms


def histogram(*lines: str) -> Histogram | None:
    text = "vllm:num_requests_running 0\n" + "".join(f"vllm:time_to_first_token_seconds_{line}\n" for line in lines)
    return sample("vllm", text).ttft


def test_histograms_with_different_bounds_are_added_where_both_count() -> None:
    found = histogram(
        'bucket{e="0",le="0.5"} 1', 'bucket{e="0",le="1"} 2', 'bucket{e="0",le="+Inf"} 4', 'sum{e="0"} 3',
        'bucket{e="1",le="1.0"} 5', 'bucket{e="1",le="2"} 6', 'bucket{e="1",le="+Inf"} 6', 'sum{e="1"} 4.5',
    )  # fmt: skip
    assert found == Histogram((1.0, INF), (7.0, 10.0), 7.5)


@pytest.mark.parametrize(
    "lines",
    [
        ('bucket{le="1"} 2', "sum 1"),  # cut off: the last bucket is missing
        ('bucket{le="1"} 2', 'bucket{le="+Inf"} 3'),  # no sum
        ('bucket{le="1"} 5', 'bucket{le="+Inf"} 3', "sum 1"),  # falls
        ('bucket{le="1"} NaN', 'bucket{le="+Inf"} 3', "sum 1"),
        ('bucket{le="soon"} 1', 'bucket{le="+Inf"} 3', "sum 1"),
        ("bucket 1", "sum 1"),
        ("sum 1",),
    ],
)
def test_a_histogram_that_cannot_be_is_unknown(lines: tuple[str, ...]) -> None:
    assert histogram(*lines) is None


# ---- anything


@given(st.sampled_from([*ENGINES]), st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_without_an_error(engine: str, noise: bytes) -> None:
    found = read(engine, noise, at=AT)
    assert isinstance(found, Unreadable)


_NAMES = sorted({words.written(name) for words in ENGINES.values() for name in words.numbers["running"].names})
_JUNK = st.text(alphabet='{}" \\,=\n#_:abc019.eE+-NaInf\t\r', max_size=60)


@given(st.sampled_from([*ENGINES]), st.lists(st.tuples(st.sampled_from([*_NAMES, "x"]), _JUNK), max_size=12))
@settings(max_examples=300, deadline=None)
def test_broken_lines_give_no_number_that_cannot_be(engine: str, lines: list[tuple[str, str]]) -> None:
    found = read(engine, "".join(f"{name}{rest}\n" for name, rest in lines), at=AT)
    if isinstance(found, Sample):
        for value in (found.running, found.waiting, found.kv_used, found.finished):
            assert value is None or (math.isfinite(value) and value >= 0.0)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_lines_does_not_matter(values: list[int]) -> None:
    lines = [f'vllm:num_requests_running{{engine="{at}"}} {value}\n' for at, value in enumerate(values)]
    assert sample("vllm", "".join(lines)) == sample("vllm", "".join(reversed(lines)))
    assert sample("vllm", "".join(lines)).running == sum(values)


@pytest.mark.parametrize(
    "unit", ["\n", "\nvllm:", '\nvllm:num_requests_running{a="', '\nvllm:num_requests_running{a="b",', "\\", '"', "{", "# "]
)
def test_a_large_page_of_one_thing_is_read_in_one_pass(unit: str) -> None:
    """Half a megabyte of it ends at once; with a step for every pair of characters it would take hours, and the run its time limit."""
    text = "vllm:num_requests_waiting 3\nvllm:num_requests_running{" + unit * (500_000 // len(unit)) + "\n"
    found = sample("vllm", text)
    assert (found.waiting, found.running) == (3.0, None)


@given(
    st.text(alphabet='{}" \\,=ab1.e_#-\t', max_size=30),
    st.sampled_from(["", '"} 5', '"} 5 6', '"} -0', '"} 1_0', '"} nan', '"} 5 # {a="b"} 1']),
)
@settings(max_examples=400, deadline=None)
def test_the_short_way_through_a_line_gives_what_the_long_one_gives(head: str, tail: str) -> None:
    """Only plain lines take it, and only with the same result."""
    rest = ("{" + head + tail).encode()
    short = _plain(rest)
    assert short is None or short == _line(rest)
