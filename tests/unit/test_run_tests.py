"""How `make test` runs steps side by side: lanes keep their order, a failure lets nothing new begin and cuts nothing off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools.paths import ROOT
from tools.run_tests import UP_AND_DOWN, Step, ends_of, run_together


def shell(name: str, program: str, **env: str) -> Step:
    return Step(name, ["sh", "-c", program], env)


def test_lanes_run_side_by_side_and_each_in_its_order(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`b` ends only when `a2`, the second of the other lane, has begun: one after another this would never end."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    lanes = [
        [shell("a1", "echo one"), shell("a2", 'echo two > "$FIFO"', FIFO=str(fifo))],
        [shell("b", 'echo got $(cat "$FIFO")', FIFO=str(fifo))],
    ]
    ended = {step.name: seconds for step, seconds in run_together(lanes)}
    assert None not in ended.values()
    assert list(ended) in (["a1", "a2", "b"], ["a1", "b", "a2"])
    out = capfd.readouterr().out
    assert "=== b\ngot two" in out
    assert out.index("=== a1\none") < out.index("=== begins: a2")


def test_a_failure_is_shown_whole_lets_the_others_end_and_nothing_begin(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`beside` can end only after `bad` has failed, because it waits for the end of the pipe that `bad` has open for writing."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    lanes = [
        [shell("bad", 'exec 3> "$FIFO"; echo why; exit 3', FIFO=str(fifo)), shell("never", "echo begun")],
        [shell("beside", 'cat "$FIFO"; echo whole', FIFO=str(fifo)), shell("neither", "echo begun")],
    ]
    ended = {step.name: seconds for step, seconds in run_together(lanes)}
    assert ended["bad"] is None
    out = capfd.readouterr().out
    assert "=== bad\nwhy" in out
    assert "never" not in ended
    assert "=== beside\nwhole" in out


def test_an_end_from_outside_reaches_every_child(tmp_path: Path) -> None:
    """SIGTERM to the runner is SIGINT to its steps, which end in good order before it does."""
    fifos = [tmp_path / "one", tmp_path / "two"]
    for fifo in fifos:
        os.mkfifo(fifo)
    child = """
import pathlib, signal, sys
fifo = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGINT, lambda *_: sys.exit(fifo.with_suffix(".tidied").write_text("")))
fifo.write_text("begun")
signal.pause()
"""
    program = f"""
import signal, sys
from tools.run_tests import UP_AND_DOWN, Step, ends_of, run_together
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    run_together([[Step(word, [sys.executable, "-c", {child!r}, word])] for word in sys.argv[1:]])
except KeyboardInterrupt:
    sys.exit(130)
"""
    with subprocess.Popen([sys.executable, "-c", program, *map(str, fifos)], cwd=ROOT) as runner:
        assert [fifo.read_text() for fifo in fifos] == ["begun", "begun"]
        runner.send_signal(signal.SIGTERM)
        assert runner.wait() == 130
    assert all(fifo.with_suffix(".tidied").exists() for fifo in fifos)


@pytest.mark.parametrize("kinds", [["real", "process"], ["process"]])
def test_every_scenario_runs_once_on_each_kind(kinds: list[str]) -> None:
    steps = [step for lane in ends_of(kinds) for step in lane]
    assert sorted(step.env["POLYFLEET_E2E_NODES"] for step in steps) == sorted(2 * kinds)
    for kind in kinds:
        whole, apart = [step.command for step in steps if step.env["POLYFLEET_E2E_NODES"] == kind]
        assert [word for word in whole if "tests/e2e" in word] == ["tests/e2e", f"--ignore={UP_AND_DOWN}"]
        assert [word for word in apart if "tests/e2e" in word] == [UP_AND_DOWN]
    assert (ROOT / UP_AND_DOWN).exists()
