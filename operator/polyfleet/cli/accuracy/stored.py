"""`polyfleet accuracy report mdep/NAME`: what the cluster's AccuracyReports say of a model; with -o, one of them in full."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from accuracy.report import as_json, words
from accuracy.report.as_json import ReportError
from accuracy.report.model import Report
from accuracy.types import Verdict
from polyfleet.cli.accuracy import text
from polyfleet.cli.accuracy.running import show
from polyfleet.cli.bench.benching import api_failure
from polyfleet.cli.commands import style, where
from polyfleet.cli.failure import BLOCKED, FAILED, FINE, INCONCLUSIVE, Failure, usage
from polyfleet.cli.text import Style, plain, wrap
from polyfleet.errors import ApiError
from polyfleet.resources import ACCURACY_REPORTS

_WORST = (FAILED, BLOCKED, INCONCLUSIVE)  # which exit code stands for several reports


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    place = where(chosen)
    parts = chosen.what.split("/")[1:]
    if not 1 <= len(parts) <= 2 or not all(parts):
        raise usage(f"{chosen.what} names no model", "it must be mdep/NAME or mdep/NAMESPACE/NAME", "polyfleet accuracy report mdep/NAME")
    if place.snapshot:
        found, full = _archived(place.snapshot, place.namespace, parts), None
        if chosen.output != "text":
            raise usage(
                "a snapshot holds no report in full", "per-prompt numbers are left out of it", "leave -o out, or leave --snapshot out"
            )
    else:
        found, full = asyncio.run(_live(chosen, place.namespace, parts))
    if chosen.profile:
        found = [row for row in found if _candidate(row) == chosen.profile]
    if not found:
        of = f" on profile {chosen.profile}" if chosen.profile else ""
        raise Failure(
            f"no AccuracyReport of {chosen.what}{of}", "nothing was checked yet, or the model has another name", "kubectl get accr,mdep -A"
        )
    if full is not None:
        show(full, chosen.output, out)
        return text.code(full.decision.verdict)
    for row in found:
        for line in _lines(row, style(out)):
            print(line, file=out)
    codes = {_code(row) for row in found}
    return next((code for code in _WORST if code in codes), FINE)


def _archived(name: str, namespace: str, parts: Sequence[str]) -> list[dict[str, Any]]:
    from polyfleet.cli import archive, demo

    observed = demo.observed()[0] if name == "demo" else archive.read(name).observed
    rows = observed.reports if observed is not None else ()
    space = parts[0] if len(parts) == 2 else namespace
    return [
        {"metadata": {"namespace": row.namespace, "name": row.name}, "spec": dict(row.spec), "status": dict(row.status)}
        for row in rows
        if row.spec.get("deployment") == parts[-1] and space in ("", row.namespace)
    ]


async def _live(chosen: argparse.Namespace, namespace: str, parts: Sequence[str]) -> tuple[list[dict[str, Any]], Report | None]:
    """The AccuracyReports of the model, by name, and for another form than text the one report in full."""
    from polyfleet.certify.store import Store
    from polyfleet.cli.connect import connect
    from polyfleet.client import Client

    connection = await connect(chosen.kubeconfig, chosen.context, os.environ)
    space = parts[0] if len(parts) == 2 else "" if chosen.all_namespaces else namespace or connection.namespace
    async with Client(connection.configuration) as client:
        try:
            rows = [row async for page in client.list_pages(ACCURACY_REPORTS, space) for row in page.items]
            found = sorted(
                (row for row in rows if (row.get("spec") or {}).get("deployment") == parts[-1]),
                key=lambda row: (row["metadata"]["namespace"], row["metadata"]["name"]),
            )
            if chosen.output == "text":
                return found, None
            chosen_ones = [row for row in found if not chosen.profile or _candidate(row) == chosen.profile]
            if len(chosen_ones) != 1:
                names = ", ".join(_candidate(row) for row in chosen_ones) or "none"
                raise usage(f"-o {chosen.output} shows one report", f"there are {len(chosen_ones)}: {names}", "repeat with --profile NAME")
            one = chosen_ones[0]
            name = str((one.get("status") or {}).get("reportConfigMap") or "")
            content = await Store(client).report(one["metadata"]["namespace"], name) if name else None
        except ApiError as error:
            raise api_failure(error, "the AccuracyReports cannot be read") from error
    if content is None:
        raise Failure(
            f"accr/{one['metadata']['name']} has no report in full",
            f"ConfigMap {name or 'not named yet'}",
            "wait for its verdict: kubectl get accr",
        )
    try:
        return found, as_json.loads(content[0])
    except ReportError as error:
        raise Failure(
            f"the report in ConfigMap {name} cannot be used", str(error), f"kubectl delete cm {name}  # it is made anew"
        ) from error


def _candidate(row: Mapping[str, Any]) -> str:
    return str((row["spec"].get("candidate") or {}).get("profile") or "")


def _code(row: Mapping[str, Any]) -> int:
    verdict = (row.get("status") or {}).get("verdict")
    return text.code(Verdict(verdict)) if verdict in list(Verdict) else INCONCLUSIVE


def _lines(row: Mapping[str, Any], paint: Style) -> list[str]:
    """One report: the verdict in one line, and why where it is not Promote."""
    spec, status = row["spec"], row.get("status") or {}
    reference = (spec.get("reference") or {}).get("profile") or "an imported capture"
    verdict = status.get("verdict")
    parts = []
    if status.get("noiseRatio"):
        declared = f" ({words.arrow(str(status['declared']))})" if status.get("declared") else ""
        parts.append(f"noise ratio {status['noiseRatio']}{declared}")
    if status.get("prompts"):
        parts.append(f"{status['prompts']} prompts")
    certified = status.get("certified") or {}
    if certified.get("badPromptRateUpper") and certified.get("confidence"):
        rate, sure = (words.percent(float(certified[key])) for key in ("badPromptRateUpper", "confidence"))
        parts.append(f"≤ {rate} bad, {sure} sure")
    word = text.tone(verdict, str(verdict or "Running").upper(), paint)
    lines = [f" {_candidate(row)} vs {reference}  {word}  {' · '.join(parts)}"]
    state: Mapping[str, Any] = next((c for c in status.get("conditions") or () if c.get("type") == "AccuracyVerified"), {})
    if override := spec.get("override"):
        lines += wrap(
            f"overridden to {override.get('verdict')} by {plain(str(override.get('by')))}: {plain(str(override.get('reason')))}",
            first="   ",
        )
    if state.get("status") != "True" and state:
        lines += wrap(f"{state.get('reason')}: {plain(str(state.get('message') or ''))}", first="   ", rest="     ")
    for suspect in status.get("suspects") or ():
        lines += wrap(f"suspect {suspect.get('code')}: {plain(str(suspect.get('evidence') or ''))}", first="   ", rest="     ")
    return lines
