"""The formats of `polyfleet profile import --from`, by name. One row each; a new format is a module with `read(content, given)`."""

from __future__ import annotations

from collections.abc import Callable

from polyfleet.profiledata import aibrix, aiperf, inference_perf, vllm, wva
from polyfleet.profiledata.entry import Given, Imported

READERS: dict[str, Callable[[str, Given], Imported]] = {
    "aibrix": aibrix.read,
    "aiperf": aiperf.read_aiperf,
    "genai-perf": aiperf.read_genai_perf,
    "inference-perf": inference_perf.read,
    "vllm": vllm.read,
    "wva": wva.read,
}
