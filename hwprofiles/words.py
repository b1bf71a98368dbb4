"""Number formats are free words, so that a new one needs no new polyfleet. A slip of the pen is a free word too: this says so."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from hwprofiles.estimate.formats import BYTES, bytes_assumed
from hwprofiles.model import HardwareProfileSpec


def doubt(word: str) -> str:
    """Why this word may not mean what its writer meant; "" for a format whose bytes are known."""
    assumed = bytes_assumed(word)
    if not assumed:
        return ""
    near = get_close_matches(word.lower(), sorted(BYTES), 1)
    return f"{assumed}, with the 16-bit peak; " + (f"did you mean {near[0]}?" if near else f"known formats: {', '.join(sorted(BYTES))}")


def doubtful(spec: HardwareProfileSpec) -> Iterator[tuple[str, str]]:
    """(field, doubt) of each word that is no known format, where it stands first."""
    assume = spec.assume.peak_tflops if spec.assume is not None else None
    places = [(f"dtypes.{word}", word) for word in sorted(spec.dtypes or {})]
    places += [(f"peakTflops.{word}", word) for word in sorted(spec.peak_tflops or {})]
    places += [(f"assume.peakTflops.{word}", word) for word in sorted(assume or {})]
    places += [(f"throughput[{index}].precision", entry.precision) for index, entry in enumerate(spec.throughput) if entry.precision]
    seen: set[str] = set()
    for field, word in places:
        if word not in seen and (text := doubt(word)):
            yield field, text
        seen.add(word)
