"""Columns of many models at once: singles and pairs of options, with the share of the load that they cover.

R[o, b] = load / rate is how many replicas of option o bucket b alone would fill; tot[o] = sum over buckets. A pair (i, j) serves the
buckets in the order of R_j / R_i descending: option i takes first what j does worst. With n_i replicas of i at full coverage, the share of
bucket b on i is q_b = clip((n_i - C_b) / R_ib, 0, 1), C = prefix sums of R_i in that order, and j must fill G(n_i) = sum (1 - q_b) R_jb
replicas; coverage phi scales everything: n_j = ceil(phi * G(n_i / phi)). A bucket that one option cannot serve (R = inf) is forced on the
other. All of it is vectorised over models, pairs and counts; nothing here loops over models.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from placement.columnform import ColumnForm, Floats, Ints, changes

GRID = 24  # counts of the first option of a pair, evenly spread, when there are more
SINGLES, SINGLES_TAIL = 32, 8
ROWS = 400_000  # rows of one vectorised piece: bounds the memory of temporary arrays
ZONE_ORDERS = 12
SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Columns:
    """J columns of up to E entries, sorted by owner. `count` 0 marks an unused entry; the empty column has none."""

    owner: Ints  # [J]
    option: NDArray[np.int32]  # [J, E]
    count: NDArray[np.int32]  # [J, E]
    phi: Floats  # [J] share of the load that is covered, 0 to 1
    money: Floats  # [J] cost, changes and shortfall: the column's objective

    def __len__(self) -> int:
        return len(self.owner)

    def taken(self, keep: NDArray[np.bool_] | Ints) -> Columns:
        return Columns(self.owner[keep], self.option[keep], self.count[keep], self.phi[keep], self.money[keep])


def unmet_price(share: Floats) -> Floats:
    """Convex price of an unmet share: the second half hurts three times as much."""
    return np.minimum(share, 0.5) + 3.0 * np.maximum(share - 0.5, 0.0)


def covered_pair(first: Floats, second: Floats, n1: Floats, n2: Floats) -> Floats:
    """[L] share that n1 replicas of one and n2 of another option cover together; `first`, `second` are [L, B] ratios."""
    order, prefix = _order(first, second)
    a, b = np.take_along_axis(first, order, 1), np.take_along_axis(second, order, 1)
    special = ~(np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1))
    result = np.zeros(len(n1))
    plain = ~special
    if plain.any():
        result[plain] = _exact_phi(a[plain], b[plain], prefix[plain], n1[plain], n2[plain])
    if special.any():
        result[special] = _bisected_phi(a[special], b[special], prefix[special], n1[special], n2[special])
    return result


def _exact_phi(a: Floats, b: Floats, prefix: Floats, n1: Floats, n2: Floats) -> Floats:
    """Root of G(s) = (n2 / n1) s with s = n1 / phi: G is piecewise linear, one piece per bucket in which the first option may end."""
    total1, total2 = a.sum(axis=1), b.sum(axis=1)
    tiny = 1e-300
    phi = np.maximum(
        np.where(total2 > 0, n2 / np.maximum(total2, tiny), 1.0),
        np.where(total1 > 0, n1 / np.maximum(total1, tiny), 1.0),
    )
    slope = np.where(n1 > 0, n2 / np.maximum(n1, tiny), np.inf)
    for t in range(a.shape[1]):
        r1, r2, c = a[:, t], b[:, t], prefix[:, t]
        rest = b[:, t + 1 :].sum(axis=1)
        per = np.where(r1 > 0, r2 / np.maximum(r1, tiny), 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            scale = (rest + r2 + per * c) / np.maximum(slope + per, tiny)
        inside = (n1 > 0) & (scale >= c - SLACK) & (scale <= c + r1 + SLACK)
        phi = np.where(inside, np.maximum(phi, n1 / np.maximum(scale, tiny)), phi)
    return np.clip(phi, 0.0, 1.0)


def _bisected_phi(a: Floats, b: Floats, prefix: Floats, n1: Floats, n2: Floats) -> Floats:
    """The same where a bucket is forced on one option: phi * G(n1 / phi) <= n2."""
    low, high = np.zeros(len(n1)), np.ones(len(n1))
    whole = second_need(a, b, prefix, n1) <= n2 + SLACK
    for _ in range(40):
        mid = (low + high) / 2.0
        fits = second_need(a, b, prefix, n1 / mid) * mid <= n2 + SLACK
        low, high = np.where(fits, mid, low), np.where(fits, high, mid)
    return np.asarray(np.where(whole, 1.0, low))


def shares_of_first(first: Floats, second: Floats, scale: float) -> Floats:
    """[B] the share of each bucket on the first of two options when its replicas are `scale` at full coverage; [B] ratios."""
    order, prefix = _order(first[None, :], second[None, :])
    on_first = np.zeros(len(first))
    for at, b in enumerate(order[0]):
        if np.isfinite(first[b]):
            on_first[b] = 1.0 if first[b] <= 0 or not np.isfinite(second[b]) else min(1.0, max(0.0, (scale - prefix[0, at]) / first[b]))
    return on_first


def second_need(a: Floats, b: Floats, prefix: Floats, n1: Floats) -> Floats:
    """G(n1): replicas of the second option at full coverage; `a`, `b`, `prefix` [L, B] in the pair's order. inf if impossible."""
    with np.errstate(divide="ignore", invalid="ignore"):
        on_first = np.where(np.isfinite(a), np.where(a > 0, (n1[:, None] - prefix) / np.where(a > 0, a, 1.0), 1.0), 0.0)
        on_first = np.clip(np.nan_to_num(on_first, nan=0.0, neginf=0.0, posinf=1.0), 0.0, 1.0)
        rest = np.where(on_first >= 1.0 - SLACK, 0.0, (1.0 - on_first) * b)
    return np.asarray(rest.sum(axis=1))


def _order(first: Floats, second: Floats) -> tuple[Ints, Floats]:
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(np.isfinite(second), np.where(np.isfinite(first), second / np.maximum(first, 1e-300), -1.0), np.inf)
    order = np.argsort(-np.nan_to_num(gain, nan=0.0, posinf=1e300), axis=1, kind="stable")
    a = np.take_along_axis(first, order, 1)
    prefix = np.concatenate([np.zeros((len(a), 1)), np.cumsum(a, axis=1)[:, :-1]], axis=1)
    return order, prefix


@dataclass(frozen=True, slots=True)
class _Base:
    """Columns over families (options without their zone): at most two."""

    owner: Ints
    option: Ints  # [J, 2] local index into the view's families
    count: Ints  # [J, 2]
    phi: Floats


class Generator:
    """Makes the columns of any models of a form. Built once per form; `make` may be called for a few models at a time."""

    def __init__(self, form: ColumnForm) -> None:
        self.form = form
        self.ratio = form.ratios()
        self.total = self.ratio.sum(axis=1)
        self.counts_only = form.counts_only()
        bound = form.zone_share < 1.0
        self.zoned = bound
        # One representative per family; for a model that is not zone-bound each option is its own family.
        families, self.lead, inverse = np.unique(form.family, return_index=True, return_inverse=True)
        self.family = inverse.reshape(-1)
        zones = max(1, int(form.zone.max(initial=-1)) + 1)
        self.in_zone = np.full((len(families), zones), -1, dtype=np.int64)
        has = form.zone >= 0
        self.in_zone[self.family[has], form.zone[has]] = np.flatnonzero(has)
        self.reach = np.zeros(len(families), dtype=np.int64)
        np.add.at(self.reach, self.family, np.where(has, form.upper, 0))
        np.maximum.at(self.reach, self.family, np.where(has, 0, form.upper))
        # Families of a model, in the order of their first option.
        order = np.argsort(self.lead, kind="stable")
        self.lead, self.in_zone, self.reach = self.lead[order], self.in_zone[order], self.reach[order]
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        self.family = back[self.family]
        owner = form.model[self.lead]
        self.family_first = np.searchsorted(owner, np.arange(form.models + 1))
        self.running = np.bincount(form.model, form.running, minlength=form.models)
        self.stop_all = np.bincount(form.model, form.stop * form.running, minlength=form.models)
        self.running_phi = self._running_phi()

    def make(self, models: Ints, phis: tuple[float, ...] = (1.0,), grid: int = GRID) -> tuple[Columns, Columns]:
        """Columns of the flexible and of the zone-bound ones among `models`."""
        free, bound = models[~self.zoned[models]], models[self.zoned[models]]
        return self._made(free, phis, grid, bound=False), self._made(bound, phis, grid, bound=True)

    def _made(self, models: Ints, phis: tuple[float, ...], grid: int, *, bound: bool) -> Columns:
        if not len(models):
            width = 6 if bound else 2
            none = np.zeros(0, dtype=np.int64)
            return Columns(none, np.zeros((0, width), np.int32), np.zeros((0, width), np.int32), np.zeros(0), np.zeros(0))
        pieces: list[Columns] = []
        sizes = np.diff(self.family_first)[models]
        weight = np.cumsum(sizes * sizes * grid * len(phis))
        start = 0
        while start < len(models):
            begin = weight[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(weight, begin + ROWS)))
            base = self._base(models[start:stop], phis, grid)
            pieces.append(self._placed(base, bound=bound))
            start = stop
        return joined(pieces)

    # ---- columns over families

    def _base(self, models: Ints, phis: tuple[float, ...], grid: int) -> _Base:
        parts = [self._singles(models), self._pairs(models, phis, grid)]
        empty = _Base(models, np.zeros((len(models), 2), np.int64), np.zeros((len(models), 2), np.int64), np.zeros(len(models)))
        parts.append(empty)
        base = _Base(
            np.concatenate([p.owner for p in parts]),
            np.concatenate([p.option for p in parts]),
            np.concatenate([p.count for p in parts]),
            np.concatenate([p.phi for p in parts]),
        )
        order = np.argsort(base.owner, kind="stable")
        return _Base(base.owner[order], base.option[order], base.count[order], base.phi[order])

    def _most(self, family: Ints) -> Ints:
        owner = self.form.model[self.lead[family]]
        return np.minimum(self.reach[family], self.form.maximum[owner])

    def _singles(self, models: Ints) -> _Base:
        family = _ranges(self.family_first[models], self.family_first[models + 1])
        owner = self.form.model[self.lead[family]]
        total = self.total[self.lead[family]]
        finite = np.isfinite(total)
        family, owner, total = family[finite], owner[finite], total[finite]
        needed = np.maximum(np.maximum(np.ceil(total - SLACK), 1), self.form.minimum[owner]).astype(np.int64)
        needed = np.maximum(needed, self.for_floors(self.lead[family], owner))
        most = np.minimum(needed, self._most(family))
        lines, count = _steps(most, SINGLES, SINGLES_TAIL)
        phi = np.minimum(1.0, count / np.maximum(total[lines], 1e-300))
        keep = (phi >= 1.0 - SLACK) if self.form.whole else np.ones(len(count), dtype=np.bool_)
        option = np.stack([family[lines], np.zeros(len(lines), np.int64)], axis=1)
        counts = np.stack([count, np.zeros(len(lines), np.int64)], axis=1)
        return _Base(owner[lines][keep], option[keep], counts[keep], phi[keep])

    def for_floors(self, option: Ints, owner: Ints) -> Ints:
        """Replicas of one option that hold the KV floors of its model alone; 0 where none is asked or it holds nothing."""
        form = self.form
        if form.floors is None or form.tokens is None or not form.floors.size:
            return np.zeros(len(option), np.int64)
        floor, each = form.floors[owner], form.tokens[option]
        many = np.where((floor > 0) & (each > 0), np.ceil(floor / np.where(each > 0, each, 1.0) - SLACK), 0.0)
        return np.asarray(many.max(axis=1, initial=0.0).astype(np.int64))

    def _floored(self, owner: Ints, option: NDArray[np.int32], count: NDArray[np.int32], phi: Floats) -> Floats:
        """Coverage that the KV cache allows as well: one share for work and cache."""
        form = self.form
        if form.floors is None or form.tokens is None:
            return phi
        for f in range(form.floors.shape[1]):
            floor = form.floors[owner, f]
            held = (form.tokens[option, f] * count).sum(axis=1)
            phi = np.where(floor > 0, np.minimum(phi, held / np.where(floor > 0, floor, 1.0)), phi)
        return phi

    def _pairs(self, models: Ints, phis: tuple[float, ...], grid: int) -> _Base:
        first, last = self.family_first[models], self.family_first[models + 1]
        i, j = _pairs_within(first, last)
        # The one that needs fewer replicas is stepped through: its steps are more often all of them.
        swap = self.total[self.lead[i]] > self.total[self.lead[j]]
        i, j = np.where(swap, j, i), np.where(swap, i, j)
        parts = [self._pairs_at(i, j, phi, grid) for phi in phis]
        return _Base(
            np.concatenate([p.owner for p in parts]),
            np.concatenate([p.option for p in parts]),
            np.concatenate([p.count for p in parts]),
            np.concatenate([p.phi for p in parts]),
        )

    def _pairs_at(self, i: Ints, j: Ints, phi: float, grid: int) -> _Base:
        form = self.form
        r1, r2 = self.ratio[self.lead[i]], self.ratio[self.lead[j]]
        servable = (np.isfinite(r1) | np.isfinite(r2)).all(axis=1)
        i, j, r1, r2 = i[servable], j[servable], r1[servable], r2[servable]
        with np.errstate(invalid="ignore"):
            finite = np.where(np.isfinite(r1), r1, 0.0).sum(axis=1)
        steps = np.maximum(np.ceil(phi * finite - SLACK) - 1, 0).astype(np.int64)
        partly = ~np.isfinite(r1).all(axis=1)  # the first cannot serve everything: it may be full for what it can
        steps = np.minimum(np.where(partly, steps + 1, steps), self._most(i))
        lines, n1 = _steps(steps, grid, 0)
        order, prefix = _order(r1, r2)
        a, b = np.take_along_axis(r1, order, 1)[lines], np.take_along_axis(r2, order, 1)[lines]
        need = phi * second_need(a, b, prefix[lines], n1 / phi)
        owner = form.model[self.lead[i]][lines]
        ok = np.isfinite(need)
        n2 = np.where(ok, np.ceil(np.where(ok, need, 0.0) - SLACK), 0).astype(np.int64)
        n2 = np.maximum(n2, 1)
        # Coverage alone may ask for fewer replicas than the minimum: the rest on either side.
        lack = np.maximum(form.minimum[owner] - n1 - n2, 0)
        family1, family2 = i[lines], j[lines]
        more1 = np.where(lack > 0, n1 + lack, 0)
        rows = [(n1, n2 + lack, np.ones(len(n1), dtype=np.bool_)), (more1, n2, lack > 0)]
        parts: list[_Base] = []
        for one, two, wanted in rows:
            fits = ok & wanted & (two <= self._most(family2)) & (one <= self._most(family1)) & (one + two <= form.maximum[owner])
            if not fits.any():
                continue
            picked = np.flatnonzero(fits)
            f1, f2 = family1[picked], family2[picked]
            if phi >= 1.0 - SLACK:
                got = np.ones(len(picked))
            else:
                got = covered_pair(
                    self.ratio[self.lead[f1]], self.ratio[self.lead[f2]], one[picked].astype(float), two[picked].astype(float)
                )
            parts.append(
                _Base(owner[picked], np.stack([f1, f2], axis=1), np.stack([one[picked], two[picked]], axis=1), got),
            )
        if not parts:
            none = np.zeros((0, 2), np.int64)
            return _Base(np.zeros(0, np.int64), none, none, np.zeros(0))
        return _Base(
            np.concatenate([p.owner for p in parts]),
            np.concatenate([p.option for p in parts]),
            np.concatenate([p.count for p in parts]),
            np.concatenate([p.phi for p in parts]),
        )

    # ---- zones, rules and money

    def _placed(self, base: _Base, *, bound: bool) -> Columns:
        if bound:
            return self._zoned_columns(base)
        option = self.lead[base.option].astype(np.int32)
        return self.priced(base.owner, option, base.count.astype(np.int32), base.phi)

    def _zoned_columns(self, base: _Base) -> Columns:
        """Each base column in every order of zones: the first zone is filled to its share, what is left goes to the next."""
        form = self.form
        zones = self.in_zone.shape[1]
        total = base.count.sum(axis=1)
        share = form.zone_share[base.owner]
        cap = np.floor(1.0 - share + share * total + SLACK).astype(np.int64)
        pieces: list[Columns] = []
        orders = list(permutations(range(zones)))[:ZONE_ORDERS] if zones <= 3 else [tuple(np.roll(range(zones), k)) for k in range(zones)]
        for order in orders:
            room = np.repeat(cap[:, None], zones, axis=1)
            option = np.zeros((len(total), 6), np.int32)
            count = np.zeros((len(total), 6), np.int32)
            valid = np.ones(len(total), dtype=np.bool_)
            at = 0
            for side in (0, 1):
                left = base.count[:, side].copy()
                # The second option starts in the second zone, so that neither zone holds all of both.
                turned = order if side == 0 else order[1:] + order[:1]
                for z in turned[:3]:
                    here = self.in_zone[base.option[:, side], z]
                    take = np.where(here >= 0, np.minimum(left, room[:, z]), 0)
                    option[:, at], count[:, at] = np.maximum(here, 0), take
                    room[:, z] -= take
                    left -= take
                    at += 1
                valid &= left == 0
            keep = np.flatnonzero(valid)
            pieces.append(self.priced(base.owner[keep], option[keep], count[keep], base.phi[keep], spread=True))
        return joined(pieces)

    def priced(self, owner: Ints, option: NDArray[np.int32], count: NDArray[np.int32], phi: Floats, *, spread: bool = False) -> Columns:
        """Money of each column; columns that break a rule of their model are left out. `spread`: all keep their share per zone.

        What runs may break that share already (a node was lost), so others are not left out for it: each zone above its share costs as
        much as it does in `value`. Without that a stop in the smaller zone would be free.
        """
        form = self.form
        phi = self._floored(owner, option, count, phi)
        n = count.astype(np.float64)
        total = n.sum(axis=1)
        cost = (form.cost[option] * n).sum(axis=1)
        runs = bool(self.running.any())  # in an empty fleet most of what follows is zero
        money = form.base[owner] + self.stop_all[owner] + cost
        if runs:
            used = count > 0
            run = np.where(used, form.running[option], 0)
            change = form.start[option] * np.maximum(n - run, 0.0) + form.stop[option] * (np.maximum(run - n, 0.0) - run)
            money += np.where(used, change, 0.0).sum(axis=1)
        elif form.start.any():
            money += (form.start[option] * n).sum(axis=1)
        if (phi < 1.0).any():
            unmet = np.where(self.counts_only[owner], 0.0, 1.0 - phi)
            money += form.weight[owner] * unmet_price(unmet)
        money += form.missing[owner] * np.maximum(form.minimum[owner] - total, 0.0)
        if runs:
            money += form.disrupt[owner] * np.maximum(self.running_phi[owner] - phi - SLACK, 0.0)
            money += form.disrupt_one[owner] * np.maximum(np.minimum(self.running[owner], form.minimum[owner]) - total, 0.0)
        if not spread and self.zoned.any():
            money += form.missing[owner] / 2.0 * self._above(owner, option, count, total)
        if form.move is not None and form.surplus is not None and runs:
            _, stops = changes(form, owner, option, count)
            money += form.move[owner] * np.maximum(stops - form.surplus[owner], 0.0)
        keep = (cost <= form.cost_cap[owner] + SLACK) & (total <= form.maximum[owner]) & (count <= form.upper[option]).all(axis=1)
        keep &= self._vendors(owner, option, count, total)
        keep |= total == 0
        if form.least_phi is not None and form.least_count is not None:
            keep &= (phi >= form.least_phi[owner] - 1e-6) & (total >= form.least_count[owner])
        return Columns(owner[keep], option[keep], count[keep], phi[keep], money[keep])

    def _above(self, owner: Ints, option: NDArray[np.int32], count: NDArray[np.int32], total: Floats) -> Floats:
        """[J] zones in which a zone-bound model has more than its share."""
        form, found = self.form, np.zeros(len(owner))
        lines = np.flatnonzero(self.zoned[owner])
        held = np.zeros((len(lines), self.in_zone.shape[1]))
        rows = np.arange(len(lines))
        for e in range(option.shape[1]):
            np.add.at(held, (rows, np.maximum(form.zone[option[lines, e]], 0)), count[lines, e])
        most = form.zone_share[owner[lines]] * (total[lines] - 1.0) + 1.0 + SLACK
        found[lines] = ((held > 0) & (held > most[:, None])).sum(axis=1)
        return found

    def _vendors(self, owner: Ints, option: NDArray[np.int32], count: NDArray[np.int32], total: Floats) -> NDArray[np.bool_]:
        form = self.form
        ruled = (form.min_vendors[owner] > 1) | (form.vendor_share[owner] < 1.0)
        keep = np.ones(len(owner), dtype=np.bool_)
        if not ruled.any():
            return keep
        lines = np.flatnonzero(ruled)
        vendors = int(form.vendor.max()) + 1
        held = np.zeros((len(lines), vendors))
        rows = np.arange(len(lines))
        for e in range(option.shape[1]):
            np.add.at(held, (rows, form.vendor[option[lines, e]]), count[lines, e])
        distinct = (held > 0).sum(axis=1)
        keep[lines] = distinct >= np.minimum(form.min_vendors[owner[lines]], total[lines])
        share = form.vendor_share[owner[lines]]
        keep[lines] &= (held <= (1.0 - share + share * total[lines] + SLACK)[:, None]).all(axis=1)
        return keep

    def _running_phi(self) -> Floats:
        """[M] share that the running replicas cover: exact for one or two options, for more the best pair (a lower bound)."""
        form = self.form
        result = np.zeros(form.models)
        has = np.flatnonzero(form.running > 0)
        if not len(has):
            return result
        family = self.family[has]
        owner = form.model[has]
        key, inverse = np.unique(owner * (len(self.lead) + 1) + family, return_inverse=True)
        count = np.bincount(inverse.reshape(-1), form.running[has])
        owners, families = key // (len(self.lead) + 1), key % (len(self.lead) + 1)
        total = self.total[self.lead[families]]
        with np.errstate(divide="ignore", invalid="ignore"):
            np.maximum.at(result, owners, np.where(np.isfinite(total), np.minimum(1.0, count / np.maximum(total, 1e-300)), 0.0))
        begin = np.searchsorted(owners, np.arange(form.models))
        end = np.searchsorted(owners, np.arange(form.models), side="right")
        several = np.flatnonzero(end - begin > 1)
        if len(several):
            i, j = _pairs_within(begin[several], end[several])
            got = covered_pair(
                self.ratio[self.lead[families[i]]], self.ratio[self.lead[families[j]]], count[i].astype(float), count[j].astype(float)
            )
            np.maximum.at(result, owners[i], got)
        return result


def joined(pieces: list[Columns]) -> Columns:
    """One set of columns, sorted by owner."""
    pieces = [p for p in pieces if len(p)] or pieces[:1]
    if len(pieces) == 1:
        return pieces[0]
    whole = Columns(
        np.concatenate([p.owner for p in pieces]),
        np.concatenate([p.option for p in pieces]),
        np.concatenate([p.count for p in pieces]),
        np.concatenate([p.phi for p in pieces]),
        np.concatenate([p.money for p in pieces]),
    )
    if (np.diff(whole.owner) >= 0).all():
        return whole
    return whole.taken(np.argsort(whole.owner, kind="stable"))


def _ranges(first: Ints, last: Ints) -> Ints:
    """The concatenation of range(first[k], last[k])."""
    length = last - first
    if not len(length) or not length.sum():
        return np.zeros(0, dtype=np.int64)
    ends = np.cumsum(length)
    return np.asarray(np.arange(ends[-1]) - np.repeat(ends - length - first, length))


def _pairs_within(first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """Every unordered pair inside each range."""
    left = _ranges(first, last)
    stop = np.repeat(last, last - first)
    right = _ranges(left + 1, stop)
    return np.asarray(np.repeat(left, stop - left - 1)), right


def _steps(most: Ints, even: int, tail: int) -> tuple[Ints, Ints]:
    """(line, count): 1 … most[line] if few, else `even` points spread evenly over it and the last `tail`."""
    full = most <= even + 2 * tail
    lines = np.repeat(np.arange(len(most)), np.where(full, most, 0))
    counts = _ranges(np.ones(len(most), np.int64), np.where(full, most + 1, 1))
    large = np.flatnonzero(~full & (most > 0))
    if not len(large):
        return lines, counts
    spread = np.rint(np.linspace(1, most[large] - tail, even)).astype(np.int64).T  # [large, even]
    last = most[large][:, None] - np.arange(tail)[None, :][:, ::-1] if tail else np.zeros((len(large), 0), np.int64)
    points = np.concatenate([spread, last], axis=1)
    return np.concatenate([lines, np.repeat(large, points.shape[1])]), np.concatenate([counts, points.reshape(-1)])
