"""`polyfleet accuracy report FILE|mdep/NAME`: a finished run in any form, or what the cluster's AccuracyReports say of a model."""

from __future__ import annotations

import argparse
import sys
from typing import TextIO

from accuracy.report import as_json
from accuracy.report.as_json import ReportError
from accuracy.report.model import Report
from polyfleet.cli.accuracy import asked, text
from polyfleet.cli.accuracy.running import show
from polyfleet.cli.failure import Failure


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    if chosen.what.split("/")[0] in ("mdep", "modeldeployment") and "/" in chosen.what:
        from polyfleet.cli.accuracy import stored

        return stored.run(chosen, out, err)
    report = load(chosen.what)
    show(report, chosen.output, out)
    return text.code(report.decision.verdict)


def load(name: str) -> Report:
    """A report out of a file, or of standard input for `-`. Raises Failure."""
    content = sys.stdin.buffer.read(asked.MOST_FILE + 1) if name == "-" else asked.content(name)
    try:
        return as_json.loads(content)
    except ReportError as error:
        raise Failure(f"{name} is no report that can be used", str(error), "give the report.json of `polyfleet accuracy run`") from error
