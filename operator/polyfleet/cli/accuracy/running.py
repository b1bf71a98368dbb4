"""`polyfleet accuracy run`: says what it will cost, certifies, writes the reports. Ctrl-C keeps what was asked; --resume goes on there."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TextIO

from accuracy import certify as checker
from accuracy.certify import Job, Outcome, Progress
from accuracy.report import as_json, html, junit, markdown, words
from accuracy.report.model import Report
from accuracy.types import Cost, Decision, Reason
from polyfleet.cli.accuracy import asked, text
from polyfleet.cli.accuracy.folder import RECORD, REPORTS, STATE, Folder
from polyfleet.cli.accuracy.progress import Bar, evidence
from polyfleet.cli.commands import style
from polyfleet.cli.failure import FINE, Failure, usage
from polyfleet.cli.text import plain, wrap

_NOTHING = Progress(Decision(None, Reason.RUNNING, "", 0), "", 0, 0)
SAVE_S = 2.0  # between two times that the state is written, seconds


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    job = job_of(chosen)
    folder = Folder(chosen.out)
    if folder.unfinished() and not chosen.resume:
        raise Failure(
            f"{folder.path / STATE} holds an unfinished run",
            "its prompts count; asked again in a new run they would not",
            "repeat with --resume, or give another --out",
        )
    if chosen.resume:
        if not folder.unfinished():
            raise usage(f"--resume: {folder.path} holds no unfinished run", f"there is no {STATE} in it", "leave --resume out")
        saved = folder.load(job)
        job = replace(job, resume=saved.state, earlier=saved.samples, record=saved.record or job.record)
    folder.prepare()
    cost = checker.estimate(job)
    for row in announced(job, cost):
        say(err, row)
    if not agreed(chosen.yes, err):
        say(err, "nothing was sent")
        return FINE
    outcome = asyncio.run(_certify(job, folder, err))
    folder.finish(outcome.report, outcome.record)
    show(outcome.report, chosen.output, out)
    kept = ", ".join((*REPORTS, RECORD) if (folder.path / RECORD).is_file() else REPORTS)
    say(err, f"{folder.path}: {kept}")
    return text.code(outcome.decision.verdict)


def job_of(chosen: argparse.Namespace) -> Job:
    sources = sum(map(bool, (chosen.reference, chosen.record, chosen.own)))
    if chosen.own and sources > 1:
        raise usage("--self and a reference exclude each other", "--self compares the candidate with itself", "leave one of the two out")
    if not sources:
        again = f"polyfleet accuracy run --candidate {chosen.candidate[0]} --reference URL"
        raise usage("nothing to compare with", "neither --reference nor --record nor --self is given", again)
    golden = asked.sets(chosen)
    return Job(
        policy=asked.policy(chosen, golden),
        golden=golden,
        candidates=asked.replicas(chosen, os.environ),
        reference=asked.endpoint("reference", chosen.reference, chosen, os.environ) if chosen.reference else None,
        record=asked.record(chosen.record) if chosen.record else None,
        modalities=("Text", *chosen.modality),
        own_reference=chosen.own,
        quote=not chosen.no_quote,
    )


def announced(job: Job, cost: Cost) -> Iterator[str]:
    """What will happen and what it costs, before anything is sent."""
    policy = job.policy
    against = "itself" if job.own_reference else "a stored record" if job.reference is None else job.reference.label
    count = sum(len(one.items) for one in job.golden)
    yield (
        f"{', '.join(one.label for one in job.candidates)} against {against}: level {policy.level} certifies at most "
        f"{words.percent(policy.bad_prompt_rate)} bad prompts, {words.percent(1 - policy.alpha)} sure; {count} golden items in "
        f"{len(policy.strata)} strata, at most {policy.max_prompts} prompts"
    )
    if policy.declared:
        yield f"declared: {words.arrow(policy.declared)}, with the margins of that pair"
    tokens = f"{words.grouped(cost.prompt_tokens)} prompt and {words.grouped(cost.generated_tokens)} generated tokens"
    sides = "each side" if job.reference is not None else "the candidate"
    yield f"about {words.grouped(cost.requests)} requests, {tokens} to {sides}; a fault ends it within the first prompts"
    if job.earlier:
        yield f"it goes on after {len(job.earlier)} prompts"


def agreed(yes: bool, err: TextIO) -> bool:
    """Asks a person; a script that gave the command has said so already."""
    if yes or not (sys.stdin.isatty() and err.isatty()):
        return True
    err.write("start? [y/N] ")
    err.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


async def _certify(job: Job, folder: Folder, err: TextIO) -> Outcome:
    bar, reached, saved_at = Bar(err), _NOTHING, 0.0

    def progress(now: Progress) -> None:
        nonlocal reached, saved_at
        reached = now
        bar.show(now.done, now.total, " · ".join(part for part in (now.stratum, evidence(now.decision)) if part))
        if now.state and time.monotonic() - saved_at >= SAVE_S:
            folder.save(job, now)
            saved_at = time.monotonic()

    task = asyncio.ensure_future(checker.certify(job, on_progress=progress, now=moment()))
    try:
        with interrupting(task.cancel):
            return await task
    except asyncio.CancelledError:
        if not reached.state:
            raise Failure("interrupted", "no prompt had been judged yet", "repeat the command") from None
        folder.save(job, reached)
        raise Failure(
            f"interrupted after {len(reached.samples)} of at most {job.policy.max_prompts} prompts",
            f"where it stands is kept in {folder.path / STATE}",
            "repeat the command with --resume",
        ) from None
    finally:
        bar.close()


@contextmanager
def interrupting(stop: Callable[[], object]) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) calls `stop`; a second Ctrl-C ends the program at once."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def interrupt() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
        stop()

    try:
        for number in signals:
            loop.add_signal_handler(number, interrupt)
    except (RuntimeError, ValueError):
        yield  # not the main thread: whoever runs it there has their own way to end it
        return
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def show(report: Report, form: str, out: TextIO) -> None:
    """The report on standard output in one of its forms."""
    if form == "text":
        for row in text.render(report, style(out)):
            print(row, file=out)
        return
    writers = {"json": as_json.dumps, "md": markdown.render, "html": html.render, "junit": junit.render}
    out.write(writers[form](report))


def say(err: TextIO, message: str) -> None:
    for row in wrap(plain(message), rest="  "):
        print(row, file=err, flush=True)


def moment() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
