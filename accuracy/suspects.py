"""Likely causes of a difference, from the pattern in which prompts are beyond the margins. Pure; a suspect is a hint for people and decides
nothing.

Each pattern is one question to the numbers: are such prompts more frequent under this condition than without it, and by more than chance
explains (Fisher's exact test, one-sided)? The design is balanced, so one condition does not stand for another. `weight` is the share of
these prompts that fits the pattern. Where few prompts were asked, because the verdict fell early, fewer questions can be answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import comb, sqrt

from accuracy import layout
from accuracy.policy import Policy
from accuracy.types import HIT, Sample, Suspect

CHANCE = 0.01  # a contrast that chance alone gives more often than this is no suspect; divided by the number of contrasts
UNIFORM = 0.8  # share of such prompts from which on the fault is everywhere
OVERFLOW = frozenset({"NonFinite"})
MOST = 8  # suspects that are told
FEW = 8  # prompts below which a mean says nothing
# What each kind of prompt is sensitive to.
STRATA: Mapping[str, tuple[str, str]] = {
    "UltraShort": ("Shape", "kernels for very short prompts, or for exactly one shape"),
    "OtherScripts": ("Vocabulary", "tokenizer, embedding rows or output rows of other scripts"),
    "RareTokens": ("Vocabulary", "embedding or output rows of rare ids; a vocabulary that was cut"),
    "Tools": ("Template", "the chat template's part for tools"),
    "LongContext": ("LongContext", "RoPE scaling, the length of its table, KV cache or chunked prefill"),
    "BlockEdges": ("ChunkedPrefill", "KV blocks or prefill chunks at their edges"),
    "SharedPrefix": ("PrefixCache", "reuse of cached keys and values"),
    "MixedLengths": ("Padding", "padding or masks where lengths differ within a batch"),
}
EDGES = (16, 128, 2048, 4096, 8192)  # usual sizes of a KV block, of a table, of a prefill chunk, in tokens


@dataclass(frozen=True, slots=True)
class Trace:
    """One prompt, position by position: where in the whole sequence (prompt and continuation, in tokens) how far apart the sides are."""

    item: str
    kl: tuple[tuple[int, float], ...]  # (place from 0, divergence or squared difference there), rising places


def suspects(
    samples: Sequence[Sample],
    policy: Policy,
    *,
    contract: str = "",
    token_differences: Sequence[int] = (),
    long_ends: tuple[int, int, int] | None = None,
    traces: Sequence[Trace] = (),
    replicas: Mapping[str, str] | None = None,
) -> tuple[Suspect, ...]:
    """The likeliest causes, heaviest first, at most `MOST`; () where nothing is beyond the margins.

    `contract` is the message of a contract that does not hold. `token_differences` are the candidate's prompt tokens less the
    reference's, one per prompt that both counted. `long_ends` says how many answers the length limit ended on the candidate's side, on
    the reference's side, and of how many prompts. `traces` place differences within the sequence. `replicas` names each replica's node.
    """
    found = [*_contract(contract, token_differences), *_ends(long_ends)]
    far = [is_far(sample, policy) for sample in samples]
    if any(far):
        found += [*_codes(samples), *_contrasts(samples, far, replicas or {}), *_edges(traces, policy)]
    found += _itself(samples, policy)
    found += _shift(samples, policy)
    if any(far) and not {suspect.code for suspect in found} - {"Intermittent"}:
        found += _everywhere(samples, far)
    best: dict[str, Suspect] = {}
    for suspect in found:
        if suspect.code not in best or suspect.weight > best[suspect.code].weight:
            best[suspect.code] = suspect
    return tuple(sorted(best.values(), key=lambda s: (-s.weight, s.code))[:MOST])


def violates(sample: Sample, policy: Policy) -> bool:
    """Whether this prompt counts against the rate of bad prompts: a position beyond tau, a confident flip, or a fault."""
    return layout.violates(policy, sample)


def is_far(sample: Sample, policy: Policy) -> bool:
    """Whether this prompt alone is beyond the margins: it violates, or is further from the reference than its own boundary.

    A single prompt's noise is one draw, so some prompts of a healthy device are far as well: only their pattern says something.
    """
    if violates(sample, policy):
        return True
    rows = (
        ("kl", sample.noise_kl, (sample.d_kl, sample.consistent_kl)),
        ("sq", sample.noise_sq, (sample.d_sq, sample.consistent_sq)),
    )
    return any(
        far is not None and far > layout.allowed(policy, name, layout.noise_of(policy, name, noise))
        for name, noise, both in rows
        for far in both
    )


def _contract(message: str, differences: Sequence[int]) -> Iterator[Suspect]:
    moved = [number for number in differences if number]
    if moved and len(set(differences)) == 1:
        steady = moved[0]
        cause = "a token of the tokenizer's own, such as BOS, added or lost" if abs(steady) == 1 else "another chat template"
        yield Suspect("Template", 1.0, f"the candidate counts {steady:+d} prompt tokens at each of {len(moved)} prompts: {cause}")
    elif moved:
        text = f"prompt tokens differ at {len(moved)} of {len(differences)} prompts, by {min(moved):+d} to {max(moved):+d}: tokenizer"
        yield Suspect("Tokenizer", len(moved) / len(differences), text)
    elif message:
        yield Suspect("Contract", 1.0, message[:200])


def _ends(ends: tuple[int, int, int] | None) -> Iterator[Suspect]:
    if ends is None:
        return
    candidate, reference, prompts = ends
    if candidate > reference and fisher(candidate, prompts, reference, prompts) <= CHANCE:
        text = f"the length limit ended {candidate} of {prompts} answers, on the reference {reference}: end-of-text tokens not known"
        yield Suspect("EndOfText", (candidate - reference) / prompts, text)


def _codes(samples: Sequence[Sample]) -> Iterator[Suspect]:
    hard = [sample.hard for sample in samples if sample.hard]
    flaky = [sample.intermittent for sample in samples if sample.intermittent]
    overflow = sum(code in OVERFLOW for code in (*hard, *flaky))
    if overflow:
        text = f"log-probabilities that are no numbers at {overflow} of {len(samples)} prompts: overflow, or too narrow a number format"
        yield Suspect("Overflow", overflow / max(len(hard) + len(flaky), 1), text)
    if sentinels := sum(code == "Sentinels" for code in (*hard, *flaky)):
        text = f"most alternatives at {sentinels} of {len(samples)} prompts are masked out: logits lost before sampling"
        yield Suspect("Logits", sentinels / (len(hard) + len(flaky)), text)
    if flaky:
        text = f"{len(flaky)} of {len(samples)} prompts had a fault that did not repeat ({', '.join(sorted(set(flaky)))})"
        yield Suspect("Intermittent", len(flaky) / (len(flaky) + len(hard)), text)


@dataclass(frozen=True, slots=True)
class _Contrast:
    code: str
    where: str  # in words, after "at"
    cause: str
    holds: Callable[[Sample], bool]


def _contrasts(samples: Sequence[Sample], far: Sequence[bool], nodes: Mapping[str, str]) -> Iterator[Suspect]:
    asked = list(_questions(samples, nodes))
    for contrast in asked:
        inside = [hit for sample, hit in zip(samples, far, strict=True) if contrast.holds(sample)]
        outside = [hit for sample, hit in zip(samples, far, strict=True) if not contrast.holds(sample)]
        if not inside or not outside:
            continue
        there, else_ = sum(inside), sum(outside)
        if there / len(inside) <= else_ / len(outside) or fisher(there, len(inside), else_, len(outside)) > CHANCE / len(asked):
            continue
        text = (
            f"{there} of {len(inside)} prompts beyond the margins {contrast.where}, {else_} of {len(outside)} otherwise: {contrast.cause}"
        )
        yield Suspect(contrast.code, there / (there + else_), text)


def _questions(samples: Sequence[Sample], nodes: Mapping[str, str]) -> Iterator[_Contrast]:
    if any(sample.condition.prefix_cache == HIT for sample in samples):
        yield _Contrast("PrefixCache", "on a cache hit", "wrong keys or values are reused", lambda s: s.condition.prefix_cache == HIT)
    if any(sample.condition.concurrency > 1 for sample in samples):
        yield _Contrast("Batching", "in a batch", "requests of one batch disturb each other", lambda s: s.condition.concurrency > 1)
    for name in sorted({sample.condition.replica for sample in samples} - {""}):
        node = f" on node {nodes[name]}" if nodes.get(name) else ""
        yield _Contrast("Replica", f"on replica {name}{node}", "its device, node or shard", _on(name))
    for name in sorted({sample.stratum for sample in samples}):
        code, cause = STRATA.get(name, ("Stratum", f"what only prompts of {name} exercise"))
        yield _Contrast(code, f"in {name}", cause, _of(name))
    for name in sorted({sample.modality for sample in samples} - {"Text"}):
        yield _Contrast("Modality", f"with {name}", "the part of the model that reads it", lambda s, m=name: s.modality == m)  # type: ignore[misc]


def _on(name: str) -> Callable[[Sample], bool]:
    return lambda sample: sample.condition.replica == name


def _of(name: str) -> Callable[[Sample], bool]:
    return lambda sample: sample.stratum == name


def _edges(traces: Sequence[Trace], policy: Policy) -> Iterator[Suspect]:
    """Prompts whose first bad position lies at or just behind one and the same edge, with clean positions before it."""
    onsets = [place for trace in traces if (place := _onset(trace, policy.margins.tail_kl)) is not None]
    if len(onsets) < 3:
        return
    for edge in sorted(EDGES, reverse=True):
        if edge < 1024 and any(place < edge for place in onsets):
            continue
        close = sum(edge <= place <= edge + edge // 32 + 8 for place in onsets)
        if close >= 3 and close / len(onsets) >= 0.5:
            text = f"{close} of {len(onsets)} prompts are clean to token {edge}, wrong from there: KV blocks, RoPE or prefill chunks"
            yield Suspect("LongContext" if edge >= 1024 else "ChunkedPrefill", close / len(onsets), text)
            return


def _onset(trace: Trace, limit: float) -> int | None:
    first = next((index for index, (_, value) in enumerate(trace.kl) if value > limit), None)
    return trace.kl[first][0] if first is not None and first >= 2 else None


def _itself(samples: Sequence[Sample], policy: Policy) -> Iterator[Suspect]:
    """Near the reference where whole prompts are scored, and far from itself where the same tokens are decoded or come out of the cache."""
    for name in ("kl", "sq"):
        rows = [row for sample in samples if (row := _distances(sample, policy, name)) is not None]
        if len(rows) < FEW:
            continue
        apart, own, limit = (sum(values) / len(rows) for values in zip(*rows, strict=True))
        if own <= limit or apart > limit:
            continue
        bad = sum(own > allowed >= apart for apart, own, allowed in rows)
        text = (
            f"{bad} of {len(rows)} prompts differ from themselves when they are decoded or cached, and agree with the reference when they "
            "are scored at once: what is cached of keys and values, or the path that decodes"
        )
        yield Suspect("KVCache", bad / len(rows), text)
        return


def _distances(sample: Sample, policy: Policy, name: str) -> tuple[float, float, float] | None:
    """(from the reference, from itself, how far is allowed); None where one of them was not measured."""
    apart, own, noise = (
        (sample.d_kl, sample.consistent_kl, sample.noise_kl) if name == "kl" else (sample.d_sq, sample.consistent_sq, sample.noise_sq)
    )
    if apart is None or own is None or apart != apart or own != own:
        return None
    return apart, own, layout.allowed(policy, name, layout.noise_of(policy, name, noise))


def _shift(samples: Sequence[Sample], policy: Policy) -> Iterator[Suspect]:
    """A systematic shift while the likeliest token stays the likeliest: the logits are scaled or capped, not computed wrongly."""
    shifts = [sample.bias for sample in samples if sample.bias is not None]
    if len(shifts) < FEW:
        return
    mean = sum(shifts) / len(shifts)
    spread = sqrt(sum((value - mean) ** 2 for value in shifts) / (len(shifts) - 1) / len(shifts))
    if abs(mean) < policy.margins.bias or abs(mean) < 3 * spread:
        return
    seen = [sample for sample in samples if sample.d_kl is not None]
    flips = sum(sample.flip is not None for sample in seen)
    if seen and flips <= len(seen) // 50:
        text = f"golden tokens are {mean:+.3f} nats off on average, and the likeliest token stays so: temperature, soft cap or logit scale"
        yield Suspect("Temperature", 1 - flips / len(seen), text)


def _everywhere(samples: Sequence[Sample], far: Sequence[bool]) -> Iterator[Suspect]:
    share = sum(far) / len(far)
    if share >= UNIFORM:
        text = (
            f"{sum(far)} of {len(samples)} prompts beyond the margins, under every condition alike: weights, an activation, or quantisation"
        )
        yield Suspect("Weights", share, text)


def fisher(bad_a: int, all_a: int, bad_b: int, all_b: int) -> float:
    """Probability that `all_a` prompts drawn from both groups hold at least `bad_a` of all bad ones, if the group did not matter."""
    bad, everything = bad_a + bad_b, all_a + all_b
    ways = sum(comb(bad, k) * comb(everything - bad, all_a - k) for k in range(bad_a, min(bad, all_a) + 1) if all_a - k <= everything - bad)
    return ways / comb(everything, all_a)
