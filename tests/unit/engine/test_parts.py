"""Cache bookkeeping, sampling, text, pacing and the command line, each on its own."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.engine import paced
from sandbox.engine.backend import Sampling
from sandbox.engine.config import devices, parse, threads
from sandbox.engine.kv_blocks import BlockPool, block_digests
from sandbox.engine.sampling import choose, describe
from sandbox.engine.step_model import Chunk
from sandbox.engine.text_stream import TextStream
from sandbox.engine.tokenizer import ByteTokenizer, byte_alphabet


def test_a_prefix_is_found_by_all_tokens_before_it() -> None:
    """Equal blocks after different beginnings are different; at least one token is always left to compute."""
    pool = BlockPool(8, 4)
    tokens = [1, 2, 3, 4, 5, 6, 7, 8]
    blocks = [pool.take(), pool.take()]
    assert blocks == [0, 1]
    for block, digest in zip((0, 1), block_digests(tokens, 4), strict=True):
        pool.publish(block, digest)
    pool.release([0, 1])
    assert pool.used == 0
    assert pool.take_prefix([*tokens, 9]) == [0, 1]
    assert pool.take_prefix(tokens) == [0]
    assert pool.take_prefix([9, 2, 3, 4, 5, 6, 7, 8, 9]) == []
    assert pool.used == 2


def test_cached_blocks_are_overwritten_oldest_first_and_only_when_needed() -> None:
    pool = BlockPool(3, 1)
    for token in (1, 2):
        block = pool.take()
        assert block is not None
        pool.publish(block, block_digests([token], 1)[0])
        pool.release([block])
    assert pool.take() == 2  # never used
    assert pool.take() == 0  # freed first
    assert pool.take_prefix([1, 0]) == []
    assert pool.take_prefix([2, 0]) == [1]
    assert pool.take() is None


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), max_size=30))
def test_blocks_are_neither_lost_nor_given_twice(prompts: list[list[int]]) -> None:
    """Whatever comes and goes: used blocks have one owner or share one prefix, and everything is free at the end."""
    pool = BlockPool(6, 2)
    held: list[list[int]] = []
    for tokens in prompts:
        blocks = pool.take_prefix(tokens)
        while len(blocks) < pool.blocks_for(len(tokens)) and (block := pool.take()) is not None:
            assert all(block not in other for other in held)
            blocks.append(block)
        for block, digest in zip(blocks, block_digests(tokens, 2), strict=False):
            pool.publish(block, digest)
        held.append(blocks)
        assert pool.used == len({block for other in held for block in other})
        if len(held) > 2:
            pool.release(held.pop(0))
    for blocks in held:
        pool.release(blocks)
    assert pool.free == 6


def test_described_logprobs_are_those_of_a_softmax() -> None:
    """Odds 1 : 2 : 4 : 1 of eight; ties are listed with the lower id first."""
    logits = np.log(np.array([1, 2, 4, 1], np.float32))
    position = describe(logits, 1, 4)
    assert position.logprob == pytest.approx(math.log(2 / 8))
    assert position.rank == 2
    assert [token for token, _ in position.top] == [2, 1, 0, 3]
    assert [token for token, _ in describe(logits, 1, 3).top] == [2, 1, 0]
    assert describe(logits, 1, 0).top == ()


def test_draws_follow_temperature_and_filters() -> None:
    """Odds 1 : 3 at temperature 1 are 1 : 9 at 0.5; top-p .6 keeps only the second of 1 : 2 : 1."""
    rng = np.random.default_rng(0)
    odds = np.log(np.array([1, 3], np.float32))

    def share(temperature: float) -> float:
        return sum(choose(odds, Sampling(1, temperature), rng) for _ in range(4000)) / 4000

    assert share(1.0) == pytest.approx(0.75, abs=0.03)
    assert share(0.5) == pytest.approx(0.9, abs=0.03)
    three = np.log(np.array([1, 2, 1], np.float32))
    assert {choose(three, Sampling(1, top_p=0.45), rng) for _ in range(50)} == {1}
    assert {choose(three, Sampling(1, top_k=1), rng) for _ in range(50)} == {1}
    assert {choose(three, Sampling(1), rng) for _ in range(200)} == {0, 1, 2}


class _Pieces(ByteTokenizer):
    """A token is any byte, so that characters can be cut."""

    def token_bytes(self, token: int) -> bytes:
        return bytes([token])


@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=4), max_size=3))
def test_streamed_text_is_the_text_up_to_the_first_stop(text: str, stops: list[str]) -> None:
    stream = TextStream(_Pieces(), stops, include_stop=False)
    pieces = []
    for byte in text.encode():
        pieces.append(stream.feed(byte))
        if stream.stopped_by is not None:
            break
    pieces.append(stream.finish())
    # the stop that is complete first ends the text; the earliest beginning wins among those that end together
    ends = [(text.index(stop) + len(stop), text.index(stop)) for stop in stops if stop in text]
    wanted = text if not ends else text[: min(ends)[1]]
    assert "".join(pieces) == wanted == stream.text


def test_a_cut_character_at_the_end_becomes_a_replacement() -> None:
    stream = TextStream(_Pieces(), (), include_stop=False)
    assert [stream.feed(b) for b in "é".encode()] == ["", "é"]
    assert [stream.feed(0xC3), stream.finish()] == ["", "\ufffd"]


def test_byte_alphabet_is_a_bijection_with_the_known_space() -> None:
    """In byte-level vocabularies the space is written Ġ and the newline Ċ."""
    alphabet = byte_alphabet()
    assert sorted(alphabet.values()) == list(range(256))
    assert [alphabet["Ġ"], alphabet["Ċ"], alphabet["A"]] == [32, 10, 65]


def test_paced_iterations_take_the_times_of_the_replica_model() -> None:
    """30 ms + 0.25 ms per prefill token + 0.5 ms per sequence: 512 prefill tokens of one and ten decodes are 163.5 ms."""
    prefill = Chunk((1,) * 512, 0, (), 0, True)
    decode = Chunk((1,), 600, (), 0, False)
    assert paced.iteration_seconds([decode]) == pytest.approx(0.0305)
    assert paced.iteration_seconds([prefill, *[decode] * 10]) == pytest.approx(0.1635)


def test_pacing_counts_the_schedulers_own_time_in() -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    model = paced.PacedModel(128, list(b"ab"), sleep=sleep, clock=lambda: now[0])
    decode = Chunk((1,), 3, (), 0, False)
    model.forward([decode])
    now[0] += 0.010
    hidden = model.forward([decode])
    assert slept == pytest.approx([0.0305, 0.0205])
    now[0] += 60
    model.forward([decode])
    assert slept[-1] == pytest.approx(0.0305)
    assert int(np.argmax(model.logits(hidden)[0])) == ord("b")


def test_flags_that_the_operator_renders_are_understood() -> None:
    argv = [
        "--model=HuggingFaceTB/SmolLM2-135M-Instruct",
        "--served-model-name=smol",
        "--port=8000",
        "--tensor-parallel-size=8",
        "--backend=numpy",
        "--dtype=half",
        "--max-model-len=1024",
        "--max-num-seqs=3",
        "--gpu-memory-utilization=0.85",
        "--enforce-eager",
        "--no-enable-prefix-caching",
    ]
    config = parse(argv, {"POLYFLEET_WEIGHTS": "/some/file"})
    assert [config.served_name, config.port, config.tensor_parallel, config.dtype] == ["smol", 8000, 8, "fp16"]
    assert [config.context, config.max_sequences, config.prefix_caching] == [1024, 3, False]
    assert config.weights == Path("/some/file")
    assert parse([], {}).served_name == "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--quantization=awq"], "--quantization is not supported"),
        (["--wat"], "unknown argument '--wat'"),
        (["--port=70000"], "must be an integer from 0 to 65535"),
        (["--dtype=int3"], "invalid choice"),
        (["--dtype=bf16", "--backend=llamacpp"], "use --backend numpy"),
        (["--gpu-memory-utilization=2"], "more than 0 and at most 1"),
        (["--shutdown-timeout=-1"], "at least 0"),
    ],
)
def test_flags_that_would_not_be_honoured_are_refused(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(argv, {})
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_environment() -> None:
    environ = {"NVIDIA_VISIBLE_DEVICES": "GPU-h100-0-1", "PPU_VISIBLE_DEVICES": "0", "VISIBLE": "no", "POLYFLEET_THREADS": "2"}
    assert devices(environ) == {"NVIDIA_VISIBLE_DEVICES": "GPU-h100-0-1", "PPU_VISIBLE_DEVICES": "0"}
    assert [threads(environ), threads({})] == [2, 1]
    with pytest.raises(SystemExit, match="POLYFLEET_THREADS='many'"):
        threads({"POLYFLEET_THREADS": "many"})
