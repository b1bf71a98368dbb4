"""A whole golden set from bytes: encoding, size, count, duplicates; its digest, and which of its items a deployment can take. Pure."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from typing import Any

from accuracy.golden.items import GoldenError, dump, plain, read, shown
from accuracy.types import GoldenSet, Item

MOST_BYTES = 32 << 20  # of a set, unpacked: ten thousand prompts of 3 KiB
MOST_ITEMS = 10_000
CAPTURE = b"polyfleet-record 1\n"  # how an unpacked capture begins (`accuracy.record`)
_GZIP = b"\x1f\x8b"
_NEXT = "save it as UTF-8 JSON Lines, one item a line"
_CAPTURE_AGAIN = "capture again with `polyfleet accuracy capture`"
_TEMPLATE_TOKENS = 32  # some templates add a system message of their own
_IMAGE_TOKENS = 1024  # guessed for one picture, on the high side


def parse(name: str, content: bytes | str) -> GoldenSet:
    """The set in `content`; `name` is what reports call it. Raises GoldenError."""
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    data = unpack(data, name) if data.startswith(_GZIP) else data
    if len(data) > MOST_BYTES:
        raise GoldenError(f"golden set {name}: {len(data)} bytes; allowed: at most {MOST_BYTES}; split it or leave long prompts out")
    if data.startswith(CAPTURE):
        return _captured(name, data)
    try:
        text = data.decode("utf-8-sig")  # some editors put the mark in front
    except UnicodeDecodeError as error:
        raise GoldenError(f"golden set {name}: byte {error.start} is not UTF-8; {_NEXT}") from None
    return _set(name, _values(name, text))


def digest(items: Sequence[Item]) -> str:
    """Names the content: "sha256:" and 64 hex digits, over `dump`. Order counts, spelling of keys and blank lines do not."""
    return "sha256:" + hashlib.sha256(dump(items).encode()).hexdigest()


def combine(sets: Sequence[GoldenSet]) -> tuple[Item, ...]:
    """All items in order of the sets. The same set given twice counts once; an id with two contents is refused."""
    seen: dict[str, tuple[str, Item]] = {}
    for golden in sets:
        for item in golden.items:
            first = seen.setdefault(item.id, (golden.name, item))
            if first[1] != item:
                raise GoldenError(
                    f"item {item.id} stands in golden sets {first[0]} and {golden.name} with two contents; rename one of them"
                )
    if not seen:
        raise GoldenError("no golden set has any item; name at least one set, for example the built-in core")
    return tuple(item for _, item in seen.values())


def estimate_tokens(item: Item) -> int:
    """About how many tokens the prompt has, without a tokenizer: 4 letters a token, a token per digit or sign, 2 per other character.

    Meant to be a little high. The engine's own count wins wherever it is known.
    """
    total = 2 + _estimate(item.text) + (_TEMPLATE_TOKENS if item.messages else 0)
    for message in item.messages:
        content = message["content"]
        parts = content if isinstance(content, list | tuple) else ({"type": "text", "text": content},)
        total += 5 + sum(_estimate(p["text"]) if p["type"] == "text" else _IMAGE_TOKENS for p in parts)
    if item.tools:
        total += 2 * _estimate(json.dumps([dict(t) for t in item.tools], ensure_ascii=False)) // 3  # signs of JSON share tokens
    return total


def fits(item: Item, context_tokens: int | None, count: int | None = None, reserve: int = 48) -> bool:
    """Whether prompt and `reserve` tokens of continuation fit into the deployment's context.

    `count`: the prompt's tokens as the engine counted them; None = estimated. A context that is not known takes all: the engine says.
    """
    if context_tokens is None:
        return True
    return (estimate_tokens(item) if count is None else count) + reserve <= context_tokens


def unpack(data: bytes, name: str) -> bytes:
    """Gunzip within the bound: a few kilobytes can unpack to gigabytes."""
    machine = zlib.decompressobj(wbits=31)
    try:
        out = machine.decompress(data, MOST_BYTES + 1)
    except zlib.error as error:
        raise GoldenError(f"golden set {name}: not a whole gzip file ({error}); pack it again") from None
    if len(out) > MOST_BYTES:
        raise GoldenError(f"golden set {name}: more than {MOST_BYTES} bytes when unpacked; split it or leave long prompts out")
    if not machine.eof:
        raise GoldenError(f"golden set {name}: the gzip file ends early; copy it again")
    return out


def loads(text: str, at: str) -> Any:
    """JSON without what JSON does not have (NaN), and without a key that stands twice, of which one would be lost."""
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise GoldenError(f"{at}: not JSON: {str(error)[:160]}; {_NEXT}") from None


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no JSON number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        keys = [k for k, _ in pairs]
        raise ValueError(f"key {next(k for k in keys if keys.count(k) > 1)!r} stands twice in one object")
    return out


def _values(name: str, text: str) -> list[tuple[str, Any]]:
    at = f"golden set {name}"
    if text.lstrip()[:1] == "[":
        return [(f"{at}, item {n}", v) for n, v in enumerate(loads(text, at), 1)]
    # Not splitlines: it also splits at characters that JSON strings may hold (U+2028, U+0085).
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > MOST_ITEMS:
        raise GoldenError(f"{at}: {len(lines)} items; allowed: at most {MOST_ITEMS}; split it")
    return [(f"{at}, line {n}", loads(line, f"{at}, line {n}")) for n, line in lines]


def _set(name: str, values: Sequence[tuple[str, Any]]) -> GoldenSet:
    at = f"golden set {name}"
    if not values:
        raise GoldenError(f"{at}: holds no item; allowed: 1 to {MOST_ITEMS}; {_NEXT}")
    if len(values) > MOST_ITEMS:
        raise GoldenError(f"{at}: {len(values)} items; allowed: at most {MOST_ITEMS}; split it")
    items = tuple(read(value, where) for where, value in values)
    ids: dict[str, str] = {}
    prompts: dict[str, str] = {}
    for (where, _), item in zip(values, items, strict=True):
        if item.id in ids:
            raise GoldenError(f"{where}: id {item.id} stands already in {ids[item.id]}; give each item its own")
        ids[item.id] = where.removeprefix(f"{at}, ")
        # A repeated prompt is one sample: counted twice it would certify a rate that was not measured.
        asked = json.dumps({k: v for k, v in plain(item).items() if k in ("messages", "text", "tools", "schema")}, sort_keys=True)
        if asked in prompts:
            raise GoldenError(f"{where}: item {item.id} asks the same as item {prompts[asked]}; remove one of them")
        prompts[asked] = item.id
    return GoldenSet(name=name, digest=digest(items), items=items)


def _captured(name: str, data: bytes) -> GoldenSet:
    """The prompts inside an exported capture: those of its own sets, and the built-in ones that it names by digest."""
    from accuracy.golden.builtin import by_digest  # it reads its file through this module

    header = loads(data[len(CAPTURE) :].split(b"\n", 1)[0].decode("utf-8", "replace"), f"golden set {name}, a capture")
    sets, named = (header.get("sets"), header.get("golden")) if isinstance(header, dict) else (None, None)
    if not isinstance(sets, list) or not isinstance(named, list):
        raise GoldenError(f"golden set {name}: the capture names no golden set; {_CAPTURE_AGAIN}")
    found: list[GoldenSet] = []
    for stored in sets:
        if not isinstance(stored, dict) or not isinstance(stored.get("items"), list):
            raise GoldenError(f"golden set {name}: the capture holds {shown(stored)} as a golden set; {_CAPTURE_AGAIN}")
        found.append(_set(str(stored.get("name")), [(f"golden set {name}, item {n}", v) for n, v in enumerate(stored["items"], 1)]))
    for pair in named:
        wanted = str(pair[1]) if isinstance(pair, list) and len(pair) == 2 else ""
        known = by_digest(wanted)
        if known is not None:
            found.append(known)
        elif all(s.digest != wanted for s in found):
            raise GoldenError(f"golden set {name}: the capture's set {shown(pair)} is neither inside nor built in; {_CAPTURE_AGAIN}")
    items = combine(found)
    return GoldenSet(name=name, digest=digest(items), items=items, builtin=all(s.builtin for s in found))


def _estimate(text: str) -> int:
    letters = sum(c.isascii() and (c.isalpha() or c == " ") for c in text)
    ascii_others = sum(c.isascii() for c in text) - letters
    others = len(text) - letters - ascii_others
    return -(-letters // 4) + ascii_others + 2 * others
