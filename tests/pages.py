"""Runs a page of `docs/` as it is written: its commands in order, its files, and a comparison of what was promised with what came.

    ```sh               commands, run by bash in a scratch folder; any that fails fails the page (`|| true` where failing is the point)
    ```text             directly after it: its whole output, standard error included
    ```yaml             a file, if the first line is `# file: NAME`; it is saved before the commands that follow
    other blocks        are not run

In an expected output `…` stands for any run of characters of a line (ages, uids, counts), a line of its own for any number of lines, and
the width of gaps between columns is free. The scratch folder has links to the checkout's `charts` and `examples`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tools.paths import ROOT

LINKS = ("charts", "examples")
SECONDS = 300  # for one block; far above what any takes, so that only a hang is cut off
_FENCE = re.compile(r"^```(\w*)\s*$")
_FILE = re.compile(r"^# file: ([\w.-]+)\s*$")
_ANY = "…"


class PageError(AssertionError):
    """A block that failed or promised something else; names the page and the line."""


@dataclass(frozen=True, slots=True)
class Block:
    line: int  # of its fence
    word: str  # sh, text, yaml, ...
    text: str


def blocks(page: str) -> Iterator[Block]:
    start, word, lines = 0, "", list[str]()
    for number, line in enumerate(page.splitlines(), 1):
        fence = _FENCE.match(line)
        if fence is None:
            lines.append(line)
        elif start:
            yield Block(start, word, "\n".join(lines))
            start = 0
        else:
            start, word, lines = number, fence[1], []
    if start:
        raise PageError(f"line {start}: the block does not end")


def outputs(found: list[Block]) -> dict[int, str]:
    """Line of an sh block -> what it promises. A promise belongs to the block right before it."""
    promised = {before.line: after.text for before, after in pairwise(found) if (before.word, after.word) == ("sh", "text")}
    lost = [b.line for a, b in pairwise([Block(0, "", ""), *found]) if b.word == "text" and a.word != "sh"]
    if lost:
        raise PageError(f"line {lost[0]}: a text block without commands right before it promises nothing")
    return promised


def run(path: Path, folder: Path, env: Mapping[str, str]) -> int:
    """Runs the page in the folder; returns how many blocks of commands it had."""
    found = list(blocks(path.read_text(encoding="utf-8")))
    promised, count = outputs(found), 0
    for name in LINKS:
        (folder / name).symlink_to(ROOT / name)
    for block in found:
        if block.word == "yaml" and (name := _FILE.match(block.text.partition("\n")[0])):
            (folder / name[1]).write_text(block.text + "\n", encoding="utf-8")
        if block.word != "sh":
            continue
        count += 1
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text], cwd=folder, env=dict(env), text=True, timeout=SECONDS, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        where = f"{path.name}:{block.line}"
        if done.returncode:
            raise PageError(f"{where}: ended with {done.returncode}\n{block.text}\n--- it printed\n{done.stdout}")
        if block.line in promised and not fits(promised[block.line], done.stdout):
            raise PageError(f"{where}: printed something else\n--- promised\n{promised[block.line]}\n--- it printed\n{done.stdout}")
    return count


def fits(promised: str, printed: str) -> bool:
    parts = ["(?:.*\n)*" if line == _ANY else re.escape(line).replace(_ANY, ".*") + "\n" for line in _lines(promised)]
    return re.fullmatch("".join(parts), "".join(f"{line}\n" for line in _lines(printed))) is not None


def _lines(text: str) -> list[str]:
    return [re.sub(r"[ \t]+", " ", line).strip() for line in text.strip().splitlines()]
