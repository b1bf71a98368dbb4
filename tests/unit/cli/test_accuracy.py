"""`polyfleet accuracy` without an endpoint: usage, reports in every form, two reports side by side, captures as ConfigMaps."""

from __future__ import annotations

import base64
import io
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from polyfleet.certify.store import DIGEST, PARTS, RECORD_KEY
from polyfleet.cli.accuracy import stored
from polyfleet.cli.accuracy.folder import Folder
from polyfleet.cli.accuracy.progress import Bar
from polyfleet.cli.failure import Failure
from polyfleet.cli.text import Style

from accuracy import golden
from accuracy import record as records
from accuracy.certify import Job, Progress
from accuracy.golden import dump
from accuracy.http.endpoint import Endpoint
from accuracy.policy import Policy
from accuracy.record import Record, RecordItem
from accuracy.report import as_json
from accuracy.report.model import Report
from accuracy.types import Cost, Decision, Fingerprint, Item, Mode, Position, Reason, Token, Verdict
from tests.unit.accuracy.reports import blocked, report
from tests.unit.cli.lib import failed, polyfleet

CANDIDATE = ("--candidate", "http://127.0.0.1:1/v1")
REFERENCE = ("--reference", "http://127.0.0.1:2/v1")


def written(folder: Path, made: Report, name: str = "report.json") -> str:
    path = folder / name
    path.write_text(as_json.dumps(made), encoding="utf-8")
    return str(path)


# ---- usage


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "VERB"),
        (("rum",), "known: run, report, compare, verify, capture, import"),
        (("run",), "--candidate"),
        (("run", *CANDIDATE), "neither --reference nor --record nor --self"),
        (("run", *CANDIDATE, *REFERENCE, "--self"), "--self compares the candidate with itself"),
        (("run", *CANDIDATE, *CANDIDATE, *REFERENCE), "each replica is asked for itself"),
        (("run", "--candidate", "ftp://x", *REFERENCE), "must be http://HOST:PORT"),
        (("run", "--candidate", "http://user:secret@x", *REFERENCE), "must not hold credentials"),
        (("run", *CANDIDATE, *REFERENCE, "--max-rps", "0"), "max_rps 0.0: must be more than 0"),
        (("run", *CANDIDATE, *REFERENCE, "--timeout", "soon"), "soon"),
        (("run", *CANDIDATE, *REFERENCE, "--timeout", "2h"), "from 1s to 3600s"),
        (("run", *CANDIDATE, *REFERENCE, "--level", "Strict"), "invalid choice"),
        (("run", *CANDIDATE, *REFERENCE, "--strata", "Poems"), "they have: "),
        (("run", *CANDIDATE, *REFERENCE, "--concurrency", "1,x"), "whole numbers from 1 to 9999"),
        (("run", *CANDIDATE, *REFERENCE, "--mode", "Guess"), "Guess"),
        (("run", *CANDIDATE, *REFERENCE, "--declare", "w8a8"), "NAME=FORMAT"),
        (("run", *CANDIDATE, *REFERENCE, "--declare", "weights=w8a8,weights=w4"), "once each"),
        (("run", *CANDIDATE, *REFERENCE, "--declare", "weights=a8w8"), "no such number format"),
        (("run", *CANDIDATE, *REFERENCE, "--candidate-name", "a\nb"), "no line breaks"),
        (("compare",), "--reference or --candidate is missing"),
        (("compare", *REFERENCE), "--reference or --candidate is missing"),
        (("compare", "a", "b", "c"), "3 are given"),
        (("compare", *REFERENCE, *CANDIDATE, "--tokens", "0"), "a whole number from 1 to 1024"),
        (("import", "x", "--name", "Team"), "lower-case letters"),
        (("report", "mdep/"), "mdep/NAME or mdep/NAMESPACE/NAME"),
        (("report", "mdep/x", "--snapshot", "demo", "-o", "html"), "per-prompt numbers are left out"),
    ],
)
def test_usage(arguments: tuple[str, ...], said: str) -> None:
    what, why, next_ = failed("accuracy", *arguments, code=64)
    assert said in f"{what} {why}"
    assert next_
    assert "secret" not in what + why + next_


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", *CANDIDATE, *REFERENCE, "--candidate-token-env", "NOT_SET_ANYWHERE"), "the variable is not set"),
        (("run", *CANDIDATE, *REFERENCE, "--ca-file", "/nowhere/ca.pem"), "there is no such file"),
        (("run", *CANDIDATE, *REFERENCE, "--golden", "/nowhere/x.jsonl"), "No such file"),
        (("run", *CANDIDATE, "--record", "/nowhere/x.gz"), "No such file"),
        (("report", "/nowhere/report.json"), "No such file"),
        (("verify", "/nowhere/report.json"), "No such file"),
        (("import", "/nowhere/x", "--name", "x"), "No such file"),
        (("report", "mdep/none", "--snapshot", "demo"), "nothing was checked yet"),
    ],
)
def test_what_is_not_there(arguments: tuple[str, ...], said: str) -> None:
    what, why, next_ = failed("accuracy", *arguments)
    assert said in f"{what} {why}"
    assert next_


def test_a_file_that_is_no_report(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}", encoding="utf-8")
    for verb in ("report", "verify"):
        assert "is not a report" in failed("accuracy", verb, str(path))[1]


def test_a_golden_set_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("", encoding="utf-8")
    what, why, _ = failed("accuracy", "run", *CANDIDATE, *REFERENCE, "--golden", f"core,{path}")
    assert str(path)[-20:] in what.replace(" ", "")
    assert "holds no item" in why


def test_an_unfinished_run_is_never_begun_anew(tmp_path: Path) -> None:
    """Its state is read, with --resume and without, and what cannot be read is not thrown away."""
    (tmp_path / "state.json").write_text("{}", encoding="utf-8")
    for more in ((), ("--resume",)):
        what, _, next_ = failed("accuracy", "run", *CANDIDATE, *REFERENCE, "--out", str(tmp_path), "--yes", *more)
        assert "cannot be used" in what.replace("\n", " ")
        assert next_.startswith("rm ")


def test_a_script_must_say_that_it_means_it(tmp_path: Path) -> None:
    """The cost is told, and nothing is sent."""
    done = polyfleet("accuracy", "run", *CANDIDATE, *REFERENCE, "--out", str(tmp_path), "--max-rps", "5")
    assert done.code == 64
    said = " ".join(done.err.split())
    for part in (
        "level Standard certifies at most 2 % bad prompts, 99 % sure",
        "requests to the candidate",
        "or more at --max-rps",
        "repeat with --yes",
    ):
        assert part in said
    assert not list(tmp_path.iterdir())


def test_nothing_to_resume(tmp_path: Path) -> None:
    assert "holds no unfinished run" in failed("accuracy", "run", *CANDIDATE, *REFERENCE, "--out", str(tmp_path), "--resume", code=64)[0]


# ---- report


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (report(), 0),
        (blocked(), 4),
        (report(decision=Decision(Verdict.INCONCLUSIVE, Reason.CAPABILITY_MISSING, "no logprobs", 0), samples=()), 5),
    ],
)
def test_a_report_ends_with_the_code_of_its_verdict(tmp_path: Path, made: Report, code: int) -> None:
    path = written(tmp_path, made)
    assert [polyfleet("accuracy", "report", path, "-o", form).code for form in ("text", "json", "md", "junit")] == [code] * 4


def test_a_report_on_a_terminal(tmp_path: Path) -> None:
    done = polyfleet("accuracy", "report", written(tmp_path, blocked()))
    assert done.lines[0] == " huawei-910c-752 vs nvidia-h100-sxm  BLOCK  noise ratio 20 > 2 · 60 prompts"
    for word in ("NotEquivalent: Tokens in Chat", "Tokens", "fails", "Suspects", "What this does not show", "not covered: images"):
        assert word in done.out
    assert max(len(line) for line in done.lines) <= 100


def test_the_forms_are_what_they_say(tmp_path: Path) -> None:
    path = written(tmp_path, report())
    assert as_json.loads(polyfleet("accuracy", "report", path, "-o", "json").out) == report()
    assert polyfleet("accuracy", "report", path, "-o", "md").out.startswith("# PROMOTE")
    assert ET.fromstring(polyfleet("accuracy", "report", path, "-o", "junit").out).tag == "testsuites"


# ---- compare


def test_the_worst_items_of_a_report(tmp_path: Path) -> None:
    done = polyfleet("accuracy", "compare", written(tmp_path, report()))
    assert done.code == 2
    assert "item-003" in done.out
    assert "--reference URL --candidate URL" in done.out


def test_two_reports_side_by_side(tmp_path: Path) -> None:
    """Ends with 2 where the verdicts differ; what differs is marked."""
    one, other = written(tmp_path, report()), written(tmp_path, blocked(), "b.json")
    done = polyfleet("accuracy", "compare", one, other)
    assert done.code == 2
    marked = [line.split()[1] for line in done.lines if line.strip().startswith("*")]
    assert {"verdict", "reason", "noise", "ratio"} <= set(marked)
    assert polyfleet("accuracy", "compare", one, one).code == 0
    assert "*" not in polyfleet("accuracy", "compare", one, one).out


def test_compare_with_an_item_that_is_nowhere(tmp_path: Path) -> None:
    assert "no item nothing-like-it" in failed("accuracy", "compare", *REFERENCE, *CANDIDATE, "--item", "nothing-like-it")[0]


def test_endpoints_that_do_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports of this machine that nobody listens on."""
    monkeypatch.setattr("accuracy.http.client.LOST_PAUSE_S", 0.0)
    what, why, next_ = failed("accuracy", "compare", *REFERENCE, *CANDIDATE, "--prompt", "x", "--timeout", "1s")
    assert what == "the reference cannot be asked"
    assert "Connect call failed" in why
    assert f"curl {REFERENCE[1].removesuffix('/v1')}/v1/models" in next_


# ---- import


def capture_file(folder: Path, items: int = 3, top: int = 8) -> str:
    def place(index: int) -> Position:
        tokens = tuple(Token(n, f"t{n}", -0.5 - n) for n in range(top))
        return Position(tokens[0], tokens, index)

    rows = tuple(
        RecordItem(f"i{n}", (1, 2, n), 3, (0, 0), ("t0", "t0"), (place(0), place(1)), 0.001, 0.002, "t0t0", "length") for n in range(items)
    )
    made = Record(
        "qwen", Mode.STEPWISE, top, "2026-11-28T12:00:00Z", 7, Fingerprint("h100"), (("core", golden.builtin().digest),), "sha256:0", rows
    )
    path = folder / "reference.gz"
    path.write_bytes(records.encode(made))
    return str(path)


def test_a_capture_becomes_what_the_operator_reads(tmp_path: Path) -> None:
    done = polyfleet("accuracy", "import", capture_file(tmp_path), "--name", "lab-h100", "-n", "llm", "--top-k", "2")
    assert done.code == 0
    (body,) = yaml.safe_load_all(done.out)
    assert (body["kind"], body["metadata"]["name"], body["metadata"]["namespace"]) == ("ConfigMap", "lab-h100", "llm")
    content = base64.b64decode(body["binaryData"][RECORD_KEY])
    assert body["metadata"]["annotations"] == {PARTS: "1", DIGEST: records.digest(content)}
    stored = records.decode(content)
    assert [len(position.top) for position in stored.items[0].positions] == [2, 2]
    assert "configMap: {name: lab-h100}" in " ".join(done.err.split())


def test_a_golden_set_stays_readable(tmp_path: Path) -> None:
    items = (Item("a", "Chat", messages=({"role": "user", "content": "你好"},)), Item("b", "Code", text="def f("))
    path = tmp_path / "mine.jsonl"
    path.write_text(dump(items), encoding="utf-8")
    done = polyfleet("accuracy", "import", str(path), "--name", "mine")
    (body,) = yaml.safe_load_all(done.out)
    assert "namespace" not in body["metadata"]
    assert golden.parse("mine", body["data"]["items.jsonl"]).items == items


def test_what_is_neither(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\x00\x01")
    assert "neither a capture nor a golden set" in failed("accuracy", "import", str(path), "--name", "x")[0]


# ---- the cluster's reports, out of a snapshot


def accuracy_report(profile: str, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "llm", "name": f"qwen-{profile}"},
        "spec": {"deployment": "qwen", "candidate": {"profile": profile}, "reference": {"profile": "nvidia-h100-sxm"}},
        "status": status,
    }


def test_lines_of_stored_reports() -> None:
    """The design's line; a Block says why and whom it suspects."""
    good = accuracy_report(
        "huawei-910c-752", verdict="Promote", noiseRatio="1.31", declared="bf16 -> w8a8", prompts=260,
        certified={"badPromptRateUpper": "0.02", "confidence": "0.99"}, conditions=[{"type": "AccuracyVerified", "status": "True"}],
    )  # fmt: skip
    lines = stored._lines(good, Style())
    assert lines == [" huawei-910c-752 vs nvidia-h100-sxm  PROMOTE  noise ratio 1.31 (bf16 → w8a8) · 260 prompts · ≤ 2 % bad, 99 % sure"]
    bad = accuracy_report(
        "alibaba-ppu-810e", verdict="Block", prompts=3, suspects=[{"code": "PrefixCache", "evidence": "3 of 3"}],
        conditions=[{"type": "AccuracyVerified", "status": "False", "reason": "HardFault", "message": "NaN"}],
    )  # fmt: skip
    assert stored._lines(bad, Style())[1:] == ["   HardFault: NaN", "   suspect PrefixCache: 3 of 3"]
    assert [stored._code(row) for row in (good, bad, accuracy_report("x"))] == [0, 4, 5]


# ---- the bar


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_tells_how_long_it_takes_at_most() -> None:
    """Ten of thirty in 20 s leave 40 s; a new phase counts anew; a file gets no bar."""
    now, where = [100.0], _Terminal()
    bar = Bar(where, lambda: now[0])
    for moment, done, total in ((100.0, 0, 30), (120.0, 10, 30), (130.0, 0, 60), (131.0, 20, 60), (140.0, 60, 60)):
        now[0] = moment
        bar.show(done, total, "Chat")
    bar.close()
    shown = where.getvalue().split("\r\x1b[K")[1:]
    assert [row.split("] ")[1].rstrip() for row in shown] == [
        "0/30 Chat",
        "10/30 ≤ 40 s Chat",
        "0/60 Chat",
        "20/60 ≤ 2 s Chat",
        "60/60 Chat",
    ]
    assert where.getvalue().endswith("\n")
    log = io.StringIO()
    Bar(log).show(1, 2, "Chat")
    assert log.getvalue() == ""


# ---- the state of a run


def test_a_state_is_continued_as_the_same_run_only(tmp_path: Path) -> None:
    """Addresses may change; policy, golden sets and names may not."""
    candidate = Endpoint("http://a/v1", name="npu", token="secret")
    job = Job(Policy(), (golden.builtin(),), (candidate,), reference=Endpoint("http://b/v1"))
    folder = Folder(str(tmp_path))
    made = records.decode(Path(capture_file(tmp_path)).read_bytes())
    spent = (Cost(3, 40, 5, 0.5), Cost(7))
    folder.save(job, Progress(report().decision, "state text", 60, 600, samples=report().samples, record=made, cost=spent))
    saved = folder.load(replace(job, candidates=(replace(candidate, url="http://elsewhere/v1"),)))
    assert (saved.state, saved.samples, saved.record, saved.spent) == ("state text", report().samples, made, spent)
    assert "secret" not in (tmp_path / "state.json").read_text()
    for other in (
        replace(job, policy=Policy(seed=1)),
        replace(job, candidates=(replace(candidate, name="gpu"),)),
        replace(job, own_reference=True),
    ):
        with pytest.raises(Failure, match="another run"):
            folder.load(other)
    body = json.loads((tmp_path / "state.json").read_text()) | {"kind": "x"}
    (tmp_path / "state.json").write_text(json.dumps(body))
    with pytest.raises(Failure, match="cannot be used"):
        folder.load(job)
