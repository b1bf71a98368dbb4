"""Events: what a person wants to read in `kubectl describe`, one per cause and not one per node or replica.

A note is a function of what is observed. The same note comes again in every cycle while its cause lasts; the edge posts it once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hwprofiles import MatchReason
from placement.types import Plan
from polyfleet import hardware, reservation, revisions
from polyfleet.actions import EventNote
from polyfleet.inputs import Inputs, ModelView
from polyfleet.plans import moves
from polyfleet.plans.told import NOTHING, Told
from polyfleet.scaling import notes as scaling_notes
from polyfleet.snapshot import holders, standings
from polyfleet.state import CustomState, NodeState, Observed
from polyfleet.status import accuracy_notes, fleet, placed, rows
from polyfleet.status.conditions import shorten

LIMIT = 900  # an Event's note holds 1 KiB
# What device plugins call accelerators, after the slash (vendors' documentation, 2026-11).
_ACCELERATOR = re.compile(r"/.*([gntxpvh]pu|dcu|mlu|gcu|gaudi|neuron|ascend|accelerator)", re.IGNORECASE)


def of_model(
    inputs: Inputs, plan: Plan, view: ModelView, told: Told = NOTHING, status: Mapping[str, Any] = MappingProxyType({})
) -> list[EventNote]:
    """`status`: what this cycle says of the model; a note of a moment compares it with the stored one."""
    decided = _asked(view, told) if view.key in told.waiting else _planned(inputs, plan, view)
    found = (decided, _short(inputs, plan, view), _mismatch(inputs, view), _outdated(inputs, view), _rolled_back(view, status))
    ended = _reservation_ended(inputs, view)
    gate = [_note(view.state, kind, reason, text) for kind, reason, text in accuracy_notes.of_model(inputs, plan, view, status)]
    size = [_note(view.state, kind, reason, text) for kind, reason, text in scaling_notes.of_model(inputs, view, status)]
    return [*(note for note in found if note is not None), *ended, *gate, *size]


def _asked(view: ModelView, told: Told) -> EventNote | None:
    return None if told.rejected else _note(view.state, "Normal", "AwaitingApproval", told.wish)


def preempted(inputs: Inputs, plan: Plan) -> list[EventNote]:
    """Replicas that leave because a model of higher priority takes their devices: told at the model that loses them."""
    owner = {replica.id: replica.model for replica in inputs.snapshot.replicas}
    priority = {model.name: model.priority for model in inputs.snapshot.models}
    stops = set(plan.stop)
    lost: dict[tuple[str, str], set[str]] = {}
    for start in plan.starts:
        for uid in stops.intersection(start.after):
            if priority[owner[uid]] < priority[start.model]:
                lost.setdefault((owner[uid], start.model), set()).add(uid)
    found: list[EventNote] = []
    for (loser, winner), uids in sorted(lost.items()):
        text = f"replicas leave for {winner}: its priority is {priority[winner]}, this model's is {priority[loser]}"
        found.append(_note(inputs.models[loser].state, "Warning", "Preempted", f"{len(uids)} {text}"))
    return found


def moved_for_room(inputs: Inputs, plan: Plan) -> list[EventNote]:
    """Replicas that move so that another model's fit: told at the model that moves, node by node."""
    found: list[EventNote] = []
    for item in moves.for_room(plan, inputs.snapshot):
        count = len(item.replicas)
        text = f"{count} {'replica moves' if count == 1 else 'replicas move'} off {item.node} so that {item.other} fits there"
        text += "; the new place serves before the old one is left (fpol spec.stability.defragment)"
        found.append(_note(inputs.models[item.model].state, "Normal", "MovedForRoom", text))
    return found


def _planned(inputs: Inputs, plan: Plan, view: ModelView) -> EventNote | None:
    """The whole layout that is aimed at, not the steps that are left: it stays the same sentence while the steps are taken."""
    stop, items = set(plan.stop), standings(view)
    stops = any(item.pod.uid in stop for item in items)
    if not stops and not any(start.model == view.key for start in plan.starts):
        return None
    pools = {cell.name: cell.pool for cell in inputs.snapshot.cells}
    layout: Counter[tuple[str, str]] = Counter()
    candidates = sum(1 for item in holders(view) if item.pod.uid not in stop) + (view.key in inputs.trials)
    for share in plan.assignments:
        if share.model == view.key:
            layout[(pools.get(share.cell, ""), _size(share.option))] += share.replicas
    sizes = {pool: {size for other, size in layout if other == pool and size} for pool, _ in layout}
    for pool, known in sizes.items():
        if len(known) == 1 and (pool, "") in layout:  # an earlier revision of the same: no reason to name the pool twice
            (size,) = known
            layout[(pool, size)] += layout.pop((pool, ""))
    parts = [f"{count} on {pool}{size}" for (pool, size), count in sorted(layout.items())]
    reason = "PlanChanged" if stops or any(item.serving for item in items) else "Planned"
    head = f"{sum(layout.values()) - candidates} replicas" + (f" and {candidates} under test" if candidates else "")
    return _note(view.state, "Normal", reason, f"{head}: {', '.join(parts)}" if parts else "no replicas")


def _size(option: str) -> str:
    """An option's id is model|profile|variant|engine|devices; a replica of an earlier revision may have none."""
    parts = option.split("|")
    return f" ({parts[1]}, {parts[4]} devices each)" if len(parts) == 5 else ""


def _reservation_ended(inputs: Inputs, view: ModelView) -> list[EventNote]:
    timeout = inputs.policy.preemption.reservation_timeout
    where = "(fpol spec.preemption.reservationTimeout)"
    texts = (f"{reservation.told(inputs.fleet, pod, timeout)} {where}" for pod in view.ended)
    return [_note(view.state, "Warning", "ReservationEnded", text) for text in texts]


def _mismatch(inputs: Inputs, view: ModelView) -> EventNote | None:
    row = rows.hardware_verified(inputs, view)
    wrong = row is not None and row.reason == hardware.WRONG_DEVICE
    return _note(view.state, "Warning", "HardwareMismatch", f"taken out of traffic: {row.message}") if row is not None and wrong else None


def _outdated(inputs: Inputs, view: ModelView) -> EventNote | None:
    """A profile was edited or deleted under replicas that serve: told once, in a sentence without counts."""
    text = rows.outdated_text(view, inputs.fleet.profiles)
    return _note(view.state, "Warning", "ProfileEdited", f"{text}; {rows.UNTIL}") if text else None


def _rolled_back(view: ModelView, status: Mapping[str, Any]) -> EventNote | None:
    """A revision was given up, or what serves of it was shown to be wrong, and the earlier one takes its place."""
    found = [f"{row['profile']} ({row['variant']}): {row.get('reason', '')}" for row in status.get("rolledBack") or ()]
    if view.earlier:
        wrong = {item.child.profile for item in standings(view) if item.pod.uid in view.superseded and revisions.must_go(view, item)}
        found += [
            f"{profile}: what serves must not" for profile in sorted(wrong - {row["profile"] for row in status.get("rolledBack") or ()})
        ]
    return _note(view.state, "Warning", "RolledBack", f"{'; '.join(found)}; the earlier revision goes on") if found else None


def _short(inputs: Inputs, plan: Plan, view: ModelView) -> EventNote | None:
    short = placed.missing(plan, view)
    if short is None or inputs.fleet.unknown:
        return None
    return _note(view.state, "Warning", "PlacementShortfall", placed.lasting(inputs.fleet, view, short))


def of_nodes(observed: Observed, inputs: Inputs) -> list[EventNote]:
    uids = {node.name: node.uid for node in observed.nodes}
    found = [
        EventNote("Node", "", name, uids[name], "Warning", "NodeUnmatched", shorten(match.message, LIMIT))
        for name, match in inputs.fleet.unmatched()
        if name in uids
    ]
    return found + [note for node in observed.nodes if (note := _unprofiled(inputs, node)) is not None]


def _unprofiled(inputs: Inputs, node: NodeState) -> EventNote | None:
    """A device of which no profile knows even the name. Other extended resources (network cards, FUSE) are nobody's business here."""
    match = inputs.fleet.matches.get(node.name)
    if match is None or match.reason is not MatchReason.NO_DEVICES:
        return None
    names = sorted(name for name, count in node.capacity.items() if count > 0 and _ACCELERATOR.search(name))
    if not names:
        return None
    makers = {name.partition("/")[0] for name in names}
    labels = [f"{key}={value}" for key, value in sorted(node.labels.items()) if key.partition("/")[0] in makers]
    text = f"{', '.join(f'{node.capacity[name]} {name}' for name in names)} belong to no HardwareProfile, so nothing is placed here"
    hint = f"; labels that could tell them: {', '.join(labels)}" if labels else ""
    return EventNote("Node", "", node.name, node.uid, "Warning", "NodeUnmatched", shorten(f"{text}{hint}; see docs/add-a-device.md", LIMIT))


def of_pools(inputs: Inputs) -> list[EventNote]:
    """A pool whose last usable node went, and the first that came back."""
    found: list[EventNote] = []
    if inputs.fleet.unknown:
        return found
    for pool in inputs.fleet.pools:
        if pool.parsed is None:
            continue
        state = pool.parsed.state
        before = ((state.status.get("nodes") or {}).get("eligible")) if state.status else None
        usable = sum(1 for node in pool.nodes if not node.reason)
        if before and not usable:
            reasons = Counter(node.reason for node in pool.nodes)
            text = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "no node matches any more"
            found.append(_note(state, "Warning", "PoolLost", f"no node of {pool.name} can be used: {text}"))
        elif before == 0 and usable:
            found.append(_note(state, "Normal", "PoolRecovered", f"{usable} nodes of {pool.name} can be used again"))
    return found


def of_profiles(inputs: Inputs, now: str) -> list[EventNote]:
    found = ((parsed.state, fleet.stale(inputs, parsed, now)) for parsed in inputs.objects.profiles)
    return [_note(state, "Normal", "ProfileStale", text) for state, text in found if text]


def _note(state: CustomState, kind: str, reason: str, message: str) -> EventNote:
    return EventNote(
        kind=state.kind,
        namespace=state.namespace,
        name=state.name,
        uid=state.uid,
        type="Warning" if kind == "Warning" else "Normal",
        reason=reason,
        message=shorten(message, LIMIT),
    )


def ordered(found: Sequence[EventNote]) -> tuple[EventNote, ...]:
    return tuple(sorted(found, key=lambda note: (note.kind, note.namespace, note.name, note.reason, note.message)))
