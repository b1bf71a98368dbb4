"""The real small model, by both ways of computing it. Needs the weight file, and skips without it.

Known values: the GGUF's own llama.cpp server gives log-probability -.2589 and an independent numpy forward pass -.2581 to
" Paris" after "The capital of France is" (measured when the fixtures were designed).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.engine.gguf_weights import GgufFile
from sandbox.engine.tokenizer import GgufTokenizer, decode
from sandbox.engine.weights_file import verify

pytestmark = pytest.mark.weights
Run = Callable[..., None]
QUESTION = "The capital of France is"


@pytest.fixture(autouse=True)
def _weights_gone(let_servers_go: Callable[[], None]) -> Iterator[None]:
    """600 MB each."""
    yield
    let_servers_go()


def test_the_file_is_the_known_one(weights_path: str) -> None:
    verify(Path(weights_path))


def test_tokenizer_round_trip_and_known_ids(weights_path: str) -> None:
    """Ids as llama.cpp's own tokenizer gives them; any text comes back."""
    file = GgufFile(Path(weights_path))
    tokenizer = GgufTokenizer(file)
    file.close()
    assert tokenizer.encode(QUESTION) == [504, 3575, 282, 4649, 314]
    chat = "<|im_start|>user\nSay hi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.encode(chat) == [1, 4093, 198, 36218, 15876, 2, 198, 1, 520, 9531, 198]
    for text in ("", "  two  spaces\n\ttab", "1234567890 3.14", "naïve café 日本語 😀🎉", "def f(x):\n    return x**2", "<|im_end|"):
        assert decode(tokenizer, tokenizer.encode(text)) == text
    assert len(tokenizer.encode("123456")) == 6  # digits stand alone
    rendered = tokenizer.chat([{"role": "system", "content": "S"}, {"role": "user", "content": "U"}], True)
    assert rendered == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.end_ids == {0, 2}


@pytest.mark.parametrize(
    ("flags", "tolerance"),
    [
        (("--backend=llamacpp",), 0.02),
        (("--backend=numpy",), 0.02),
        (("--backend=numpy", "--dtype=bf16"), 0.05),
        (("--backend=numpy", "--dtype=fp16"), 0.02),
    ],
)
def test_paris(run_engine: Run, weights_path: str, flags: tuple[str, ...], tolerance: float) -> None:
    """bf16 has 8 bits of mantissa: its logits near 20 are multiples of 1/8, so it may differ by more."""

    async def scenario(client: Any) -> None:
        choice = (await client.complete(QUESTION, max_tokens=1, logprobs=5, return_token_ids=True))["choices"][0]
        assert choice["text"] == " Paris"
        assert choice["token_ids"] == [7042]
        assert choice["logprobs"]["token_logprobs"][0] == pytest.approx(-0.2585, abs=tolerance)
        assert len(choice["logprobs"]["top_logprobs"][0]) == 5
        assert await client.metric("vllm:generation_tokens_total") == 1

    run_engine(scenario, *flags, f"--weights={weights_path}")


def test_llamacpp_tells_every_token_of_a_cut_character(run_engine: Run, weights_path: str) -> None:
    """An emoji of three tokens: the server underneath reports the last one only, and at the end of an answer none. Ids and
    log-probabilities must be those of the numpy backend."""
    answers: dict[str, Any] = {}

    def ask(backend: str) -> None:
        async def scenario(client: Any) -> None:
            prompt = "Repeat after me: 😀🎉日本語😀🎉日本語😀🎉日本語😀"
            answers[backend] = (await client.complete(prompt, max_tokens=8, logprobs=2, return_token_ids=True))["choices"][0]

        run_engine(scenario, f"--backend={backend}", f"--weights={weights_path}")

    ask("llamacpp")
    ask("numpy")
    left, right = answers["llamacpp"], answers["numpy"]
    assert left["token_ids"] == right["token_ids"] == [10813, 232, 227, 10813, 232, 227, 10813, 232]
    assert left["text"] == right["text"] == "🎉🎉\ufffd"
    assert left["logprobs"]["token_logprobs"] == pytest.approx(right["logprobs"]["token_logprobs"], abs=0.15)


def test_llamacpp_serves_chat_in_parallel_and_counts(run_engine: Run, weights_path: str) -> None:
    async def scenario(client: Any) -> None:
        body = {"messages": [{"role": "user", "content": "Say hi"}], "max_tokens": 5, "temperature": 0}
        replies = await asyncio.gather(*(client.post("/v1/chat/completions", body) for _ in range(6)))
        assert [reply.status for reply in replies] == [200] * 6, replies
        assert sum(reply.body["usage"]["completion_tokens"] for reply in replies) == await client.metric("vllm:generation_tokens_total")
        assert await client.metric("vllm:prompt_tokens_total") == sum(reply.body["usage"]["prompt_tokens"] for reply in replies)
        assert await client.metric("vllm:num_requests_running") == 0
        refused = await client.post("/v1/completions", {"prompt": "x", "echo": True, "logprobs": 1})
        assert [refused.status, refused.body["error"]["param"]] == [400, "echo"]
        stopped = await client.complete(QUESTION, max_tokens=10, stop=["."])
        assert [stopped["choices"][0]["text"], stopped["choices"][0]["finish_reason"]] == [" Paris", "stop"]

    run_engine(scenario, "--backend=llamacpp", "--max-num-seqs=2", "--max-model-len=256", f"--weights={weights_path}")
