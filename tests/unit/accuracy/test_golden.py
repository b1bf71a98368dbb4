"""The golden set's format and bounds, and the built-in set against what the design asks of it."""

from __future__ import annotations

import gzip
import json
import unicodedata
import zlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accuracy import golden
from accuracy.golden import GoldenError
from accuracy.golden import sets as golden_sets
from accuracy.policy import STRATA
from accuracy.types import Item
from tools import make_golden

CORE = golden.builtin("core")


def line(**fields: object) -> str:
    return json.dumps({"id": "a", "text": "Some text", **fields})


def test_core_has_enough_items_in_every_stratum() -> None:
    counts = Counter(i.stratum for i in CORE.items)
    assert set(counts) == set(STRATA)
    assert len(CORE.items) >= 700
    # Tokens needs up to 69 prompts of a stratum (ratio 1.6, alpha 0.01).
    assert min(counts.values()) >= 70
    assert CORE.builtin


def test_core_is_what_its_generator_makes_and_fits_its_budget() -> None:
    made = make_golden.generate()
    assert list(made) == [make_golden.TARGET]
    stored = Path(make_golden.TARGET).read_bytes()
    assert stored == made[make_golden.TARGET].encode()
    assert len(stored) <= 1_500_000


def test_core_parses_as_a_users_set_with_the_same_digest() -> None:
    again = golden.parse("copy", golden.dump(CORE.items))
    assert again.items == CORE.items
    assert again.digest == CORE.digest == golden.digest(CORE.items)
    assert not again.builtin  # its texts are not known to be ours


def test_core_prompts_are_distinct_and_mostly_short() -> None:
    asked = [golden.dump([i]).split(",", 1)[1] for i in CORE.items]
    assert len(set(asked)) == len(asked)
    # The estimate is high: a vocabulary of 49k ids finds 658 of at most 256 tokens.
    assert sum(golden.estimate_tokens(i) <= 256 for i in CORE.items) >= 590
    longest = max(golden.estimate_tokens(i) for i in CORE.items)
    assert 32_000 <= longest <= 48_000


@pytest.mark.parametrize("script", ["CJK", "HIRAGANA", "HANGUL", "CYRILLIC", "ARABIC", "DEVANAGARI", "GREEK", "HEBREW", "THAI"])
def test_core_has_other_scripts(script: str) -> None:
    words = "".join(i.text or str(i.messages[-1]["content"]) for i in CORE.items if i.stratum == "OtherScripts")
    assert any(unicodedata.name(c, "").startswith(script) for c in words)


def test_core_strata_are_what_their_names_say() -> None:
    by = {s: [i for i in CORE.items if i.stratum == s] for s in STRATA}
    assert Counter(len(i.text.split()) for i in by["UltraShort"]) == dict.fromkeys(range(1, 9), 10)
    assert all(i.tools or i.schema for i in by["Tools"])
    assert {i.expect_tool == "" for i in by["Tools"] if i.tools} == {True, False}
    assert sum(i.schema is not None for i in by["Tools"]) == 20
    prefixes = Counter(str(i.messages[0]["content"]) for i in by["SharedPrefix"])
    assert set(prefixes.values()) == {5}
    # Each word of these texts and each full stop is about one token: lengths run over both edges, a token at a time.
    lengths = {len(i.text.replace(".", " .").split()) for i in by["BlockEdges"]}
    assert {n for edge in (16, 32, 64, 128) for n in range(edge - 6, edge + 4)} <= lengths
    assert sum(i.must_stop and bool(i.answer) for i in by["Chat"]) == 20
    assert sum(bool(i.continuation) for i in CORE.items) >= 200
    assert all(len(i.continuation) >= 60 for i in CORE.items if i.continuation)


def test_builtin_names_what_exists() -> None:
    with pytest.raises(GoldenError, match="allowed: core"):
        golden.builtin("cores")


def test_forms_of_a_set_mean_the_same() -> None:
    one, two = {"id": "a", "text": "x"}, {"id": "b", "messages": [{"role": "user", "content": "é"}], "mustStop": True}
    lines = golden.parse("s", json.dumps(one) + "\n\n" + json.dumps(two) + "\r\n")
    for content in (
        json.dumps([one, two]),
        json.dumps([one, two]).encode(),
        b"\xef\xbb\xbf" + json.dumps([one, two], ensure_ascii=False).encode(),
        gzip.compress(json.dumps([one, two]).encode()),
        json.dumps([one, {"must_stop": True, **{k: v for k, v in two.items() if k != "mustStop"}}]),
    ):
        assert golden.parse("s", content) == lines
    assert [i.stratum for i in lines.items] == ["Chat", "Chat"]
    assert lines.items[1].must_stop


def test_a_line_separator_inside_a_string_does_not_end_the_line() -> None:
    text = json.dumps({"id": "a", "text": "one\u2028two\u0085three"}, ensure_ascii=False)
    assert golden.parse("s", text).items[0].text == "one\u2028two\u0085three"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no item; allowed: 1 to 10000"),
        (b"\n \n", "holds no item"),
        ("[]", "holds no item"),
        (line() + "\n" + line(text="other"), "line 2: id a stands already in line 1"),
        (line() + "\n" + line(id="b"), "item b asks the same as item a"),
        ("é".encode("latin-1"), "byte 0 is not UTF-8"),
        (line().encode("utf-16"), "byte 0 is not UTF-8"),
        (line(prompt="x"), "unknown key 'prompt'; allowed: id, stratum"),
        (line(messages=[{"role": "user", "content": "x"}]), "has both messages and text"),
        ('{"id": "a"}', "has neither messages nor text"),
        ('{"id": "", "text": "x"}', "id is ''"),
        ('{"text": "x"}', "id is absent"),
        (line(id="a b"), "id is 'a b'"),
        (line(mustStop="yes"), "mustStop is 'yes'; allowed: true, false"),
        (line(must_stop=True, mustStop=True), "both spellings"),
        (line(modality="Smell"), "allowed: Text, Image, Audio, Video"),
        (line(modality="Image"), "no message has parts"),
        (line(stratum="a stratum"), "stratum is 'a stratum'"),
        (line(schema="{}"), "allowed: a JSON schema as an object"),
        (line(tools=[{"type": "function", "function": {"name": "f"}}]), "tools need messages"),
        ('{"id": "a", "text": NaN}', "NaN is no JSON number"),
        ('{"id": "a", "text": "x", "text": "y"}', "key 'text' stands twice"),
        ('{"id": "a", "text": "\\ud800"}', "half a character"),
        ('{"id": "a", "text": "x"', "line 1: not JSON"),
        ("[" * 100_000, "not JSON"),
        ('"just a string"', "an item is a JSON object"),
        ('{"id": "a", "messages": [{"role": "robot", "content": "x"}]}', r"messages\[0\]"),
        ('{"id": "a", "messages": [{"role": "user", "content": 7}]}', "content is 7"),
        ('{"id": "a", "messages": [{"role": "user", "content": "x", "temperature": 1}]}', "unknown key 'temperature'"),
        ('{"id": "a", "messages": [{"role": "user", "content": "x"}], "expectTool": "f"}', "expectTool is 'f'; allowed: one of its tools"),
        (line(text="x" * (1 << 20 | 1)), "has 1048577 characters"),
        (gzip.compress(line().encode())[:-9], "ends early"),
        (b"\x1f\x8bnot gzip", "not a whole gzip file"),
        ("\n".join(line(id=f"i{n}", text=str(n)) for n in range(10_001)), "10001 items; allowed: at most 10000"),
    ],
)
def test_bad_sets_say_what_and_where(content: str | bytes, said: str) -> None:
    with pytest.raises(GoldenError, match=said):
        golden.parse("s", content)


def test_a_bomb_is_not_unpacked() -> None:
    machine = zlib.compressobj(9, wbits=31)
    bomb = b"".join(machine.compress(b" " * (1 << 20)) for _ in range(64)) + machine.flush()
    assert len(bomb) < 100_000
    with pytest.raises(GoldenError, match="more than 33554432 bytes when unpacked"):
        golden.parse("s", bomb)


def test_an_image_must_be_inside_the_set() -> None:
    def item(url: str) -> str:
        parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
        return json.dumps({"id": "a", "modality": "Image", "messages": [{"role": "user", "content": parts}]})

    assert golden.parse("s", item("data:image/png;base64,AAAA")).items[0].modality == "Image"
    with pytest.raises(GoldenError, match="allowed: a data: URL"):
        golden.parse("s", item("http://example.com/a.png"))


def test_combine_counts_a_set_once_and_refuses_two_contents() -> None:
    one, other = golden.parse("one", line()), golden.parse("other", line(text="else"))
    assert golden.combine([one, one]) == one.items
    with pytest.raises(GoldenError, match="item a stands in golden sets one and other"):
        golden.combine([one, other])
    with pytest.raises(GoldenError, match="no golden set has any item"):
        golden.combine([])


def test_fits_counts_the_continuation_and_takes_all_where_nothing_is_known() -> None:
    item = Item(id="a", stratum="Chat", text="x")
    assert golden.fits(item, 100, count=52)
    assert not golden.fits(item, 100, count=53)
    assert golden.fits(item, 100, count=53, reserve=0)
    assert golden.fits(item, None, count=10**9)
    long = max(CORE.items, key=golden.estimate_tokens)
    assert not golden.fits(long, 8192)
    assert golden.fits(long, 131_072)


ITEMS = st.builds(
    Item,
    id=st.from_regex(r"[a-z][a-z0-9.:-]{0,8}", fullmatch=True),
    stratum=st.sampled_from(STRATA),
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
    continuation=st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    answer=st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    expect_tool=st.sampled_from([None, ""]),
    must_stop=st.booleans(),
    schema=st.sampled_from([None, {"type": "object"}]),
)


@given(st.lists(ITEMS, min_size=1, max_size=5, unique_by=(lambda i: i.id, lambda i: i.text)))
def test_writing_and_reading_keep_every_item(items: list[Item]) -> None:
    again = golden.parse("s", golden.dump(items))
    assert again.items == tuple(items)
    assert again.digest == golden_sets.digest(items)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_anything_else_is_refused_in_words(content: bytes | str) -> None:
    try:
        assert golden.parse("s", content).items
    except GoldenError as error:
        assert "golden set s" in str(error)  # noqa: PT017  (either way is right: what matters is that nothing else comes out)
