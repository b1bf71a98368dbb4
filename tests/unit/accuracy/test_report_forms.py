"""Markdown, JUnit, HTML and the pictures: what they must say, and that nothing an endpoint said can act in them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from accuracy.policy import Margins
from accuracy.report import figures, html, junit, markdown, plots, svg, words
from accuracy.report.model import Report, Worst
from accuracy.types import Cost, Decision, Gate, Mode, Reason, Suspect, Verdict
from tests.unit.accuracy.reports import NOISE, POLICY, blocked, crossed, gate, report, sample

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=1>|`]]>&\x00\x1b[31m"
CURVES = (
    figures.Curve(Gate.TOKENS, "Chat", "kl", ((10, 5.0, 0.5), (20, 120.0, 0.1))),
    figures.Curve(Gate.TAIL, "", "rate", ((20, 40.0, 0.2),)),
)


def hostile() -> Report:
    made = blocked()
    return replace(
        made,
        decision=replace(made.decision, message=HOSTILE, gates=(gate(stratum=HOSTILE, message=HOSTILE, decision="Fail"),)),
        candidate=replace(made.candidate, name=HOSTILE, model=HOSTILE),
        samples=(sample(stratum=HOSTILE, item=HOSTILE, hard="NonFinite"), sample(1, item=HOSTILE)),
        uncovered=(HOSTILE,),
        suspects=(Suspect(HOSTILE, 1.0, HOSTILE),),
        worst=(Worst(HOSTILE, 1, 0.5, HOSTILE),),
        golden=((HOSTILE, HOSTILE, 1),),
        replicas=(HOSTILE,),
    )


class _Page(HTMLParser):
    """Tags that a page may not have, what it refers to, and whether its elements nest."""

    VOID = frozenset({"meta", "br", "link", "img", "line", "rect", "circle", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID or tag in ("circle", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


def page(made: Report) -> _Page:
    found = _Page()
    found.feed(html.render(made, CURVES))
    found.close()
    assert not found.open
    return found


@pytest.mark.parametrize(
    "made", [report(), blocked(), hostile(), report(samples=(), decision=Decision(None, Reason.RUNNING, "", 0), mode=None)]
)
def test_the_page_stands_by_itself(made: Report) -> None:
    """No script, no picture, no link, no handler: the page's policy forbids all of them, and nothing is fetched."""
    found = page(made)
    assert not {"script", "img", "link", "iframe", "a", "object", "form"} & set(found.tags)
    names = {name for name, _ in found.attributes}
    assert not [name for name in names if name.startswith("on") or name in ("src", "href", "xlink:href")]
    policy = dict(found.attributes)["content"]
    assert policy is not None
    assert "default-src 'none'" in html.render(made, CURVES)


def test_the_page_says_the_verdict_first_and_everything_that_the_design_asks_for() -> None:
    text = " ".join(page(blocked()).text)
    order = [
        "BLOCK", "NotEquivalent.", "allowed is 2", "Gates", "Evidence over prompts", "Noise ratio by stratum", "Every prompt",
        "By condition", "Suspects", "What this does not show", "Not covered by this run", "Limits of the method", "Worst items",
        "The two sides",
    ]  # fmt: skip
    places = [text.index(word) for word in order]
    assert places == sorted(places)
    for word in ("golden set core", "sha256:777777777777…", "480 requests, 90 000 + 480 tokens", "polyfleet accuracy verify report.json"):
        assert word in text


def test_markdown_keeps_hostile_text_in_its_cell() -> None:
    lines = markdown.render(hostile()).splitlines()
    assert not [line for line in lines if "<script" in line or "<img" in line]
    rows = [re.sub(r"\\\|", "", line).count("|") for line in lines if line.startswith("| ") and "script" in line]
    assert rows
    heads = {line.count("|") for line in lines if line.startswith("|---")}
    assert set(rows) <= heads


def test_markdown_begins_with_the_verdict() -> None:
    lines = markdown.render(report()).splitlines()
    assert lines[0] == "# PROMOTE: huawei-910c-752 vs nvidia-h100-sxm"
    assert lines[2].startswith("huawei-910c-752 can serve in place of nvidia-h100-sxm. Its answers are 1.06 times as far from")
    assert lines[6].startswith("noise ratio 1.06 ≤ 2 · 60 prompts · ≤ 2 % bad, 99 % sure · level Standard · Stepwise")


@pytest.mark.parametrize(
    ("made", "failures", "errors"),
    [
        (report(), 0, 0),
        (blocked(), 2, 0),
        (hostile(), 3, 0),  # verdict, test, and the hard fault
        (report(decision=Decision(Verdict.INCONCLUSIVE, Reason.CAPABILITY_MISSING, "no logprobs", 0), samples=()), 0, 1),
    ],
)
def test_junit_counts_what_it_lists(made: Report, failures: int, errors: int) -> None:
    root = ET.fromstring(junit.render(made))  # what no XML can hold would end here
    suite = root[0]
    cases = suite.findall("testcase")
    assert int(suite.attrib["tests"]) == len(cases)
    assert int(suite.attrib["failures"]) == len(suite.findall(".//failure")) == failures
    assert int(suite.attrib["errors"]) == len(suite.findall(".//error")) == errors
    assert int(suite.attrib["skipped"]) == len(suite.findall(".//skipped"))


# ---- figures


def test_a_ratio_by_hand() -> None:
    """Distances .002 and .006, noise .001 and .003: mean .004 over .002 is 2. Boundaries 2 x .001 and 2 x .003, mean .004: 2 as well.
    Interval: sd of .002, .006 is .0028284, over root 2 is .002; 1.96 x .002 / .002 to either side of 2."""
    rows = (sample(0, d_kl=0.002, noise_kl=0.001), sample(1, d_kl=0.006, noise_kl=0.003))
    found = figures.ratio("x", rows, POLICY, "kl")
    assert found.ratio == pytest.approx(2.0)
    assert found.boundary == pytest.approx(2.0)
    assert found.low == pytest.approx(2 - 1.959964)
    assert found.high == pytest.approx(2 + 1.959964)


def test_boundary_of_a_prompt() -> None:
    """kappa 2: twice the noise; the floor 5e-4 below it; the cap .02 above; with 4-bit weights the cap alone."""
    assert figures.limit_of(0.002, POLICY, "kl") == 0.004
    assert figures.limit_of(0.0, POLICY, "kl") == 0.001
    assert figures.limit_of(1.0, POLICY, "kl") == 0.02
    assert figures.limit_of(0.001, POLICY, "sq") == 0.002
    assert figures.limit_of(0.001, replace(POLICY, margins=Margins(noise_ratio=None, cap_kl=0.1)), "kl") == 0.1


def test_no_noise_gives_no_ratio() -> None:
    found = figures.ratio("x", (sample(noise_kl=0.0),), POLICY, "kl")
    assert (found.ratio, found.boundary, found.distance) == (None, None, NOISE)


def test_gates_without_a_result() -> None:
    """Contract and HardFaults pass by prompts that were scored; a breach fails, differing inputs hold; what was not asked has not run."""

    def states(made: Report) -> dict[str, str]:
        return {line.gate: line.state for line in figures.gate_lines(made)}

    assert states(report()) == {
        "Contract": "Pass", "HardFaults": "Pass", "Tokens": "Pass", "Tail": "NotRun", "Bias": "NotRun", "SelfConsistency": "NotRun",
    }  # fmt: skip
    breach = Decision(Verdict.BLOCK, Reason.CONTRACT_MISMATCH, "token 3 differs", 0)
    assert states(report(decision=breach, samples=()))["Contract"] == "Fail"
    assert states(report(decision=breach, samples=()))["HardFaults"] == "NotRun"
    differ = Decision(Verdict.INCONCLUSIVE, Reason.INPUTS_DIFFER, "", 0)
    assert states(report(decision=differ, samples=()))["Contract"] == "Open"
    assert states(report(samples=(sample(hard="NonFinite"),)))["HardFaults"] == "Fail"


def test_groups_of_the_design() -> None:
    """Only what varies; a run with one replica has no row for it."""
    names = [name for name, _ in figures.margins_of_design(report())]
    assert names == ["concurrency", "prefix cache", "replica"]
    assert figures.margins_of_design(report(samples=(sample(), sample(1)))) == ()


# ---- words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1.0, "1"), (1.06, "1.06"), (1.066, "1.07"), (12.0, "12"), (259.0, "259"), (1043.0, "1043"), (0.0005, "0.0005"),
        (0.00123, "0.00123"), (1e-7, "1.00e-07"), (2e7, "2.00e+07"), (-0.25, "-0.25"), (9.999, "10"), (999.6, "1000"),
        (float("nan"), "nan"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_numbers(value: float, text: str) -> None:
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(3.1e-5, "3.1e-5"), (0.0031, "0.0031"), (6.6, "6.6"), (178.0, "178"), (1.2e5, "1.2e5"), (0, "0")]
)
def test_evidence(value: float, text: str) -> None:
    assert words.evidence(value) == text


@pytest.mark.parametrize(("value", "text"), [(5.0, "5 s"), (89.0, "89 s"), (192.4, "3 min 12 s"), (3600.0, "1 h 0 min"), (0.0, "0 s")])
def test_seconds(value: float, text: str) -> None:
    assert words.seconds(value) == text


def test_the_line_of_the_design() -> None:
    """`noise ratio 1.31 ≤ 12 (bf16 → w8a8) · 260 prompts · ≤ 2 % bad, 99 % sure`."""
    decision = Decision(Verdict.PROMOTE, Reason.EQUIVALENT, "", 260, (), 1.31, 0.02, 0.99)
    policy = replace(POLICY, margins=Margins(noise_ratio=12), declared="bf16 -> w8a8")
    made = report(decision=decision, policy=policy, declared="bf16 -> w8a8")
    assert words.headline(made) == "noise ratio 1.31 ≤ 12 (bf16 → w8a8) · 260 prompts · ≤ 2 % bad, 99 % sure"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (report(), "and up to 2 times is allowed"),
        (blocked(), "must not serve in place of nvidia-h100-sxm"),
        (report(decision=Decision(Verdict.INCONCLUSIVE, Reason.CAPABILITY_MISSING, "", 0)), "Neither was shown"),
        (report(decision=Decision(None, Reason.RUNNING, "", 0)), "there is no verdict yet"),
        (report(own_reference=True), "nothing was compared with another device"),
    ],
)
def test_the_verdict_in_words(made: Report, said: str) -> None:
    assert said in words.meaning(made)


@pytest.mark.parametrize(
    ("stratum", "text"),
    [
        ("", "all"),
        ("Chat", "Chat"),
        ("concurrency=8", "8 in flight"),
        ("prefixCache=Hit", "cache hit"),
        ("replica=b", "replica b"),
        ("a=b", "a=b"),
    ],
)
def test_which_prompts_a_test_is_about(stratum: str, text: str) -> None:
    assert words.where(stratum) == text


def test_the_report_always_says_what_it_cannot_show() -> None:
    """A10 and the honest limits; more of them where less was seen."""
    assert "At most 2 % of prompts like these are bad, with 99 % confidence" in words.certified(report())
    assert "No rate of bad prompts is certified" in words.certified(blocked())
    plain = words.limits(report(mode=Mode.PROMPT_LOGPROBS, top_k=20))
    assert len(words.limits(report(mode=Mode.STEPWISE, top_k=1, own_reference=True))) == len(plain) + 3


def test_a_side_that_was_not_asked() -> None:
    assert words.cost(Cost()) == "not asked"


# ---- pictures


def test_a_scale_by_hand() -> None:
    """Logarithmic from 0.1 to 1000 over 400 pixels: 10 is half-way; what lies outside is drawn at the edge."""
    x = svg.Scale(0.1, 1000, 0, 400, log=True)
    assert [x(0.1), x(10), x(1000), x(0), x(1e9)] == [0, 200, 400, 0, 400]
    assert x.decades() == [0.1, 1, 10, 100, 1000]
    assert svg.Scale(0, 300, 0, 1).steps(6) == [0, 50, 100, 150, 200, 250, 300]


@pytest.mark.parametrize(("value", "text"), [(1000.0, "1000"), (0.01, "0.01"), (1e4, "10⁴"), (1e-3, "10⁻³"), (1.0, "1")])
def test_powers(value: float, text: str) -> None:
    assert svg.power(value) == text


def test_evidence_crosses_its_line_where_the_numbers_do() -> None:
    """The mark of the test that reaches 100 stands at prompt 20, the right edge, above the threshold; the other has none."""
    picture = plots.evidence(CURVES, 100, 80)
    root = ET.fromstring(picture)
    marks = [node for node in root.iter() if node.get("class") == "mark Tokens"]
    limit = next(node for node in root.iter() if node.get("class") == "limit good")
    assert len(marks) == 1
    assert marks[0].get("cx") == limit.get("x2")
    assert float(marks[0].attrib["cy"]) < float(limit.attrib["y1"])
    assert not [node for node in root.iter() if node.get("class") == "mark Tail"]


def test_pictures_of_nothing_are_left_out() -> None:
    empty = report(samples=(), decision=Decision(Verdict.INCONCLUSIVE, Reason.CAPABILITY_MISSING, "", 0))
    assert plots.evidence((), 100, 80) == ""
    assert plots.ratios(()) == ""
    assert plots.prompts(empty, "kl") == ""


def test_extreme_numbers_are_drawn() -> None:
    """Hard faults without any number, infinite distances, evidence of 1e300: every coordinate stays a number inside the picture."""
    rows = (sample(0, d_kl=float("nan"), hard="NonFinite"), sample(1, d_kl=float("inf")), sample(2, d_kl=0.0), *crossed(5)[3:])
    curves = (figures.Curve(Gate.TOKENS, "Chat", "kl", ((1, 1e300, 0.0), (2, 0.0, 1e300))),)
    for picture in (plots.prompts(report(samples=rows), "kl"), plots.evidence(curves, 100, 80)):
        places = [float(v) for v in re.findall(r' (?:x|y|cx|cy|x1|y1|x2|y2)="([^"]*)"', picture)]
        assert places
        assert all(-20 <= place <= 1000 for place in places)
