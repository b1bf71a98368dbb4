"""The next command for each reason: what a user can do, in one line."""

from __future__ import annotations

from placement.types import PoolFree, Reason

POLICY = "kubectl edit fpol default"


def edit(model: str) -> str:
    """The command that opens the model's object."""
    name = model.rsplit("/", 1)[-1]
    return f"kubectl edit mdep {name}{namespace(model)}"


def namespace(model: str) -> str:
    return f" -n {model.rsplit('/', 1)[0]}" if "/" in model else ""


def hint(reason: Reason, model: str, free: list[PoolFree], rule: str = "") -> str:
    """`rule` = the rule in the way as `bars` names it, where one is."""
    pool = min(free, key=lambda f: (f.need - f.largest_free, f.pool)).pool if free else ""
    mine = edit(model)
    spread = f"lower placement.spread.minVendors or raise maxVendorSharePercent: {mine}"
    if rule == "domain-share":
        spread = f"set placement.spread.mode: Soft, or add nodes in another failure domain: {mine}"
    budget = f"raise placement.maxHourlyCost ({mine}) or budget.maxHourlyCost ({POLICY})"
    if rule == "budget":
        budget = f"raise budget.maxHourlyCost: {POLICY}"
    return {
        Reason.NEVER_FITS: f"choose a smaller runtime.parallelism.tensor or add larger nodes: {mine}",
        Reason.POOL_RESTRICTED: f"widen placement.pools or placement.profiles: {mine}",
        Reason.SHARED_DEVICES: f"set placement.sharing: Shared, or add exclusive nodes: {mine}",
        Reason.BUDGET_EXCEEDED: budget,
        Reason.QUOTA_EXCEEDED: f"raise quotas[].devices of the tenant: {POLICY}",
        Reason.SPREAD_UNSATISFIED: spread,
        Reason.SLO_UNREACHABLE: f"raise scaling.maxReplicas or relax slo: {mine}",
        Reason.DEVICES_UNAVAILABLE: f"free devices or add nodes; see who holds them: kubectl describe apool {pool}",
        Reason.POOL_CORDONED: f'kubectl patch apool {pool} --type merge -p \'{{"spec":{{"schedulable":true}}}}\'',
        Reason.SOLVER_TIMEOUT: f"raise solver.timeLimit: {POLICY}",
        Reason.INVENTORY_UNKNOWN: f"see why the nodes cannot be read: kubectl describe apool {pool}",
        Reason.NO_OPTION: f"see condition ProfilesResolved: kubectl describe mdep {model.rsplit('/', 1)[-1]}{namespace(model)}",
    }[reason]
