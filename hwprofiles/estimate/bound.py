"""The speed of light: what the silicon cannot exceed, for judging entries. Not an estimate."""

from __future__ import annotations

from dataclasses import replace

from hwprofiles.estimate import formats, formula, terms
from hwprofiles.estimate.formula import FLOATS
from hwprofiles.estimate.hardware import Hardware
from hwprofiles.estimate.values import Load, Refusal
from hwprofiles.model import Layout
from hwprofiles.shape import Shape

# The smallest cache that engines offer today; a bound must not be broken by an honest entry with a quantised cache.
SMALLEST_KV = "fp8"
_INSTANT = 1e30


def speed_of_light(shape: Shape, hardware: Hardware, layout: Layout, precision: str | None, load: Load) -> float | None:
    """Upper bound on output tokens/s at the load's concurrency: full peak, full bandwidth, free collectives, no overhead, 8-bit cache.

    Without a concurrency the bound is that of the most requests that memory holds. None = unknown: the shape is incomplete, the peak or the
    bandwidth is unknown or only assumed, the precision has no peak of its own, or the weights do not fit. With speculative decoding the
    caller multiplies by the accepted length.
    """
    speed = formats.compute(precision, hardware.dtypes, hardware.peaks)
    used = {"bandwidthTBps"} if speed is None else {"bandwidthTBps", *(f"peakTflops.{key}" for key in speed.keys)}
    if speed is None or not speed.native or used & hardware.assumed:
        return None
    ideal = replace(hardware, mfu=1.0, mbu=1.0, step_overhead_s=0.0, node_link=_INSTANT, cross_link=_INSTANT, usable_fraction=1.0)
    item = terms.prepare(terms.Question(shape, ideal, layout, precision, load, kv_precision=SMALLEST_KV))
    if isinstance(item, Refusal):
        return None
    t = item.terms._replace(comm_fixed_s=0.0, comm_token_s=0.0)
    most = formula.most_requests(t, FLOATS)
    requests = most if load.concurrency is None else float(load.concurrency)
    return formula.times(t, max(requests, 1.0), FLOATS).rate
