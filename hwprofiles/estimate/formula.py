"""The closed form: one set of expressions for Python floats (one estimate) and for float64 arrays (many at once).

Both doors run exactly these operations in this order. They are additions, multiplications, divisions, comparisons and selections, which
IEEE 754 rounds alike in Python and numpy, so the results agree bit for bit; `power` multiplies repeatedly instead of calling `pow`, whose
last bit differs between libraries.

Symbols (per replica): n units, dp attention groups, t tensor parallel units of a group, p pipeline stages, B requests in flight, b = B/dp.
The formulas are derived in docs/estimator.md; the constants are beside them here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
N = TypeVar("N", float, Array)

# Held back per unit for activations, graphs and the engine itself (fit of the calibration points).
RESERVE_BYTES = 3.5e9
# Share of a link's rate that collectives reach (Ascend msmodeling's calibration default).
LINK_SHARE = 0.7
# Latency of one all-reduce (Ascend msmodeling's calibration default), of one expert exchange (dispatch and combine together; fit).
REDUCE_LATENCY_S = 10e-6
EXCHANGE_LATENCY_S = 30e-6
# Bytes per activation in an expert exchange: 8-bit dispatch, 16-bit combine (DeepSeek-V3 technical report, on low-precision
# communication).
EXCHANGE_BYTES = 3.0
# Requests that one attention group runs at once: vLLM's default max_num_seqs of its server on large devices (vLLM documentation, 2026-08).
GROUP_REQUESTS = 1024
# Prompt tokens that one step takes in: vLLM's default max_num_batched_tokens of its server (the same).
STEP_TOKENS = 8192.0


class Terms(NamedTuple, Generic[N]):
    """What one (model, device, layout, load) contributes; every expression below is made of these. Bytes, seconds, tokens."""

    dense_read: N  # bytes of dense weights that one unit reads per step
    expert_read: N  # bytes of routed experts that one unit reads per step if every expert is touched
    miss: N  # share of the experts that one token leaves untouched, 1 - k/E; dense: 1
    kv_growing: N  # KV bytes per token of context and unit, layers that grow
    kv_window: N  # the same for layers that keep `window` tokens
    window: N
    room: N  # bytes of one unit for KV
    groups: N  # dp
    stages: N  # p
    memory_rate: N  # bytes/s reached
    decode_flop_s: N  # seconds of compute per request and step
    prefill_token_s: N  # seconds of compute per prompt token, one group
    attention_growing_s: N  # seconds per squared token, layers that grow
    attention_window_s: N  # the same for layers with a window
    comm_fixed_s: N  # latency of the collectives of one step
    comm_token_s: N  # transfer of the collectives per token of the group
    overhead_s: N
    prefill_share: N  # 1; 0 where prompts are computed elsewhere
    input_tokens: N
    output_tokens: N
    asked: N  # requests in flight; infinity = as many as possible
    ttft_limit: N
    itl_limit: N


class Ops(NamedTuple, Generic[N]):
    """The operations that Python spells differently for floats and arrays."""

    maximum: Callable[[N, N], N]
    minimum: Callable[[N, N], N]
    floor: Callable[[N], N]
    power: Callable[[N, N], N]  # base to a whole, non-negative exponent
    full: Callable[[N, float], N]  # a constant in the form of the first argument
    select: Callable[[N, N, N, N], N]  # where first <= second: third, else fourth
    any_less: Callable[[N, N], bool]


class Times(NamedTuple, Generic[N]):
    step_s: N  # one decode step
    prefill_s: N  # one prompt alone
    itl_s: N  # mean time per output token
    ttft_s: N
    rate: N  # output tokens/s


def context_kv(t: Terms[N], tokens: N, ops: Ops[N]) -> N:
    """KV bytes per unit of one request with this many tokens of context."""
    return t.kv_growing * tokens + t.kv_window * ops.minimum(tokens, t.window)


def mean_context(t: Terms[N]) -> N:
    """Mean context of a request over its decoding: the prompt and half of the answer."""
    return t.input_tokens + t.output_tokens * 0.5


def most_requests(t: Terms[N], ops: Ops[N]) -> N:
    """Requests that memory holds, over all groups, at most what engines run at once."""
    # A model whose KV is nothing (linear attention) is limited by the engine alone; one byte avoids the division by zero.
    each = ops.maximum(context_kv(t, mean_context(t), ops), ops.full(t.room, 1.0))
    held = ops.floor(t.groups * t.room / each)
    return ops.maximum(ops.minimum(held, t.groups * GROUP_REQUESTS), ops.full(t.room, 0.0))


def times(t: Terms[N], requests: N, ops: Ops[N]) -> Times[N]:
    """Latencies and rate at `requests` in flight (1 or more, at most what memory holds); `asked` above that wait their turn."""
    one = ops.full(requests, 1.0)
    group = requests / t.groups
    touched = one - ops.power(t.miss, requests)
    read = t.dense_read + t.expert_read * touched + context_kv(t, mean_context(t), ops) * group
    step = ops.maximum(read / t.memory_rate, t.decode_flop_s * requests) + (t.comm_fixed_s + t.comm_token_s * group) + t.overhead_s
    kept = ops.minimum(t.input_tokens, t.window)
    attention = t.attention_growing_s * t.input_tokens * t.input_tokens + t.attention_window_s * (2.0 * t.input_tokens - kept) * kept
    per_prompt = t.prefill_token_s * t.input_tokens + attention + t.comm_token_s * t.input_tokens
    prefill = per_prompt + t.comm_fixed_s
    itl = step + t.prefill_share * group * prefill / (t.stages * t.output_tokens)
    rate = requests / itl
    # A prompt shares its step with others up to the step's token budget and has a mean place among them.
    together = ops.maximum(ops.minimum(STEP_TOKENS / t.input_tokens, group), one)
    served = step + t.comm_fixed_s + (one + together) * 0.5 * per_prompt
    # In a closed loop those above what memory holds wait until enough others have ended.
    finite = ops.select(t.asked, ops.full(t.asked, 1e15), t.asked, requests)
    waiting = ops.maximum(finite - requests, ops.full(requests, 0.0))
    ttft = served + waiting / requests * (t.output_tokens * itl)
    return Times(step, prefill, itl, ttft, rate)


def within(t: Terms[N], at: Times[N], ops: Ops[N]) -> N:
    """1 where both limits hold, else 0."""
    one, zero = ops.full(at.itl_s, 1.0), ops.full(at.itl_s, 0.0)
    return ops.select(at.itl_s, t.itl_limit, one, zero) * ops.select(at.ttft_s, t.ttft_limit, one, zero)


def largest_within(t: Terms[N], most: N, ops: Ops[N]) -> N:
    """The largest number of requests up to `most` that keeps both limits; 0 = not even one does.

    Bisection, since no latency falls when requests are added: `high` always fails, `low` always holds (or is 0).
    """
    one = ops.full(most, 1.0)
    fine = within(t, times(t, ops.maximum(most, one), ops), ops)
    low = most * fine
    high = ops.select(one, fine, low, ops.maximum(most, one))  # one where even the first is too slow
    while ops.any_less(low + 1.0, high):
        middle = ops.maximum(ops.floor((low + high) * 0.5), one)
        good = within(t, times(t, middle, ops), ops)
        open_ = ops.select(high, low + 1.0, ops.full(low, 0.0), one)
        low, high = ops.select(one, good * open_, middle, low), ops.select(one, open_ * (one - good), middle, high)
    return low


def _power_float(base: float, exponent: float) -> float:
    count, result = int(exponent), 1.0
    while count:
        if count & 1:
            result *= base
        base *= base
        count >>= 1
    return result


def _power_array(base: Array, exponent: Array) -> Array:
    count, result = exponent.astype(np.int64), np.ones_like(base)
    while count.any():
        result = np.where(count & 1, result * base, result)
        base = base * base
        count = count >> 1
    return result


FLOATS: Ops[float] = Ops(
    maximum=lambda a, b: a if a >= b else b,
    minimum=lambda a, b: a if a <= b else b,
    floor=lambda a: float(a // 1.0),
    power=_power_float,
    full=lambda _like, value: value,
    select=lambda first, second, a, b: a if first <= second else b,
    any_less=lambda a, b: a < b,
)
ARRAYS: Ops[Array] = Ops(
    maximum=np.maximum,
    minimum=np.minimum,
    floor=np.floor,
    power=_power_array,
    full=lambda like, value: np.full_like(like, value),
    select=lambda first, second, a, b: np.where(first <= second, a, b),
    any_less=lambda a, b: bool((a < b).any()),
)
