"""Regenerates api_pb2.py and its type stub from api.proto (part of `make gen`).

The compiler is the one of the Python package grpcio-tools (a development dependency): the generated files are checked in, so neither the
image nor a user needs it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

PROTO = "sandbox/deviceplugin/api.proto"
HEADER = """\
# Generated from api.proto by `make gen`; do not edit.
# ruff: noqa: E501, I001, N803, N815, RUF023, UP007, UP045
# mypy: disable-error-code=type-arg
# fmt: off
"""


def generate() -> dict[Path, str]:
    """The generated files of this checkout with the text that they should have."""
    from grpc_tools import protoc  # type: ignore[import-untyped]

    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory() as folder:
        status = protoc.main(["protoc", f"--proto_path={root}", f"--python_out={folder}", f"--pyi_out={folder}", PROTO])
        if status != 0:
            raise RuntimeError(f"protoc ended with status {status} for {PROTO}: see its message above")
        made = [Path(PROTO).with_name(name) for name in ("api_pb2.py", "api_pb2.pyi")]
        return {root / path: HEADER + (Path(folder) / path).read_text(encoding="utf-8") for path in made}
