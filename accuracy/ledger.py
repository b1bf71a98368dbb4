"""Where the tests of a run stand after some of its prompts, and how that is written down: whole numbers only, so nothing is lost."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from accuracy.evidence import Logs
from accuracy.layout import RULES, DecisionError, OtherRulesError, Tests

VERSION = 1
FINE = 1 << 30  # steps of a distance per nat
COARSE = 1 << 20  # steps of a mean in [0, 1]
FARTHEST = 1000.0  # nats; a distance beyond counts as this in sums that people read
_MOST = 1 << 200  # bits of a number that are read


class Tally(NamedTuple):
    """One test. Sums over the prompts that told a number."""

    prompts: int  # that told one
    unknown: int  # that should have: as bad as can be for promotion, nothing for Block
    total: int  # of x, in 1/COARSE
    squares: int  # of x^2, in 1/COARSE
    far: int  # of the distance, in 1/FINE
    allowed: int  # of what it may be, in 1/FINE
    passed: bool  # evidence for promotion was reached, at a moment at which it may be read
    promote: Logs
    block: Logs


class Certified(NamedTuple):
    """Prompts and bad ones among them, when the rate was read."""

    prompts: int
    bad: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything that a run carries from one prompt to the next.

    `round`: a bit for each stratum that had its turn in the round that is not over. `blocked`: place of the test that first spoke for
    Block, -1 = none. `hard`: code and item of the hard fault. `noise`: sums of (kl distance, kl noise, sq distance, sq noise), in 1/FINE.
    `read`, `best`: the rate of bad prompts as last read, and as it certified most.
    """

    identity: str
    prompts: int
    tallies: tuple[Tally, ...]
    round: int
    blocked: int
    hard: tuple[str, str]
    noise: tuple[int, int, int, int]
    read: Certified
    best: Certified


def fresh(tests: Tests) -> Ledger:
    tallies = tuple(Tally(0, 0, 0, 0, 0, 0, False, spec.promote.start(), spec.block.start()) for spec in tests.specs)
    return Ledger(tests.identity, 0, tallies, 0, -1, ("", ""), (0, 0, 0, 0), Certified(0, 0), Certified(0, 0))


def fine(value: float) -> int:
    return round(max(-FARTHEST, min(FARTHEST, value)) * FINE)


def dumps(ledger: Ledger) -> str:
    """JSON on one line; about 75 characters per test."""
    numbers = bytearray()
    for value in _numbers(ledger):
        _put(numbers, value)
    body = bytes(numbers)
    raw = {
        "v": VERSION,
        "rules": RULES,
        "tests": ledger.identity,
        "prompts": ledger.prompts,
        "hard": list(ledger.hard),
        "sum": hashlib.sha256(body).hexdigest()[:16],
        "state": base64.b85encode(body).decode(),
    }
    return json.dumps(raw, separators=(",", ":"))


def loads(tests: Tests, text: str) -> Ledger:
    """Raises DecisionError for anything but a state of these very tests; OtherRulesError where only the rules were others."""
    try:
        raw = json.loads(text)
        if not isinstance(raw, dict) or raw.get("v") != VERSION:
            raise DecisionError("the stored state is none, or was written by another version; start anew")
        if raw.get("rules") != RULES:
            raise OtherRulesError("the stored state was judged by the rules of another version of polyfleet; start anew")
        if raw.get("tests") != tests.identity:
            raise DecisionError("the stored state belongs to other tests: the policy, the strata, conditions or replicas have changed")
        body = base64.b85decode(raw["state"])
        if hashlib.sha256(body).hexdigest()[:16] != raw["sum"]:
            raise DecisionError("the stored state is damaged")
        code, item = raw["hard"]
        if not isinstance(code, str) or not isinstance(item, str) or not isinstance(raw["prompts"], int):
            raise DecisionError("the stored state is damaged")
        numbers = _read(body)
        tallies = tuple(_tally(numbers, len(spec.promote.lambdas), len(spec.block.lambdas)) for spec in tests.specs)
        rest = [next(numbers) for _ in range(10)]
        if next(numbers, None) is not None:
            raise DecisionError("the stored state is damaged: it has more than these tests")
    except DecisionError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration, RuntimeError, binascii.Error) as error:
        raise DecisionError(f"the stored state cannot be read ({type(error).__name__}); start anew") from None
    ledger = Ledger(
        identity=tests.identity,
        prompts=raw["prompts"],
        tallies=tallies,
        round=rest[0],
        blocked=rest[1],
        hard=(code, item),
        noise=(rest[2], rest[3], rest[4], rest[5]),
        read=Certified(rest[6], rest[7]),
        best=Certified(rest[8], rest[9]),
    )
    if not _plausible(tests, ledger):
        raise DecisionError("the stored state is damaged: its counts do not fit together")
    return ledger


def _plausible(tests: Tests, ledger: Ledger) -> bool:
    def count(value: int, most: int) -> bool:
        return 0 <= value <= most

    return (
        ledger.prompts >= 0
        and count(ledger.round, (1 << len(tests.strata)) - 1)
        and -1 <= ledger.blocked < len(tests.specs)
        and all(count(c.prompts, ledger.prompts) and count(c.bad, c.prompts) for c in (ledger.read, ledger.best))
        and all(
            count(t.prompts + t.unknown, ledger.prompts)
            and min(t.prompts, t.unknown) >= 0
            and count(t.squares, t.prompts * COARSE)
            and count(t.total, t.prompts * COARSE)
            for t in ledger.tallies
        )
    )


def _numbers(ledger: Ledger) -> Iterator[int]:
    for tally in ledger.tallies:
        yield from (tally.prompts, tally.unknown, tally.total, tally.squares, tally.far, tally.allowed, int(tally.passed))
        yield from tally.promote
        yield from tally.block
    yield from (ledger.round, ledger.blocked, *ledger.noise, *ledger.read, *ledger.best)


def _tally(numbers: Iterator[int], promote: int, block: int) -> Tally:
    head = [next(numbers) for _ in range(6)]
    passed = next(numbers)
    if passed not in (0, 1):
        raise DecisionError("the stored state is damaged")
    return Tally(
        head[0], head[1], head[2], head[3], head[4], head[5], passed == 1,
        tuple([next(numbers) for _ in range(promote)]), tuple([next(numbers) for _ in range(block)]),
    )  # fmt: skip


def _put(out: bytearray, value: int) -> None:
    """Seven bits a byte, small magnitudes first, the sign in the lowest bit."""
    rest = value << 1 if value >= 0 else (-value << 1) - 1
    while rest > 0x7F:
        out.append((rest & 0x7F) | 0x80)
        rest >>= 7
    out.append(rest)


def _read(body: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in body:
        value |= (byte & 0x7F) << shift
        if value > _MOST:
            raise ValueError("a number is too long")
        shift += 7
        if byte < 0x80:
            yield value >> 1 if not value & 1 else -((value + 1) >> 1)
            value = shift = 0
    if shift:
        raise ValueError("the last number is cut")
