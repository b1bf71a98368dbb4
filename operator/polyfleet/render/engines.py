"""Command lines of the engines. One function per flavour; the user's and the profile's arguments always follow ours.

Our own arguments come first, because every engine here lets a later flag override an earlier one: what a user writes wins.
Flag names: vLLM documentation 2026-08; SGLang server arguments 2026-08.
"""

from __future__ import annotations

from polyfleet.render.model_uri import Source
from polyfleet.resolve import ResolvedOption

PORT = 8000


def arguments(option: ResolvedOption, source: Source) -> tuple[str, ...]:
    flavour = _sglang if option.wanted.engine == "sglang" else _vllm
    return (*flavour(option, source), *source.args, *option.wanted.args)


def _vllm(option: ResolvedOption, source: Source) -> tuple[str, ...]:
    wanted, layout = option.wanted, option.layout
    args = [
        f"--model={source.model}",
        f"--served-model-name={wanted.served_name}",
        f"--port={PORT}",
        f"--tensor-parallel-size={layout.tensor}",
    ]
    if layout.pipeline > 1:
        args.append(f"--pipeline-parallel-size={layout.pipeline}")
    if layout.data > 1:
        args.append(f"--data-parallel-size={layout.data}")
    if layout.expert is not None and layout.expert > 1:
        args.append("--enable-expert-parallel")
    if wanted.model_revision:
        args.append(f"--revision={wanted.model_revision}")
    return tuple(args)


def _sglang(option: ResolvedOption, source: Source) -> tuple[str, ...]:
    wanted, layout = option.wanted, option.layout
    args = [
        f"--model-path={source.model}",
        f"--served-model-name={wanted.served_name}",
        "--host=0.0.0.0",
        f"--port={PORT}",
        f"--tp-size={layout.tensor}",
        "--enable-metrics",
    ]
    if layout.pipeline > 1:
        args.append(f"--pp-size={layout.pipeline}")
    if layout.data > 1:
        args.append(f"--dp-size={layout.data}")
    if layout.expert is not None and layout.expert > 1:
        args.append(f"--ep-size={layout.expert}")
    if wanted.model_revision:
        args.append(f"--revision={wanted.model_revision}")
    return tuple(args)
