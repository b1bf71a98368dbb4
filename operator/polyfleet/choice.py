"""Which size one model takes on one profile under one scheduler, and the number that it is placed by.

Where something rests on the speed (a workload, an SLO, automatic scaling), all sizes that hold the model are rated, and trust goes before
size: the smallest one with a Measured or Published entry for the load, else the smallest with an Estimated entry, else the smallest that
our own formula vouches for. So a formula for one device does not hide what was measured on two. A formula for a larger size is no answer
where a smaller one has data for other loads: buying devices is no way around a refusal.

Where nothing rests on it, the memory decides: the smallest size that holds the model. An entry for a larger one does not make a model
grow of which nobody asked how fast it is; only FleetPolicy `profiles.minEvidence` can, where no smaller size is known well enough.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwprofiles.estimate import Refusal
from polyfleet import rating, sizing
from polyfleet.memo import Memo
from polyfleet.merge import Wanted
from polyfleet.rating import EVIDENCE, LOAD_OUTSIDE, NO_PERFORMANCE_DATA, PROFILE_STALE, SLO_UNREACHABLE, Asked, Rated
from polyfleet.sizing import Fit, Rejection


@dataclass(frozen=True, slots=True)
class Choice:
    fit: Fit
    rated: Rated | None

    @property
    def evidence(self) -> str:
        """The class of the number that it was placed by: its speed where that is known, else its memory."""
        if self.rated is not None:
            return self.rated.performance.evidence
        return self.fit.memory.evidence if self.fit.memory is not None else EVIDENCE[0]


def chosen(wanted: Wanted, scheduler: str, full: int | None, ask: Asked, held: bool) -> Choice | Rejection:
    """`_choose`, remembered by everything that it reads: most models of a fleet are the same from one cycle to the next."""
    key = (
        wanted.profile_name, wanted.uri, wanted.precision, wanted.known, wanted.footprint, wanted.parallelism, wanted.engine,
        wanted.engine_version, wanted.args, scheduler, full, ask, held,
    )  # fmt: skip
    return _CHOICES.get(wanted.profile, key, lambda: _choose(wanted, scheduler, full, ask, held))


_CHOICES: Memo[Choice | Rejection] = Memo()


def _choose(wanted: Wanted, scheduler: str, full: int | None, ask: Asked, held: bool) -> Choice | Rejection:
    legal = sizing.layouts(wanted, scheduler, full)
    fits = legal if isinstance(legal, Rejection) else sizing.fitting(wanted, legal, ask.tokens)
    if isinstance(fits, Rejection):
        return fits
    if not ask.because:
        return _by_memory(wanted, fits, ask, held)
    refusals: list[Refusal] = []
    sizes: list[int] = []
    best: tuple[int, Choice] | None = None
    for fit in fits:
        rated = rating.rate(wanted, fit.layout, ask, running=held)
        if isinstance(rated, Refusal):
            refusals.append(rated)
            sizes.append(fit.layout.devices)
        elif rated.performance.entry is not None or all(item.reason == SLO_UNREACHABLE for item in refusals):
            rank = _trust(rated)
            if best is None or rank > best[0]:
                best = rank, Choice(fit, rated)
    return best[1] if best is not None else _refused(wanted, sizes, refusals, ask)


def _trust(rated: Rated) -> int:
    """2 for what somebody saw happen, 1 for somebody's estimate of exactly this, 0 for our own formula."""
    if rated.performance.entry is None:
        return 0
    return 1 if rated.performance.evidence == EVIDENCE[0] else 2


def _by_memory(wanted: Wanted, fits: list[Fit], ask: Asked, held: bool) -> Choice | Rejection:
    """The smallest size of which enough is known; what is known of its speed is shown."""
    rejected: list[Rejection] = []
    for fit in fits:
        rated = rating.rate(wanted, fit.layout, ask, running=held)
        choice = _unrated(wanted, fit, ask) if isinstance(rated, Refusal) else Choice(fit, rated)
        if isinstance(choice, Choice):
            return choice
        rejected.append(choice)
    return rejected[0]


def _unrated(wanted: Wanted, fit: Fit, ask: Asked) -> Choice | Rejection:
    """Nothing rests on the speed, so that the memory is known is enough, if its evidence is."""
    choice = Choice(fit, None)
    if EVIDENCE.index(choice.evidence) >= EVIDENCE.index(ask.min_evidence):
        return choice
    return Rejection(
        wanted.profile_name,
        NO_PERFORMANCE_DATA,
        f"what is known of {wanted.model_id} here is {choice.evidence}; FleetPolicy spec.profiles.minEvidence is {ask.min_evidence}",
        f"{rating.bench(wanted, ask.load)}, add a throughput entry with evidence {ask.min_evidence}, or lower minEvidence",
    )


# Which refusal of several sizes is told: what data for another load or of another day would change, then the goal itself.
_TOLD = (LOAD_OUTSIDE, PROFILE_STALE, SLO_UNREACHABLE, NO_PERFORMANCE_DATA)


def _refused(wanted: Wanted, sizes: list[int], refusals: list[Refusal], ask: Asked) -> Rejection:
    reason = next((word for word in _TOLD if any(item.reason == word for item in refusals)), refusals[0].reason)
    own = [(size, item) for size, item in zip(sizes, refusals, strict=True) if item.reason == reason]
    # The largest size is the nearest to the goal, the smallest the cheapest to measure.
    size, found = own[-1] if reason == SLO_UNREACHABLE else own[0]
    message = f"on {size} {'device' if size == 1 else 'devices'}: {found.message}"
    if reason == NO_PERFORMANCE_DATA:
        message += f" ({ask.because} asks for it)"
    blank = [str(size) for size, item in zip(sizes, refusals, strict=True) if item.reason == NO_PERFORMANCE_DATA]
    if reason == SLO_UNREACHABLE and blank:
        message += f"; nothing is known of {', '.join(blank)} devices"
    return Rejection(wanted.profile_name, reason, message, found.hint or rating.bench(wanted, ask.load))
