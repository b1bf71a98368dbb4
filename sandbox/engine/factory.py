"""From a configuration to a loaded engine: which tokenizer, which backend, how much cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sandbox.engine import byte_model, paced
from sandbox.engine.config import Config
from sandbox.engine.faults import switched
from sandbox.engine.faults.control import Computes, FaultControl
from sandbox.engine.gguf_weights import GgufFile, WeightsError
from sandbox.engine.kv_blocks import BlockPool
from sandbox.engine.llamacpp import LlamaCppBackend
from sandbox.engine.numerics import Numerics
from sandbox.engine.numpy_llama import LlamaWeights, load_gguf
from sandbox.engine.scheduled_backend import ScheduledBackend
from sandbox.engine.scheduler import Limits
from sandbox.engine.server import Engine
from sandbox.engine.step_model import StepModel
from sandbox.engine.threads import run_in_daemon
from sandbox.engine.tokenizer import ByteTokenizer, GgufTokenizer, Tokenizer
from sandbox.engine.weights_file import find

CONTEXT = 2048
SEQUENCES = 4
# Tokens per iteration of the numpy backend: prefill of 128 takes about half a second of one thread, which running answers wait.
NUMPY_TOKENS = 128
# One token is 46 KB of cache in float32 and 23 KB in 16 bits; both pools are 94 MB when full, within 700 MB per replica.
CACHE_TOKENS_32, CACHE_TOKENS_16 = 2064, 4112  # one block more than one and two full contexts


async def build(config: Config, threads: int) -> Engine:
    """Loads everything; takes seconds, never blocks the event loop. Raises WeightsError, FaultError."""
    if config.backend == "byte":
        return await _started(_byte_engine(config))
    path = find(config.weights)
    if config.backend == "llamacpp" and not config.paced:
        tokenizer = await run_in_daemon(lambda: _tokenizer(path), "tokenizer-load")
        faults = _faults(config, tokenizer, "elsewhere")
        context = config.context or CONTEXT
        backend = LlamaCppBackend(
            path, tokenizer, context=context, max_sequences=config.max_sequences or SEQUENCES, max_queue=config.max_queue, threads=threads
        )
        return await _started(Engine(faults.reading, backend, context, faults))
    return await _started(await run_in_daemon(lambda: _gguf_engine(config, path), "tokenizer-load"))


async def _started(engine: Engine) -> Engine:
    await engine.backend.start()
    return engine


def _tokenizer(path: Path) -> Tokenizer:
    file = GgufFile(path)
    try:
        return GgufTokenizer(file)
    finally:
        file.close()


def _byte_engine(config: Config) -> Engine:
    tokenizer = ByteTokenizer()
    if config.paced:
        return _paced_engine(config, tokenizer)
    if config.context is not None and config.context > byte_model.CONTEXT:
        raise WeightsError(f"--max-model-len {config.context}: the byte model has a context of {byte_model.CONTEXT}")
    context, numerics = config.context or byte_model.CONTEXT, Numerics(config.dtype)
    pool, faults = _pool(config, context, 64 * byte_model.CONTEXT), _faults(config, tokenizer, "here")

    def make() -> StepModel:
        return _model(byte_model.load(numerics), numerics, pool, faults)

    return _engine(config, make, pool, Limits(16, 512), faults, context)


def _gguf_engine(config: Config, path: Path) -> Engine:
    file = GgufFile(path)
    tokenizer = GgufTokenizer(file)
    if config.paced:
        file.close()
        return _paced_engine(config, tokenizer)
    trained = int(file.metadata.get("llama.context_length", CONTEXT))
    context, numerics = config.context or min(CONTEXT, trained), Numerics(config.dtype)
    if context > trained:
        raise WeightsError(f"--max-model-len {context}: the model was trained for {trained}")
    pool = _pool(config, context, CACHE_TOKENS_32 if config.dtype == "fp32" else CACHE_TOKENS_16)
    faults = _faults(config, tokenizer, "here")

    def make() -> StepModel:
        weights = load_gguf(file, numerics, context)
        file.close()
        return _model(weights, numerics, pool, faults)

    return _engine(config, make, pool, Limits(SEQUENCES, NUMPY_TOKENS), faults, context)


def _paced_engine(config: Config, tokenizer: Tokenizer) -> Engine:
    context = config.context or paced.CONTEXT
    pool = _pool(config, context, paced.CACHE_TOKENS)
    filler = tokenizer.encode(paced.FILLER.decode())
    limits = Limits(paced.MAX_SEQUENCES, paced.MAX_TOKENS_PER_ITERATION)
    faults = _faults(config, tokenizer, "elsewhere")
    return _engine(config, lambda: paced.PacedModel(tokenizer.vocab, filler), pool, limits, faults, context)


def _engine(config: Config, make: Callable[[], StepModel], pool: BlockPool, limits: Limits, faults: FaultControl, context: int) -> Engine:
    limits = Limits(config.max_sequences or limits.max_sequences, config.max_batched_tokens or limits.max_tokens)
    backend = ScheduledBackend(make, pool, limits, faults.reading.end_ids, max_queue=config.max_queue)
    faults.ends(backend.end_at)
    return Engine(faults.reading, backend, context, faults)


def _faults(config: Config, tokenizer: Tokenizer, computes: Computes) -> FaultControl:
    return FaultControl(tokenizer, config.faults, file=config.fault_file, replica=config.replica, computes=computes)


def _model(weights: LlamaWeights, numerics: Numerics, pool: BlockPool, faults: FaultControl) -> StepModel:
    model, settled = switched.build(weights, numerics, pool.count, pool.size, faults.argued)
    faults.attach(model, settled)
    return model


def _pool(config: Config, context: int, tokens: int) -> BlockPool:
    """Blocks for `tokens` positions, but at least for one full context and a block: a single request must always fit."""
    size = config.block_size
    least = -(-context // size) + 1
    count = config.kv_blocks if config.kv_blocks is not None else max(least, tokens // size)
    if count < least:
        raise WeightsError(f"--num-gpu-blocks-override {count}: one context of {context} tokens needs at least {least} blocks of {size}")
    return BlockPool(count, size, config.prefix_caching)
