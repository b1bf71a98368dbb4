"""What survives a restart: small, versioned, read back as it was, refused when it cannot be read."""

from __future__ import annotations

import json
from math import nan

import pytest

from autoscaling.memory import LIMIT_BYTES, MemoryFault, learned, restore, worth_writing
from tests.unit.autoscaling.scene import BEGIN, steady


def state() -> dict[str, object]:
    memory = steady().memory
    assert memory is not None
    return json.loads(json.dumps(learned(memory)))  # type: ignore[no-any-return]


def test_it_is_plain_json_below_32_kib() -> None:
    assert len(json.dumps(state())) < LIMIT_BYTES == 32 * 1024


def test_what_was_learned_is_learned_again() -> None:
    before = state()
    again = learned(restore(before, BEGIN))
    unlike = {name for name in before if name not in ("at", "floor") and again[name] != before[name]}
    assert unlike == set()


def test_what_is_asked_for_and_counted_does_not_survive() -> None:
    memory = restore(state(), BEGIN)
    assert (memory.held, memory.level, memory.needs, memory.downs, memory.windows.readings) == (None, None, (), (), ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 99),
        ("promptTokens", -1.0),
        ("promptTokens", "many"),
        ("outputTokens", nan),
        ("sigma", True),
        ("bins", 3),
        ("bins", [1.0] * 400),
        ("bins", [None]),
        ("kappas", [1.0]),
        ("kappas", {"o": "x"}),
        ("calm", "yes"),
        ("trials", []),
        ("trials", {"late": [[0.0]], "supplied": [[0.0], [0.0]]}),
        ("extra", "x" * 40_000),
    ],
)
def test_a_document_that_cannot_be_read_is_refused(name: str, value: object) -> None:
    with pytest.raises(MemoryFault):
        restore({**state(), name: value}, BEGIN)


def test_a_correction_out_of_range_is_clamped() -> None:
    assert restore({**state(), "kappas": {"o": 9.0}}, BEGIN).kappas == (("o", 1.5),)


@pytest.mark.parametrize(
    ("change", "worth"),
    [
        ({}, False),
        ({"promptTokens": 1040.0}, False),  # 4 % more than 1,000
        ({"promptTokens": 1080.0}, True),
        ({"at": 5.0, "bins": []}, False),  # moves with every sample, and goes along
        ({"kappas": {"o": 0.97}}, False),
        ({"kappas": {"o": 0.9}}, True),
        ({"calm": True}, True),
        ({"version": 2}, True),
    ],
)
def test_worth_writing_is_what_moved_by_more_than_5_percent(change: dict[str, object], worth: bool) -> None:
    before = {**state(), "promptTokens": 1000.0, "kappas": {}}
    assert worth_writing(before, {**before, **change}) is worth


def test_the_first_knowledge_is_worth_writing() -> None:
    assert worth_writing({}, state())
