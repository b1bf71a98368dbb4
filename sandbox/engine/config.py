"""The engine's command line. Flags are named as vLLM's, so that whatever renders a vLLM replica can render this one.

A vLLM flag that cannot change an answer here is accepted and does nothing; one that would change it is refused with the reason.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from sandbox.engine.faults import Fault, FaultError
from sandbox.engine.faults import parse as parse_fault
from sandbox.engine.numerics import Dtype

Backend = Literal["llamacpp", "numpy", "byte"]

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
DEFAULT_WEIGHTS = Path("/weights/model.gguf")
# vLLM's names beside ours; `auto` is the file's own precision computed in float32
_DTYPES: dict[str, Dtype] = {
    **dict.fromkeys(("auto", "fp32", "float", "float32"), "fp32"),
    **dict.fromkeys(("bf16", "bfloat16"), "bf16"),
    **dict.fromkeys(("fp16", "half", "float16"), "fp16"),
}
# Flags without meaning for this engine: number of values each takes.
_WITHOUT_EFFECT = {
    "--enforce-eager": 0,
    "--trust-remote-code": 0,
    "--enable-chunked-prefill": 0,
    "--disable-log-requests": 0,
    "--disable-log-stats": 0,
    "--no-enable-log-requests": 0,
    "--disable-uvicorn-access-log": 0,
    "--uvicorn-log-level": 1,
    "--swap-space": 1,
    "--distributed-executor-backend": 1,
    "--download-dir": 1,
    "--load-format": 1,
    "--tokenizer": 1,
    "--revision": 1,
    "--max-logprobs": 1,
}
_REFUSED = {
    "--quantization": "the weights are quantised as their file says",
    "--kv-cache-dtype": "the cache has the number format of --dtype",
    "--pipeline-parallel-size": "this engine computes on one processor",
    "--data-parallel-size": "this engine computes on one processor",
    "--speculative-config": "there is no draft model",
    "--enable-lora": "adapters are not computed",
    "--rope-scaling": "the position encoding is the model's own",
    "--rope-theta": "the position encoding is the model's own",
    "--chat-template": "the template is the one in the weight file",
    "--api-key": "requests are not authenticated",
}


@dataclass(frozen=True)
class Config:
    """Everything the engine is told. None: the backend's own default (see `factory`)."""

    model: str
    served_name: str
    host: str
    port: int
    backend: Backend
    dtype: Dtype
    paced: bool
    weights: Path | None
    tensor_parallel: int
    context: int | None
    max_sequences: int | None
    max_batched_tokens: int | None
    kv_blocks: int | None
    block_size: int
    prefix_caching: bool
    max_queue: int
    shutdown_seconds: float
    seed: int | None
    faults: tuple[Fault, ...] = ()
    fault_file: Path | None = None  # of this replica's node: one fault a line
    replica: str = ""  # this replica's own name, for the trigger `replica`


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\nNext: python -m sandbox.engine --help lists the flags.\n")


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Config:
    parser = _Parser(prog="sandbox.engine", description="A small real LLM serving engine with vLLM's interfaces.", allow_abbrev=False)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name of the model; the weights served are always those of --weights")
    parser.add_argument("--served-model-name", help="name that clients use (default: --model)")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")
    parser.add_argument("--port", type=_integer(0, 65535), default=8000, help="port; 0 takes a free one and logs it")
    parser.add_argument("--tensor-parallel-size", "-tp", type=_integer(1, 1024), default=1, help="devices of the replica; reported only")
    parser.add_argument("--backend", choices=("llamacpp", "numpy", "byte"), default="llamacpp", help="what computes")
    parser.add_argument("--dtype", choices=sorted(_DTYPES), default="auto", help="number format of the numpy and byte backends")
    parser.add_argument("--paced", action="store_true", help="sleep an accelerator's iteration times instead of computing")
    parser.add_argument("--weights", type=Path, help="GGUF file (default: env POLYFLEET_WEIGHTS, then /weights/model.gguf)")
    parser.add_argument("--max-model-len", type=_integer(16, 131072), help="context in tokens (2048; byte model 64)")
    parser.add_argument("--max-num-seqs", type=_integer(1, 1024), help="sequences that run at once")
    parser.add_argument("--max-num-batched-tokens", type=_integer(1, 65536), help="tokens per iteration")
    parser.add_argument("--num-gpu-blocks-override", type=_integer(1, 1 << 20), help="cache blocks")
    parser.add_argument("--block-size", type=_integer(1, 256), default=16, help="positions per cache block")
    parser.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=True, help="share equal prefixes")
    parser.add_argument("--gpu-memory-utilization", type=_fraction, default=0.9, help="accepted; the cache is sized by blocks")
    parser.add_argument("--seed", type=_integer(0, (1 << 63) - 1), help="accepted; a request's own seed counts")
    parser.add_argument("--max-queue", type=_integer(0, 65536), default=256, help="waiting requests before 429")
    parser.add_argument(
        "--fault", action="append", default=[], type=_fault, help="a deliberate difference; python -m sandbox.engine.faults list"
    )
    parser.add_argument("--shutdown-timeout", type=float, default=25.0, help="seconds to finish running requests after SIGTERM")
    for flag, values in _WITHOUT_EFFECT.items():
        if values:
            parser.add_argument(flag, help=argparse.SUPPRESS)
        else:
            parser.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    args, rest = parser.parse_known_args(argv)
    for word in rest:
        flag = word.split("=", 1)[0]
        if flag in _REFUSED:
            parser.error(f"{flag} is not supported: {_REFUSED[flag]}; leave it out")
        parser.error(f"unknown argument {word!r}")
    dtype = _DTYPES[args.dtype]
    if args.backend == "llamacpp" and dtype != "fp32":
        parser.error(f"--dtype {args.dtype} is not supported with --backend llamacpp (it computes as llama.cpp does); use --backend numpy")
    if args.shutdown_timeout < 0:
        parser.error(f"--shutdown-timeout {args.shutdown_timeout}: must be at least 0 seconds")
    weights = args.weights or (Path(environ["POLYFLEET_WEIGHTS"]) if environ.get("POLYFLEET_WEIGHTS") else None)
    return Config(
        model=args.model,
        served_name=args.served_model_name or args.model,
        host=args.host,
        port=args.port,
        backend=args.backend,
        dtype=dtype,
        paced=args.paced,
        weights=weights,
        tensor_parallel=args.tensor_parallel_size,
        context=args.max_model_len,
        max_sequences=args.max_num_seqs,
        max_batched_tokens=args.max_num_batched_tokens,
        kv_blocks=args.num_gpu_blocks_override,
        block_size=args.block_size,
        prefix_caching=args.enable_prefix_caching,
        max_queue=args.max_queue,
        shutdown_seconds=args.shutdown_timeout,
        seed=args.seed,
        faults=tuple(args.fault),
        fault_file=Path(environ["POLYFLEET_FAULT_FILE"]) if environ.get("POLYFLEET_FAULT_FILE") else None,
        replica=environ.get("POLYFLEET_REPLICA") or environ.get("HOSTNAME", ""),
    )


def threads(environ: Mapping[str, str]) -> int:
    """POLYFLEET_THREADS, 1 by default: replicas share the machine, and oversubscribed threads are ten times slower."""
    text = environ.get("POLYFLEET_THREADS", "1")
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise SystemExit(f"POLYFLEET_THREADS={text!r}: must be an integer from 1 to 256")
    return int(text)


def devices(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that a device plugin sets for a container: NVIDIA_, ASCEND_, PPU_, whatever_VISIBLE_DEVICES."""
    return {name: environ[name] for name in sorted(environ) if name.endswith("_VISIBLE_DEVICES")}


def default_weights() -> Path | None:
    return DEFAULT_WEIGHTS if os.path.exists(DEFAULT_WEIGHTS) else None


def _fault(text: str) -> Fault:
    try:
        return parse_fault(text)
    except FaultError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _integer(low: int, high: int) -> _Integer:
    return _Integer(low, high)


class _Integer:
    """An argparse type: an integer in a range, with the range in the message."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high

    def __call__(self, text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = self._low - 1
        if not self._low <= value <= self._high:
            raise argparse.ArgumentTypeError(f"{text!r} must be an integer from {self._low} to {self._high}")
        return value


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number more than 0 and at most 1")
    return value
