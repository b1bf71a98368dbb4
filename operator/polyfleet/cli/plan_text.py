"""A plan as a table (also wide and Markdown): what changes, what it costs, what is missing and what would fix it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from placement.types import Outcome, PoolFree, Reason, Shortfall, ShortfallReason
from polyfleet.cli import numbers
from polyfleet.cli.failure import listed
from polyfleet.cli.fix import Fixes
from polyfleet.cli.planning import Planned, Row, unused
from polyfleet.cli.text import WIDTH, Column, Style, cells, command, count, cut, markdown, money, plain, table, wrap

WIDEST = 10_000  # of wide output: nothing is cut

# Reasons that only say that a profile has no part in this fleet: told last.
_ABSENT = ("MatchesNoNodes", "NoPool")


def shown(planned: Planned, namespace: str = "") -> list[str]:
    """The models that the output is about: those of -f, else those of the namespace, else all; and whoever else is changed."""
    models = list(planned.wanted)
    focus = {key for kind, key, _ in planned.situation.laid if kind == "ModelDeployment"}
    chosen = [m for m in models if (m in focus if focus else not namespace or m.split("/")[0] == namespace)]
    touched = {row.model for row in planned.rows if row.before != row.after} | set(planned.shortfalls) | {r.model for r in planned.refused}
    return sorted({*chosen, *(touched if not namespace or focus else ())})


def render(planned: Planned, fixes: dict[str, Fixes], *, form: str, namespace: str, style: Style, width: int = WIDTH) -> list[str]:
    models = shown(planned, namespace)
    if form == "md":
        return _markdown(planned, fixes, models)
    lines = _head(planned, models, style, width)
    lines += _tables(planned, models, wide=form == "wide", width=width)
    lines += _totals(planned, models, style, width)
    for model in models:
        lines += _missing(planned, model, fixes.get(model, Fixes()), style, width)
    lines += _changes(planned, width) + _binding(planned, width)
    for fault in planned.situation.faults:
        lines += wrap(plain(fault.text), width, rest="  ")
    for note in planned.situation.notes:
        lines += wrap(note, width, first="note: ")
    return lines


def _head(planned: Planned, models: Sequence[str], style: Style, width: int) -> list[str]:
    subject = models[0] if len(models) == 1 else count(len(models), "model")
    return headline(f"Plan for {subject}: {verdict(planned)}", planned.situation.source, style, width)


def headline(first: str, source: str, style: Style, width: int) -> list[str]:
    """What it is about at the left, where the fleet comes from at the right."""
    first, source = plain(first), f"snapshot: {plain(source)}"
    gap = width - cells(first) - cells(source)
    if gap >= 2:
        return [style.bold(first) + " " * gap + source]
    return [*map(style.bold, wrap(first, width)), *wrap(source, width)]


def verdict(planned: Planned, *, timed: bool = True) -> str:
    """OPTIMAL, or how far from it, with the bound that holds for all plans."""
    plan = planned.plan
    word = {Outcome.OPTIMAL: "OPTIMAL", Outcome.FEASIBLE: "FEASIBLE", Outcome.GREEDY: "GREEDY", Outcome.KEPT_OLD: "KEPT AS IT IS"}[
        plan.outcome
    ]
    took = f" in {planned.millis} ms" if timed else ""
    if plan.gap is None:
        return f"{word}{took} (gap unknown: no bound)"
    bound = f", bound {money(plan.bound)}" if plan.bound is not None and plan.gap > 0.00005 else ""
    return f"{word}{took} (gap {plan.gap * 100:.1f} %{bound})"


def change(row: Row) -> str:
    """3: stays · +3: all new · -2: all leave · 3 (+1): one more than now."""
    if row.before == row.after:
        return str(row.after)
    if row.before == 0:
        return f"+{row.after}"
    return f"-{row.before}" if row.after == 0 else f"{row.after} ({row.after - row.before:+d})"


def _tables(planned: Planned, models: Sequence[str], *, wide: bool, width: int) -> list[str]:
    """One table, the rows of each model under its name. Wide output has the model in each row, for tools that read columns."""
    rows = [row for row in planned.rows if row.model in models]
    columns, body = _table(rows, planned.situation.taken_at, named=wide, wide=wide)
    head, *found = table(columns, body, WIDEST if wide else width)
    if wide or len(models) <= 1:
        lines = [head, *found] if rows else [" no replica is planned"]
        for model in models:
            named = len(models) > 1
            lines += numbers.caveats(rows, model, width, named=named)
            lines += _not_used(planned, model, named=named, wide=wide, width=width)
        return lines
    lines = [head]
    for model in models:
        own = [line for line, row in zip(found, rows, strict=True) if row.model == model]
        figures = f"  {planned.after[model]} of {count(planned.wanted[model], 'replica')}  {money(planned.cost(model))} /h"
        lines.append(cut(plain(model), width - cells(figures)) + figures)
        lines += own or [" no replica is planned"]
        lines += numbers.caveats(rows, model, width)
        lines += _not_used(planned, model, named=False, wide=False, width=width)
    return lines


def _table(rows: Sequence[Row], taken_at: str, *, named: bool, wide: bool = False) -> tuple[list[Column], list[list[str]]]:
    columns = [Column("MODEL")] if named else []
    columns += [Column("POOL", shrinks=True), Column("PROFILE", shrinks=True, least=16), Column("VARIANT", shrinks=True)]
    columns += [Column("ENGINE")] if wide else []
    columns += [Column("REPLICAS", right=True), Column("DEV/REP", right=True)]
    timed = any(row.performance is not None for row in rows)
    columns += [Column("TOK/S", right=True), Column("TTFT", right=True), Column("ITL", right=True)] if timed else []
    rated = any(row.rate is not None for row in rows)
    columns += [Column("WORK/S", right=True)] if rated else []
    columns += [Column("COST/H", right=True), Column("DATA")]
    columns += [Column("NODES")] if wide else []
    body = []
    for row in rows:
        line = [row.model] if named else []
        line += [row.pool, row.profile, row.variant] + ([row.engine] if wide else []) + [change(row), str(row.devices)]
        line += numbers.speed(row) if timed else []
        line += ["unknown" if row.rate is None else f"{row.rate * row.after:g}"] if rated else []
        line += [money(row.cost), numbers.data(row, taken_at)]
        line += [", ".join(f"{node} x{n}" for node, n in row.nodes)] if wide else []
        body.append(line)
    return columns, body


def _not_used(planned: Planned, model: str, *, named: bool, wide: bool, width: int) -> list[str]:
    """Profiles without a replica, by reason; with a hint, or in wide output, one by one."""
    parts: list[str] = []
    by_reason: dict[str, list[str]] = {}
    for profile, reason, message, hint in unused(planned, model):
        if wide or hint:
            text = f"{reason}: {message}" if wide else reason
            parts.append(f"{profile} ({text} → {hint})" if hint else f"{profile} ({text})")
        else:
            by_reason.setdefault(reason, []).append(profile)
    parts += [f"{listed(names, 3)} ({reason})" for reason, names in sorted(by_reason.items(), key=lambda pair: (pair[0] in _ABSENT, pair))]
    label = f"not used for {model}: " if named else "not used: "
    return wrap(plain(label + " · ".join(parts)), width, first=" ", rest="   ") if parts else []


def _totals(planned: Planned, models: Sequence[str], style: Style, width: int) -> list[str]:
    lines: list[str] = []
    view = planned.situation.snapshot
    for model in models if len(models) == 1 else ():
        own = next(m for m in view.models if m.name == model)
        limit = f" (budget {money(own.max_hourly_cost)})" if own.max_hourly_cost is not None else ""
        lines.append(
            f"{model} {money(planned.cost(model))} /h{limit} · {planned.after[model]} of {count(planned.wanted[model], 'replica')}"
        )
    after, wanted = sum(planned.after.values()), sum(planned.wanted.values())
    most = view.policy.max_hourly_cost
    fleet = f"Total {money(planned.plan.hourly_cost)} /h" + (f" (budget {money(most)})" if most is not None else "")
    short = sum(item.replicas for item in planned.plan.shortfalls)
    lines.append(f"{fleet} · {after} of {count(wanted, 'replica')}" + (f" · SHORTFALL {short}" if short else ""))
    return [style.bold(part) for line in lines for part in wrap(plain(line), width)]


def _missing(planned: Planned, model: str, fixes: Fixes, style: Style, width: int) -> list[str]:
    lines: list[str] = []
    for item in planned.refused:
        if item.model == model:
            word = "HELD" if item.held else "NOT PLANNED"
            lines += [style.bad(part) for part in wrap(f"{word} {model}: {item.reason}: {plain(item.message)}", width, rest="  ")]
    short = planned.shortfalls.get(model)
    if short is None:
        return lines
    lines += [style.bad(part) for part in wrap(f"SHORTFALL {short.replicas} {model}: {plain(shortfall(short))}", width, rest="  ")]
    if fixes.found:
        lines += wrap("Smallest fix: " + ", or ".join(plain(item.text) for item in fixes.found), width, first=" ", rest="   ")
        return lines + command(fixes.found[0].command, width)
    hints = [item.hint for item in short.reasons if item.hint]
    return lines + (wrap("Next: " + hints[0], width, first=" ", rest="   ") if hints else [])


def shortfall(short: Shortfall) -> str:
    """The reasons in order; where devices are busy as pool needs k on one node, largest free f, total t."""
    return "; ".join(_reason(item) for item in short.reasons)


def _reason(item: ShortfallReason) -> str:
    if item.reason is not Reason.DEVICES_UNAVAILABLE or not item.free:
        return f"{item.reason}: {item.message}"
    limits = {match[1]: match[2] for part in item.message.split("; ") if (match := _LIMIT.search(part))}
    parts = [_busy(free, limits.get(free.pool), first=number == 0) for number, free in enumerate(item.free)]
    return f"{item.reason}: " + "; ".join(parts)


# The placer's sentence names the room under a pool's limit, which its numbers do not.
_LIMIT = re.compile(r"^([^:]+): .*?([0-9]+) under its limit")


def _busy(free: PoolFree, limit: str | None, *, first: bool) -> str:
    """The first pool in words, the others by the same numbers alone."""
    if first:
        where = " on one node" if free.need > 1 else ""
        room = f"{limit} left under its limit and reserve, " if limit is not None else ""
        return f"{free.pool} needs {free.need}{where}, {room}largest free {free.largest_free}, total free {free.total_free}"
    if limit is not None:
        return f"{free.pool} {free.need}, {limit} under its limit and reserve"
    return f"{free.pool} {free.need}, {free.largest_free}, {free.total_free}"


def _changes(planned: Planned, width: int) -> list[str]:
    plan = planned.plan
    if not planned.changed:
        return ["Changes: none"]
    waiting = sum(1 for start in plan.starts if start.after)
    parts = [f"{len(plan.starts)} started", f"{len(plan.stop)} stopped"]
    moves = moved(planned)
    if moves:
        parts.append(f"{count(sum(n for _, n in moves), 'move')} ({', '.join(f'{model} {n}' for model, n in moves[:4])})")
    if waiting:
        parts.append(f"{count(waiting, 'start')} {'waits' if waiting == 1 else 'wait'} for devices that are freed first")
    lost = [f"{model} {n}" for model, n in given_way(planned)]
    if lost:
        parts.append(f"gives way to a higher priority: {', '.join(lost[:4])}")
    return wrap("Changes: " + " · ".join(parts), width, rest="  ")


def moved(planned: Planned) -> list[tuple[str, int]]:
    """Replicas that stop while their model starts others, by model."""
    stopped = _stopped(planned)
    found = []
    for model in sorted(stopped):
        starts = sum(1 for start in planned.plan.starts if start.model == model)
        if min(starts, stopped[model]):
            found.append((model, min(starts, stopped[model])))
    return found


def given_way(planned: Planned) -> list[tuple[str, int]]:
    """Replicas that a model loses although it is still short of its size."""
    stopped = _stopped(planned)
    return [
        (model, stopped[model]) for model in sorted(stopped) if planned.after[model] < min(planned.before[model], planned.wanted[model])
    ]


def _stopped(planned: Planned) -> dict[str, int]:
    ids = set(planned.plan.stop)
    found: dict[str, int] = {}
    for replica in planned.situation.snapshot.replicas:
        if replica.id in ids:
            found[replica.model] = found.get(replica.model, 0) + 1
    return found


def _binding(planned: Planned, width: int) -> list[str]:
    rows = [row for row in planned.plan.rows if row.price > 0][:4]
    if not rows:
        return []
    text = ", ".join(f"{row.name} ({row.price:.2f} /h for one more)" for row in rows)
    return wrap(f"Binding, at prices of the LP relaxation: {plain(text)}", width, rest="  ")


def _markdown(planned: Planned, fixes: dict[str, Fixes], models: Sequence[str]) -> list[str]:
    own = [row for row in planned.rows if row.model in models]
    columns, body = _table(own, planned.situation.taken_at, named=len(models) > 1)
    subject = models[0] if len(models) == 1 else count(len(models), "model")
    lines = [
        f"### Plan for {subject}: {verdict(planned, timed=False)}",
        "",
        *(markdown(columns, body) if body else ["no replica is planned"]),
        "",
    ]
    style, wide = Style(), 10_000
    lines += [f"- **{part}**" for part in _totals(planned, models, style, wide)]
    for model in models:
        lines += [f"- {part.strip()}" for part in numbers.caveats(own, model, wide, named=len(models) > 1)]
        lines += [f"- {part.strip()}" for part in _missing(planned, model, fixes.get(model, Fixes()), style, wide)]
        lines += [f"- {part.strip()}" for part in _not_used(planned, model, named=len(models) > 1, wide=False, width=wide)]
    lines += [f"- {part}" for part in _changes(planned, wide) + _binding(planned, wide)]
    lines += [f"- {plain(fault.text)}" for fault in planned.situation.faults]
    return [*lines, f"- snapshot: {planned.situation.source}", *(f"- note: {note}" for note in planned.situation.notes)]
