"""Replicas that serve with continuous batching, and the router before them: a discrete simulation that is exact to the iteration.

The model is that of the autoscaling design, §2.2 and §2.3. One iteration prefills at most one prompt, with the 512 tokens less one for
each decoding sequence, and lasts 30 ms + 0.25 ms per prefilled token + 0.5 ms per sequence that decodes or is prefilled. Admission is
first come first served, with the cache of prompt and output reserved; at most 48 sequences. The first token comes at the end of the
iteration that finishes the prompt.

Iterations are not walked one by one: between a completion, the end of a prefill and an arrival that can be let in, all iterations of a
replica last equally long, so a whole run of them is one event. What a request still has to generate is known to the replica, which must
reserve for it, and to the router; no policy sees it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from autoscaling.replay.compiled import COMPILED, compiled

BASE_S = 0.030  # of an iteration
PREFILL_S = 0.00025  # per prefilled token
SEQUENCE_S = 0.0005  # per running sequence
CHUNK = 512  # tokens of an iteration
SEQUENCES = 48
KV_TOKENS = 80_000
FREE, LOADING, READY, DRAINING = 0, 1, 2, 3  # phases of a slot
IDLE, DECODING, PREFILLING = 0, 1, 2  # kinds of a run of iterations
# Upper bounds of the histogram of times to the first token that vLLM publishes, s; one more bucket is above them all.
BOUNDS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
BUCKETS = len(BOUNDS) + 1
NEXT, HELD_FIRST, HELD_LAST, HELD, DONE, USED = 0, 1, 2, 3, 4, 5  # places in `State.counts`
SECONDS, COST, LAST, TOLD = 0, 1, 2, 3  # places in `State.sums`

# Fields of a slot. Iterations of the present run: `count`, `step` s each, the first begins at `start`; made before it: `iteration`.
# `filling`: request being prefilled (-1 = none), `rest` tokens of its prompt still to do. `decoding` sequences, `begun`: sum of the
# iterations that gave their first tokens, `inside`: their prompt tokens. `reserved` tokens of the cache of `room`. `owed`: prompt and
# output tokens of all requests sent here and not completed. Counters, as engines publish them: `came`, `went`, `prompts`, `outputs`,
# `latency`.
WHOLE = (
    "phase", "room", "kind", "count", "iteration", "filling", "rest", "decoding", "begun", "inside", "reserved", "queue_first",
    "queue_last", "queued", "owed", "came", "went", "prompts", "outputs",
)  # fmt: skip
FLOAT = ("created", "price", "speed", "start", "step", "latency")  # s, per s, 1 = reference, s, s, s


class Slot:
    """What is known of one replica. Compiled code sees a record of an array with these fields instead."""

    __slots__ = (*WHOLE, *FLOAT)


class State(NamedTuple):
    """Everything, in rows: requests in the order of arrival, then slots for replicas, then totals."""

    arrival: Any  # s
    prompt: Any  # tokens
    output: Any  # tokens, >= 1
    first: Any  # when the first token came, s; -1 = not yet
    following: Any  # the next request in the same queue; -1 = none
    slots: Any  # `Slot` of each replica
    event: Any  # per slot: when the present run of iterations ends, or the replica is loaded; inf = nothing under way
    load: Any  # per slot: `owed` per speed; inf = takes no requests
    ends: Any  # heap per slot: iteration at which a sequence ends
    who: Any  # beside it: the request
    histogram: Any  # BUCKETS per slot, not cumulative
    bounds: Any
    counts: Any
    sums: Any


def _first_plain(values: Any, used: int) -> int:
    found: int = values.index(min(values))
    return found


def _first_compiled(values: Any, used: int) -> int:
    best = 0
    for place in range(1, used):
        if values[place] < values[best]:
            best = place
    return best


_first = compiled(_first_compiled) if COMPILED else _first_plain


@compiled
def _push(s: State, slot: int, end: int, request: int) -> None:
    r = s.slots[slot]
    base = slot * SEQUENCES
    place = r.decoding
    r.decoding = place + 1
    while place > 0:
        above = (place - 1) // 2
        if s.ends[base + above] <= end:
            break
        s.ends[base + place] = s.ends[base + above]
        s.who[base + place] = s.who[base + above]
        place = above
    s.ends[base + place] = end
    s.who[base + place] = request


@compiled
def _pop(s: State, slot: int) -> int:
    r = s.slots[slot]
    base = slot * SEQUENCES
    gone = s.who[base]
    size = r.decoding - 1
    r.decoding = size
    end = s.ends[base + size]
    request = s.who[base + size]
    place = 0
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        if below + 1 < size and s.ends[base + below + 1] < s.ends[base + below]:
            below += 1
        if s.ends[base + below] >= end:
            break
        s.ends[base + place] = s.ends[base + below]
        s.who[base + place] = s.who[base + below]
        place = below
    s.ends[base + place] = end
    s.who[base + place] = request
    return int(gone)


@compiled
def _fits(s: State, slot: int, request: int) -> bool:
    """A request larger than the whole cache is let in alone: the model has no refusal."""
    r = s.slots[slot]
    if r.decoding == 0:
        return True
    return bool(r.decoding < SEQUENCES and r.reserved + s.prompt[request] + s.output[request] <= r.room)


@compiled
def _plan(s: State, slot: int) -> None:
    """At the boundary `start`: lets a request in if it may, then sets the run up to the next change."""
    r = s.slots[slot]
    if r.filling < 0 and r.queued > 0 and _fits(s, slot, r.queue_first):
        request = r.queue_first
        r.queue_first = s.following[request]
        r.queued -= 1
        r.filling = request
        r.rest = max(1, s.prompt[request])
        r.reserved += s.prompt[request] + s.output[request]
    decoding = r.decoding
    if r.filling >= 0:
        budget = CHUNK - decoding
        chunks = (r.rest + budget - 1) // budget
        r.kind = PREFILLING
        step = BASE_S + PREFILL_S * budget + SEQUENCE_S * (decoding + 1)
        span = chunks * (BASE_S + SEQUENCE_S * (decoding + 1)) + PREFILL_S * r.rest
        if decoding > 0:
            until = s.ends[slot * SEQUENCES] - r.iteration
            if until < chunks:
                chunks = until
                span = until * step
        r.count = chunks
        r.step = step / r.speed
        s.event[slot] = r.start + span / r.speed
    elif decoding > 0:
        r.kind = DECODING
        r.count = s.ends[slot * SEQUENCES] - r.iteration
        r.step = (BASE_S + SEQUENCE_S * decoding) / r.speed
        s.event[slot] = r.start + r.count * r.step
    else:
        r.kind = IDLE
        r.count = 0
        s.event[slot] = math.inf


@compiled
def _complete(s: State, slot: int, request: int, now: float) -> None:
    r = s.slots[slot]
    tokens = s.prompt[request] + s.output[request]
    r.reserved -= tokens
    r.owed -= tokens
    if r.phase == READY:
        s.load[slot] = r.owed / r.speed
    r.went += 1
    r.outputs += s.output[request]
    s.counts[DONE] += 1
    s.sums[TOLD] += s.output[request]
    s.sums[LAST] = now


@compiled
def _first_token(s: State, slot: int, now: float) -> None:
    r = s.slots[slot]
    request = r.filling
    r.filling = -1
    s.first[request] = now
    took = now - s.arrival[request]
    bucket = 0
    while bucket < BUCKETS - 1 and took > s.bounds[bucket]:
        bucket += 1
    s.histogram[slot * BUCKETS + bucket] += 1
    r.latency += took
    r.prompts += s.prompt[request]
    if s.output[request] <= 1:
        _complete(s, slot, request, now)
        return
    r.begun += r.iteration
    r.inside += s.prompt[request]
    _push(s, slot, r.iteration + s.output[request] - 1, request)


@compiled
def _finish(s: State, slot: int) -> None:
    """The run ends: tokens, completions, then the next run or the end of the replica."""
    r = s.slots[slot]
    now = s.event[slot]
    r.start = now
    r.iteration += r.count
    if r.kind == PREFILLING:
        r.rest -= r.count * (CHUNK - r.decoding)
        if r.rest <= 0:
            _first_token(s, slot, now)
    while r.decoding > 0 and s.ends[slot * SEQUENCES] <= r.iteration:
        end = s.ends[slot * SEQUENCES]
        request = _pop(s, slot)
        r.begun -= end - (s.output[request] - 1)
        r.inside -= s.prompt[request]
        _complete(s, slot, request, now)
    _plan(s, slot)
    if r.phase == DRAINING and r.kind == IDLE:
        close(s, slot, now)


@compiled
def close(s: State, slot: int, now: float) -> None:
    """The replica is gone, and costs nothing from now on."""
    r = s.slots[slot]
    r.phase = FREE
    s.event[slot] = math.inf
    s.load[slot] = math.inf
    s.sums[SECONDS] += now - r.created
    s.sums[COST] += (now - r.created) * r.price


@compiled
def _send(s: State, request: int, now: float) -> bool:
    """To the replica with the least outstanding work per speed; False if none serves."""
    slot = _first(s.load, s.counts[USED])
    if s.load[slot] == math.inf:
        return False
    r = s.slots[slot]
    r.owed += s.prompt[request] + s.output[request]
    s.load[slot] = r.owed / r.speed
    r.came += 1
    s.following[request] = -1
    if r.queued == 0:
        r.queue_first = request
    else:
        s.following[r.queue_last] = request
    r.queue_last = request
    r.queued += 1
    if r.kind == IDLE:
        r.start = now
        _plan(s, slot)
    elif r.kind == DECODING and r.queued == 1 and _fits(s, slot, request):
        made = max(0, math.ceil((now - r.start) / r.step - 1e-9))
        if made < r.count:
            r.count = made
            s.event[slot] = max(now, r.start + made * r.step)
    return True


@compiled
def _hold(s: State, request: int) -> None:
    s.following[request] = -1
    if s.counts[HELD] == 0:
        s.counts[HELD_FIRST] = request
    else:
        s.following[s.counts[HELD_LAST]] = request
    s.counts[HELD_LAST] = request
    s.counts[HELD] += 1


@compiled
def advance(s: State, until: float) -> None:
    """Everything that happens up to and including `until`, s."""
    requests = len(s.arrival)
    while True:
        slot = _first(s.event, s.counts[USED])
        now = s.event[slot]
        coming = s.arrival[s.counts[NEXT]] if s.counts[NEXT] < requests else math.inf
        if now > until and coming > until:
            return
        if coming < now:
            if not _send(s, s.counts[NEXT], coming):
                _hold(s, s.counts[NEXT])
            s.counts[NEXT] += 1
        elif s.slots[slot].phase == LOADING:
            s.slots[slot].phase = READY
            s.slots[slot].start = now
            s.event[slot] = math.inf
            s.load[slot] = 0.0
            while s.counts[HELD] > 0:
                request = s.counts[HELD_FIRST]
                s.counts[HELD_FIRST] = s.following[request]
                s.counts[HELD] -= 1
                _send(s, request, now)
        elif now == math.inf:
            return
        else:
            _finish(s, slot)
