"""The reference record: what the reference said to each item, kept so that it need not be asked again. Pure.

Stored form: gzip of one line `polyfleet-record 1`, one line of JSON with everything small, and columns of numbers (`accuracy.columns`).
Decimal digits would not fit: 600 items of 48 positions with five alternatives are 170,000 log-probabilities, and a ConfigMap holds 1 MiB.
Log-probabilities are stored in steps of 1e-4 nats, a fifth of the smallest floor of the gate, which averages out over a prompt;
`rounded` gives what will be read back, so that a live record decides as its stored form does.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from accuracy import columns, record_head
from accuracy.contract import Facts
from accuracy.golden.sets import CAPTURE, MOST_BYTES, unpack
from accuracy.types import Capabilities, Fingerprint, GoldenSet, Mode, Position

STEP = columns.STEP  # nats
MOST_STORED = 16 << 20  # bytes, packed
LONGEST_IDS = 1024  # prompt ids that `reduced` keeps of one item
LONGEST_TEXT = 400  # letters of the answer that `reduced` keeps
T = TypeVar("T")
_SKEW_S = 300.0  # a record may be this much younger than now: two clocks differ


class RecordError(ValueError):
    """A record cannot be read; the message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class RecordItem:
    """The reference's answer to one item.

    `continuation` and `pieces` say the same golden tokens, as ids and as strings; an id is None where only the string was told.
    `positions` are the scored ones, each with its index in the continuation. Noise: mean over them, nats per token and nats squared, of
    the reference against its own replicate; None = not measured (KL: or k = 1).
    """

    item: str  # its id
    prompt_ids: tuple[int, ...] = ()  # () = not told, or too long to be kept
    prompt_tokens: int | None = None
    continuation: tuple[int | None, ...] = ()
    pieces: tuple[str, ...] = ()
    positions: tuple[Position, ...] = ()
    noise_kl: float | None = None
    noise_sq: float | None = None
    text: str = ""
    finish_reason: str = ""
    good: bool | None = None  # whether it does the item's task well; None = the item has none, or it was not asked


@dataclass(frozen=True, slots=True)
class Record:
    """What one model said on one reference fingerprint, to the items of the golden sets named by digest."""

    model: str
    mode: Mode
    top_k: int
    made: str  # RFC 3339
    seed: int
    fingerprint: Fingerprint
    golden: tuple[tuple[str, str], ...]  # (name, digest)
    policy_digest: str
    items: tuple[RecordItem, ...]
    facts: Facts | None = None
    capabilities: Capabilities = Capabilities()  # noqa: RUF009 (frozen)
    sets: tuple[GoldenSet, ...] = ()  # in an exported capture: the user's own golden sets, so that it stands by itself


def encode(record: Record) -> bytes:
    """The stored form; equal records give equal bytes. Raises RecordError for numbers that it cannot hold."""
    try:
        out = _write(record)
        head = {**record_head.write(record), "columns": out.sizes}
        line = json.dumps(head, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (OverflowError, ValueError) as error:
        raise RecordError(f"the record of {record.model} cannot be stored: {error}; capture again") from None
    buffer = io.BytesIO()
    # No name and no time in the gzip header: the digest names the content alone.
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=9, mtime=0) as packed:
        packed.write(CAPTURE + line.encode() + b"\n" + out.joined())
    return buffer.getvalue()


def decode(content: bytes, only: Collection[str] | None = None) -> Record:
    """The record in `content`, or of it the items named by `only` (a few of them take little memory).

    Raises RecordError: not a record, cut short, too large, of another version, or inconsistent.
    """
    if len(content) > MOST_STORED:
        raise RecordError(f"the record has {len(content)} bytes; allowed: at most {MOST_STORED}; capture fewer items")
    try:
        data = unpack(content, "record")
    except ValueError as error:
        raise RecordError(f"{error} (at most {MOST_BYTES} bytes unpacked); capture again") from None
    if not data.startswith(CAPTURE):
        raise RecordError(f"this is not a reference record: it begins with {data[:24]!r}; give a file of `polyfleet accuracy capture`")
    line, _, body = data[len(CAPTURE) :].partition(b"\n")
    try:
        head = json.loads(line)
        return _read(head, columns.Reader(body, head["columns"]), only)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise RecordError(f"the record is damaged ({type(error).__name__}: {str(error)[:160]}); capture again") from None


def rounded(record: Record) -> Record:
    """The record as its stored form gives it back: log-probabilities in steps of `STEP`. Rounding twice changes nothing."""
    return decode(encode(record))


def reduced(record: Record, top_k: int = 5) -> Record:
    """The record with at most `top_k` alternatives, short texts, and without the ids of prompts of more than `LONGEST_IDS` tokens,
    whose count is kept. What the operator stores."""
    items = tuple(
        replace(
            item,
            prompt_ids=item.prompt_ids if len(item.prompt_ids) <= LONGEST_IDS else (),
            prompt_tokens=item.prompt_tokens if item.prompt_tokens is not None or not item.prompt_ids else len(item.prompt_ids),
            positions=tuple(replace(p, top=p.top[:top_k]) for p in item.positions),
            text=item.text[:LONGEST_TEXT],
        )
        for item in record.items
    )
    return replace(record, top_k=min(record.top_k, top_k), items=items, facts=_short(record.facts))


def digest(content: bytes) -> str:
    """Names a stored record: "sha256:" and 64 hex digits."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def stale(record: Record, max_age_s: float, now: str) -> bool:
    """Whether the record is older than `max_age_s` seconds at `now` (RFC 3339).

    One without a readable date, or from the future by more than five minutes, has no known age, and that is stale too.
    """
    made, here = _time(record.made), _time(now)
    if made is None or here is None:
        return True
    age = (here - made).total_seconds()
    return age > max_age_s or age < -_SKEW_S


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _short(facts: Facts | None) -> Facts | None:
    if facts is None:
        return None
    return replace(facts, items=tuple(replace(i, prompt_ids=()) if len(i.prompt_ids) > LONGEST_IDS else i for i in facts.items))


def _write(record: Record) -> columns.Writer:
    items = record.items
    out = columns.Writer()
    out.numbers("prompts", [len(i.prompt_ids) for i in items])
    out.numbers("prompt_ids", [n for i in items for n in i.prompt_ids])
    out.optional("prompt_tokens", [i.prompt_tokens for i in items])
    out.numbers("positions", [len(i.positions) for i in items])
    out.numbers("index", [p.index for i in items for p in i.positions])
    out.numbers("tops", [len(p.top) for i in items for p in i.positions])
    out.tokens("top", [t for i in items for p in i.positions for t in p.top])
    # The golden token is mostly one of its alternatives: then only its place among them is stored, else 0 and the token.
    out.numbers("golden", [_place(p) for i in items for p in i.positions])
    out.tokens("token", [p.token for i in items for p in i.positions if not _place(p)])
    # Likewise the continuation at scored positions.
    out.numbers("continuations", [len(i.continuation) for i in items])
    out.numbers("ids_known", [int((at, n) in known) for i in items for known in [_ids(i)] for at, n in enumerate(i.continuation)])
    out.optional("ids", [n for i in items for known in [_ids(i)] for at, n in enumerate(i.continuation) if (at, n) not in known])
    out.numbers("pieces", [len(i.pieces) for i in items])
    out.numbers("pieces_known", [int((at, s) in known) for i in items for known in [_texts(i)] for at, s in enumerate(i.pieces)])
    out.strings("piece", [s for i in items for known in [_texts(i)] for at, s in enumerate(i.pieces) if (at, s) not in known])
    out.strings("text", [i.text for i in items])
    out.strings("finish", [i.finish_reason for i in items])
    facts = record.facts.items if record.facts else ()
    own = {i.item: i.prompt_ids for i in items}
    same = [int(own.get(i.item) == i.prompt_ids) for i in facts]
    out.numbers("rendered_same", same)
    different = [i for i, known in zip(facts, same, strict=True) if not known]
    out.numbers("rendered", [len(i.prompt_ids) for i in different])
    out.numbers("rendered_ids", [n for i in different for n in i.prompt_ids])
    return out


def _read(head: dict[str, Any], body: columns.Reader, only: Collection[str] | None) -> Record:
    names, noise, good = head["items"], head["noise"], head.get("good") or [None] * len(head["items"])
    count = len(names)
    if len(good) != count or any(value not in (None, True, False) for value in good):
        raise ValueError(f"{len(good)} judged answers for {count} items")
    prompts = columns.cut(body.numbers("prompt_ids"), body.numbers("prompts"), count)
    prompt_tokens = body.optional("prompt_tokens")
    texts, finishes = body.strings("text"), body.strings("finish")
    positions = _positions(body, [only is None or name in only for name in names])
    ids = _filled(body.numbers("continuations"), body.numbers("ids_known"), body.optional("ids"), count)
    pieces = _filled(body.numbers("pieces"), body.numbers("pieces_known"), body.strings("piece"), count)
    items: list[RecordItem] = []
    for n, name in enumerate(names):
        if only is not None and name not in only:
            continue
        at = {p.index: p.token for p in positions[n]}
        items.append(
            RecordItem(
                item=name,
                prompt_ids=tuple(prompts[n]),
                prompt_tokens=prompt_tokens[n],
                continuation=tuple(v[0] if v else at[i].id for i, v in enumerate(ids[n])),
                pieces=tuple(v[0] if v else at[i].text for i, v in enumerate(pieces[n])),
                positions=positions[n],
                noise_kl=_number(noise[n][0]),
                noise_sq=_number(noise[n][1]),
                text=texts[n],
                finish_reason=finishes[n],
                good=good[n],
            )
        )
    stored = iter(columns.cut(body.numbers("rendered_ids"), body.numbers("rendered"), None))
    facts = head["facts"]["items"] if head["facts"] and "items" in head["facts"] else []
    own = dict(zip(names, prompts, strict=True))
    rendered = [own[f["item"]] if same else next(stored) for f, same in zip(facts, body.numbers("rendered_same"), strict=True)]
    return Record(items=tuple(items), **record_head.read(head, rendered))


def _positions(body: columns.Reader, wanted: Sequence[bool]) -> list[tuple[Position, ...]]:
    tops, golden = body.tokens("top"), body.tokens("token")
    index, places, widths = body.numbers("index"), body.numbers("golden"), body.numbers("tops")
    if not len(index) == len(places) == len(widths) or sum(widths) != len(tops) or places.count(0) != len(golden):
        raise ValueError("the columns of positions do not fit together")
    out: list[tuple[Position, ...]] = []
    row = top = alone = 0
    for length, want in zip(body.numbers("positions"), wanted, strict=True):
        scored: list[Position] = []
        for width, place, at in zip(widths[row : row + length], places[row : row + length], index[row : row + length], strict=True):
            if want:
                alternatives = tops.between(top, top + width)
                token = alternatives[place - 1] if place else golden.between(alone, alone + 1)[0]
                scored.append(Position(token=token, top=tuple(alternatives), index=at))
            top, alone = top + width, alone + (not place)
        row += length
        out.append(tuple(scored))
    if row != len(index):
        raise ValueError(f"{len(index)} positions, {row} of them belong to items")
    return out


def _filled(lengths: Sequence[int], known: Sequence[int], values: Sequence[T], count: int) -> list[Sequence[tuple[T] | None]]:
    """A row per item: None where the scored position says it, else the value, alone in a tuple because it may be None itself."""
    left = iter(values)
    if known.count(0) != len(values):
        raise ValueError(f"{len(values)} values for {known.count(0)} places")
    return columns.cut([None if k else (next(left),) for k in known], lengths, count)


def _place(position: Position) -> int:
    """1 + the place of the golden token among its alternatives, as it will be read back; 0 = not among them."""
    token, code = position.token, columns.coded(position.token.logprob)
    for place, other in enumerate(position.top, 1):
        if (other.id, other.text) == (token.id, token.text) and columns.coded(other.logprob) == code:
            return place
    return 0


def _ids(item: RecordItem) -> set[tuple[int, int | None]]:
    return {(p.index, p.token.id) for p in _last(item)}


def _texts(item: RecordItem) -> set[tuple[int, str]]:
    return {(p.index, p.token.text) for p in _last(item)}


def _last(item: RecordItem) -> Iterable[Position]:
    """One position per index, the last where two have the same: as a reader finds them."""
    return {p.index: p for p in item.positions}.values()


def _number(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"noise is {value!r}")
    return float(value)
