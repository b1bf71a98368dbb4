"""The byte model over real HTTP: answers, streams, log-probabilities, stop strings, metrics."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sandbox.engine import byte_model
from sandbox.engine.numerics import Numerics
from sandbox.engine.numpy_llama import NumpyLlama
from sandbox.engine.sampling import log_softmax
from sandbox.engine.step_model import Chunk

Run = Callable[..., None]
PROMPT = "The class "


def _greedy_without_cache(prompt: str, count: int) -> tuple[str, list[float]]:
    """Greedy text and log-probabilities by computing the whole text anew for every byte: no scheduler, no cache, no HTTP."""
    numerics = Numerics("fp32")
    tokens, logprobs = list(prompt.encode()), []
    for _ in range(count):
        model = NumpyLlama(byte_model.load(numerics), numerics, 4, 16)
        hidden = model.forward([Chunk(tuple(tokens), 0, (0, 1, 2, 3), 0, True)])
        row = log_softmax(model.logits(hidden[-1:])[0])
        tokens.append(int(np.argmax(row)))
        logprobs.append(float(row.max()))
    return bytes(tokens[len(prompt) :]).decode(), logprobs


def test_greedy_answer_is_what_the_model_says_without_scheduler_and_cache(run_engine: Run) -> None:
    text, logprobs = _greedy_without_cache(PROMPT, 20)

    async def scenario(client: Any) -> None:
        body = await client.complete(PROMPT, max_tokens=20, logprobs=0)
        choice = body["choices"][0]
        assert choice["text"] == text
        assert choice["finish_reason"] == "length"
        np.testing.assert_allclose(choice["logprobs"]["token_logprobs"], logprobs, atol=1e-4)
        assert body["usage"]["prompt_tokens"] == 10
        assert body["usage"]["completion_tokens"] == 20

    run_engine(scenario)


def test_answers_of_a_full_batch_are_those_of_each_alone(run_engine: Run) -> None:
    """Continuous batching with chunked prefill mixes sequences in one iteration; none may see another."""
    prompts = [f"{word} is the " for word in ("Module", "Class", "It", "That", "The value")]

    async def scenario(client: Any) -> None:
        alone = [(await client.complete(p, max_tokens=15))["choices"][0]["text"] for p in prompts]
        together = await asyncio.gather(*(client.complete(p, max_tokens=15) for p in prompts))
        assert [body["choices"][0]["text"] for body in together] == alone

    run_engine(scenario, "--max-num-batched-tokens=7", "--no-enable-prefix-caching")


def test_preempted_sequences_give_the_same_text(run_engine: Run) -> None:
    """Five blocks of 16 hold one context of 64 and one block more, so three answers of 60 bytes must push each other out."""
    prompts = ["The class ", "A function ", "When a "]

    async def scenario(client: Any) -> None:
        alone = [(await client.complete(p, max_tokens=50))["choices"][0]["text"] for p in prompts]
        together = await asyncio.gather(*(client.complete(p, max_tokens=50) for p in prompts))
        assert [body["choices"][0]["text"] for body in together] == alone
        assert await client.metric("vllm:num_preemptions_total") > 0
        assert await client.metric("vllm:kv_cache_usage_perc") == 0

    run_engine(scenario, "--num-gpu-blocks-override=5")


def test_generated_logprobs_equal_those_of_scoring_the_same_text_as_a_prompt(run_engine: Run) -> None:
    """Decode and prefill are two paths to the same numbers."""

    async def scenario(client: Any) -> None:
        made = (await client.complete(PROMPT, max_tokens=20, logprobs=5))["choices"][0]
        scored = (await client.complete(PROMPT + made["text"], max_tokens=0, echo=True, logprobs=5))["choices"][0]
        assert scored["text"] == PROMPT + made["text"]
        assert scored["logprobs"]["token_logprobs"][0] is None
        after = scored["logprobs"]["token_logprobs"][len(PROMPT) :]
        np.testing.assert_allclose(made["logprobs"]["token_logprobs"], after, atol=1e-4)
        assert scored["logprobs"]["text_offset"] == list(range(len(PROMPT) + 20))
        for top in made["logprobs"]["top_logprobs"]:
            assert len(top) == 5
            assert 0 < sum(math.exp(value) for value in top.values()) <= 1 + 1e-6

    run_engine(scenario)


def test_prompt_logprobs_in_vllm_form(run_engine: Run) -> None:
    """One entry per prompt token, the first null; the actual token is in each, with its rank."""

    async def scenario(client: Any) -> None:
        choice = (await client.complete("The", max_tokens=1, prompt_logprobs=2, return_token_ids=True))["choices"][0]
        assert choice["prompt_token_ids"] == [84, 104, 101]
        assert len(choice["token_ids"]) == 1
        first, second, third = choice["prompt_logprobs"]
        assert first is None
        assert second["104"]["decoded_token"] == "h"
        assert third["101"]["rank"] == 1
        assert len(third) == 2

    run_engine(scenario)


def test_stream_is_the_same_answer_in_pieces(run_engine: Run) -> None:
    async def scenario(client: Any) -> None:
        whole = await client.complete(PROMPT, max_tokens=12, logprobs=1)
        body = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0, "logprobs": 1, "stream_options": {"include_usage": True}}
        *chunks, usage = await client.stream("/v1/completions", body)
        assert "".join(c["choices"][0]["text"] for c in chunks) == whole["choices"][0]["text"]
        pieces = [c["choices"][0]["logprobs"] for c in chunks[:-1]]
        streamed = [value for piece in pieces for value in piece["token_logprobs"]]
        np.testing.assert_allclose(streamed, whole["choices"][0]["logprobs"]["token_logprobs"], atol=1e-4)
        assert [offset for piece in pieces for offset in piece["text_offset"]] == list(range(12))
        assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * 12 + ["length"]
        assert usage["choices"] == []
        assert usage["usage"]["completion_tokens"] == 12
        assert len({c["id"] for c in chunks}) == 1

    run_engine(scenario)


def test_chat_streams_role_then_content_with_logprobs(run_engine: Run) -> None:
    async def scenario(client: Any) -> None:
        body = {
            "messages": [{"role": "user", "content": "The class"}],
            "max_tokens": 6,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": 2,
        }
        whole = (await client.post("/v1/chat/completions", body)).body
        first, *rest = await client.stream("/v1/chat/completions", body)
        assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(c["choices"][0]["delta"].get("content", "") for c in rest) == whole["choices"][0]["message"]["content"]
        assert whole["object"] == "chat.completion"
        assert whole["usage"]["prompt_tokens"] == len("The class\n")
        entries = whole["choices"][0]["logprobs"]["content"]
        assert len(entries) == 6
        for entry in entries:
            assert entry["bytes"] == list(entry["token"].encode())
            assert [len(entry["top_logprobs"]), entry["top_logprobs"][0]["logprob"]] == [2, entry["logprob"]]

    run_engine(scenario)


def test_stop_string_ends_the_answer_and_no_part_of_it_is_seen(run_engine: Run) -> None:
    async def scenario(client: Any) -> None:
        text = (await client.complete(PROMPT, max_tokens=20))["choices"][0]["text"]
        stop = text[8:11]
        at = text.index(stop)
        choice = (await client.complete(PROMPT, max_tokens=20, stop=[stop, "never seen"]))["choices"][0]
        assert [choice["text"], choice["finish_reason"], choice["stop_reason"]] == [text[:at], "stop", stop]
        kept = (await client.complete(PROMPT, max_tokens=20, stop=stop, include_stop_str_in_output=True))["choices"][0]
        assert kept["text"] == text[: at + 3]
        chunks = await client.stream("/v1/completions", {"prompt": PROMPT, "max_tokens": 20, "temperature": 0, "stop": stop})
        assert "".join(c["choices"][0]["text"] for c in chunks) == text[:at]
        token_stop = (await client.complete(PROMPT, max_tokens=20, stop_token_ids=[ord(text[3])]))["choices"][0]
        assert token_stop["stop_reason"] == ord(text[3])

    run_engine(scenario)


def test_a_seed_repeats_a_draw_and_top_k_one_is_greedy(run_engine: Run) -> None:
    async def scenario(client: Any) -> None:
        async def draw(**fields: Any) -> str:
            return str((await client.complete(PROMPT, max_tokens=25, **fields))["choices"][0]["text"])

        assert await draw(temperature=1, seed=7) == await draw(temperature=1, seed=7)
        assert len({await draw(temperature=1, seed=seed) for seed in range(5)}) > 1
        assert await draw(temperature=1, top_k=1) == await draw(temperature=0)
        assert await draw(temperature=1, top_p=1e-6) == await draw(temperature=0)

    run_engine(scenario)


def test_metrics_rise_by_what_was_answered(run_engine: Run) -> None:
    """Counters before any request are a true zero; after, they equal the sum of the answers' usage."""

    async def scenario(client: Any) -> None:
        assert await client.metric("vllm:generation_tokens_total", model_name="byte", engine="0") == 0
        assert await client.metric("vllm:request_success_total", finished_reason="length") == 0
        bodies = [await client.complete(PROMPT, max_tokens=n) for n in (1, 5, 9)]
        await client.stream("/v1/completions", {"prompt": PROMPT, "max_tokens": 4, "temperature": 0})
        await client.complete(PROMPT, max_tokens=20, stop="e")
        stopped = (await client.complete(PROMPT, max_tokens=20, stop="e"))["usage"]["completion_tokens"]
        generated = sum(body["usage"]["completion_tokens"] for body in bodies) + 4 + 2 * stopped
        assert await client.metric("vllm:generation_tokens_total") == generated
        assert await client.metric("vllm:prompt_tokens_total") == 6 * len(PROMPT)
        assert await client.metric("vllm:request_success_total", finished_reason="length") == 4
        assert await client.metric("vllm:request_success_total", finished_reason="stop") == 2
        assert await client.metric("vllm:time_to_first_token_seconds_count") == 6
        assert await client.metric("vllm:inter_token_latency_seconds_count") == generated - 6
        assert await client.metric("vllm:e2e_request_latency_seconds_count") == 6
        assert await client.metric("vllm:request_queue_time_seconds_count") == 6
        assert await client.metric("vllm:cache_config_info", num_gpu_blocks="256", block_size="16") == 1
        assert await client.metric("polyfleet_engine_info", backend="byte", dtype="fp32") == 1

    run_engine(scenario)


def test_prefix_cache_hits_whole_blocks_and_changes_nothing(run_engine: Run) -> None:
    """A prompt of 40 bytes fills two blocks of 16; a repetition finds these 32 tokens."""
    prompt = "The value of the class is the function o"

    async def scenario(client: Any) -> None:
        first = await client.complete(prompt, max_tokens=10, logprobs=0)
        second = await client.complete(prompt, max_tokens=10, logprobs=0)
        assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == 32
        assert second["choices"][0]["text"] == first["choices"][0]["text"]
        np.testing.assert_allclose(
            first["choices"][0]["logprobs"]["token_logprobs"], second["choices"][0]["logprobs"]["token_logprobs"], atol=1e-4
        )
        assert await client.metric("vllm:prefix_cache_queries_total") == 80
        assert await client.metric("vllm:prefix_cache_hits_total") == 32

    run_engine(scenario)


def test_models_says_what_this_replica_is(run_engine: Run) -> None:
    async def scenario(client: Any) -> None:
        (card,) = (await client.get("/v1/models")).body["data"]
        assert [card["id"], card["max_model_len"]] == ["byte", 64]
        assert card["polyfleet"] == {
            "backend": "byte",
            "dtype": "bf16",
            "paced": False,
            "tensorParallelSize": 4,
            "devices": {"ASCEND_VISIBLE_DEVICES": "3,15"},
        }

    run_engine(scenario, "--dtype=bfloat16", "--tensor-parallel-size=4", environ={"ASCEND_VISIBLE_DEVICES": "3,15", "HOME": "x"})


def test_tokenize_and_back(run_engine: Run) -> None:
    async def scenario(client: Any) -> None:
        reply = (await client.post("/tokenize", {"prompt": "Hi!", "return_token_strs": True})).body
        assert reply == {"count": 3, "max_model_len": 64, "tokens": [72, 105, 33], "token_strs": ["H", "i", "!"]}
        assert (await client.post("/tokenize", {"messages": [{"role": "user", "content": "Hi"}]})).body["tokens"] == [72, 105, 10]
        assert (await client.post("/detokenize", {"tokens": [72, 105]})).body == {"prompt": "Hi"}
        by_ids = await client.complete([72, 105], max_tokens=3)
        assert by_ids["choices"][0]["text"] == (await client.complete("Hi", max_tokens=3))["choices"][0]["text"]

    run_engine(scenario)
