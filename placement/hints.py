"""The next command for each reason: what a user can do, in one line."""

from __future__ import annotations

from placement.types import PoolFree, Reason


def hint(reason: Reason, model: str, free: list[PoolFree]) -> str:
    name = model.rsplit("/", 1)[-1]
    space = f" -n {model.rsplit('/', 1)[0]}" if "/" in model else ""
    pool = min(free, key=lambda f: (f.need - f.largest_free, f.pool)).pool if free else ""
    edit = f"kubectl edit mdep {name}{space}"
    return {
        Reason.NEVER_FITS: f"choose a smaller runtime.parallelism.tensor or add larger nodes: {edit}",
        Reason.POOL_RESTRICTED: f"widen placement.pools or placement.profiles: {edit}",
        Reason.SHARED_DEVICES: f"set placement.sharing: Shared, or add exclusive nodes: {edit}",
        Reason.BUDGET_EXCEEDED: f"raise placement.maxHourlyCost ({edit}) or budget.maxHourlyCost (kubectl edit fpol default)",
        Reason.QUOTA_EXCEEDED: "raise the quota: kubectl edit fpol default",
        Reason.SPREAD_UNSATISFIED: f"lower placement.spread.minVendors or raise maxVendorSharePercent: {edit}",
        Reason.SLO_UNREACHABLE: f"raise scaling.maxReplicas or relax slo: {edit}",
        Reason.DEVICES_UNAVAILABLE: f"free devices or add nodes; see who holds them: kubectl describe apool {pool}",
        Reason.POOL_CORDONED: f'kubectl patch apool {pool} --type merge -p \'{{"spec":{{"schedulable":true}}}}\'',
        Reason.SOLVER_TIMEOUT: "raise solver.timeLimit: kubectl edit fpol default",
        Reason.INVENTORY_UNKNOWN: f"see why the nodes cannot be read: kubectl describe apool {pool}",
        Reason.NO_OPTION: f"see condition ProfilesResolved: kubectl describe mdep {name}{space}",
    }[reason]
