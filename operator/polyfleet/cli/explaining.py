"""`explain`: why a model is placed as it is, why not elsewhere, what binds, what would fix it, and its merged configuration."""

from __future__ import annotations

from collections.abc import Sequence

from placement.explain import LP_NOTE, Explanation, Question
from placement.explain import explain as ask
from placement.types import PlacementError
from polyfleet.cli import fix, numbers
from polyfleet.cli.failure import Failure, listed, nearest, usage
from polyfleet.cli.fix import Fixes
from polyfleet.cli.plan_text import headline, shortfall
from polyfleet.cli.planning import Planned, unused
from polyfleet.cli.source import Situation
from polyfleet.cli.text import WIDTH, Column, Style, command, count, money, plain, table, wrap

_KINDS = ("mdep", "modeldeployment", "modeldeployments", "modeldeployments.polyfleet.io")


def find(given: str, namespace: str, situation: Situation) -> str:
    """The key (namespace/name) of `mdep/NAME`, `mdep/NAMESPACE/NAME` or `NAME`."""
    parts = [part for part in given.split("/") if part]
    if parts and parts[0].lower() in _KINDS and (len(parts) > 1 or given.endswith("/")):
        parts = parts[1:]
    elif len(parts) > 2 or (len(parts) == 2 and parts[0] in ("hwp", "apool", "fpol", "pplan", "accr")):
        raise usage(f"{given} cannot be explained", "explain takes a ModelDeployment", "polyfleet explain mdep/NAME")
    if not parts or len(parts) > 2:
        raise usage(f"{given!r} names no model", "explain takes mdep/NAME or mdep/NAMESPACE/NAME", "polyfleet explain mdep/NAME")
    known = [model.name for model in situation.snapshot.models]
    if len(parts) == 2:
        space, name = parts
        if namespace and namespace != space:
            raise usage(
                f"-n {namespace} and {given} name two namespaces", "one of them is enough", f"polyfleet explain mdep/{name} -n {space}"
            )
        found = [f"{space}/{name}"] if f"{space}/{name}" in known else []
    else:
        name = parts[0]
        found = [key for key in known if key.rsplit("/", 1)[-1] == name and (not namespace or key.split("/")[0] == namespace)]
    if len(found) == 1:
        return found[0]
    if found:
        first = found[0].split("/")[0]
        raise Failure(
            f"{name} is the name of {len(found)} models",
            f"in namespaces {listed([key.split('/')[0] for key in found])}",
            f"polyfleet explain mdep/{name} -n {first}{situation.option}",
        )
    near = nearest("/".join(parts), known)
    raise Failure(
        f"no ModelDeployment {name}" + (f" in namespace {namespace}" if namespace else ""),
        f"did you mean {' or '.join(near)}?" if near else f"the fleet has {listed(sorted(known))}",
        f"polyfleet explain mdep/{near[0]}{situation.option}" if near else f"polyfleet plan{situation.option}  # lists every model",
    )


def explain(planned: Planned, model: str, style: Style, width: int = WIDTH) -> list[str]:
    found = _ask(planned, Question(model))
    first = f"{model}: {planned.after[model]} of {count(planned.wanted[model], 'replica')}, {money(planned.cost(model))} /h"
    lines = headline(first, planned.situation.source, style, width)
    for item in planned.refused:
        if item.model == model:
            lines += wrap(
                f"{item.reason}: {plain(item.message)}" + (" (held: what runs stays, nothing grows)" if item.held else ""),
                width,
                first=" ",
                rest="   ",
            )
    lines += _placed(planned, model, found, width)
    lines += numbers.behind(planned, model, width)
    lines += _rejected(planned, model, width)
    short = planned.shortfalls.get(model)
    if short is not None:
        lines += ["", style.bold("Missing")]
        lines += wrap(f"{count(short.replicas, 'replica')}: {plain(shortfall(short))}", width, first=" ", rest="   ")
        lines += fixes(fix.of_model(planned, model), width)
    if found.prices:
        lines += ["", style.bold("Binding")]
        lines += table(
            [Column("ROW", shrinks=True), Column("SLACK", right=True), Column("ONE MORE IS WORTH", right=True)],
            [[row.name, f"{row.slack:g}", money(row.price)] for row in found.prices],
            width,
        )
        lines += wrap(LP_NOTE, width, first="  ", rest="  ")
    return lines + _configuration(planned, model, style, width)


def _ask(planned: Planned, question: Question) -> Explanation:
    try:
        return ask(planned.situation.snapshot, planned.situation.demand, planned.plan, question)
    except PlacementError as error:
        raise Failure(f"cannot answer for {question.model}", str(error), f"polyfleet plan{planned.situation.option}") from error


def _placed(planned: Planned, model: str, found: Explanation, width: int) -> list[str]:
    rows = [row for row in planned.rows if row.model == model and row.after]
    if not rows:
        return [" no replica is planned"]
    reasons = {(item.profile, item.pool): item for item in found.why}
    columns = [
        Column("POOL", shrinks=True),
        Column("PROFILE", shrinks=True),
        Column("VARIANT", shrinks=True),
        Column("REPLICAS", right=True),
    ]
    columns += [Column("COST/H EACH", right=True), Column("DATA"), Column("REASON")]
    body, said = [], []
    for row in rows:
        why = reasons.get((row.profile, row.pool))
        body.append(
            [
                row.pool,
                row.profile,
                row.variant,
                str(row.after),
                money(row.cost / row.after),
                numbers.data(row, planned.situation.taken_at),
                why.reason if why is not None else "Running",
            ]
        )
        if why is not None:
            said += wrap(f"{row.pool}: {why.reason}: {plain(why.message)}", width, first=" ", rest="   ")
    return ["", "Where", *table(columns, body, width), *said]


def _rejected(planned: Planned, model: str, width: int) -> list[str]:
    lines: list[str] = []
    for profile, reason, message, hint in unused(planned, model):
        lines += wrap(f"{profile}: {reason}: {plain(message)}" + (f" → {plain(hint)}" if hint else ""), width, first=" ", rest="   ")
    return ["", "Why not", *lines] if lines else []


def fixes(found: Fixes, width: int = WIDTH) -> list[str]:
    """The smallest verified changes with their commands, or why there is none."""
    if not found.found:
        return wrap(f"Smallest fix: none found: {plain(found.message)}", width, first=" ", rest="   ") if found.message else []
    lines = wrap("Smallest fix: " + ", or ".join(plain(item.text) for item in found.found), width, first=" ", rest="   ")
    return lines + command(found.found[0].command, width)


def _configuration(planned: Planned, model: str, style: Style, width: int) -> list[str]:
    from polyfleet.cli import origins

    inputs = planned.situation.inputs
    view = inputs.models.get(model) if inputs is not None else None
    if view is None or view.spec is None or not view.resolution.options:
        return []
    lines = ["", style.bold("Configuration") + " (HardwareProfile engines, then spec.runtime, then variants; args append)"]
    for option in view.resolution.options:
        wanted = option.wanted
        lines.append(f" {option.profile} · {wanted.variant} · {wanted.engine} · {count(option.devices, 'device')}")
        found = origins.of(view.spec, option)
        room = width - 3 - 2 - 2 - max(len(item.field) for item in found) - max(len(item.origin) for item in found)
        rows: list[list[str]] = []
        for item in found:
            # A setting is shown whole: it is what one compares with what runs.
            first, *more = wrap(plain(item.value), max(30, room))
            rows += [[item.field, first, item.origin], *(["", part, ""] for part in more)]
        lines += table([Column("FIELD"), Column("VALUE"), Column("FROM", shrinks=True, least=24)], rows, width, indent="   ")
    return lines


def why_not(planned: Planned, model: str, about: str, width: int = WIDTH) -> list[str]:
    """Why this profile or pool has no more replicas of the model, with the numbers of its nodes and what would change it."""
    snapshot = planned.situation.snapshot
    inputs = planned.situation.inputs
    about = about.split("/", 1)[1] if about.split("/", 1)[0] in ("hwp", "apool") else about
    pools = sorted({cell.pool for cell in snapshot.cells if about in (cell.pool, cell.profile)})
    profiles = sorted({cell.profile for cell in snapshot.cells} | (set(inputs.fleet.profiles) if inputs is not None else set()))
    known = sorted({*profiles, *(cell.pool for cell in snapshot.cells)})
    if about not in known:
        near = nearest(about, known)
        raise Failure(
            f"no profile or pool named {about}",
            f"did you mean {' or '.join(near)}?" if near else f"there are: {listed(known)}",
            f"polyfleet explain mdep/{model} --why-not {near[0] if near else known[0] if known else 'NAME'}{planned.situation.option}",
        )
    view = inputs.models.get(model) if inputs is not None else None
    on = {about} if about in profiles else {cell.profile for cell in snapshot.cells if cell.pool == about}
    for item in view.resolution.rejected if view is not None else ():
        if item.profile in on:
            hint = f" → {item.hint}" if item.hint else ""
            return wrap(f"{about}: {item.reason}: {plain(item.message + hint)}", width, first=" ", rest="   ")
    found = _ask(planned, Question(model, about))
    lines = []
    if model not in planned.shortfalls:
        # Nothing is missing, so the answer is why something else was taken; what stands in the way there comes after it.
        for row in planned.plan.why:
            if row.model == model and not row.pool and row.profile in on:
                lines += wrap(f"{about}: {row.reason}: {plain(row.message)}", width, first=" ", rest="   ")
    lead = "then " if lines else f"{about}: "
    lines += wrap(f"{lead}{found.reason}: {plain(found.message)}", width, first=" ", rest="   ")
    for check in found.also:
        lines += wrap(f"then {check.reason}: {plain(check.message)}", width, first=" ", rest="   ")
    lines += _nodes(planned, pools, width)
    if model in planned.shortfalls:
        for change in fix.of_model(planned, model, pool=about, most=1).found:
            shrinks = f"shortfall {change.before}→{change.after}"
            text = f"{change.change.replace('->', '→')} → one more there, cost {change.cost:+.2f} /h, {shrinks}"
            lines += [*wrap(plain(text), width, first=" ", rest="   "), *command(change.command, width)]
    if found.prices:
        lines += wrap(
            ", ".join(f"{row.name}: one more is worth {money(row.price)} /h" for row in found.prices), width, first=" ", rest="   "
        )
        lines += wrap(LP_NOTE, width, first="  ", rest="  ")
    return lines


def _nodes(planned: Planned, pools: Sequence[str], width: int) -> list[str]:
    """Nodes of the pools with the most free devices first: how many are free, and who holds the rest."""
    snapshot = planned.situation.snapshot
    mine = {cell.name: cell.pool for cell in snapshot.cells if cell.pool in pools}
    held: dict[str, dict[str, int]] = {}
    for row in planned.rows:
        for name, n in row.nodes:
            held.setdefault(name, {})[row.model] = held.get(name, {}).get(row.model, 0) + n * row.devices
    foreign = _foreign(planned)
    body = []
    for node in snapshot.nodes:
        if node.cell not in mine:
            continue
        used = dict(sorted(held.get(node.name, {}).items()))
        free = max(0, node.allocatable - node.held_by_others - sum(used.values()))
        parts = [f"{name} {n}" for name, n in used.items()]
        parts += [f"{name} {n}" for name, n in foreign.get(node.name, [])] or (
            [f"other pods {node.held_by_others}"] if node.held_by_others else []
        )
        state = "" if node.eligible else f" ({node.excluded_reason})"
        body.append(
            (
                -free if node.eligible else 1,
                [mine[node.cell], node.name + state, str(node.allocatable), str(free), ", ".join(parts) or "nobody"],
            )
        )
    if not body:
        return []
    body.sort()
    columns = [
        Column("POOL", shrinks=True),
        Column("NODE", shrinks=True, least=16),
        Column("DEVICES", right=True),
        Column("FREE", right=True),
    ]
    lines = table([*columns, Column("HELD BY", shrinks=True, least=20)], [row for _, row in body[:8]], width)
    return [*lines, f"   and {count(len(body) - 8, 'more node')}"] if len(body) > 8 else lines


def _foreign(planned: Planned) -> dict[str, list[tuple[str, int]]]:
    """Pods that are no replica of the snapshot, with their devices, by node: names where the objects are there."""
    inputs = planned.situation.inputs
    if inputs is None:
        return {}
    from polyfleet.inventory import device_names, devices_of

    ours = {replica.id for replica in planned.situation.snapshot.replicas}
    found: dict[str, list[tuple[str, int]]] = {}
    for pool in inputs.fleet.pools:
        names = device_names(pool.profile) if pool.profile is not None else ()
        for node in pool.nodes:
            pods = [pod for pod in inputs.fleet.held.of(node.name) if pod.uid not in ours and devices_of(pod, names)]
            found[node.name] = [(f"{pod.namespace}/{pod.name}", devices_of(pod, names)) for pod in pods]
    return found
