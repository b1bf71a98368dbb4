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
BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0)
BUCKETS = len(BOUNDS) + 1
NEXT, HELD_FIRST, HELD_LAST, HELD, DONE = 0, 1, 2, 3, 4  # places in `State.counts`
SECONDS, COST, LAST, TOLD = 0, 1, 2, 3  # places in `State.sums`


class State(NamedTuple):
    """Everything, in rows: requests in the order of arrival, then slots for replicas, then totals."""

    arrival: Any  # s
    prompt: Any  # tokens
    output: Any  # tokens, >= 1
    first: Any  # when the first token came, s; -1 = not yet
    following: Any  # the next request in the same queue; -1 = none
    phase: Any
    created: Any  # s
    price: Any  # per second
    speed: Any  # 1 = the reference replica
    room: Any  # tokens of cache
    event: Any  # when the present run of iterations ends, or the replica is loaded; inf = nothing under way
    start: Any  # of the run, s
    step: Any  # length of one of its iterations, s
    kind: Any
    count: Any  # iterations of the run
    iteration: Any  # made before the run
    filling: Any  # request being prefilled; -1 = none
    rest: Any  # tokens of its prompt still to prefill
    decoding: Any  # sequences
    ends: Any  # heap per slot: iteration at which a sequence ends
    who: Any  # beside it: the request
    begun: Any  # sum over decoding sequences of the iteration that gave their first token
    inside: Any  # prompt tokens of decoding sequences
    reserved: Any  # tokens of cache
    queue_first: Any
    queue_last: Any
    queued: Any
    owed: Any  # prompt and output tokens of all requests sent here and not completed
    load: Any  # the same per speed; inf = takes no requests
    came: Any  # counters since the replica's start, as an engine publishes them
    went: Any
    prompts: Any
    outputs: Any  # of completed requests
    latency: Any  # sum of the times to the first token, s
    histogram: Any  # BUCKETS per slot, not cumulative
    bounds: Any
    counts: Any
    sums: Any


def _first_plain(values: Any) -> int:
    found: int = values.index(min(values))
    return found


def _first_compiled(values: Any) -> int:
    best = 0
    for place in range(1, len(values)):
        if values[place] < values[best]:
            best = place
    return best


_first = compiled(_first_compiled) if COMPILED else _first_plain


@compiled
def _push(s: State, slot: int, end: int, request: int) -> None:
    base = slot * SEQUENCES
    place = s.decoding[slot]
    s.decoding[slot] = place + 1
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
    base = slot * SEQUENCES
    gone = s.who[base]
    size = s.decoding[slot] - 1
    s.decoding[slot] = size
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
    if s.decoding[slot] == 0:
        return True
    return bool(s.decoding[slot] < SEQUENCES and s.reserved[slot] + s.prompt[request] + s.output[request] <= s.room[slot])


@compiled
def _plan(s: State, slot: int) -> None:
    """At the boundary `start`: lets a request in if it may, then sets the run up to the next change."""
    if s.filling[slot] < 0 and s.queued[slot] > 0 and _fits(s, slot, s.queue_first[slot]):
        request = s.queue_first[slot]
        s.queue_first[slot] = s.following[request]
        s.queued[slot] -= 1
        s.filling[slot] = request
        s.rest[slot] = max(1, s.prompt[request])
        s.reserved[slot] += s.prompt[request] + s.output[request]
    decoding = s.decoding[slot]
    if s.filling[slot] >= 0:
        budget = CHUNK - decoding
        chunks = (s.rest[slot] + budget - 1) // budget
        s.kind[slot] = PREFILLING
        step = BASE_S + PREFILL_S * budget + SEQUENCE_S * (decoding + 1)
        span = chunks * (BASE_S + SEQUENCE_S * (decoding + 1)) + PREFILL_S * s.rest[slot]
        if decoding > 0:
            until = s.ends[slot * SEQUENCES] - s.iteration[slot]
            if until < chunks:
                chunks = until
                span = until * step
        s.count[slot] = chunks
        s.step[slot] = step / s.speed[slot]
        s.event[slot] = s.start[slot] + span / s.speed[slot]
    elif decoding > 0:
        s.kind[slot] = DECODING
        s.count[slot] = s.ends[slot * SEQUENCES] - s.iteration[slot]
        s.step[slot] = (BASE_S + SEQUENCE_S * decoding) / s.speed[slot]
        s.event[slot] = s.start[slot] + s.count[slot] * s.step[slot]
    else:
        s.kind[slot] = IDLE
        s.count[slot] = 0
        s.event[slot] = math.inf


@compiled
def _complete(s: State, slot: int, request: int, now: float) -> None:
    tokens = s.prompt[request] + s.output[request]
    s.reserved[slot] -= tokens
    s.owed[slot] -= tokens
    if s.phase[slot] == READY:
        s.load[slot] = s.owed[slot] / s.speed[slot]
    s.went[slot] += 1
    s.outputs[slot] += s.output[request]
    s.counts[DONE] += 1
    s.sums[TOLD] += s.output[request]
    s.sums[LAST] = now


@compiled
def _first_token(s: State, slot: int, now: float) -> None:
    request = s.filling[slot]
    s.filling[slot] = -1
    s.first[request] = now
    took = now - s.arrival[request]
    bucket = 0
    while bucket < BUCKETS - 1 and took > s.bounds[bucket]:
        bucket += 1
    s.histogram[slot * BUCKETS + bucket] += 1
    s.latency[slot] += took
    s.prompts[slot] += s.prompt[request]
    if s.output[request] <= 1:
        _complete(s, slot, request, now)
        return
    s.begun[slot] += s.iteration[slot]
    s.inside[slot] += s.prompt[request]
    _push(s, slot, s.iteration[slot] + s.output[request] - 1, request)


@compiled
def _finish(s: State, slot: int) -> None:
    """The run ends: tokens, completions, then the next run or the end of the replica."""
    now = s.event[slot]
    s.start[slot] = now
    s.iteration[slot] += s.count[slot]
    if s.kind[slot] == PREFILLING:
        s.rest[slot] -= s.count[slot] * (CHUNK - s.decoding[slot])
        if s.rest[slot] <= 0:
            _first_token(s, slot, now)
    while s.decoding[slot] > 0 and s.ends[slot * SEQUENCES] <= s.iteration[slot]:
        end = s.ends[slot * SEQUENCES]
        request = _pop(s, slot)
        s.begun[slot] -= end - (s.output[request] - 1)
        s.inside[slot] -= s.prompt[request]
        _complete(s, slot, request, now)
    _plan(s, slot)
    if s.phase[slot] == DRAINING and s.kind[slot] == IDLE:
        close(s, slot, now)


@compiled
def close(s: State, slot: int, now: float) -> None:
    """The replica is gone, and costs nothing from now on."""
    s.phase[slot] = FREE
    s.event[slot] = math.inf
    s.load[slot] = math.inf
    s.sums[SECONDS] += now - s.created[slot]
    s.sums[COST] += (now - s.created[slot]) * s.price[slot]


@compiled
def _send(s: State, request: int, now: float) -> bool:
    """To the replica with the least outstanding work per speed; False if none serves."""
    slot = _first(s.load)
    if s.load[slot] == math.inf:
        return False
    s.owed[slot] += s.prompt[request] + s.output[request]
    s.load[slot] = s.owed[slot] / s.speed[slot]
    s.came[slot] += 1
    s.following[request] = -1
    if s.queued[slot] == 0:
        s.queue_first[slot] = request
    else:
        s.following[s.queue_last[slot]] = request
    s.queue_last[slot] = request
    s.queued[slot] += 1
    if s.kind[slot] == IDLE:
        s.start[slot] = now
        _plan(s, slot)
    elif s.kind[slot] == DECODING and s.queued[slot] == 1 and _fits(s, slot, request):
        made = max(0, math.ceil((now - s.start[slot]) / s.step[slot] - 1e-9))
        if made < s.count[slot]:
            s.count[slot] = made
            s.event[slot] = max(now, s.start[slot] + made * s.step[slot])
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
        slot = _first(s.event)
        now = s.event[slot]
        coming = s.arrival[s.counts[NEXT]] if s.counts[NEXT] < requests else math.inf
        if now > until and coming > until:
            return
        if coming < now:
            if not _send(s, s.counts[NEXT], coming):
                _hold(s, s.counts[NEXT])
            s.counts[NEXT] += 1
        elif s.phase[slot] == LOADING:
            s.phase[slot] = READY
            s.event[slot] = math.inf
            s.start[slot] = now
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
