"""What `polyfleet accuracy` was asked for, checked: endpoints, golden sets, policy. Every error names the option and what to write."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from accuracy import golden
from accuracy.golden import GoldenError
from accuracy.http.endpoint import Endpoint, EndpointError
from accuracy.policy import FORMATS, Formats, Policy, PolicyError, Settings, effective, known_format
from accuracy.record import Record, RecordError, decode
from accuracy.types import GoldenSet
from hwprofiles.schema import SchemaError, duration_seconds
from polyfleet.cli.failure import Failure, usage

MOST_FILE = 64 << 20  # bytes of a file that is read
_LABEL = re.compile(r"^[^\x00-\x1f\x7f]{1,80}$")


def endpoint(side: str, url: str, chosen: argparse.Namespace, environ: Mapping[str, str], name: str = "") -> Endpoint:
    """One side. Its token comes out of the environment and stands in no message."""
    variable = getattr(chosen, f"{side}_token_env")
    token = environ.get(variable, "") if variable else ""
    if variable and not token:
        raise Failure(
            f"--{side}-token-env {variable}: the variable is not set", "the endpoint's token is read from it", f"export {variable}=…"
        )
    label = name or getattr(chosen, f"{side}_name") or side
    if not _LABEL.match(label):
        raise usage(f"--{side}-name is not right", "1 to 80 signs, no line breaks", f"--{side}-name nvidia-h100-sxm")
    ca = chosen.ca_file if url.startswith("https:") else ""
    if chosen.ca_file and not Path(chosen.ca_file).is_file():
        raise Failure(f"cannot read --ca-file {chosen.ca_file}", "there is no such file", "give a PEM file of certificate authorities")
    try:
        return Endpoint(
            url, model=getattr(chosen, f"{side}_model"), name=label, token=token, ca_file=ca, max_rps=chosen.max_rps,
            timeout_s=duration("--timeout", chosen.timeout, 1, 3600),
        )  # fmt: skip
    except EndpointError as error:
        what = f"--{side} is not right"
        next_ = (
            f"export KEY=…; polyfleet accuracy {chosen.verb} … --{side}-token-env KEY"
            if "@" in url
            else f"--{side} http://10.0.0.7:8000/v1"
        )
        raise usage(what, str(error), next_) from error


def replicas(chosen: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Endpoint, ...]:
    """The candidate's replicas, in the order given; several get numbers behind their name."""
    label = chosen.candidate_name or "candidate"
    several = len(chosen.candidate) > 1
    if len(set(chosen.candidate)) < len(chosen.candidate):
        raise usage("--candidate names one address twice", "each replica is asked for itself", "give each address once")
    return tuple(
        endpoint("candidate", url, chosen, environ, f"{label}-{number}" if several else label)
        for number, url in enumerate(chosen.candidate)
    )


def sets(chosen: argparse.Namespace) -> tuple[GoldenSet, ...]:
    """The golden sets: `core`, or files."""
    names = [part for given in chosen.golden or ["core"] for part in given.split(",") if part]
    found = []
    for name in dict.fromkeys(names):
        try:
            found.append(golden.builtin(name) if name == "core" else golden.parse(Path(name).name, content(name, "--golden")))
        except GoldenError as error:
            raise Failure(f"--golden {name} cannot be used", str(error), "docs/accuracy.md, Your own prompts") from error
    try:
        golden.combine(found)
    except GoldenError as error:
        raise Failure("these golden sets do not go together", str(error), "rename one of the items, or leave one set out") from error
    return tuple(found)


def record(name: str) -> Record:
    try:
        return decode(content(name, "--record"))
    except RecordError as error:
        raise Failure(
            f"--record {name} cannot be used", str(error), "polyfleet accuracy capture --reference URL --out reference.gz"
        ) from error


def content(name: str, option: str = "") -> bytes:
    """A file's bytes, bounded."""
    path = Path(name)
    before = f"{option} {name}".strip()
    try:
        if path.stat().st_size > MOST_FILE:
            raise Failure(f"{before} is too large", f"{path.stat().st_size} bytes; at most {MOST_FILE} are read", f"ls -l {name}")
        return path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {before}", error.strerror or str(error), f"ls -l {path}") from error


def policy(chosen: argparse.Namespace, golden_sets: tuple[GoldenSet, ...]) -> Policy:
    """The effective policy; strata default to those that the golden sets have."""
    present = tuple(dict.fromkeys(item.stratum for one in golden_sets for item in one.items))
    strata = listed(chosen.strata) or present
    if missing := [name for name in strata if name not in present]:
        raise usage(
            f"--strata {missing[0]}: the golden sets have no such prompts", f"they have: {', '.join(present)}", "choose among these"
        )
    few = chosen.max_prompts is not None and 0 < chosen.max_prompts < Policy().min_prompts  # a short run on purpose
    settings = Settings(
        level=chosen.level, strata=strata, modes=listed(chosen.mode), max_prompts=chosen.max_prompts,
        min_prompts=chosen.max_prompts if few else None, positions_per_prompt=chosen.positions,
        top_k=chosen.top_k, concurrency=whole("--concurrency", chosen.concurrency), noise_kl=chosen.noise_kl, seed=chosen.seed,
    )  # fmt: skip
    try:
        return effective(
            settings,
            reference=formats("--declare-reference", getattr(chosen, "declare_reference", [])),
            candidate=formats("--declare", getattr(chosen, "declare", [])),
        )
    except PolicyError as error:
        raise usage("these settings cannot be used", str(error), f"polyfleet accuracy {chosen.verb} --help") from error


def formats(option: str, given: list[str]) -> Formats:
    names = [field.name for field in fields(Formats)]
    found: dict[str, str] = {}
    for part in (part for text in given for part in text.split(",") if part):
        name, equals, word = part.partition("=")
        if not equals or name not in names or not word or name in found:
            raise usage(f"{option} {part} is not right", f"NAME=FORMAT, once each of {', '.join(names)}", f"{option} weights=w8a8,kv=int8")
        if not known_format(word):  # else a slip of the pen would be judged by the margins of no difference at all
            raise usage(f"{option} {part} is not right", f"no such number format: {FORMATS}", f"{option} {name}=int8")
        found[name] = word
    return Formats(**found)


def listed(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def whole(option: str, text: str) -> tuple[int, ...]:
    parts = listed(text)
    if not all(re.fullmatch(r"[1-9][0-9]{0,3}", part) for part in parts):
        raise usage(f"{option} {text} is not right", "whole numbers from 1 to 9999 with commas between them", f"{option} 1,8,64")
    return tuple(int(part) for part in parts)


def duration(option: str, text: str, low: float, high: float) -> float:
    try:
        value = duration_seconds(text)
    except SchemaError as error:
        raise usage(f"{option} {text} is not right", str(error), f"{option} 120s") from error
    if not low <= value <= high:
        raise usage(f"{option} {text} is not right", f"from {low:g}s to {high:g}s", f"{option} 120s")
    return value
