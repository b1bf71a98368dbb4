"""What a run asks of either side, told before it begins. Pure; a forecast from how the checker works, not a bound.

Requests beside the scored prompts: probing and the contract, company for prompts under load, cached prompts that are asked twice, and the
candidate's comparison with itself. Prompts come out of a prefix cache for a large part; they are counted here all the same, because a bill
counts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accuracy.golden import estimate_tokens
from accuracy.http.examine import DECODED, EVERY, HITS, RESCORED
from accuracy.http.scoring import STEPS
from accuracy.http.windows import FILLER_PROMPT, FILLER_TOKENS
from accuracy.policy import Policy
from accuracy.types import Cost, Gate, Item, Mode

ONCE = 120  # requests of probing and contract
COMPANY = 2.0  # requests for company per prompt, measured with 1, 8 and 64 in flight


def reference(items: Sequence[Item], policy: Policy, mode: Mode) -> Cost:
    """Of capturing these items: rendered, continued, scored, and scored again as their own replicate out of the cache."""
    length = policy.positions_per_prompt
    at = min(STEPS, length)
    requests = {Mode.PROMPT_LOGPROBS: 5, Mode.STEPWISE: 3 + 2 * at}.get(mode, 4)
    tokens = 0
    for item in items:
        prompt = estimate_tokens(item)
        scored = {Mode.PROMPT_LOGPROBS: prompt + length, Mode.STEPWISE: at * (prompt + length // 2)}.get(mode, prompt)
        tokens += 2 * prompt + 2 * scored
    generated = {Mode.PROMPT_LOGPROBS: length + 3, Mode.STEPWISE: length + 1 + 2 * at}.get(mode, 3 * length)
    return Cost(ONCE + requests * len(items), tokens, generated * len(items))


def candidate(items: Sequence[Item], policy: Policy, mode: Mode) -> Cost:
    """Of scoring them, half of them out of the cache, with all that is compared beside."""
    length, repeats = policy.positions_per_prompt, policy.repeats
    at = min(STEPS, length)
    itself = Gate.SELF_CONSISTENCY in policy.gates and mode in (Mode.PROMPT_LOGPROBS, Mode.STEPWISE)
    whole = mode is Mode.PROMPT_LOGPROBS
    each = {Mode.STEPWISE: at}.get(mode, 1) * repeats + 0.5
    asked = tokens = generated = 0.0
    for item in items:
        prompt = estimate_tokens(item)
        step = prompt + length / 2
        tokens += repeats * {Mode.PROMPT_LOGPROBS: prompt + length, Mode.STEPWISE: at * step}.get(mode, float(prompt)) + 0.5 * prompt
        generated += repeats * {Mode.PROMPT_LOGPROBS: 1, Mode.STEPWISE: at}.get(mode, length)
        asked += each
        if itself:
            again = 1 if whole else RESCORED
            asked += (0.5 * (1 + HITS) if whole else 0) + (1 + again) / EVERY
            tokens += (0.5 * (prompt + HITS * step) if whole else 0) + (prompt + again * (prompt + DECODED)) / EVERY
            generated += (DECODED + again) / EVERY
    if any(load > 1 for load in policy.concurrency):
        company = COMPANY * len(items)
        asked, tokens, generated = asked + company, tokens + company * FILLER_PROMPT / 2, generated + company * FILLER_TOKENS
    return Cost(ONCE + round(asked), round(tokens), round(generated))


def paced(cost: Cost, max_rps: float | None) -> Cost:
    """With the seconds that a bound on requests per second makes it last; 0 = no bound, so nothing is known."""
    return replace(cost, seconds=cost.requests / max_rps) if max_rps else cost
