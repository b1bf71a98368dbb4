"""`polyfleet accuracy run`: says what it will cost, certifies, writes the reports. The next run goes on where Ctrl-C came."""

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
from accuracy.types import Decision, Mode, Reason
from polyfleet.cli.accuracy import asked, text
from polyfleet.cli.accuracy.folder import RECORD, REPORTS, STATE, Folder
from polyfleet.cli.accuracy.progress import Bar, evidence
from polyfleet.cli.commands import style
from polyfleet.cli.failure import FINE, Failure, usage
from polyfleet.cli.text import plain, wrap

_NOTHING = Progress(Decision(None, Reason.RUNNING, "", 0), "", 0, 0)
LOST = (Reason.CANDIDATE_UNAVAILABLE, Reason.REFERENCE_UNAVAILABLE)  # what was judged before stays good
SAVE_S, CAPTURED_S = 2.0, 15.0  # between two times that the state is written, seconds


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    job = job_of(chosen)
    folder = Folder(chosen.out)
    if folder.unfinished():  # always: beginning anew would be a second try at the same error rate
        saved = folder.load(job)
        job = replace(
            job, resume=saved.state, earlier=saved.samples, record=saved.record or job.record, captured=saved.captured, spent=saved.spent
        )
    elif chosen.resume:
        raise usage(f"--resume: {folder.path} holds no unfinished run", f"there is no {STATE} in it", "leave --resume out")
    folder.prepare()
    for row in announced(job):
        say(err, row)
    if not agreed(chosen, err):
        say(err, "nothing was sent")
        return FINE
    outcome = asyncio.run(_certify(job, folder, err))
    folder.finish(outcome.report, outcome.record)
    if outcome.state and outcome.decision.reason in LOST:
        stands = Progress(
            outcome.decision, outcome.state, 0, 0, samples=outcome.report.samples, record=outcome.record, cost=outcome.report.cost
        )
        folder.save(job, stands)
        say(err, f"where it stands is kept in {folder.path / STATE}: the same command goes on there")
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


def announced(job: Job) -> Iterator[str]:
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
    if job.earlier:
        yield (
            f"RESUMES the run in --out after {len(job.earlier)} prompts: they count, and none of them is asked again"
            + ("; the reference is not captured again" if job.record is not None else "")
        )
    elif job.captured is not None:
        yield f"RESUMES the run in --out: the reference has answered {len(job.captured.items)} items, which it is not asked again"
    yield from _bill(job)


def _bill(job: Job) -> Iterator[str]:
    """The cost in the strongest mode that is allowed, and what it is where one side has to go token by token."""
    modes = [mode for mode in job.policy.modes if mode is not Mode.TEXT_ONLY] or [Mode.PROMPT_LOGPROBS]
    first = job.record.mode if job.record is not None else modes[0]
    pair = checker.estimate(job, first, len(job.earlier))
    for name, cost in zip(("the reference", "the candidate"), pair, strict=True):
        if cost.requests:
            tokens = f"{words.about(cost.prompt_tokens)} prompt and {words.about(cost.generated_tokens)} generated tokens"
            least = f", {words.seconds(round(cost.seconds))} or more at --max-rps" if cost.seconds else ""
            yield f"about {words.about(cost.requests)} requests to {name}, {tokens}{least}"
    if job.record is None and first is Mode.PROMPT_LOGPROBS and Mode.STEPWISE in modes:
        steps = sum(cost.requests for cost in checker.estimate(job, Mode.STEPWISE, len(job.earlier)))
        yield f"about {words.about(steps)} requests in all where an endpoint cannot score a prompt at once"
    yield "a gross fault ends it within the first prompts"


def agreed(chosen: argparse.Namespace, err: TextIO) -> bool:
    """Asks a person. Raises Failure where nobody can be asked: what costs tokens is not begun by accident."""
    if chosen.yes:
        return True
    if not (sys.stdin.isatty() and err.isatty()):
        raise usage("nobody can be asked whether to start", "standard input is no terminal", "repeat with --yes")
    err.write("start? [y/N] ")
    err.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


async def _certify(job: Job, folder: Folder, err: TextIO) -> Outcome:
    bar, reached, saved_at = Bar(err), _NOTHING, time.monotonic()
    told: list[str] = []

    def progress(now: Progress) -> None:
        nonlocal reached, saved_at
        reached = now
        for note in now.notes[len(told) :]:
            bar.close()
            say(err, note)
            told.append(note)
        parts = (now.stratum, evidence(now.decision)) if now.state else ("capturing the reference", now.stratum)
        bar.show(now.done, now.total, " · ".join(part for part in parts if part))
        # A captured part is packed anew each time, a record once.
        if time.monotonic() - saved_at >= (SAVE_S if now.state else CAPTURED_S):
            folder.save(job, now)
            saved_at = time.monotonic()

    task = asyncio.ensure_future(checker.certify(job, on_progress=progress, now=moment()))
    try:
        with interrupting(task.cancel):
            return await task
    except asyncio.CancelledError:
        begun = job.resume or job.captured is not None  # by an earlier run, which is kept as it is
        if reached.state or reached.captured is not None:
            folder.save(job, reached)
        elif not begun:
            raise Failure("interrupted", "nothing had been answered yet", "repeat the command") from None
        prompts = len(reached.samples or job.earlier)
        where = f"after {prompts} of at most {job.policy.max_prompts} prompts" if prompts else "while the reference was captured"
        raise Failure(
            f"interrupted {where}", f"where it stands is kept in {folder.path / STATE}", "repeat the command: it goes on there"
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
