"""Which revision of a model takes new replicas, and which replicas are replaced. Pure.

New replicas are of the wanted revision. Where it may not have any (no verdict yet, a Block, or it was given up) the newest earlier
revision that is verified takes them in its place: what dies during a rollout is replaced as it was, and a rollback is nothing but the
same rule after a Block. Without a gate the earlier revision that runs is trusted, and only what was given up is passed over.

A replica is replaced if what replaces it is there: one of an earlier revision by the wanted one, one of a revision that must not serve by
whatever may. How many at a time is the rollout's business.
"""

from __future__ import annotations

from polyfleet import naming
from polyfleet.children import Child
from polyfleet.clearance import identity, standing
from polyfleet.inputs import ModelView
from polyfleet.outdated import allowed, runs_where
from polyfleet.render.deployment import Rendered
from polyfleet.snapshot import Standing, current, stale


def earlier(view: ModelView) -> dict[tuple[str, str], str]:
    """(option, pool) -> child that takes new replicas in place of the wanted one."""
    found: dict[tuple[str, str], str] = {}
    for item in view.rendered:
        if _may_start(view, item):
            continue
        fits = [child for child in view.children if _fits(view, child, item)]
        if fits:
            found[(item.option, item.pool)] = max(fits, key=lambda child: (_age(view, child), child.name)).name
    return found


def _may_start(view: ModelView, item: Rendered) -> bool:
    if view.clearance.required:
        return item.pool in view.clearance.eligible.get(item.option, frozenset())
    return not _given_up(view, item.annotations.get(naming.PROFILE) or item.labels[naming.PROFILE], item)


def _given_up(view: ModelView, profile: str, item: Rendered) -> bool:
    return view.given_up(profile, item.annotations.get(naming.VARIANT) or item.labels[naming.VARIANT], item.revision)


def _fits(view: ModelView, child: Child, item: Rendered) -> bool:
    if (child.option, child.pool) != (item.option, item.pool) or child.deployment.deleting or current(view, child) is not None:
        return False
    if view.spec is None or not allowed(view.spec, child) or not runs_where(child, item.template):
        return False
    if view.clearance.required:
        report = standing.verdicts(view.clearance.reports).get(identity.of_child(child))
        return report is not None and report.promoted
    return child.deployment.replicas > 0 and not view.given_up(child.profile, child.variant, child.revision)


def _age(view: ModelView, child: Child) -> str:
    report = standing.verdicts(view.clearance.reports).get(identity.of_child(child))
    return report.state.created if report is not None else max((pod.created for pod in child.pods), default="")


def replaced(view: ModelView, item: Standing) -> bool:
    """Whether a staying replica is to be replaced, and something is there that can."""
    if view.spec is None:
        return False
    if stale(view, item):
        return item.child.name not in view.goes_on and _succeeded(view, item)
    return must_go(view, item)


def must_go(view: ModelView, item: Standing) -> bool:
    """Whether a replica of the wanted revision, or an outdated one, leaves because that revision must not serve."""
    back = bool(view.earlier) and view.spec is not None and view.spec.rollout.auto_rollback
    if not view.clearance.required:
        return back and view.given_up(item.child.profile, item.child.variant, item.child.revision)
    stand = view.clearance.of(item.pod)
    blocked = stand is not None and stand.state is standing.State.BLOCKED and stand.serves
    return blocked and (bool(view.clearance.eligible) or back)


def _succeeded(view: ModelView, item: Standing) -> bool:
    """Whether something can replace a replica of an earlier revision: the same profile, if the model still runs on it."""
    if not view.clearance.required:
        return True
    stand = view.clearance.of(item.pod)
    blocked = stand is not None and stand.state is standing.State.BLOCKED
    profiles = {option.id: option.profile for option in view.resolution.options}
    eligible = {profiles[name] for name in view.clearance.eligible if name in profiles}
    if blocked and view.clearance.eligible:
        return True
    return item.child.profile in eligible or (item.child.profile not in profiles.values() and bool(eligible))
