"""The unit of work: what a token of a model costs, and how much of it one replica of each option carries.

    1 work/s = one replica of the reference option, busy all the time at its SLO-feasible operating point

The reference is the option with the most trusted number (Measured, Published, Estimated), the first by name among equals. With R output
tokens/s at a mean request of (i, o) tokens its costs solve  p i + q o = o / R  for p = r q, where r tells prompt and output apart:

    entries     two throughput entries of this option with one concurrency and different shapes: both equations are solved
    estimator   the closed form of hwprofiles at (i, o) and (i / 2, o), same concurrency: what fits into memory at i fits at i / 2
    default     r = 0.274, the ratio of the replay model of the benchmarks (0.3086 ms per prompt token, 1.125 ms per output token)

Any other option supplies (its requests/s) x (work of one request). An option without a number has None: nothing is guessed, and `rating`
does not let such an option carry an automatically scaled model. Once chosen the unit stays: numbers that are held or learned keep their
meaning when data, load or hardware change. Only the ratio r improves when better data tells it, without moving the mean request's work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from autoscaling.types import Costs
from hwprofiles.entries import points_for
from hwprofiles.estimate import Estimate, Load, estimate
from hwprofiles.performance import ASSUMED_LOAD
from polyfleet import rating
from polyfleet.api import ModelDeploymentSpec
from polyfleet.memo import Memo
from polyfleet.resolve import ResolvedOption
from polyfleet.scaling.force import Reference
from polyfleet.sizing import hardware

ENTRIES, ESTIMATOR, DEFAULT = "entries", "estimator", "default"
_KNOWLEDGE = (DEFAULT, ESTIMATOR, ENTRIES)  # from the weakest
DEFAULT_RATIO = (0.25 + 30 / 512) / (0.5 + 30 / 48)  # prompt cost / output cost of the replay model, 0.2743
_TRUST = ("Measured", "Published", "Estimated")
_TOLERANCE = 1e-9


def stated(spec: ModelDeploymentSpec) -> Load | None:
    """The load that the user states, or None; see `rating.asked`."""
    return rating.stated_load(spec)


def shape_of(option: ResolvedOption, load: Load | None) -> Load:
    """Mean request that the option's number speaks of: the stated one, else its entry's own, else the assumed one."""
    if load is not None:
        return load
    found = option.performance
    if found is not None and found.entry is not None:
        entry = option.wanted.profile.throughput[found.entry]
        if entry.input_tokens is not None and entry.output_tokens is not None:
            return Load(entry.input_tokens, entry.output_tokens)
    return ASSUMED_LOAD


def reference(options: Iterable[ResolvedOption], load: Load | None, kept: Reference | None = None) -> Reference | None:
    """The unit of a model; None while no option has a number and none was chosen before."""
    known = [option for option in options if _rate(option) is not None]
    if not known:
        return kept
    first = min(known, key=lambda option: (_TRUST.index(option.evidence), option.id))
    if kept is None:
        return _new(first, load)
    same = next((option for option in known if option.id == kept.option), first)
    if _KNOWLEDGE.index(kept.basis) == len(_KNOWLEDGE) - 1:
        return kept
    ratio, basis = split(same, load)
    if _KNOWLEDGE.index(basis) <= _KNOWLEDGE.index(kept.basis):
        return kept
    shape = shape_of(same, load)
    return Reference(kept.option, _costs(kept.costs.of(shape.input_tokens, shape.output_tokens), shape, ratio), basis)


def work_of(option: ResolvedOption, load: Load | None, unit: Reference | None) -> float | None:
    """Work/s of one replica at the SLO; None = there is no number for it."""
    rate = _rate(option)
    if rate is None or unit is None:
        return None
    shape = shape_of(option, load)
    return rate / shape.output_tokens * unit.costs.of(shape.input_tokens, shape.output_tokens)


def _rate(option: ResolvedOption) -> float | None:
    found = option.performance
    return found.output_tokens_per_s if found is not None and found.output_tokens_per_s > 0 else None


def _new(option: ResolvedOption, load: Load | None) -> Reference:
    shape = shape_of(option, load)
    ratio, basis = split(option, load)
    return Reference(option.id, _costs(shape.output_tokens / (_rate(option) or 1.0), shape, ratio), basis)


def _costs(request: float, shape: Load, ratio: float) -> Costs:
    """Costs with `ratio` between them, by which a mean request is `request` work-seconds."""
    output = request / (ratio * shape.input_tokens + shape.output_tokens)
    return Costs(ratio * output, output)


# ---- prompt against output


def split(option: ResolvedOption, load: Load | None) -> tuple[float, str]:
    """(cost of a prompt token / cost of an output token, how it is known)."""
    key = (
        "split", option.id, option.layout, load, option.performance,
        option.wanted.known, option.wanted.number_format, option.wanted.engine_version,
    )  # fmt: skip
    return _SPLITS.get(option.wanted.profile, key, lambda: _split(option, load))


_SPLITS: Memo[tuple[float, str]] = Memo()


def _split(option: ResolvedOption, load: Load | None) -> tuple[float, str]:
    if (found := _of_entries(option)) is not None:
        return found, ENTRIES
    if (found := _of_estimator(option, shape_of(option, load))) is not None:
        return found, ESTIMATOR
    return DEFAULT_RATIO, DEFAULT


def _of_entries(option: ResolvedOption) -> float | None:
    """From the pair of entries whose shapes differ most; entries of one evidence, engine version and concurrency only."""
    wanted = option.wanted
    points = points_for(
        wanted.profile.throughput,
        model_id=rating.entry_name(wanted),
        precision=wanted.number_format,
        engine=wanted.engine,
        layout=option.layout,
    )
    rows = [
        (point, point.entry.input_tokens, point.entry.output_tokens)
        for point in points
        if point.entry.input_tokens is not None and point.entry.output_tokens is not None
    ]
    best: tuple[float, float] | None = None
    for (a, i, o), (b, j, u) in combinations(rows, 2):
        one, two = a.entry, b.entry
        if (one.concurrency, one.evidence, one.engine_version) != (two.concurrency, two.evidence, two.engine_version):
            continue
        apart = abs(i * u - j * o) / (i * u + j * o)  # 0 = the same shape, 1 = nothing but prompt against nothing but output
        found = _solve((i, o, o / a.rate), (j, u, u / b.rate))
        if found is not None and apart > 0.05 and (best is None or apart > best[0] + _TOLERANCE):
            best = apart, found
    return best[1] if best is not None else None


def _of_estimator(option: ResolvedOption, shape: Load) -> float | None:
    known, wanted = option.wanted.known, option.wanted
    if known.shape is None:
        return None
    concurrency = option.performance.concurrency if option.performance is not None else None
    precision = wanted.number_format or known.precision
    rows: list[tuple[float, float, float]] = []
    for prompt in (shape.input_tokens, max(1, shape.input_tokens // 2)):
        asked = Load(prompt, shape.output_tokens, concurrency or 1)
        answer = estimate(known.shape, hardware(wanted), option.layout, precision, asked, model=wanted.model_id)
        if not isinstance(answer, Estimate) or answer.output_tokens_per_s <= 0:
            return None
        rows.append((prompt, shape.output_tokens, shape.output_tokens / answer.output_tokens_per_s))
    return _solve(*rows)


def _solve(one: Sequence[float], two: Sequence[float]) -> float | None:
    """p / q of  p i + q o = t  for two rows (i, o, t); None where the rows contradict a positive cost of both."""
    (i, o, t), (j, u, s) = one, two
    det = i * u - j * o
    if abs(det) < _TOLERANCE:
        return None
    p, q = (t * u - s * o) / det, (i * s - j * t) / det
    return p / q if p > 0 and q > 0 else None
