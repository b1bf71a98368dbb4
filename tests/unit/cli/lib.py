"""Runs one command in this process, and makes snapshot files of observed clusters."""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

from polyfleet.cli import archive, demo
from polyfleet.cli.program import call
from polyfleet.cli.text import cells
from polyfleet.state import Observed

GOLDEN = Path(__file__).parents[2] / "golden" / "cli"
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def polyfleet(*arguments: str) -> Done:
    """The command's exit code and output; nothing of it goes to a terminal, so it has no colour."""
    out, err = io.StringIO(), io.StringIO()
    code = call(list(arguments), out, err)
    assert "Traceback" not in out.getvalue() + err.getvalue()
    return Done(code, out.getvalue(), err.getvalue())


def failed(*arguments: str, code: int = 1) -> tuple[str, str, str]:
    """(what, why, next) of a command that must fail; nothing on standard output, no line wider than 100 columns."""
    done = polyfleet(*arguments)
    assert (done.code, done.out) == (code, ""), done
    text = re.sub(r"\n {7,}(?=\S)", " ", done.err.rstrip("\n"))  # joins lines that were wrapped
    lines = text.splitlines()
    assert [line.split()[0] for line in lines] == ["error:", "why:", "next:"], done.err
    assert all(cells(line) <= 100 for line in done.err.splitlines()), done.err
    return lines[0].removeprefix("error: "), lines[1].removeprefix("  why:  "), lines[2].removeprefix("  next: ")


def untimed(text: str) -> str:
    """Without the time of the solve, and the blanks that its digits move."""
    return re.sub(r" in ([0-9]+|N) ms([^\n]*?)(  +(?=snapshot)|(?=\n))", r" in N ms\2  ", text)


def golden(name: str, text: str) -> None:
    """Compares with a file that somebody has read; the time of the solve is not part of it."""
    text = untimed(text)
    path = GOLDEN / name
    if os.environ.get("POLYFLEET_REGENERATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def snapshot_file(folder: Path, observed: Observed | None = None, taken_at: str = "2026-11-24T10:12:00Z") -> Path:
    """A file as `polyfleet snapshot` writes it: of the given cluster, else of the demo."""
    if observed is None:
        observed, taken_at = demo.observed()
    path = folder / "fleet.json"
    path.write_text(
        archive.write(observed, taken_at=taken_at, source="live, context test", written_by="0.1.0", warm=None), encoding="utf-8"
    )
    return path
