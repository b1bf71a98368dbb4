"""`polyfleet accuracy` against real engines on loopback: the byte model, right, harmless and wrong, in a thread of this process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from polyfleet.cli.accuracy import running
from polyfleet.cli.accuracy.folder import CAPTURED, RECORD, REPORTS, STATE, Folder

from accuracy.certify import Job, Progress
from accuracy.golden import dump
from accuracy.report import as_json
from accuracy.verify import check
from tests.unit.accuracy import servers
from tests.unit.cli.lib import polyfleet

# As real devices do, the reference adds up otherwise where it computes several sequences at once: else it had no noise.
FLAGS: dict[str, tuple[str, ...]] = {
    "a": ("--dtype=bf16", "--fault=split-k=4@batch=2"),
    "b": ("--dtype=bf16", "--fault=split-k=2"),
    "wrong": ("--dtype=bf16", "--fault=no-scale"),
}
TOKEN = "a-secret-nobody-may-see"


@dataclass
class Engines:
    """Addresses by name, and what was asked of each."""

    running: dict[str, servers.Running] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)  # how much each had been asked when the test began

    def url(self, name: str) -> str:
        return f"{self.running[name].url}/v1"

    def pair(self, candidate: str, reference: str = "a") -> tuple[str, ...]:
        return "--reference", self.url(reference), "--candidate", self.url(candidate)

    def asked(self, name: str) -> int:
        return len(self.running[name].asked)


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    """Three engines in a loop of their own, so that the command can have the main thread, as it has in life."""
    found, up, down = Engines(), threading.Event(), threading.Event()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            for name, flags in FLAGS.items():
                found.running[name] = await stack.enter_async_context(servers.engine(*flags, name=f"byte-{name}"))
            up.set()
            await asyncio.to_thread(down.wait)

    pace = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)  # two event loops take turns at every request
    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert up.wait(30)
    yield found
    down.set()
    thread.join(30)
    sys.setswitchinterval(pace)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("golden") / "mine.jsonl"
    items = {item.text or item.messages[0]["content"]: item for item in servers.golden(40, length=20).items}
    path.write_text(dump(list(items.values())), encoding="utf-8")
    return str(path)


def accuracy(verb: str, *arguments: str) -> tuple[int, str, str]:
    done = polyfleet("accuracy", verb, *arguments)
    return done.code, done.out, " ".join(done.err.split())


@pytest.fixture
def run(engines: Engines, prompts: str, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    engines.since = {name: engines.asked(name) for name in FLAGS}

    def command(candidate: str, *more: str) -> tuple[int, str, str]:
        return accuracy(
            "run", *engines.pair(candidate), "--golden", prompts, "--level", "Quick", "--max-prompts", "16", "--positions", "8",
            "--concurrency", "1,4", "--out", str(tmp_path / "out"), "--yes", *more,
        )  # fmt: skip

    return command


def test_a_wrong_device_is_blocked_and_every_form_says_so(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 4; four reports, and the verdict again from the numbers alone. No address and no token stands anywhere."""
    monkeypatch.setenv("POLYFLEET_TEST_KEY", TOKEN)
    keys = ("--candidate-token-env", "POLYFLEET_TEST_KEY", "--reference-token-env", "POLYFLEET_TEST_KEY")
    code, out, err = run("wrong", "--candidate-name", "npu", "--reference-name", "gpu", *keys)
    assert (code, out.splitlines()[0].split()[:4]) == (4, ["npu", "vs", "gpu", "BLOCK"])
    assert "requests to the reference" in err
    folder = tmp_path / "out"
    assert {path.name for path in folder.iterdir()} == {*REPORTS, RECORD}
    said = out + err + "".join(path.read_text(errors="replace") for path in folder.iterdir())
    assert TOKEN not in said
    assert "127.0.0.1" not in said
    report = as_json.loads((folder / "report.json").read_bytes())
    assert check(report).ok
    assert report.candidate.model == "byte-wrong"
    assert ET.fromstring((folder / "junit.xml").read_text())[0].attrib["failures"] != "0"
    assert accuracy("verify", str(folder / "report.json"))[0] == 4
    assert accuracy("report", str(folder / "report.json"), "-o", "html")[1] == (folder / "report.html").read_text()
    code, out, _ = accuracy("compare", str(folder / "report.json"))
    assert (code, report.worst[0].item in out) == (2, True)


def test_ctrl_c_and_the_same_command_again(
    run: Callable[..., tuple[int, str, str]], engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted while the reference is captured, then among the prompts: each time the same command says that it resumes, asks nothing
    again, and in the end the run is whole. 16 prompts cannot certify 2 %, so it ends with 5."""
    save = Folder.save
    kept: list[Progress] = []

    def interrupted(folder: Folder, job: Job, progress: Progress) -> None:
        """Ctrl-C after the first time that something was kept in this phase."""
        save(folder, job, progress)
        if not kept or bool(kept[-1].state) != bool(progress.state):
            os.kill(os.getpid(), signal.SIGINT)
        kept.append(progress)

    monkeypatch.setattr(running, "SAVE_S", 0.0)
    monkeypatch.setattr(running, "CAPTURED_S", 0.0)
    monkeypatch.setattr(Folder, "save", interrupted)
    code, out, err = run("b")
    assert (code, out) == (1, "")
    assert "interrupted while the reference was captured" in err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {CAPTURED, STATE}
    code, _, err = run("b")
    assert (code, kept[-1].state != "") == (1, True)
    assert "RESUMES the run in --out: the reference has answered 8 items" in err
    judged = len(kept[-1].samples)
    assert f"interrupted after {judged} of at most 16 prompts" in err
    assert 0 < judged < 16
    monkeypatch.setattr(Folder, "save", save)
    before = engines.asked("a")
    code, out, err = run("b", "-o", "json")
    assert code == 5
    assert f"RESUMES the run in --out after {judged} prompts" in err
    assert engines.asked("a") == before
    whole = as_json.loads(out)
    assert (whole.decision.reason, [sample.index for sample in whole.samples]) == ("Inconclusive", list(range(16)))
    assert len({sample.item for sample in whole.samples}) == 16
    assert check(whole).ok
    assert 0 <= engines.asked("a") - engines.since["a"] - whole.cost[0].requests <= 8  # a batch was under way when Ctrl-C came
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*REPORTS, RECORD}


def test_a_capture_serves_where_the_reference_cannot_be_reached(engines: Engines, prompts: str, tmp_path: Path) -> None:
    """Captured once, judged by it without the reference, and a ConfigMap of it for the cluster."""
    where = str(tmp_path / "reference.gz")
    code, out, err = accuracy(
        "capture", "--reference", engines.url("a"), "--golden", prompts, "--positions", "8", "--items", "8", "--out", where, "--yes"
    )
    assert code == 0
    assert "8 items" in out
    assert "next: polyfleet accuracy run" in err
    before = engines.asked("a")
    code, out, _ = accuracy(
        "run", "--record", where, "--candidate", engines.url("wrong"), "--golden", prompts, "--positions", "8", "--out",
        str(tmp_path / "out"), "--yes", "-o", "json",
    )  # fmt: skip
    assert code == 4
    assert as_json.loads(out).reference.name == "record"
    assert engines.asked("a") == before
    code, out, _ = accuracy("import", where, "--name", "lab")
    assert (code, yaml.safe_load(out)["metadata"]["name"]) == (0, "lab")


def test_the_first_difference_side_by_side(engines: Engines) -> None:
    ask = ("--prompt", "The value of the ", "--tokens", "16")
    code, out, _ = accuracy("compare", *engines.pair("wrong"), *ask)
    assert code == 2
    assert "differs at token" in out
    assert "REFERENCE" in out
    code, out, _ = accuracy("compare", *engines.pair("a"), *ask)
    assert (code, "1 of 1 answers are the same" in out) == (0, True)


@pytest.mark.parametrize(
    ("candidate", "more", "said"),
    [
        ("http://127.0.0.1:1/v1", (), "CandidateUnavailable"),  # nobody listens there
        ("", ("--candidate-model", "llama"), "byte-b"),  # it tells the names that it serves
    ],
)
def test_what_does_not_answer_is_not_blamed(
    candidate: str, more: tuple[str, ...], said: str, engines: Engines, prompts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither promoted nor blocked."""
    monkeypatch.setattr("accuracy.http.client.LOST_PAUSE_S", 0.0)
    code, out, _ = accuracy(
        "run", "--reference", engines.url("a"), "--candidate", candidate or engines.url("b"), "--golden", prompts, "--out", str(tmp_path),
        "--yes", *more,
    )  # fmt: skip
    assert (code, said in out) == (5, True)
