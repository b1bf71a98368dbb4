"""The commands that look at a fleet: plan, explain, usage, snapshot. None of them writes to a cluster."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import TextIO

from polyfleet.cli.failure import FINE, Failure
from polyfleet.cli.failure import usage as wrong
from polyfleet.cli.source import Where, read_live, situation
from polyfleet.cli.text import Style


def where(chosen: argparse.Namespace) -> Where:
    if chosen.namespace and chosen.all_namespaces:
        raise wrong("-n and -A exclude each other", f"-n {chosen.namespace} names one namespace, -A all", "leave one of the two out")
    snapshot = getattr(chosen, "snapshot", "")
    for flag, value in (("--context", chosen.context), ("--kubeconfig", chosen.kubeconfig)):
        if snapshot and value:
            raise wrong(f"--snapshot and {flag} exclude each other", "a snapshot needs no cluster", f"leave {flag} out, or --snapshot")
    return Where(snapshot, chosen.kubeconfig, chosen.context, chosen.namespace, tuple(getattr(chosen, "filename", ())))


def style(out: TextIO) -> Style:
    """Colour only on a terminal, and not where NO_COLOR (any value) or TERM=dumb asks for none."""
    return Style(colour=out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")


def plan(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    from polyfleet.cli import fix, plan_data, plan_text, planning

    seen = situation(where(chosen))
    _known_namespace(chosen.namespace, seen.snapshot.models, bool(seen.laid))
    planned = planning.solve(seen)
    fixes = fix.of_fleet(planned)
    if chosen.output in ("json", "yaml"):
        body = plan_data.document(planned, fixes)
        print(plan_data.to_json(body) if chosen.output == "json" else plan_data.to_yaml(body), file=out)
        return planned.code
    for line in plan_text.render(planned, fixes, form=chosen.output, namespace=chosen.namespace, style=style(out)):
        print(line, file=out)
    return planned.code


def _known_namespace(namespace: str, models: tuple[object, ...], laid: bool) -> None:
    known = sorted({str(getattr(model, "name", "")).split("/")[0] for model in models})
    if namespace and namespace not in known and not laid:
        from polyfleet.cli.failure import listed, nearest

        near = nearest(namespace, known, 1)
        raise Failure(
            f"no ModelDeployment in namespace {namespace}",
            f"namespaces with models: {listed(known)}",
            f"repeat with -n {near[0]}" if near else "repeat without -n",
        )


def explain(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    from polyfleet.cli import explaining, planning

    seen = situation(where(chosen))
    name = explaining.find(chosen.model, chosen.namespace, seen)
    planned = planning.solve(seen)
    lines = explaining.why_not(planned, name, chosen.why_not) if chosen.why_not else explaining.explain(planned, name, style(out))
    for line in lines:
        print(line, file=out)
    from polyfleet.cli.failure import SHORT

    return SHORT if name in planned.shortfalls or any(item.model == name for item in planned.refused) else FINE


def usage(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    from polyfleet.cli import plan_data
    from polyfleet.cli import usage as used

    seen = situation(where(chosen))
    _known_namespace(chosen.namespace, seen.snapshot.models, bool(seen.laid))
    report, units = used.of_situation(seen, counterfactual=not chosen.no_counterfactual)
    if chosen.output in ("json", "yaml"):
        body = used.document(report, units, seen.source)
        print(used.to_json(body) if chosen.output == "json" else plan_data.to_yaml(body), file=out)
        return FINE
    for line in used.render(report, units, seen.source, form=chosen.output, style=style(out)):
        print(line, file=out)
    return FINE


def snapshot(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    from polyfleet.cli import archive
    from polyfleet.cli.fleet import warm_of
    from polyfleet.cli.program import version

    given = where(chosen)
    only = (given.namespace,) if given.namespace else ()
    observed, source, taken_at, _ = read_live(given, os.environ, only)
    text = archive.write(observed, taken_at=taken_at, source=source, written_by=version(), warm=warm_of(observed))
    if chosen.output == "-":
        out.write(text)
        return FINE
    _write(Path(chosen.output), text)
    size = f"{len(observed.model_deployments)} models, {len(observed.nodes)} nodes, {len(text.encode()) / 1024:.0f} KiB"
    print(f"{chosen.output}: {size}; secrets, environment values and prompt text are left out", file=err)
    print(f"next: polyfleet plan --snapshot {chosen.output}", file=err)
    return FINE


def _write(path: Path, text: str) -> None:
    """The whole file or none: a snapshot that was cut short must not look like one."""
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise Failure(
            f"cannot write {path}", error.strerror or str(error), f"ls -ld {path.parent}; or polyfleet snapshot > FILE"
        ) from error
