"""Runs inside a reader pod: reads config.json of a model in a volume, and leaves the model's shape in the pod's termination message.

    python -m polyfleet.volume_reader DIRECTORY [MESSAGE-FILE]

The answer is one JSON object of well under 1 KiB (`volume_shape.answer`). What the weights' format is may also stand beside config.json:
`hf_quant_config.json` (ModelOpt) and `quant_model_description.json` (the Ascend quantisation tool) are looked at where config.json is
silent.
Nothing else of the volume is read, nothing is written to it, and no network is used.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwprofiles.config_json import MOST_BYTES, shape_from_config
from hwprofiles.schema import SchemaError
from polyfleet.volume_shape import answer, refusal

MESSAGE = Path("/dev/termination-log")
# The description lists every tensor: some megabytes for the largest models.
MOST_DESCRIPTION = 24 << 20


def read(folder: Path) -> str:
    """The answer for this folder; never raises for what is in it."""
    try:
        config = _object(folder / "config.json", MOST_BYTES)
        shape, precision = shape_from_config(_with_format(folder, config))
    except OSError as error:
        return refusal(f"config.json cannot be read: {error.strerror or error}")
    except SchemaError as error:
        return refusal(str(error))
    return answer(shape, precision)


def _object(path: Path, most: int) -> dict[str, Any]:
    with path.open("rb") as file:
        text = file.read(most + 1)
    if len(text) > most:
        raise SchemaError(f"{path.name} has more than {most} bytes")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{path.name} is not JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise SchemaError(f"{path.name} is not a JSON object")
    return value


def _with_format(folder: Path, config: dict[str, Any]) -> Mapping[str, Any]:
    if config.get("quantization_config") is not None or config.get("quantize") is not None:
        return config
    beside = _beside(folder / "hf_quant_config.json", MOST_BYTES).get("quantization")
    if isinstance(beside, dict) and isinstance(beside.get("quant_algo"), str):
        return {**config, "quantization_config": {"quant_method": "modelopt", "quant_algo": beside["quant_algo"]}}
    kind = _beside(folder / "quant_model_description.json", MOST_DESCRIPTION).get("model_quant_type")
    if isinstance(kind, str):
        return {**config, "quantization_config": {"quant_method": "ascend", "model_quant_type": kind}}
    return config


def _beside(path: Path, most: int) -> dict[str, Any]:
    """A file that may be missing or broken without harm: then the format stays unknown."""
    try:
        return _object(path, most)
    except (OSError, SchemaError):
        return {}


def main(arguments: list[str]) -> int:
    if not 1 <= len(arguments) <= 2:
        print("usage: python -m polyfleet.volume_reader DIRECTORY [MESSAGE-FILE]", file=sys.stderr)
        return 64
    text = read(Path(arguments[0]))
    print(text)
    Path(arguments[1] if len(arguments) > 1 else MESSAGE).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
