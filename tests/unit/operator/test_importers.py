"""Readers of other tools' files: hand-made files with the documented field names and numbers of our own; every expected value is worked out
by hand beside it. Sources of the formats: the head of each reader in polyfleet/profiledata."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given as generated
from hypothesis import settings
from hypothesis import strategies as st
from polyfleet.cli.profile.command import FORMATS
from polyfleet.profiledata.entry import Given, Imported, day, decimal_text
from polyfleet.profiledata.fields import ReadError
from polyfleet.profiledata.formats import READERS

from hwprofiles.model import Layout

SAID = Given(file="run.json", model="Qwen/Qwen3-32B", precision="fp8", engine="vllm", layout=Layout(tensor=2), date="2026-11-20")
LENGTHS = Given(file="va.yaml", precision="fp16", engine="vllm", layout=Layout(), date="2026-11-20", input_tokens=500, output_tokens=101)


def read(kind: str, body: object, said: Given = SAID) -> Imported:
    return READERS[kind](body if isinstance(body, str) else json.dumps(body), said)


def values(imported: Imported, place: int = 0) -> dict[str, Any]:
    return imported.entries[place].dump_set()


# AIBrix: rows are output tokens, columns input tokens; requests/s at the goals, mean seconds.
AIBRIX = {
    "gpu": "qwen3-32b-h20",
    "cost": 1.0,
    "tputs": [[6.0, 2.5], [1.2, 0.0]],
    "indexes": [[128, 512], [1024, 4096]],
    "created": 1795478400.0,  # 2026-11-24 00:00 UTC
    "e2e": [[4.0, 8.0], [15.0, 40.0]],
    "ttft": [[0.5, 1.5], [0.6, 4.0]],
    "slos": {"percentile": 99, "e2e": 20.0},
}
VLLM = {
    "date": "20261120-101500",
    "endpoint_type": "openai",
    "model_id": "/models/qwen3-32b",
    "num_prompts": 320,
    "request_rate": "inf",
    "max_concurrency": 32,
    "duration": 400.0,
    "completed": 320,
    "failed": 0,
    "total_input_tokens": 1_120_000,  # 3500 each
    "total_output_tokens": 320_000,  # 1000 each
    "output_throughput": 800.0,
    "mean_ttft_ms": 900.0,
    "mean_itl_ms": 39.1,
    "mean_tpot_ms": 38.0,
}
AIPERF = {
    "schema_version": "1.3",
    "output_token_throughput": {"unit": "tokens/sec", "avg": 1274.63},
    "input_sequence_length": {"unit": "tokens", "avg": 550.2},
    "output_sequence_length": {"unit": "tokens", "avg": 96.85},
    "time_to_first_token": {"unit": "ms", "avg": 158.8},
    "inter_token_latency": {"unit": "ms", "avg": 51.8},
    "request_count": {"unit": "requests", "avg": 200},
    "error_request_count": None,
    "start_time": "2026-10-17T20:22:08.939332",
    "was_cancelled": False,
    "input_config": {
        "models": {"items": [{"name": "openai/gpt-oss-20b"}]},
        "phases": [{"name": "warmup", "concurrency": 4}, {"name": "profiling", "type": "concurrency", "concurrency": 100}],
    },
}
GENAI_PERF = {
    "output_token_throughput": {"unit": "tokens/sec", "avg": 45.84},
    "input_sequence_length": {"unit": "tokens", "avg": 549.66},
    "output_sequence_length": {"unit": "tokens", "avg": 15.96},
    "time_to_first_token": {"unit": "ns", "avg": 20_757_771.2},
    "inter_token_latency": {"unit": "ns", "avg": 3_860_101.1},
    "input_config": {"model_names": ["llama-3.1-8b"], "perf_analyzer": {"stimulus": {"concurrency": 1}}},
}
STAGE = {
    "load_summary": {"count": 480, "requested_rate": 1.0, "achieved_rate": 1.02, "concurrency": 16},
    "successes": {
        "count": 480,
        "latency": {
            "request_latency": {"mean": 3.31},
            "time_to_first_token": {"mean": 0.8},
            "inter_token_latency": {"mean": 0.021},
        },
        "throughput": {"output_tokens_per_sec": 122.4, "requests_per_sec": 1.02},
        "prompt_tokens": {"mean": 543.0},
        "output_tokens": {"mean": 120.0},
    },
    "failures": {"count": 3},
}
COSTS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: accelerator-unit-costs}
data:
  A100: '{"device": "NVIDIA-A100-SXM4-80GB", "cost": "280.00"}'
  H100: '{"device": "NVIDIA-H100-80GB-HBM3", "cost": "500.00"}'
"""
PARAMETERS = {"decodeParms": {"alpha": "20.0", "beta": "0.5"}, "prefillParms": {"gamma": "10", "delta": "0.02"}}
VARIANT = json.dumps(
    {
        "kind": "VariantAutoscaling",
        "spec": {
            "modelID": "meta/llama-3.1-8b",
            "modelProfile": {"accelerators": [{"acc": "A100", "accCount": 1, "maxBatchSize": 8, "perfParms": PARAMETERS}]},
        },
    }
)
LATER_VARIANT = json.dumps(
    {
        "kind": "VariantAutoscaling",
        "spec": {
            "modelID": "meta/llama-3.1-8b",
            "accelerator": "A100",
            "acceleratorCount": 1,
            "variantProfile": {"maxBatchSize": 8, "perfParms": PARAMETERS},
        },
    }
)
GOOD: dict[str, Any] = {
    "aibrix": AIBRIX, "vllm": VLLM, "aiperf": AIPERF, "genai-perf": GENAI_PERF, "inference-perf": STAGE, "wva": VARIANT,
}  # fmt: skip


def test_every_format_of_the_command_line_has_a_reader() -> None:
    assert set(FORMATS) == set(READERS) == set(GOOD)


def test_aibrix_cells_become_entries() -> None:
    """6 requests/s x 128 tokens = 768 tokens/s, 6 x 4 s = 24 in flight, (4 - 0.5) s / 127 = 28 ms; the cell of zero is no entry."""
    found = read("aibrix", AIBRIX)
    loads = [(e.input_tokens, e.output_tokens, e.concurrency, e.output_tokens_per_second) for e in found.entries]
    assert loads == [(1024, 128, 24, "768"), (4096, 128, 20, "320"), (1024, 512, 18, "614.4")]
    first = values(found)
    assert (first["ttft"], first["itl"], first["date"], first["evidence"]) == ("500ms", "28ms", "2026-11-20", "Published")
    assert any("1 of 4 cells are 0" in note for note in found.notes)
    assert "Little's law" in first["source"]


def test_the_date_of_the_file_counts_where_none_is_given() -> None:
    undated = Given(file="run.json", model="m", precision="fp8", engine="vllm", layout=Layout())
    assert values(read("aibrix", AIBRIX, undated))["date"] == "2026-11-24"
    assert values(read("vllm", VLLM, undated))["date"] == "2026-11-20"
    assert values(read("aiperf", AIPERF, undated))["date"] == "2026-10-17"
    assert day("20261120-101500") == "2026-11-20"


def test_vllm_means_over_the_completed_requests() -> None:
    """1,120,000 / 320 = 3500 in, 320,000 / 320 = 1000 out; ITL as measured and not TPOT. The served name is not the model's."""
    entry = values(read("vllm", VLLM))
    assert (entry["inputTokens"], entry["outputTokens"], entry["concurrency"]) == (3500, 1000, 32)
    assert (entry["outputTokensPerSecond"], entry["ttft"], entry["itl"]) == ("800", "900ms", "39ms")
    assert entry["model"] == "Qwen/Qwen3-32B"
    assert entry["source"] == "vllm bench file run.json"


def test_vllm_without_a_limit_counts_by_littles_law() -> None:
    """0.8 requests/s x (0.9 + 999 x 0.0391) s = 31.97 in flight."""
    assert values(read("vllm", {**VLLM, "max_concurrency": None}))["concurrency"] == 32


def test_appended_vllm_runs_are_separate_entries() -> None:
    other = {**VLLM, "max_concurrency": 8, "output_throughput": 300.0}
    found = read("vllm", json.dumps(VLLM) + "\n" + json.dumps(other) + "\n")
    assert [entry.concurrency for entry in found.entries] == [32, 8]


def test_a_number_that_nobody_uses_may_be_nan() -> None:
    """vLLM writes NaN for a deviation of nothing."""
    assert values(read("vllm", json.dumps({**VLLM, "std_itl_ms": math.nan})))["concurrency"] == 32


def test_aiperf_reads_the_measured_phase() -> None:
    """100 of the phase `profiling`, not 4 of the warm-up; 550.2 and 96.85 rounded; four figures of the rate."""
    said = Given(file="p.json", precision="fp4", engine="vllm", layout=Layout())
    entry = values(read("aiperf", AIPERF, said))
    assert (entry["model"], entry["concurrency"]) == ("openai/gpt-oss-20b", 100)
    assert (entry["inputTokens"], entry["outputTokens"], entry["outputTokensPerSecond"]) == (550, 97, "1275")
    assert (entry["ttft"], entry["itl"]) == ("159ms", "52ms")


def test_earlier_aiperf_nests_metrics_and_names_the_load_differently() -> None:
    metrics = {name: value for name, value in AIPERF.items() if isinstance(value, dict) and "avg" in value}
    older = {"records": metrics, "input_config": {"endpoint": {"model_names": ["m/x"]}, "loadgen": {"concurrency": 12}}}
    entry = values(read("aiperf", older, Given(file="p.json", precision="fp4", engine="vllm", layout=Layout(), date="2026-11-01")))
    assert (entry["model"], entry["concurrency"]) == ("m/x", 12)


def test_genai_perf_units_are_read_and_not_guessed() -> None:
    """20,757,771 ns = 21 ms and 3,860,101 ns = 4 ms."""
    entry = values(read("genai-perf", GENAI_PERF))
    assert (entry["ttft"], entry["itl"], entry["concurrency"], entry["outputTokensPerSecond"]) == ("21ms", "4ms", 1, "45.84")
    with pytest.raises(ReadError, match=r"time_to_first_token.unit"):
        read("genai-perf", {**GENAI_PERF, "time_to_first_token": {"unit": "fortnights", "avg": 1}})


def test_inference_perf_stage_and_summary() -> None:
    """A stage says 16 in flight; a summary does not, and 1.02 x 3.31 = 3.4 gives 3. Seconds, not milliseconds."""
    entry = values(read("inference-perf", STAGE))
    assert (entry["concurrency"], entry["inputTokens"], entry["outputTokens"]) == (16, 543, 120)
    assert (entry["outputTokensPerSecond"], entry["ttft"], entry["itl"]) == ("122.4", "800ms", "21ms")
    summary = read("inference-perf", {**STAGE, "load_summary": {"count": 480}})
    assert values(summary)["concurrency"] == 3
    assert any("all stages" in note for note in summary.notes)


@pytest.mark.parametrize("variant", [VARIANT, LATER_VARIANT])
def test_wva_parameters_are_a_formula_and_so_estimated(variant: str) -> None:
    """Batch 8: ITL 20 + 0.5 x 8 = 24 ms, TTFT 10 + 0.02 x 500 x 8 = 90 ms, 8 x 101 / (0.09 + 100 x 0.024) s = 324.5 tokens/s."""
    entry = values(read("wva", variant, LENGTHS))
    assert (entry["concurrency"], entry["ttft"], entry["itl"], entry["outputTokensPerSecond"]) == (8, "90ms", "24ms", "324.5")
    assert (entry["evidence"], entry["model"]) == ("Estimated", "meta/llama-3.1-8b")


def test_wva_prices_are_cents() -> None:
    """280 cents per hour = 2.80."""
    found = read("wva", COSTS, Given(file="c.yaml", accelerator="A100", date="2026-11-20"))
    assert found.price is not None
    assert found.price.per_device_hour == pytest.approx(2.80)
    with pytest.raises(ReadError, match="several accelerators") as caught:
        read("wva", COSTS)
    assert caught.value.next == "add --accelerator NAME"


def test_measured_only_where_somebody_says_so() -> None:
    here = Given(file="run.json", model="m", precision="fp8", engine="vllm", layout=Layout(), date="2026-11-20", measured_here=True)
    assert values(read("vllm", VLLM, here))["evidence"] == "Measured"
    assert values(read("vllm", VLLM))["evidence"] == "Published"


@pytest.mark.parametrize(
    ("kind", "change", "flag"),
    [
        ("vllm", {"precision": None}, "--precision"),
        ("vllm", {"layout": None}, "--tensor"),
        ("vllm", {"engine": None}, "--engine"),
        ("inference-perf", {"model": None}, "--model"),
        ("inference-perf", {"date": None}, "--date"),
        ("genai-perf", {"date": None}, "--date"),
    ],
)
def test_what_a_format_cannot_say_is_asked_for_by_its_flag(kind: str, change: dict[str, Any], flag: str) -> None:
    from dataclasses import replace

    with pytest.raises(ReadError) as caught:
        read(kind, GOOD[kind], replace(SAID, **change))
    assert caught.value.next.startswith(f"add {flag}")


def test_a_flag_that_contradicts_the_file_is_refused() -> None:
    from dataclasses import replace

    with pytest.raises(ReadError, match="--concurrency 64 contradicts the file"):
        read("vllm", VLLM, replace(SAID, concurrency=64))


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("vllm", "", "this file is empty"),
        ("vllm", json.dumps(VLLM)[:150], "the file ends early"),
        ("vllm", "[]", r"\(run 0\): \[\], must be an object"),
        ("vllm", {**VLLM, "output_throughput": -3}, "output_throughput: -3"),
        ("vllm", json.dumps({**VLLM, "output_throughput": math.nan}), "output_throughput: nan"),
        ("vllm", {**VLLM, "output_throughput": "fast"}, "output_throughput: 'fast'"),
        ("vllm", {**VLLM, "output_throughput": True}, "output_throughput: True"),
        ("vllm", {key: value for key, value in VLLM.items() if key != "completed"}, "field completed is missing: a vllm bench file has it"),
        ("vllm", {**VLLM, "failed": 100}, "100 of 420"),
        ("vllm", "[" * 100_000, "nested too deeply"),
        ("aibrix", {**AIBRIX, "tputs": [[1.0, 2.0]]}, "tputs: 1 rows, must be 2"),
        ("aibrix", {**AIBRIX, "e2e": [[1.0], [2.0]]}, r"e2e\[0\]: 1 cells, must be 2"),
        ("aibrix", {**AIBRIX, "tputs": [[1.0, -2.0], [1.0, 1.0]]}, r"tputs\[0\]\[1\]: -2"),
        ("aibrix", {**AIBRIX, "tputs": [[0, 0], [0, 0]]}, "every cell is 0"),
        ("aibrix", {**AIBRIX, "indexes": [[128, 512]]}, "field indexes"),
        ("aibrix", {key: value for key, value in AIBRIX.items() if key != "e2e"}, "field e2e is missing"),
        ("aiperf", {**AIPERF, "error_request_count": {"avg": 200}}, "200 of 400"),
        ("inference-perf", {**STAGE, "successes": 3}, "successes.count is missing: an inference-perf file has it"),
        ("wva", "kind: ConfigMap\nmetadata: {name: x}\ndata: {}", "this is no WVA file"),
        ("wva", COSTS.replace('"cost": "280.00"', '"price": 1'), "data.A100"),
        ("wva", ": :\n-", "not YAML"),
        ("wva", "&a [*a, *a]", "must be an object"),
    ],
)
def test_malformed_files_get_a_typed_error_with_the_field(kind: str, body: object, said: str) -> None:
    with pytest.raises(ReadError, match=said):
        read(kind, body)


def test_a_file_of_a_hundred_megabytes_is_refused() -> None:
    with pytest.raises(ReadError, match="100 MiB, at most 64 MiB"):
        read("vllm", " " * (100 << 20))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@generated(kind=st.sampled_from(sorted(set(GOOD) - {"wva"})), data=st.data())
def test_a_file_with_any_value_anywhere_is_an_entry_or_a_typed_error(kind: str, data: st.DataObject) -> None:
    """One value of a good file is replaced by junk: never another exception, and never an entry without a positive rate."""
    body = json.loads(json.dumps(GOOD[kind]))
    place = body
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(JUNK)
    try:
        found = read(kind, json.dumps(body))
    except ReadError:
        return
    assert all(float(entry.output_tokens_per_second or 0) > 0 for entry in found.entries)


@pytest.mark.parametrize(("value", "text"), [(1274.63, "1275"), (45.84, "45.84"), (0.12345, "0.1235"), (80000.4, "80000"), (800.0, "800")])
def test_rates_keep_four_figures_and_never_an_exponent(value: float, text: str) -> None:
    assert decimal_text(value) == text
