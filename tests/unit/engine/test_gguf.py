"""The GGUF reader against files written, and values dequantised, by the reference package."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from sandbox.engine.gguf_weights import GgufFile, WeightsError, dequantise

KINDS = {"F32": 4, "F16": 2, "BF16": 2, "Q4_0": 18, "Q4_1": 20, "Q8_0": 34}


def _blocks(kind: str, rng: np.random.Generator) -> bytes:
    """64 random blocks with finite scales."""
    data = rng.integers(0, 256, (64, KINDS[kind]), dtype=np.uint8)
    scales = {"Q4_0": 1, "Q4_1": 2, "Q8_0": 1}.get(kind, 0)
    for i in range(scales):
        data[:, 2 * i : 2 * i + 2] = rng.standard_normal((64, 1)).astype(np.float16).view(np.uint8)
    if scales == 0:
        data = rng.standard_normal((64, 1)).astype(np.float32 if kind == "F32" else np.float16).view(np.uint8)
    return data.tobytes()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_dequantised_values_are_the_reference_packages(kind: str) -> None:
    data = _blocks(kind, np.random.default_rng(1))
    wanted = gguf.quants.dequantize(np.frombuffer(data, np.uint8), gguf.GGMLQuantizationType[kind])
    if kind in ("F32", "F16"):  # the reference hands plain types back as they are typed
        wanted = np.frombuffer(data, np.float32 if kind == "F32" else np.float16).astype(np.float32)
    np.testing.assert_array_equal(dequantise(kind, data), np.asarray(wanted).reshape(-1))


def _write(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    values = np.random.default_rng(2).standard_normal((6, 64)).astype(np.float32)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("some.number", 7)
    writer.add_float32("some.fraction", 0.5)
    writer.add_bool("some.flag", True)
    writer.add_array("some.words", ["a", "ü", ""])
    writer.add_array("some.numbers", [1, -2, 3])
    writer.add_tensor("plain", values)
    packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("packed", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


def test_metadata_and_tensors_of_a_written_file(tmp_path: Path) -> None:
    values = _write(tmp_path / "x.gguf")
    file = GgufFile(tmp_path / "x.gguf")
    assert file.metadata["some.number"] == 7
    assert file.metadata["some.fraction"] == 0.5
    assert file.metadata["some.flag"] is True
    assert file.metadata["some.words"] == ["a", "ü", ""]
    assert file.metadata["some.numbers"] == [1, -2, 3]
    np.testing.assert_array_equal(file.read("plain"), values)
    np.testing.assert_allclose(file.read("packed"), values, atol=0.02)
    with pytest.raises(WeightsError, match="tensor absent is missing"):
        file.info("absent")
    file.close()


def test_damaged_files_are_refused_in_words(tmp_path: Path) -> None:
    _write(tmp_path / "x.gguf")
    whole = (tmp_path / "x.gguf").read_bytes()
    cases = {
        "not a GGUF file": b"",
        "only GGUF version 3": b"GGUF" + bytes([2]) + whole[5:],
        "the header ends too early": whole[:60],
        "reaches beyond the end": whole[:-40],
    }
    for message, data in cases.items():
        path = tmp_path / "bad.gguf"
        path.write_bytes(data)
        with pytest.raises(WeightsError, match=message):
            GgufFile(path)
    with pytest.raises(WeightsError, match="Set POLYFLEET_WEIGHTS"):
        GgufFile(tmp_path / "absent.gguf")
