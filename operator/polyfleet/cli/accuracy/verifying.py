"""`polyfleet accuracy verify FILE`: the verdict again, from the per-prompt numbers alone."""

from __future__ import annotations

import argparse
from typing import TextIO

from accuracy.verify import check
from polyfleet.cli.accuracy import text
from polyfleet.cli.accuracy.reporting import load
from polyfleet.cli.commands import style
from polyfleet.cli.failure import FAILED
from polyfleet.cli.text import plain, wrap


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    """Ends with the verdict's code where it is reproduced, else with 1."""
    report = load(chosen.file)
    found = check(report)
    paint = style(out)
    print(text.line(report, paint), file=out)
    word = paint.good("verified") if found.ok else paint.bad("NOT VERIFIED")
    for row in wrap(f"{word}: {plain(found.message)}", first=" ", rest="   "):
        print(row, file=out)
    for difference in found.differences[3:20]:
        for row in wrap(plain(difference), first="   ", rest="     "):
            print(row, file=out)
    return text.code(report.decision.verdict) if found.ok else FAILED
