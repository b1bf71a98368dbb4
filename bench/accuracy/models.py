"""The two models of the corpus, measured: every variant's distances from the reference, kept in a file so that they are computed once.

Byte model: 800 windows of 64 bytes, bytes 17 to 63 scored. SmolLM2-135M: four prompts of each stratum of the built-in golden set, 48
tokens each, tokens 9 to 47 scored; where an item is shorter than that, the reference itself goes on, sampled at temperature 1. What is
harmless is measured with 24 prompts of each stratum too: four are no population, and harmless variants are judged stratum by stratum.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from accuracy.golden import builtin
from accuracy.policy import STRATA
from bench.accuracy import distances
from bench.accuracy.distances import Columns, compare, reshaped, stacked
from sandbox.engine import byte_model
from sandbox.engine.faults import offline
from sandbox.engine.gguf_weights import GgufFile
from sandbox.engine.numerics import F32, Numerics
from sandbox.engine.numpy_llama import NumpyLlama, load_gguf
from sandbox.engine.step_model import Chunk
from sandbox.engine.tokenizer import GgufTokenizer
from sandbox.engine.weights_file import package_file
from tools.paths import ROOT

BYTE, SMOL = "byte model", "SmolLM2-135M"
CACHE = ROOT / ".bench/accuracy"
NOISE = "split-k=4"  # the reference's replicate: the same sums in another order
HEALTHY = "split-k=2"  # what the other requests get where a fault acts in a share of them
NAN = "nan"
PROMPT, FIRST = 48, 9  # tokens of a SmolLM2 prompt, and the first one scored
PER_STRATUM, MANY_PER_STRATUM = 4, 24
MOST_GIVEN = 36  # tokens taken from the item itself; the rest is the reference's own

# With a declared difference a fault comes on top of it: which of them are still found under the wider margins
ON_TOP = (
    "RoPE base 1e4",
    "first key hidden",
    "neighbour's KV, 2 tokens",
    "eps 1e-3",
    "head 3 of layer 10 zeroed",
    "FFN of layer 10 cut by 25 %",
    "FFN of layer 10 cut by 5 %",
    "GELU",
    "logit scale 1.1",
    "sliding window 32",
    "stale weights 1 %",
    "stale weights 5 %",
)
UNDER = ("W8A8", "fp8 weights", "int8 activations", "fp8 KV", "int8 KV")


@dataclass(frozen=True, slots=True)
class Model:
    """One model's corpus: name → variant, in the groups that the tables have, and the stratum of each prompt."""

    name: str
    benign: Mapping[str, str]
    declared: Mapping[str, str]  # harmless where declared
    faults: Mapping[str, str]
    inside: tuple[str, ...]  # faults smaller than the margin by design
    strata: tuple[str, ...]  # of each prompt
    columns: Callable[[str], Columns]  # of a variant

    @property
    def noise(self) -> Columns:
        return self.columns(NOISE)


def every() -> Iterator[Model]:
    """All that can be measured here."""
    yield byte(cache=CACHE)
    for many in (False, True):
        model = smol(many=many)
        if model is not None:
            yield model


def under(declared: str, fault: str) -> str:
    """The variant of a SmolLM2 fault that comes on top of a declared difference."""
    return f"{offline.SMOL_DECLARED[declared]},{offline.SMOL_FAULTS[fault]}"


def byte(count: int = 800, *, seed: int = 9, cache: Path | None = None) -> Model:
    """The byte model over `count` windows; ten strata by the windows' place in the text. `cache` None: nothing is kept."""
    data = byte_model.validation_bytes()
    windows = offline.byte_windows(count, seed)
    starts = np.random.default_rng(seed).integers(0, len(data) - offline.WINDOW, count)  # as `byte_windows` draws them
    tenth = np.argsort(np.argsort(starts, kind="stable"), kind="stable") * len(STRATA) // count
    golden = windows[:, offline.FIRST :].reshape(-1)
    reference: list[F32] = []

    def measure(variants: Iterable[str]) -> Iterator[tuple[str, Columns]]:
        if not reference:
            reference.append(offline.byte_logits("", windows))
        for variant in variants:
            rows = offline.byte_logits(variant, windows)
            yield variant, reshaped(compare(_flat(reference[0]), _flat(rows), golden), count)

    store = _Store(cache / "byte" if cache else None, windows, measure)
    strata = tuple(f"text {int(part) + 1}/10" for part in tenth)
    return Model(BYTE, offline.BYTE_BENIGN, {}, offline.BYTE_FAULTS, offline.BYTE_INSIDE, strata, store)


def smol(*, many: bool = False, cache: Path | None = CACHE) -> Model | None:
    """SmolLM2-135M, or None where its file is not on disk. `many`: with six times the prompts, and without faults."""
    path = package_file()
    if path is None:
        return None
    prompts, strata = _prompts(path, MANY_PER_STRATUM if many else PER_STRATUM, cache)
    given = prompts.tolist()
    reference: list[F32] = []

    def measure(variants: Iterable[str]) -> Iterator[tuple[str, Columns]]:
        if not reference:
            reference.extend(offline.smol_logits("", path, given, FIRST))
        for variant in variants:
            rows = offline.smol_logits(variant, path, given, FIRST)
            each = [compare(a, b, golden[FIRST:]) for a, b, golden in zip(reference, rows, prompts, strict=True)]
            yield variant, stacked(each)

    store = _Store(cache / "smol" if cache else None, prompts, measure)
    if many:
        return Model(f"{SMOL}, {len(prompts)} prompts", offline.SMOL_BENIGN, offline.SMOL_DECLARED, {}, (), strata, store)
    return Model(SMOL, offline.SMOL_BENIGN, offline.SMOL_DECLARED, offline.SMOL_FAULTS, offline.SMOL_INSIDE, strata, store)


class _Store:
    """Columns by variant: in memory, else in the file of a key that names inputs and code, else computed."""

    def __init__(
        self, folder: Path | None, inputs: npt.NDArray[np.integer], measure: Callable[[Iterable[str]], Iterator[tuple[str, Columns]]]
    ) -> None:
        code = "".join(inspect.getsource(module) for module in (distances, offline))
        self._key = hashlib.sha256(inputs.tobytes() + code.encode()).hexdigest()[:12]
        self._folder, self._measure = folder, measure
        self._known: dict[str, Columns] = {}

    def __call__(self, variant: str) -> Columns:
        if variant not in self._known:
            self._known[variant] = self._load(variant)
        return self._known[variant]

    def _load(self, variant: str) -> Columns:
        at = self._folder / f"{self._key}-{hashlib.sha256(variant.encode()).hexdigest()[:16]}.npz" if self._folder else None
        if at is not None and at.exists():
            with np.load(at) as file:
                return Columns(*(file[f.name].astype(bool if f.name in _BOOLS else float) for f in fields(Columns)))
        ((_, columns),) = self._measure([variant])
        if at is not None:
            at.parent.mkdir(parents=True, exist_ok=True)
            part = at.with_suffix(".part.npz")
            np.savez_compressed(part, **{f.name: getattr(columns, f.name) for f in fields(Columns)})
            part.replace(at)
        return columns


_BOOLS = ("finite", "same", "close", "right", "right_reference")


def _flat(rows: F32) -> F32:
    return rows.reshape(-1, rows.shape[-1])


def _prompts(path: Path, per_stratum: int, cache: Path | None) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Token ids [prompt, 48] and each prompt's stratum."""
    file = GgufFile(path)
    tokenizer = GgufTokenizer(file)
    items = builtin("core").items
    given: list[list[int]] = []
    strata: list[str] = []
    for stratum in STRATA:
        own = [item for item in items if item.stratum == stratum]
        for item in own[:: len(own) // per_stratum][:per_stratum]:
            text = item.text + item.continuation if item.text else str(item.messages[-1]["content"])
            # Without the template: its tokens are the same in every prompt and would fill most of 48.
            given.append(tokenizer.encode(text)[:MOST_GIVEN] or [tokenizer.bos_id])
            strata.append(stratum)
    kept = cache / f"prompts-{hashlib.sha256(repr((given, PROMPT)).encode()).hexdigest()[:12]}.npy" if cache else None
    if kept is not None and kept.exists():
        file.close()
        found: npt.NDArray[np.int64] = np.load(kept)
        return found, tuple(strata)
    numerics = Numerics("bf16")
    blocks = -(-PROMPT // 16)
    model = NumpyLlama(load_gguf(file, numerics, 64), numerics, blocks * len(given), 16)
    file.close()
    full = _continued(model, given, blocks)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, full)
    return full, tuple(strata)


def _continued(model: NumpyLlama, given: list[list[int]], blocks: int) -> npt.NDArray[np.int64]:
    """Each prompt continued to `PROMPT` tokens by the model itself at temperature 1, all together, seeded."""
    chance = np.random.default_rng(0)
    ids = [list(prompt) for prompt in given]
    start = [0] * len(ids)
    while waiting := [i for i, prompt in enumerate(ids) if len(prompt) < PROMPT]:
        chunks = [
            Chunk(tuple(ids[i][start[i] :]), start[i], tuple(range(i * blocks, (i + 1) * blocks)), 0, True, request=i) for i in waiting
        ]
        last = np.cumsum([len(chunk.tokens) for chunk in chunks]) - 1
        rows = model.logits(np.ascontiguousarray(model.forward(chunks)[last])).astype(np.float64)
        noise = -np.log(-np.log(chance.random(rows.shape)))  # the largest of logit + Gumbel noise is a draw from the softmax
        for i, token in zip(waiting, (rows + noise).argmax(1), strict=True):
            start[i] = len(ids[i])
            ids[i].append(int(token))
    return np.array(ids, np.int64)
