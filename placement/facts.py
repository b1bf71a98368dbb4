"""Numbers and names behind a reason, per pool: who holds its devices, which nodes are out, what a request needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from placement.free import Need
from placement.live import Live
from placement.types import Cell, Option, PoolFree, Stock

SHOWN = 3  # names in one sentence
Asked = tuple[Option, str | tuple[int, ...], PoolFree | bool]


def needs(need: Need | None, option: Option) -> str:
    """ "need 8 on one node", "need 2 whole nodes of one network domain"."""
    if need is not None and need.span > 1:
        return f"need {need.span} whole nodes of one network domain"
    if need is not None and len(need.parts) > 1:
        return f"need {option.devices} in equal shares of {len(need.parts)} rings"
    return f"need {option.devices}" + (" on one node" if option.devices > 1 else "")


def reach(live: Live, cell: int, option: Option) -> int:
    """Devices of the largest request of this kind that the cell could take if it were empty: installed, not free."""
    sizes = live.installed[cell]
    if option.span > 1:
        pod = option.devices // option.span
        return sizes[pod] * pod
    return max(sizes, default=0)


def never_fits(live: Live, cell: int, option: Option) -> bool:
    """Larger than anything installed there. Asked of cells whose nodes can be read."""
    where = live.cells[cell]
    if where.stock is not Stock.KNOWN:
        return False
    if where.whole_node_only and option.devices > 1 and option.span == 1:
        return live.installed[cell][option.devices] == 0
    return reach(live, cell, option) < option.devices


class Facts:
    def __init__(self, live: Live) -> None:
        self.live = live
        self._numbers: dict[tuple[str, str, int, int], PoolFree] = {}
        self.asked: list[Asked] | None = None  # gets every question about what is free, with its answer
        self._holders: dict[str, list[tuple[str, int]]] = {}
        self._nodes: dict[str, str] = {}
        self._outside: dict[str, list[str]] = {}
        out: dict[str, dict[str, list[str]]] = {}
        for node in live.snapshot.nodes:
            pool = live.cells[live.cell_index[node.cell]].pool
            if not node.eligible:
                out.setdefault(pool, {}).setdefault(node.excluded_reason or "Excluded", []).append(node.name)
            elif node.allocatable < node.installed:
                text = f"{node.name}: allocatable {node.allocatable} of capacity {node.installed}"
                self._outside.setdefault(pool, []).append(text)
        for pool, reasons in out.items():
            for reason, names in sorted(reasons.items()):
                verb = "waiting for devices on" if reason == "DevicesMissing" else f"{reason}:"
                more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                self._nodes[pool] = self._nodes.get(pool, "") + f", {verb} {', '.join(names[:SHOWN])}{more}"

    def holders(self, pool: str) -> list[tuple[str, int]]:
        """Who holds the pool's devices after the plan: models by devices, and foreign pods as ''. The largest few."""
        if pool not in self._holders:
            held: Counter[str] = Counter()
            for cell in self.live.pool_cells[pool]:
                held.update(self.live.cell_used[cell])
                held[""] += self.live.foreign[cell]
            first = sorted(((k, v) for k, v in held.items() if v > 0), key=lambda kv: (-kv[1], kv[0]))
            self._holders[pool] = first[: SHOWN + 1]
        return self._holders[pool]

    def who(self, model: str, pool: str) -> str:
        """The end of a sentence about busy devices: holders, whether priority could take them, nodes that are out."""
        live, text = self.live, ""
        found = [(name, n) for name, n in self.holders(pool) if name != model][:SHOWN]
        if found:
            text += ", held by " + ", ".join(f"{name or 'other pods'} ({n})" for name, n in found)
            priority = live.models[model].priority
            lower = [live.models[name] for name, _ in found if name and live.models[name].priority < priority]
            if lower and not live.snapshot.policy.preemption:
                text += " of lower priority, preemption is off"
            elif lower and not any(m.preemptable for m in lower):
                text += " of lower priority that may not be preempted"
        outside = self._outside.get(pool, [])
        more = f", and {len(outside) - SHOWN} more such nodes" if len(outside) > SHOWN else ""
        return text + "".join(f", {each}" for each in outside[:SHOWN]) + more + self._nodes.get(pool, "")

    def numbers(self, option: Option, pool: str) -> PoolFree:
        """What the option needs in the pool and what is there: largest free and total free devices, largest installed."""
        found = self._numbers_of(option, pool)
        if self.asked is not None:
            self.asked.append((option, pool, found))
        return found

    def room(self, option: Option, kind: Sequence[int]) -> bool:
        """Whether one more replica fits in one of these cells, which differ in their place only."""
        live = self.live
        need = live.need(option, kind[0])
        found = need is not None and any(live.free.best(c, need) is not None for c in kind)
        if self.asked is not None:
            self.asked.append((option, tuple(kind), found))
        return found

    def answers(self, asked: Asked) -> bool:
        """Whether the question has the same answer here."""
        option, where, answer = asked
        return answer == (self.numbers(option, where) if isinstance(where, str) else self.room(option, where))

    def _numbers_of(self, option: Option, pool: str) -> PoolFree:
        live = self.live
        # Without starts of its own there, every model sees the same numbers.
        if any(live.cells[c].pool == pool for _, c, _ in live.starts.get(option.model, [])):
            return self._count(option, pool)
        key = (pool, option.profile, option.devices, option.span)
        if key not in self._numbers:
            self._numbers[key] = self._count(option, pool)
        return self._numbers[key]

    def _count(self, option: Option, pool: str) -> PoolFree:
        live = self.live
        cells = [c for c in live.pool_cells[pool] if live.cells[c].profile == option.profile]
        need = {c: n for c in cells if (n := live.need(option, c)) is not None}
        if need:
            alone = live.alone(option.model, cells)
            largest = max(alone.largest(c, n) for c, n in need.items())
            # If it does not fit even without the others' starts, these are not the reason and must not blur the numbers.
            if largest >= option.devices:
                largest, total = max(live.free.largest(c, n) for c, n in need.items()), sum(live.free.total(c) for c in cells)
            else:
                total = sum(alone.total(c) for c in cells)
        else:
            largest, total = max(live.free.biggest(c) for c in cells), sum(live.free.total(c) for c in cells)
        return PoolFree(pool, option.devices, largest, total, max(reach(live, c, option) for c in cells))


def sizes_of(cell: Cell) -> str:
    return ", ".join(map(str, cell.sizes)) or "nothing"
