"""The numbers that a plan rests on, for people: speed and age in the columns of tables, and where each number comes from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from hwprofiles.estimate import Load
from polyfleet import rating
from polyfleet.cli.planning import Planned, Row
from polyfleet.cli.text import count, plain, wrap
from polyfleet.resolve import ResolvedOption


def data(row: Row, taken_at: str = "") -> str:
    """measured 3d · published 95d · estimated; with the date itself where it is not known when the fleet was read."""
    word = row.evidence.lower() or "unknown"
    if not row.date:
        return word
    when = f"{rating.age_days(row.date, date.fromisoformat(taken_at[:10]))}d" if taken_at else row.date
    return f"{word} {when}" + (", stale" if row.resolved is not None and row.resolved.stale else "")


def caveats(rows: Sequence[Row], model: str, width: int, *, named: bool = False) -> list[str]:
    """What the numbers of one model's rows rest on: each assumption once, with the profiles that it concerns unless it concerns all."""
    own = [row for row in rows if row.model == model and row.after and row.performance is not None]
    used = {row.profile: row.resolved for row in own if row.resolved is not None}
    old: list[str] = []
    said: dict[str, list[str]] = {}
    for profile, option in sorted(used.items()):
        old += [f"{profile}: {option.stale}"] if option.stale else []
        for text in option.assumed:
            said.setdefault(text, []).append(profile)
    parts = [text if len(names) == len(used) else f"{text} ({', '.join(names)})" for text, names in said.items()]
    parts = [*old, *([f"assumes {' · '.join(parts)}"] if parts else [])]
    label = f"{model} " if named else ""
    return wrap(plain(label + " · ".join(parts)), width, first=" ", rest="   ") if parts else []


def speed(row: Row) -> list[str]:
    """TOK/S of all replicas, TTFT and ITL; a dash is not known."""
    found = row.performance
    if found is None:
        return ["-", "-", "-"]
    return [
        f"{row.tokens:.0f}",
        "-" if found.ttft_s is None else rating.seconds(found.ttft_s),
        "-" if found.itl_s is None else rating.seconds(found.itl_s),
    ]


def behind(planned: Planned, model: str, width: int) -> list[str]:
    """Of each profile that it runs on: what one replica is counted with, at which load, who says so and when, and what is assumed."""
    inputs = planned.situation.inputs
    view = inputs.models.get(model) if inputs is not None else None
    if view is None or view.spec is None or inputs is None:
        return []
    load = rating.asked(view.spec, inputs.policy, None).load
    lines: list[str] = []
    used = {row.resolved.id: row.resolved for row in planned.rows if row.model == model and row.after and row.resolved is not None}
    for _, option in sorted(used.items()):
        lines += _origin(option, load, width)
    return ["", "Numbers of one replica", *lines] if lines else []


def _origin(option: ResolvedOption, load: Load | None, width: int) -> list[str]:
    found = option.performance
    entry = option.wanted.profile.throughput[found.entry] if found is not None and found.entry is not None else None
    texts: list[str] = []
    if found is None:
        texts.append("speed: unknown; " + rating.bench(option.wanted, load))
    else:
        texts.append(f"speed: {rating.figures(found)}")
        texts.append(f"from: {found.evidence.lower()}, confidence {found.confidence.lower()}: {found.source}" + _dated(found.date))
        if entry is not None:
            lengths = (
                f"{entry.input_tokens or '?'} input and {entry.output_tokens or '?'} output tokens, {entry.concurrency or '?'} in flight"
            )
            texts.append(f"{'measured at' if entry.evidence == 'Measured' else 'stated for'}: {lengths}")
        asked = load or rating.DEFAULT
        why = "spec.workload" if load is not None else "the default of spec.workload; nothing is stated, so no range is checked"
        texts.append(f"for: {tokens(asked.input_tokens, asked.output_tokens)} ({why})")
    texts += [f"memory: {option.memory}"] if option.memory else []
    texts += [option.caveat] if option.caveat else []
    lines = wrap(plain(f"{option.profile} · {option.wanted.variant} · {count(option.devices, 'device')}"), width, first=" ")
    return lines + [line for text in texts for line in wrap(plain(text), width, first="   ", rest="     ")]


def _dated(day: str | None) -> str:
    return f", {day}" if day else ""


def tokens(given: int | None, made: int | None) -> str:
    return f"{given or '?'} input and {made or '?'} output tokens"
