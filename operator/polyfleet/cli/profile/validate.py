"""`polyfleet profile validate FILE ...`: schema, rules, provenance, rooflines and order among devices; and the evidence per profile.

Works offline: the files are judged together with the shipped profiles, because the order among devices needs both sides.

Ends with 0 if nothing is wrong or only warnings are left, with 1 on an error (with --strict on a warning too). An *error* is what the API
server would refuse, what cannot be read, a name that is given twice, and an entry or number that planning would leave out. A *warning* is
what is used although something speaks against it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TextIO

from pydantic import ValidationError

from hwprofiles import HardwareProfileSpec, load_shipped, validate
from hwprofiles.claims import in_order
from hwprofiles.overlap import overlaps
from hwprofiles.trust import Fault, trusted
from hwprofiles.words import doubtful
from polyfleet.cli.failure import FAILED, FINE
from polyfleet.cli.profile import fields as profile_fields
from polyfleet.cli.profile import files as profile_files
from polyfleet.cli.profile.source import day
from polyfleet.cli.profile.terms import age, best, counts, grid, machine, oldest, style, width
from polyfleet.cli.text import Column, Style, count, wrap

SHIPPED_FILES = "(shipped)"


@dataclass(frozen=True, slots=True)
class Problem:
    file: str
    profile: str  # "" where the document has no usable name
    field: str
    message: str
    error: bool
    document: int = 0


@dataclass(frozen=True, slots=True)
class Checked:
    specs: Mapping[str, HardwareProfileSpec]  # of the files
    files: Mapping[str, str]  # profile -> file
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    today: str

    @property
    def errors(self) -> int:
        return sum(problem.error for problem in self.problems)

    @property
    def warnings(self) -> int:
        return len(self.problems) - self.errors


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    found = check(chosen.files, day(chosen.today))
    code = FAILED if found.errors or (chosen.strict and found.warnings) else FINE
    for note in found.notes:
        print(f"note: {note}", file=err)
    if chosen.output in ("json", "yaml"):
        print(machine(document(found, code), chosen.output), file=out)
        return code
    for line in render(found, chosen.output, style(out), width(out)):
        print(line, file=out)
    return code


def check(arguments: list[str], today: str) -> Checked:
    shipped = load_shipped()
    if not arguments:
        return _judged(shipped, dict.fromkeys(shipped, SHIPPED_FILES), [], [], {}, today)
    paths, notes = profile_files.expand(arguments)
    specs: dict[str, HardwareProfileSpec] = {}
    files: dict[str, str] = {}
    problems: list[Problem] = []
    for path in paths:
        for item in profile_files.documents(path):
            if isinstance(item, str):
                problems.append(Problem(path, "", "", item, True))
                continue
            name = str(item.body["metadata"]["name"])
            if name in files:
                problems.append(Problem(path, name, "metadata.name", f"{name} is given twice, first in {files[name]}", True, item.number))
                continue
            files[name] = path
            try:
                specs[name] = HardwareProfileSpec.parse(item.body["spec"])
            except ValidationError as error:
                problems += [Problem(path, name, field, text, True, item.number) for field, text in profile_fields.faults(error)]
    others = {name: spec for name, spec in shipped.items() if name not in files}
    return _judged(specs, files, problems, notes, others, today)


def _judged(
    specs: Mapping[str, HardwareProfileSpec],
    files: Mapping[str, str],
    problems: list[Problem],
    notes: list[str],
    others: Mapping[str, HardwareProfileSpec],
    today: str,
) -> Checked:
    fatal = {(name, finding.field, finding.reason) for name, spec in specs.items() for finding in validate(spec) if finding.fatal}
    faults = trusted({**others, **specs}, today=today).faults
    before = {_identity(fault) for fault in trusted(others, today=today).faults} if others else set()
    for fault in faults:
        error = fault.ignored or (fault.profile, fault.field, fault.reason) in fatal
        if fault.profile in specs:
            end = " (left out of planning)" if fault.ignored else ""
            problems.append(
                Problem(files[fault.profile], fault.profile, f"spec.{fault.field}", f"{fault.reason}: {fault.message}{end}", error)
            )
        elif _identity(fault) not in before:  # a new file can put an entry of another profile in doubt
            text = f"{fault.reason}: {fault.message} (caused by these files)"
            problems.append(Problem(SHIPPED_FILES, fault.profile, f"spec.{fault.field}", text, False))
    for name, spec in specs.items():
        problems += [Problem(files[name], name, f"spec.{field}", f"PrecisionUnknown: {text}", False) for field, text in doubtful(spec)]
    problems += _alike(specs, files, others)
    return Checked(dict(sorted(specs.items())), files, tuple(dict.fromkeys(problems)), tuple(notes), today)


def _identity(fault: Fault) -> Fault:
    """What the fault is about, without its numbers."""
    return replace(fault, message="")


def _alike(
    specs: Mapping[str, HardwareProfileSpec], files: Mapping[str, str], others: Mapping[str, HardwareProfileSpec]
) -> Iterator[Problem]:
    """A node that two profiles match equally belongs to neither; the last of the given ones is told."""
    for found in overlaps({**others, **specs}):
        for name, index in reversed(list(zip(found.profiles, found.entries, strict=True))):
            if name in specs:
                rest = " and ".join(other for other in found.profiles if other != name)
                labels = ", ".join(f"{key}={value}" for key, value in found.labels)
                text = (
                    f"{rest} fits the same nodes equally well ({labels} with {found.resource}): they belong to neither (NodeUnmatched),"
                    " pools that name one excepted; make one of the entries more specific"
                )
                yield Problem(files[name], name, f"spec.match[{index}]", text, False)
                break


_COLUMNS = (
    Column("PROFILE"), Column("MEASURED", right=True), Column("PUBLISHED", right=True), Column("ESTIMATED", right=True), Column("BEST"),
    Column("OLDEST"), Column("AGE", right=True), Column("VERDICT"),
)  # fmt: skip
_DROP = ("BEST", "OLDEST", "AGE")


def render(found: Checked, form: str, style: Style, room: int) -> Iterator[str]:
    place = ""
    for problem in sorted(found.problems, key=lambda item: (item.file, item.document, item.profile, not item.error, in_order(item.field))):
        number = f", document {problem.document}" if problem.document else ""
        here = f"{problem.file}{number}" + (f", profile {problem.profile}" if problem.profile else "")
        if form == "md":
            field = f"`{problem.field}` " if problem.field else ""
            yield f"- **{'error' if problem.error else 'warning'}** {here}: {field}{problem.message}"
            continue
        if here != place:
            yield here
            place = here
        word = "error   " if problem.error else "warning "
        lines = wrap(f"{problem.field}: {problem.message}" if problem.field else problem.message, room, first=f"  {word} ", rest="     ")
        yield lines[0].replace(word, style.bad(word) if problem.error else word, 1)
        yield from lines[1:]
    if found.problems:
        yield ""
    if found.specs:
        yield from grid(_COLUMNS, [_row(name, spec, found) for name, spec in found.specs.items()], form, room, _DROP)
    good = sum(1 for name in found.specs if _verdict(name, found) == "ok")
    end = f"{count(len(found.files), 'profile')}: {good} ok, {count(found.errors, 'error')}, {count(found.warnings, 'warning')}"
    yield style.bad(end) if found.errors else style.good(end)


def _verdict(name: str, found: Checked) -> str:
    mine = [problem for problem in found.problems if problem.profile == name and problem.file == found.files.get(name)]
    if any(problem.error for problem in mine):
        return "invalid"
    return count(len(mine), "warning") if mine else "ok"


def _row(name: str, spec: HardwareProfileSpec, found: Checked) -> Sequence[str]:
    first = oldest(spec)
    return [
        name,
        *map(str, counts(spec).values()),
        best(spec),
        first or "–",
        age(first, found.today) if first else "–",
        _verdict(name, found),
    ]


def document(found: Checked, code: int) -> dict[str, Any]:
    rows = []
    for name, spec in found.specs.items():
        evidence = {word.lower(): number for word, number in counts(spec).items()}
        rows.append(
            {"name": name, "file": found.files[name], "evidence": evidence, "oldest": oldest(spec), "verdict": _verdict(name, found)}
        )
    problems = []
    for problem in found.problems:
        row: dict[str, Any] = {"file": problem.file, "profile": problem.profile, "field": problem.field, "message": problem.message}
        problems.append({**row, "document": problem.document, "severity": "error" if problem.error else "warning"})
    return {
        "asOf": found.today,
        "profiles": rows,
        "problems": problems,
        "errors": found.errors,
        "warnings": found.warnings,
        "exitCode": code,
    }
