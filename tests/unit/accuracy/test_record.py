"""The stored reference record: what comes back, how large it is, and that a damaged one is refused in words."""

from __future__ import annotations

import gzip
import json
import math
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accuracy import golden, record
from accuracy.contract import Facts, ItemFacts
from accuracy.record import Record, RecordError, RecordItem
from accuracy.types import Capabilities, Fingerprint, Mode, Position, Token

MIB = 1 << 20


def of(*items: RecordItem, **changes: object) -> Record:
    base = Record(
        model="llm/smol",
        mode=Mode.STEPWISE,
        top_k=5,
        made="2026-11-24T09:00:00Z",
        seed=20261124,
        fingerprint=Fingerprint(profile="nvidia-h100-sxm", extra={"cuda": "13.0"}),
        golden=(("core", "sha256:00"),),
        policy_digest="sha256:01",
        items=items,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


TEXTS = st.text(max_size=4)
IDS = st.none() | st.integers(0, 200_000)
LOGPROBS = st.integers(-99_990_000, 0).map(lambda n: n / 10_000) | st.sampled_from([-math.inf, -9999.0, 0.0005])
TOKENS = st.builds(Token, id=IDS, text=TEXTS, logprob=LOGPROBS)


@st.composite
def items(draw: st.DrawFn, name: str) -> RecordItem:
    positions = []
    for index in sorted(draw(st.sets(st.integers(0, 5), max_size=4))):
        top = tuple(draw(st.lists(TOKENS, max_size=3)))
        own = draw(st.sampled_from(top)) if top and draw(st.booleans()) else draw(TOKENS)
        positions.append(Position(own, top, index))
    known = {p.index: p.token for p in positions}
    length = draw(st.integers(0, 6))
    return RecordItem(
        item=name,
        prompt_ids=tuple(draw(st.lists(st.integers(0, 2**31), max_size=4))),
        prompt_tokens=draw(st.none() | st.integers(0, 10**6)),
        continuation=tuple(known[n].id if n in known and draw(st.booleans()) else draw(IDS) for n in range(length)),
        pieces=tuple(known[n].text if n in known and draw(st.booleans()) else draw(TEXTS) for n in range(length)),
        positions=tuple(positions),
        noise_kl=draw(st.none() | st.floats(0, 10)),
        noise_sq=draw(st.none() | st.floats(0, 10)),
        text=draw(st.text(st.characters(), max_size=5)),
        finish_reason=draw(st.sampled_from(["", "stop", "length"])),
    )


RECORDS = st.integers(0, 3).flatmap(lambda n: st.tuples(*(items(f"i{k}") for k in range(n)))).map(lambda found: of(*found))


@given(RECORDS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_record_comes_back_as_it_was(made: Record) -> None:
    stored = record.encode(made)
    assert record.decode(stored) == made
    assert record.encode(record.decode(stored)) == stored
    chosen = [i.item for i in made.items[1:]]
    assert record.decode(stored, chosen) == replace(made, items=made.items[1:])


def test_everything_small_comes_back_too() -> None:
    item = RecordItem("a", prompt_ids=(1, 2), prompt_tokens=2)
    facts = Facts(
        model="smol",
        listed=("smol", "other"),
        max_model_len=4096,
        sampling={"temperature": 0.0},
        items=(
            ItemFacts("a", "chat", "sha256:1", (1, 2), 2),
            ItemFacts("b", "text", prompt_ids=(7,), must_stop=True, finish_reason="stop"),
        ),
        schema=False,
        bad_parameters={"temperature": 400},
    )
    own = golden.parse("team", '{"id": "a", "text": "日本"}')
    made = of(item, facts=facts, capabilities=Capabilities(top_k=20, notes=("x",), max_model_len=4096), sets=(own,))
    assert record.decode(record.encode(made)) == made


def test_nan_and_infinities_keep_their_meaning() -> None:
    tokens = tuple(Token(n, "x", v) for n, v in enumerate((math.nan, -math.inf, math.inf, 0.0, -9999.0, 0.25)))
    (item,) = record.decode(record.encode(of(RecordItem("a", positions=(Position(tokens[0], tokens, 3),))))).items
    values = [t.logprob for t in item.positions[0].top]
    assert math.isnan(values[0])
    assert values[1:] == [-math.inf, math.inf, 0.0, -9999.0, 0.25]
    assert str(values[3]) == "0.0"


def test_log_probabilities_are_kept_to_half_a_step_and_rounding_is_done_once() -> None:
    made = of(RecordItem("a", positions=(Position(Token(1, "x", -1.23456), (Token(1, "x", -1.23456), Token(2, "y", -2.00004)), 0),)))
    once = record.rounded(made)
    assert once.items[0].positions[0] == Position(Token(1, "x", -1.2346), (Token(1, "x", -1.2346), Token(2, "y", -2.0)), 0)
    assert record.rounded(once) == once


def large(count: int, positions: int, prompt: int) -> Record:
    """Items as a model of 50k tokens gives them: Zipf frequencies, most golden tokens among the alternatives."""
    rng = random.Random(0)

    def one() -> int:
        return int(50_000 ** rng.random()) - 1

    found = []
    for n in range(count):
        scored = []
        for index in range(positions):
            logits = sorted((rng.gauss(0, 2.5) for _ in range(5)), reverse=True)
            rest = math.log(sum(map(math.exp, logits)) + rng.expovariate(2))
            top = tuple(Token(t := one(), f" token{t}", v - rest) for v in logits)
            own = top[0] if rng.random() < 0.7 else Token(t := one(), f" token{t}", top[-1].logprob - rng.expovariate(0.5))
            scored.append(Position(own, top, index))
        ids = tuple(one() for _ in range(prompt))
        found.append(
            RecordItem(
                item=f"chat-{n}",
                prompt_ids=ids,
                prompt_tokens=prompt,
                continuation=tuple(p.token.id for p in scored),
                pieces=tuple(p.token.text for p in scored),
                positions=tuple(scored),
                noise_kl=rng.expovariate(500),
                noise_sq=rng.expovariate(250),
                finish_reason="length",
            )
        )
    return of(*found)


def test_600_items_of_48_positions_with_five_alternatives_fit_into_a_configmap() -> None:
    stored = record.encode(record.reduced(large(600, 48, 170)))
    assert len(stored) < MIB
    assert len(record.decode(stored).items) == 600


def test_reduced_keeps_what_a_stored_record_needs() -> None:
    item = RecordItem(
        "a",
        prompt_ids=tuple(range(1025)),
        positions=(Position(Token(9, "x", -3.0), tuple(Token(n, "y", -1.0 - n) for n in range(20)), 0),),
        text="z" * 1000,
    )
    made = of(item, replace(item, item="b", prompt_ids=(1, 2)), top_k=20)
    small = record.reduced(made)
    assert small.top_k == 5
    assert (small.items[0].prompt_ids, small.items[0].prompt_tokens) == ((), 1025)
    assert small.items[1].prompt_ids == (1, 2)
    assert [t.id for t in small.items[0].positions[0].top] == [0, 1, 2, 3, 4]
    assert small.items[0].positions[0].token == Token(9, "x", -3.0)
    assert len(small.items[0].text) == 400
    assert record.reduced(small) == small


def test_a_capture_is_a_golden_set_by_itself() -> None:
    own = golden.parse("team", '{"id": "own-1", "text": "A prompt of the team"}')
    core = golden.builtin()
    stored = record.encode(of(golden=((own.name, own.digest), (core.name, core.digest)), sets=(own,)))
    found = golden.parse("import", stored)
    assert found.items == (*own.items, *core.items)
    assert not found.builtin
    with pytest.raises(golden.GoldenError, match="neither inside nor built in; capture again"):
        golden.parse("import", record.encode(of(golden=(("gone", "sha256:02"),))))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "ends early"),
        (b"text", "not a whole gzip file"),
        (gzip.compress(b"text"), "this is not a reference record: it begins with b'text'"),
        (gzip.compress(b"polyfleet-record 1\n[]\n"), "damaged"),
        (gzip.compress(b'polyfleet-record 1\n{"columns": []}\n'), "damaged"),
        (gzip.compress(b'polyfleet-record 1\n{"columns": [["a", 99]]}\n'), "column 'a' of 99 bytes does not fit"),
        (b"x" * (16 << 20 | 1), "allowed: at most 16777216"),
    ],
)
def test_what_is_no_record_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(RecordError, match=said):
        record.decode(content)


def test_a_later_version_and_an_unknown_field_are_refused() -> None:
    _, line, body = gzip.decompress(record.encode(of(RecordItem("a")))).split(b"\n", 2)
    head = json.loads(line)
    for changed, said in (
        ({"version": 2}, "version 2, this program reads 1"),
        ({"fingerprint": {"colour": "red"}}, "unknown field 'colour'"),
        ({"topK": "5"}, "topK: '5', must be int"),
        ({"noise": [[float("nan"), None]]}, "noise is nan"),
        ({"items": ["a", "a"]}, "damaged"),
        ({"items": []}, "damaged"),
    ):
        packed = gzip.compress(b"polyfleet-record 1\n" + json.dumps({**head, **changed}).encode() + b"\n" + body)
        with pytest.raises(RecordError, match=said):
            record.decode(packed)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_damaged_record_is_refused_or_still_a_record(data: st.DataObject) -> None:
    plain = bytearray(gzip.decompress(record.encode(large(2, 3, 4))))
    for _ in range(data.draw(st.integers(1, 3))):
        plain[data.draw(st.integers(0, len(plain) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert len(record.decode(gzip.compress(bytes(plain), 1)).items) == 2
    except RecordError as error:
        assert "capture" in str(error)  # noqa: PT017  (either way is right: what matters is that nothing else comes out)


def test_numbers_that_cannot_be_stored_are_refused() -> None:
    for item in (RecordItem("a", prompt_ids=(-1,)), RecordItem("a", noise_kl=math.nan), RecordItem("a", prompt_tokens=2**32)):
        with pytest.raises(RecordError, match="cannot be stored"):
            record.encode(of(item))


@pytest.mark.parametrize(
    ("made", "now", "stale"),
    [
        ("2026-11-24T09:00:00Z", "2026-11-24T10:00:00Z", False),
        ("2026-11-24T09:00:00Z", "2026-11-24T10:00:01Z", True),
        ("2026-11-24T09:00:00+01:00", "2026-11-24T09:00:00Z", False),  # 08:00Z
        ("2026-11-24T09:04:59Z", "2026-11-24T09:00:00Z", False),  # two clocks differ
        ("2026-11-24T09:05:01Z", "2026-11-24T09:00:00Z", True),  # a clock jumped
        ("", "2026-11-24T09:00:00Z", True),
        ("2026-11-24T09:00:00Z", "yesterday", True),
    ],
)
def test_age_is_judged_only_where_it_is_known(made: str, now: str, stale: bool) -> None:
    assert record.stale(of(made=made), 3600, now) is stale


def test_digest_names_the_bytes() -> None:
    assert record.digest(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
