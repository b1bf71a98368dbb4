"""The two doors to the closed form: one question in Python floats, many in float64 arrays. The arithmetic is one, so the answers are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hwprofiles.estimate import formula
from hwprofiles.estimate.formula import ARRAYS, FLOATS, Terms
from hwprofiles.estimate.hardware import Hardware
from hwprofiles.estimate.refusals import request_too_large, slo_unreachable
from hwprofiles.estimate.terms import NO_LIMITS, Item, Question, prepare
from hwprofiles.estimate.values import Estimate, LayoutClass, Load, Refusal, Slo
from hwprofiles.model import Layout
from hwprofiles.shape import Shape

# Margins of planning: within one node every published point lies within this factor of the closed form; elsewhere the form is known to
# promise up to three times too much (hardware calibration, docs/estimator.md).
IN_NODE_MARGIN = 1.4
ELSEWHERE_MARGIN = 3.0


def estimate(
    shape: Shape,
    hardware: Hardware,
    layout: Layout,
    precision: str | None,
    load: Load,
    slo: Slo = NO_LIMITS,
    *,
    kv_precision: str | None = None,
    model: str | None = None,
    split: bool = False,
) -> Estimate | Refusal:
    """What one replica does: closed form of docs/estimator.md with the derate of its layout class.

    `precision` of the weights, None = bf16; `kv_precision` of the cache, None = 16 bit; `model` is only used in messages; `split` = prompts
    are computed by other replicas. A concurrency above what memory holds is served in turns: `concurrency` of the answer says how many run
    at once. Raises ValueError for lengths or a concurrency below 1.
    """
    question = Question(shape, hardware, layout, precision, load, slo, kv_precision, model, split)
    item = prepare(question)
    if isinstance(item, Refusal):
        return item
    t = item.terms
    most = formula.most_requests(t, FLOATS)
    at_most = min(t.asked, most)
    used = formula.largest_within(t, at_most, FLOATS) if t.asked == np.inf else at_most
    times = formula.times(t, max(used, 1.0), FLOATS)
    return _answer(question, item, most, used, times)


def estimate_many(questions: Sequence[Question]) -> list[Estimate | Refusal]:
    """The same for many questions at once; the answers come in the order of the questions and equal those of `estimate` bit for bit."""
    answers: list[Estimate | Refusal | None] = [None] * len(questions)
    places: list[int] = []
    items: list[Item] = []
    for place, question in enumerate(questions):
        item = prepare(question)
        if isinstance(item, Refusal):
            answers[place] = item
        else:
            places.append(place)
            items.append(item)
    if items:
        t = Terms(*np.array([item.terms for item in items], dtype=np.float64).T.copy())
        most = formula.most_requests(t, ARRAYS)
        at_most = np.minimum(t.asked, most)
        used = np.where(np.isinf(t.asked), formula.largest_within(t, at_most, ARRAYS), at_most)
        times = formula.times(t, np.maximum(used, 1.0), ARRAYS)
        columns = zip(most.tolist(), used.tolist(), *(one.tolist() for one in times), strict=True)
        for place, item, (most_, used_, *rest) in zip(places, items, columns, strict=True):
            answers[place] = _answer(questions[place], item, most_, used_, formula.Times(*rest))
    return [answer for answer in answers if answer is not None]


def _answer(q: Question, item: Item, most: float, used: float, times: formula.Times[float]) -> Estimate | Refusal:
    """The estimate with its bounds, or why memory or the SLO leave nothing."""
    t = item.terms
    if most < 1.0:
        need = formula.context_kv(t, formula.mean_context(t), FLOATS)
        return request_too_large(need, t.room * t.groups, q.load, q.hardware, q.model)
    if used < 1.0 or times.itl_s > t.itl_limit or times.ttft_s > t.ttft_limit:
        alone = t._replace(asked=float("inf"))
        best = formula.largest_within(alone, min(t.asked, most), FLOATS)
        return slo_unreachable(q.hardware, q.model, q.load, q.slo, int(max(used, 1.0)), times.ttft_s, times.itl_s, int(best))
    point = times.rate * item.derate
    in_node = item.layout_class is LayoutClass.IN_NODE
    lower = point / IN_NODE_MARGIN if in_node else min(point / IN_NODE_MARGIN, times.rate / ELSEWHERE_MARGIN)
    notes = item.assumptions
    if t.asked != float("inf") and t.asked > most:
        notes = (*notes, f"concurrency {int(most)} of {int(t.asked)}: more do not fit into memory and wait")
    return Estimate(
        output_tokens_per_s=point,
        lower=lower,
        upper=point * IN_NODE_MARGIN if in_node else None,
        ttft_s=times.ttft_s,
        itl_s=times.itl_s,
        concurrency=int(used),
        max_concurrency=int(most),
        kv_tokens=item.kv_tokens,
        weight_bytes_per_unit=int(item.weight_bytes),
        layout_class=item.layout_class,
        derate=item.derate,
        assumptions=notes,
    )
