"""What `decide` remembers of one model and role between ticks, and the part of it that survives a restart.

`Memory` is a value; nothing in it changes. What survives (`learned`, `restore`) are means per request, volatility, the last hour of bins,
the trials and the corrections of capacity: bounded JSON below 32 KiB. What is asked for, windows and counters do not survive: after a
restart they are read anew, and nothing goes down before the first window is full.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from autoscaling.capacity import Kappas
from autoscaling.floor import Bins
from autoscaling.guard import Guard
from autoscaling.level import Level
from autoscaling.mix import Mix
from autoscaling.policy import FLOOR_BINS, KAPPA_HIGH, KAPPA_LOW, TRIAL_GRID, WORTH
from autoscaling.trials import FAMILIES, Trials, Verdict, table
from autoscaling.windows import Windows

VERSION = 1
LIMIT_BYTES = 32 * 1024


class MemoryFault(ValueError):  # noqa: N818 - named as the other faults of the project
    """Learned state that cannot be read; callers go on with no knowledge. Names the field, the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one tick asked for, before any holding: only raw needs enter the window."""

    clock: float
    ask: float  # work/s; more than the capacity = grow
    give: float  # with full head-room


@dataclass(frozen=True, slots=True)
class Blind:
    """Load that is not known."""

    since: float  # clock
    polls: int  # in a row


@dataclass(frozen=True, slots=True)
class Memory:
    """Clocks are seconds of believed time since this memory began: a step of the room's clock does not empty a window."""

    windows: Windows
    clock: float = 0.0
    began: float = 0.0  # clock; nothing goes down before a window has passed since
    level: Level | None = None
    first_sigma: float | None = None  # volatility learned earlier
    bins: Bins = Bins()  # noqa: RUF009 - immutable
    trials: Trials = Trials()  # noqa: RUF009 - immutable
    backtest: tuple[float, float] = (0.0, -1e9)  # the floor, and the clock it was worked out at
    verdict: Verdict = Verdict()  # noqa: RUF009 - immutable; of the trials, worked out with the backtest
    needs: tuple[Need, ...] = ()
    held: float | None = None  # work/s that the placer covers, in stated work
    least: int = 0  # replicas that the last demand asked for at least
    kv_floor: float = 0.0  # tokens that must stay, as of the last decision to shrink
    too_fast: bool = False  # bursts are shorter than a cold start
    noted: tuple[tuple[str, float], ...] = ()  # what was last told to be worth writing
    shrinkable: bool = False  # `held` stands from a decision to shrink
    downs: tuple[float, ...] = ()  # clocks of the last hour
    ups: tuple[float, ...] = ()
    idle: float | None = None  # clock since which the load is a true zero
    vanished: bool = False  # it became so from one poll to the next, against all that its noise explains
    asleep: bool = False
    blind: Blind | None = None
    recovering: tuple[float, float] | None = None  # clock, and capacity then
    guard: Guard = Guard()  # noqa: RUF009 - immutable
    kappas: Kappas = ()


def learned(memory: Memory) -> dict[str, object]:
    """What survives a restart, as plain JSON values: versioned, below 32 KiB, three significant digits."""
    mix, trials, level = memory.windows.mix, memory.trials, memory.level
    state: dict[str, object] = {
        "version": VERSION,
        "at": round(memory.windows.at, 1),
        "promptTokens": _short(mix.mean_prompt),
        "outputTokens": _short(mix.mean_output),
        "sigma": _short(level.sigma if level is not None else memory.first_sigma),
        "bins": [_short(x) for x in memory.bins.done],
        "kappas": {option: _short(value) for option, value in memory.kappas},
        "floor": _short(memory.backtest[0]),
        "calm": memory.verdict.calm,
        "calmFloor": _short(memory.verdict.floor),
    }
    if trials.work > 0.0:
        state["trials"] = {
            "ttft": trials.ttft,
            "work": _short(trials.work),
            "seconds": _short(trials.seconds),
            "square": _short(trials.square),
            "late": [_run(row) for row in table(trials.late)],
            "supplied": [_run(row) for row in table(trials.supplied)],
        }
    return state


def restore(stored: Mapping[str, object], now: float) -> Memory:
    """A memory that knows what was learned and has seen nothing yet. Raises MemoryFault."""
    if not isinstance(stored, Mapping) or stored.get("version") != VERSION:
        found = stored.get("version") if isinstance(stored, Mapping) else stored
        raise MemoryFault(f"version: {found!r} is not {VERSION}; delete the learned state, it is learned anew")
    if len(json.dumps(stored, default=str)) > LIMIT_BYTES:
        raise MemoryFault(f"learned state is larger than {LIMIT_BYTES} bytes; delete it, it is learned anew")
    mix = Mix(first_prompt=_optional(stored, "promptTokens"), first_output=_optional(stored, "outputTokens"))
    bins = Bins(tuple(_numbers(stored.get("bins", []), "bins", FLOOR_BINS)))
    kappas = stored.get("kappas", {})
    if not isinstance(kappas, Mapping):
        raise MemoryFault(f"kappas: {kappas!r} is not a mapping of option to number")
    corrections = tuple(sorted((str(k), min(max(_number(v, f"kappas.{k}"), KAPPA_LOW), KAPPA_HIGH)) for k, v in kappas.items()))
    trials = stored.get("trials")
    calm = stored.get("calm", False)
    if not isinstance(calm, bool):
        raise MemoryFault(f"calm: {calm!r} is not true or false")
    return Memory(
        Windows(now, mix=mix),
        first_sigma=_optional(stored, "sigma"),
        bins=bins,
        trials=_trials(trials) if trials is not None else Trials(),
        verdict=Verdict(_optional(stored, "calmFloor") or 0.0, calm),
        kappas=corrections,
    )


def worth_writing(old: Mapping[str, object], new: Mapping[str, object]) -> bool:
    """Whether something that is acted on moved by more than 5 %: means per request, floors, corrections. The rest moves with every sample
    and goes along. `old` is what was written last, empty = nothing."""
    if not old:
        return bool(new)
    return old.get("version") != new.get("version") or moved(_stored(old), _stored(new))


Notable = tuple[tuple[str, float], ...]


def notable(memory: Memory) -> Notable:
    """What of the learned state is acted on, by name."""
    mix, verdict = memory.windows.mix, memory.verdict
    values = {
        "promptTokens": mix.mean_prompt,
        "outputTokens": mix.mean_output,
        "floor": memory.backtest[0],
        "calm": float(verdict.calm),
        "calmFloor": verdict.floor if verdict.calm else 0.0,
        **{f"kappas.{option}": value for option, value in memory.kappas},
    }
    return tuple(sorted((name, value) for name, value in values.items() if value is not None))


def _stored(state: Mapping[str, object]) -> Notable:
    kappas = state.get("kappas")
    values: dict[str, object] = {name: state.get(name) for name in ("promptTokens", "outputTokens", "floor", "calm", "calmFloor")}
    if not state.get("calm"):
        values["calmFloor"] = 0.0
    if isinstance(kappas, Mapping):
        values |= {f"kappas.{option}": value for option, value in kappas.items()}
    return tuple(sorted((name, float(value)) for name, value in values.items() if isinstance(value, int | float)))


def moved(old: Notable, new: Notable) -> bool:
    """Whether a value moved by more than 5 % of the larger one, appeared or went; a correction that is not there is 1."""
    before, after = dict(old), dict(new)
    for name in sorted({*before, *after}):
        none = 1.0 if name.startswith("kappas.") else None
        a, b = before.get(name, none), after.get(name, none)
        if a is None or b is None or abs(b - a) > WORTH * max(abs(a), abs(b)) + 1e-9:
            return True
    return False


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def _run(row: Sequence[float] | np.ndarray) -> list[float | int]:
    """A row with its trailing zeros left out."""
    values = [_short(float(x)) or 0.0 for x in row]
    while values and values[-1] == 0.0:
        values.pop()
    return [int(v) if v == int(v) else v for v in values]


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0.0:
        raise MemoryFault(f"{name}: {value!r} is not a finite number >= 0; delete the learned state, it is learned anew")
    return float(value)


def _optional(stored: Mapping[str, object], name: str) -> float | None:
    value = stored.get(name)
    return None if value is None else _number(value, name)


def _numbers(value: object, name: str, most: int) -> list[float]:
    if not isinstance(value, list) or len(value) > most:
        raise MemoryFault(f"{name}: must be a list of at most {most} numbers; delete the learned state, it is learned anew")
    return [_number(x, f"{name}[{i}]") for i, x in enumerate(value)]


def _trials(value: object) -> Trials:
    if not isinstance(value, Mapping):
        raise MemoryFault(f"trials: {value!r} is not a mapping; delete the learned state, it is learned anew")
    tables = []
    for name in ("late", "supplied"):
        rows = value.get(name)
        if not isinstance(rows, list) or len(rows) != FAMILIES:
            raise MemoryFault(f"trials.{name}: must be {FAMILIES} rows; delete the learned state, it is learned anew")
        full = np.zeros((FAMILIES, TRIAL_GRID))
        for i, row in enumerate(rows):
            numbers = _numbers(row, f"trials.{name}[{i}]", TRIAL_GRID)
            full[i, : len(numbers)] = numbers
        tables.append(full.tobytes())
    return Trials(
        Trials().queue, tables[0], tables[1], _number(value.get("work"), "trials.work"), _number(value.get("seconds"), "trials.seconds"),
        _number(value.get("square"), "trials.square"), _number(value.get("ttft"), "trials.ttft"),
    )  # fmt: skip
