"""The row `Promoted`: the wanted revision serves everywhere it should, or what it waits for.

A candidate under test shows here and not in `Ready`: beside a model that serves it is no fault. Where the new revision was shown to be
wrong, the words of its report are quoted and the old one goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hwprofiles import HardwareProfileSpec
from placement.types import Plan, Shortfall
from polyfleet import overdue, rollout
from polyfleet.clearance.candidates import stale_profiles
from polyfleet.fleet import Fleet
from polyfleet.inputs import ModelView
from polyfleet.plans.told import NOTHING, Told
from polyfleet.snapshot import current, stale, standings
from polyfleet.status import accuracy, placed, rows
from polyfleet.status.conditions import FALSE, TRUE, Judged

ROW = "Promoted"
AWAITING_APPROVAL, IN_PROGRESS, BLOCKED, ROLLED_BACK = "AwaitingApproval", "RolloutInProgress", "RolloutBlocked", "RolledBack"
_MOST = 3
_TURN = "it waits for its turn: FleetPolicy stability.maxConcurrentRollouts"


def judge(
    fleet: Fleet,
    plan: Plan,
    view: ModelView,
    planned: int,
    told: Told = NOTHING,
    profiles: Mapping[str, HardwareProfileSpec] = MappingProxyType({}),
) -> Judged | None:
    """The wanted revision serves in all `planned` places. None where no revision is known: the spec is not accepted, or nothing fits."""
    if view.accepted is not None or (not view.rendered and view.target and not view.outdated):
        return None
    tried = {item.pod.uid for item in accuracy.candidates(view)}
    staying = [item for item in standings(view) if not item.leaving and item.pod.uid not in tried]
    stale = sum(1 for item in staying if not current(view, item.child))
    serving = sum(1 for item in staying if item.serving and current(view, item.child))
    wanted = f"{serving} of {planned} replicas serve with the wanted revision"
    if stale and view.spec is not None:
        text = f"{wanted}, {stale} run what was wanted before"
        only_outdated = stale == sum(1 for item in staying if item.child.name in view.outdated)
        if view.spec.paused:
            return Judged(ROW, FALSE, "Paused", f"{text}; spec.paused is true")
        if view.key in told.waiting:
            return Judged(ROW, FALSE, AWAITING_APPROVAL, f"{text}; {told.wish}")
        if view.spec.rollout.approval == "Manual" and not only_outdated:
            return Judged(ROW, FALSE, AWAITING_APPROVAL, f"{text}; spec.rollout.approval is Manual")
        if not only_outdated and (gated := _gated(fleet, plan, view, text, old=True)) is not None:
            return gated
        if only_outdated:
            return Judged(ROW, FALSE, "ProfileOutdated", f"{text}: {rows.outdated_text(view, profiles)}; {rows.UNTIL}")
        return Judged(ROW, FALSE, IN_PROGRESS, f"{text}; {_TURN}" if view.waits_turn else text)
    if view.key in told.waiting:
        return Judged(ROW, FALSE, AWAITING_APPROVAL, f"{wanted}; {told.wish}")
    if (serving < planned or tried) and (gated := _gated(fleet, plan, view, wanted, old=False)) is not None:
        return gated
    if serving < planned:
        return Judged(ROW, FALSE, IN_PROGRESS, wanted)
    done = wanted if planned else "no replicas are wanted"
    used = {item.child.profile for item in staying if item.serving}
    unused = [f"not used: {text}" for text in accuracy.blocked(view, {pair.profile for pair in accuracy.used(view)} - used)[:_MOST]]
    unused += [f"it must not, and goes on until others can: {text}" for text in accuracy.blocked(view, used)[:_MOST]]
    return Judged(ROW, TRUE, "Promoted", "; ".join([done, *unused]))


def obstacle(fleet: Fleet, plan: Plan, view: ModelView) -> str:
    """Why the wanted revision cannot be promoted until somebody does something, in words that stay while that does; "" = nothing is in its
    way."""
    tried = {item.pod.uid for item in accuracy.candidates(view)}
    staying = [item for item in standings(view) if not item.leaving and item.pod.uid not in tried]
    old = any(not current(view, item.child) and item.child.name not in view.outdated for item in staying)
    found = _held_up(fleet, plan, view, old=old, numbers=False) if view.accepted is None else None
    return found[1] if found is not None and found[0] in (BLOCKED, ROLLED_BACK) else ""


def _gated(fleet: Fleet, plan: Plan, view: ModelView, text: str, *, old: bool) -> Judged | None:
    found = _held_up(fleet, plan, view, old=old)
    return Judged(ROW, FALSE, found[0], f"{text}; {found[1]}") if found is not None else None


def _held_up(fleet: Fleet, plan: Plan, view: ModelView, *, old: bool, numbers: bool = True) -> tuple[str, str] | None:
    """What the accuracy gate holds up: (reason, words). `old`: replicas of an earlier revision serve meanwhile; `numbers`: with what is
    free at this moment."""
    if view.spec is None:
        return None
    goes_on = "; the old version keeps serving" if old else ""
    if words := _given_up(view):
        return ROLLED_BACK, words + goes_on
    if words := _stuck(view):
        return BLOCKED, words + goes_on
    if room := _update_room(fleet, plan, view, numbers=numbers):
        return BLOCKED, room + goes_on
    if not view.clearance.required:
        return None
    under, wrong, waits = accuracy.undecided(view), accuracy.blocked(view), accuracy.awaited(view)
    if not under and (room := _no_room(fleet, plan, view, numbers=numbers)):
        return BLOCKED, room + goes_on
    here = accuracy.blocked(view, stale_profiles(view)) if old else []
    if here and not under:
        # Its successor was shown to be wrong: nothing replaces it, whatever else may still be tried.
        return ROLLED_BACK if view.spec.rollout.auto_rollback else BLOCKED, "; ".join(here[:_MOST]) + goes_on
    if wrong and not under and not view.clearance.open and not view.clearance.eligible:
        return BLOCKED, "; ".join(wrong[:_MOST]) + goes_on
    if under or (waits and (old or not view.clearance.eligible)):
        return accuracy.AWAITING, "; ".join([*waits, *wrong][:_MOST]) + goes_on
    if old and view.clearance.open and not view.clearance.eligible:
        return accuracy.AWAITING, f"a candidate of it is tried when it finds devices and its turn comes{goes_on}"
    return None


def _given_up(view: ModelView) -> str:
    """Revisions that are not tried again; "" = none."""
    found = [f"{item.profile} ({item.variant}): {item.reason}" for item in view.rolled_back]
    return f"{'; '.join(found[:_MOST])}; it is not tried again until the spec asks for another revision" if found else ""


def _stuck(view: ModelView) -> str:
    """Revisions that make no progress and are not given up; "" = none."""
    if view.spec is None:
        return ""
    after, back = view.spec.rollout.progress_deadline, view.spec.rollout.auto_rollback
    over = [item for item in view.late if item.over and not (back and overdue.replaceable(view, item))]
    found = [f"{item.profile} ({item.variant}): no progress for {after}: {item.text}" for item in over]
    why = "no earlier revision can take its place" if back else "spec.rollout.autoRollback is false"
    return f"{'; '.join(found[:_MOST])}; it stays: {why}" if found else ""


def _no_room(fleet: Fleet, plan: Plan, view: ModelView, *, numbers: bool) -> str:
    """Why no candidate of the wanted revision can start, and what would let it; "" if that is not what is missing."""
    short = placed.candidate_short(plan, view)
    return _needs(fleet, view, short, "the candidate", numbers=numbers) if short is not None else ""


def _update_room(fleet: Fleet, plan: Plan, view: ModelView, *, numbers: bool) -> str:
    """The same of an update that needs no verdict, where no replica may stop for it."""
    short = placed.shortfall_of(plan, view)
    if short is None or view.spec is None or not placed.only_update_waits(short, view) or rollout.allowance(view.spec, view.target):
        return ""
    return _needs(fleet, view, short, "the update", numbers=numbers)


def _ways(view: ModelView) -> list[str]:
    """Settings by which a replica of the earlier revision would make room; none where there is no such replica, or it may stop already."""
    if view.spec is None or rollout.allowance(view.spec, view.target) or not (old := [i for i in standings(view) if stale(view, i)]):
        return []
    found = ["spec.rollout.allowDowntime: true"]
    if not all(item.serving for item in old):
        found.append("spec.rollout.maxUnavailable: 1, so that it takes the place of a replica that does not serve")
    elif view.target > 1:
        found.append(f"spec.rollout.maxUnavailable: 1, so that one replica stops for it (now none of {view.target} may)")
    return found


def _needs(fleet: Fleet, view: ModelView, short: Shortfall, who: str, *, numbers: bool) -> str:
    free = min((free for row in short.reasons for free in row.free), key=lambda free: (free.need, free.pool), default=None)
    way = "".join(f", or {text}" for text in _ways(view))
    if free is None:
        why = "no place" if not short.reasons else placed.message(fleet, short.reasons[0]) if numbers else str(short.reasons[0].reason)
        return f"{who} finds no room ({why}){way}"
    where = f" on one node of {free.pool}" if free.need > 1 else f" in {free.pool}"
    return f"{who} needs {free.need} free devices{where}{f' (largest free {free.largest_free})' if numbers else ''}{way}"
