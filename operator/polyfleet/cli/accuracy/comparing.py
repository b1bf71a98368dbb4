"""`polyfleet accuracy compare`: the first difference of two endpoints side by side, or two reports figure by figure."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import TextIO

from accuracy.compare import MOST_TOKENS, Difference, first_difference
from accuracy.golden import combine
from accuracy.http.client import Client, HttpError, connect
from accuracy.http.endpoint import Endpoint, EndpointError
from accuracy.http.probe import ProbeError, probe
from accuracy.report import figures, words
from accuracy.report.model import Report
from accuracy.types import Item, Token
from polyfleet.cli.accuracy import asked, text
from polyfleet.cli.accuracy.reporting import load
from polyfleet.cli.accuracy.running import say
from polyfleet.cli.commands import style
from polyfleet.cli.failure import CHANGES, FINE, Failure, usage
from polyfleet.cli.text import Column, Style, cut, plain, table, wrap

CLOSE = 1.0  # nats: below it a flip is a close call that rounding may turn (the default flip margin)
_BLOCK = 46  # cells of one of the two columns


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    """Ends with 0 where nothing differs, else with 2."""
    urls = bool(chosen.reference) + bool(chosen.candidate)
    if len(chosen.files) > 2:
        raise usage("at most two reports can be compared", f"{len(chosen.files)} are given", "polyfleet accuracy compare A.json B.json")
    if len(chosen.files) == 2:
        if urls:
            raise usage("two reports and endpoints exclude each other", "two reports are compared with each other", "leave one of them out")
        return _reports(load(chosen.files[0]), load(chosen.files[1]), chosen.files, out)
    report = load(chosen.files[0]) if chosen.files else None
    if urls < 2:
        if report is None or urls:
            again = "polyfleet accuracy compare --reference URL --candidate URL"
            raise usage("two endpoints are needed", "--reference or --candidate is missing", again)
        return _worst(report, chosen.files[0], out)
    if not 1 <= chosen.tokens <= MOST_TOKENS:
        raise usage(f"--tokens {chosen.tokens} is not right", f"a whole number from 1 to {MOST_TOKENS}", "--tokens 64")
    items = _items(chosen, report)
    sides = asked.endpoint("reference", chosen.reference, chosen, os.environ), *asked.replicas(chosen, os.environ)[:1]
    if len(chosen.candidate) > 1:
        say(err, f"only the first of {len(chosen.candidate)} candidates is asked")
    found = asyncio.run(_ask(sides[0], sides[1], items, chosen.tokens))
    paint = style(out)
    for difference in found:
        for line in _shown(difference, paint):
            print(line, file=out)
    same = sum(difference.kind == "Same" for difference in found)
    print(f" {same} of {len(found)} answers are the same", file=out)
    return FINE if same == len(found) else CHANGES


def _items(chosen: argparse.Namespace, report: Report | None) -> list[Item]:
    if chosen.prompt:
        return [Item("prompt", "", text=chosen.prompt)]
    known = combine(asked.sets(chosen))
    wanted = chosen.item or ([row.item for row in report.worst] if report is not None else [])
    by_id = {item.id: item for item in known}
    if lost := [name for name in wanted if name not in by_id]:
        raise Failure(
            f"no item {lost[0]} in these golden sets", f"they have {len(known)} items", "give the golden set of the run: --golden FILE"
        )
    if wanted:
        return [by_id[name] for name in dict.fromkeys(wanted)][: max(1, chosen.count)]
    spread: dict[str, Item] = {}  # the first of each kind, so that a few show much
    for item in known:
        spread.setdefault(item.stratum, item)
    return list(spread.values())[: max(1, chosen.count)]


async def _ask(reference: Endpoint, candidate: Endpoint, items: Sequence[Item], tokens: int) -> list[Difference]:
    async with AsyncExitStack() as stack:
        clients = [await _probed(stack, side) for side in (reference, candidate)]
        try:
            return [await first_difference(clients[0], clients[1], item, tokens) for item in items]
        except HttpError as error:
            raise Failure(
                "the endpoints cannot be compared", str(error), "repeat with fewer --tokens, or with another --prompt or --item"
            ) from error


async def _probed(stack: AsyncExitStack, side: Endpoint) -> Client:
    try:
        client = await stack.enter_async_context(connect(side))
        await probe(client)
    except (HttpError, ProbeError, EndpointError) as error:
        raise Failure(
            f"the {side.label} cannot be asked", str(error), f"curl {side.base}/v1/models  # whether it answers at all"
        ) from error
    return client


def _shown(found: Difference, paint: Style) -> Iterator[str]:
    yield paint.bold(f" {plain(found.item)}") + f"  {_summary(found)}"
    if found.rendered:
        yield from wrap(found.rendered, first="   ", rest="     ")
    for side, name in ((found.reference, "reference"), (found.candidate, "candidate")):
        for event in side.events:
            yield from wrap(f"{name}: {event.code} {plain(event.detail)}", first="   ", rest="     ")
    if found.kind == "Same":
        return
    if found.agreed:
        tail = plain(found.agreed)
        yield f"   both: {'…' if len(tail) > 80 else ''}{tail[-80:]}"
    columns = (Column("REFERENCE", least=20, shrinks=True), Column("CANDIDATE", least=20, shrinks=True))
    start = len(found.agreed)
    rows = [[cut(plain(side.text[start : start + 160]), _BLOCK) for side in (found.reference, found.candidate)]]
    ours, theirs = ([_token(token) for token in side.alternatives] for side in (found.reference, found.candidate))
    rows += [[ours[n] if n < len(ours) else "", theirs[n] if n < len(theirs) else ""] for n in range(max(len(ours), len(theirs)))]
    yield from table(columns, rows, indent="   ")


def _summary(found: Difference) -> str:
    if found.kind == "Same":
        return "the same to the last token"
    if found.kind == "Failed":
        return "cannot be compared"
    if found.kind == "Length":
        return (
            f"the same up to token {found.place}, where one of them ends ({found.reference.finish_reason}, {found.candidate.finish_reason})"
        )
    where = "differs" if found.place is None else f"differs at token {found.place}"
    if found.margin is None:
        return f"{where}; how sure the reference is was not told"
    bound = "at least " if found.at_least else ""
    sure = "a close call that rounding may turn" if found.margin <= CLOSE and not found.at_least else "not explained by rounding"
    if found.at_least and found.margin <= CLOSE:
        sure = "the candidate's token is not among the reference's likeliest"
    return f"{where}: the reference prefers its own by {bound}{words.number(found.margin)} nats, {sure}"


def _token(token: Token) -> str:
    name = repr(token.text) if token.text else f"id {token.id}"
    return f"{words.number(token.logprob):>8}  {name}"


def _worst(report: Report, name: str, out: TextIO) -> int:
    """The worst items as the report has them."""
    if not report.worst:
        print(" the report names no worst items", file=out)
        return FINE
    rows = [[row.item, words.DASH if row.position is None else str(row.position), words.number(row.kl), row.output] for row in report.worst]
    columns = (Column("ITEM"), Column("TOKEN", right=True), Column("KL THERE", right=True), Column("CANDIDATE'S OUTPUT", shrinks=True))
    for line in table(columns, rows):
        print(line, file=out)
    print(f" side by side: polyfleet accuracy compare {name} --reference URL --candidate URL", file=out)
    return CHANGES


def _reports(left: Report, right: Report, names: Sequence[str], out: TextIO) -> int:
    """Two runs, figure by figure: another engine version, another level, another day."""
    rows = [
        [name, a, b]
        for name, a, b in zip([row[0] for row in _figures(left)], *([r[1] for r in _figures(x)] for x in (left, right)), strict=True)
    ]
    ours, theirs = ({row.name: row for row in figures.ratios(x, lambda sample: sample.stratum)} for x in (left, right))
    strata = [*ours, *(name for name in theirs if name not in ours)]
    rows += [[f"ratio in {name}", *(_ratio(side.get(name)) for side in (ours, theirs))] for name in strata]
    columns = (Column(""), Column(cut(names[0], 40), shrinks=True), Column(cut(names[1], 40), shrinks=True))
    for line in table(columns, [[("  " if a == b else "* ") + name, a, b] for name, a, b in rows]):
        print(line, file=out)
    return FINE if text.code(left.decision.verdict) == text.code(right.decision.verdict) else CHANGES


def _ratio(row: figures.Ratio | None) -> str:
    return words.DASH if row is None or row.ratio is None else f"{words.number(row.ratio)} of {words.optional(row.boundary)}, {row.bad} bad"


def _figures(report: Report) -> list[tuple[str, str]]:
    decision = report.decision
    return [
        ("pair", words.pair(report)),
        ("verdict", words.verdict_word(report)),
        ("reason", str(decision.reason)),
        ("noise ratio", words.optional(decision.noise_ratio)),
        ("prompts", str(decision.prompts)),
        ("bad prompts, at most", words.DASH if decision.certified_rate is None else words.percent(decision.certified_rate)),
        ("mode", str(report.mode or words.DASH)),
        ("level", report.policy.level),
        ("policy", words.short(report.policy.digest)),
        ("golden sets", ", ".join(f"{name} {words.short(digest)}" for name, digest, _ in report.golden)),
        ("suspects", ", ".join(suspect.code for suspect in report.suspects) or words.DASH),
        ("made", report.made),
    ]
