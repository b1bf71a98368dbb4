"""The JSON form of a report: nothing is lost, and what is no report is refused with its place."""

from __future__ import annotations

import gzip
import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy.report import as_json
from accuracy.report.as_json import ReportError, dumps, loads, pack
from tests.unit.accuracy.reports import blocked, gate, report, sample


def test_everything_comes_back() -> None:
    """Indented, on one line, packed; a Promote and a Block."""
    for made in (report(), blocked()):
        assert loads(dumps(made)) == made
        assert loads(dumps(made, indent=None)) == made
        assert loads(pack(made)) == made


@given(st.floats(), st.floats(), st.floats(allow_nan=False))
def test_floats_come_back_as_the_same_bits(d: float, estimate: float, evidence: float) -> None:
    """Subnormal, infinite, negative zero and NaN too (NaN of any payload is one NaN)."""
    made = report(samples=(sample(d_kl=d, max_kl=estimate),), worst=(), noise=(("Chat", evidence, None),))
    again = loads(dumps(made))
    pairs = ((d, again.samples[0].d_kl), (estimate, again.samples[0].max_kl), (evidence, again.noise[0][1]))
    for before, after in pairs:
        assert after is not None
        assert struct.pack("d", before) == struct.pack("d", after) or (math.isnan(before) and math.isnan(after))


def test_what_readers_of_the_file_find() -> None:
    """The verdict at the top, camelCase keys, and whether each prompt counts as bad: a position beyond tau (0.5), a flip beyond 1 nat."""
    rows = (sample(0), sample(1, max_kl=0.51), sample(2, flip=1.1), sample(3, intermittent="ServerError"), sample(4, flip=0.9, max_kl=0.5))
    body = json.loads(dumps(report(samples=rows)))
    assert (body["kind"], body["verdict"], body["reason"]) == ("PolyfleetAccuracyReport", "Promote", "Equivalent")
    assert [row["violation"] for row in body["samples"]] == [False, True, True, True, False]
    assert body["samples"][0]["condition"] == {"concurrency": 1, "prefixCache": "Miss", "replica": ""}
    assert body["policy"]["margins"]["noiseRatio"] == 2.0
    assert body["candidate"]["fingerprint"]["engineImage"] == ""


def test_the_packed_form_is_stable_and_small() -> None:
    """Equal reports, equal bytes: a digest names the content. 2000 prompts fit a ConfigMap's 1 MiB."""
    assert pack(report()) == pack(report())
    many = tuple(sample(index, d_kl=math.sin(index) ** 2, d_sq=math.cos(index) ** 2, bias=math.sin(3 * index)) for index in range(2000))
    assert len(pack(report(samples=many))) < 300_000


def broken(**changed: Any) -> str:
    return json.dumps(json.loads(dumps(report())) | changed)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"\x1f\x8b\x08 no", "gzip"),
        (gzip.compress(b"{}")[:-9], "cut short"),
        ("[]", "must be an object"),
        ("[" * 100_000, "not JSON"),
        ("{}", "kind"),
        ('{"kind": NaN}', "not JSON"),
        (broken(version=2), "version: 2, must be 1"),
        (broken(verdict="Block"), "the file was edited"),
        (broken(reason="HardFault"), "the file was edited"),
        (broken(extra=1), "unknown field 'extra'"),
        (broken(made=7), "made: 7, must be a text"),
        (broken(seed=True), "seed: true, must be a whole number"),
        (broken(samples={}), "samples: dict, must be a list"),
        (broken(samples=[{}]), "samples[0]: field 'bias' is missing"),
        (broken(noise=[["Chat", "x", None]]), 'noise[0][1]: "x", must be a number'),
        (broken(noise=[["Chat", 1.0]]), "noise[0]: a list of 2, must have 3 parts"),
        (broken(mode="Guess"), "must be one of PromptLogprobs"),
        (broken(cost=[]), "cost: a list of 0, must have 2 parts"),
    ],
)
def test_what_is_no_report_is_refused_with_its_place(content: bytes | str, said: str) -> None:
    with pytest.raises(ReportError) as caught:
        loads(content)
    assert said in str(caught.value)


def test_a_gzip_that_grows_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_json, "MOST_BYTES", 1000)
    with pytest.raises(ReportError, match="at most 1000"):
        loads(gzip.compress(b" " * 100_000))
    with pytest.raises(ReportError, match="at most 1000"):
        loads(b" " * 1001)


@settings(max_examples=25, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(), x)))
def test_any_other_json_is_an_error_and_no_exception_of_another_kind(value: Any) -> None:
    for key in ("samples", "decision", "policy", "golden", "capabilities"):
        with pytest.raises(ReportError):
            loads(json.dumps(json.loads(dumps(report(samples=()))) | {key: [value, 1, value]}))


def test_samples_of_a_state_come_back() -> None:
    rows = tuple(sample(index, flip=None if index else 2.5) for index in range(3))
    assert as_json.samples(json.loads(json.dumps(as_json.plain(rows)))) == rows
    with pytest.raises(ReportError, match=r"samples\[0\]"):
        as_json.samples([{"index": "x"}])


def test_infinite_evidence_is_written() -> None:
    """JSON itself has no infinity."""
    made = report(decision=report().decision.__class__(*_parts(gate(evidence_promote=math.inf))))
    assert '"inf"' in dumps(made)
    assert loads(dumps(made)) == made


def _parts(result: Any) -> tuple[Any, ...]:
    decision = report().decision
    return decision.verdict, decision.reason, decision.message, decision.prompts, (result,)
