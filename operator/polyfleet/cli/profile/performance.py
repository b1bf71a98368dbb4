"""What planning would count on for one model on one profile: the entry or estimate, its bounds, and whose figure it is."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hwprofiles import HardwareProfileSpec, Layout, catalogue
from hwprofiles.estimate import Load, Refusal, Slo
from hwprofiles.performance import Performance, performance
from hwprofiles.schema import SchemaError, duration_seconds
from hwprofiles.trust import trusted
from polyfleet.cli.failure import Failure, usage
from polyfleet.cli.profile.source import Profile, Profiles
from polyfleet.cli.profile.terms import layout_text
from polyfleet.cli.text import Style, wrap


@dataclass(frozen=True, slots=True)
class Answer:
    profile: str
    model: str
    precision: str | None
    engine: str
    layout: Layout
    found: Performance | Refusal

    @property
    def usable(self) -> bool:
        return isinstance(self.found, Performance)

    def lines(self, style: Style, room: int, form: str) -> Iterator[str]:
        yield ""
        title = f"Performance of {self.model}"
        yield f"#### {title}" if form == "md" else style.bold(title)
        if form == "md":
            yield ""
        how = " · ".join(part for part in (self.precision or "precision not said", self.engine, layout_text(self.layout)) if part)
        yield f" {how}"
        found = self.found
        if isinstance(found, Refusal):
            yield from wrap(f"{found.reason}: {found.message}", room, first=" ", rest="   ")
            if found.hint:
                yield from wrap(found.hint, room, first="   ")
            return
        yield from wrap(f"planning counts on {found.output_tokens_per_s:.0f} output tokens/s" + _bounds(found), room, first=" ", rest="   ")
        times = [f"{name} {1000 * value:.0f} ms" for name, value in (("TTFT", found.ttft_s), ("ITL", found.itl_s)) if value is not None]
        if found.concurrency is not None:
            times.append(f"at {found.concurrency} requests in flight")
        if times:
            yield " " + " · ".join(times)
        entry = f"throughput[{found.entry}], " if found.entry is not None else ""
        date = f", {found.date}" if found.date else ""
        yield from wrap(f"{found.evidence}, confidence {found.confidence}: {entry}{found.source}{date}", room, first=" ", rest="   ")
        for text in found.assumptions:
            yield from wrap(f"assumes {text.removesuffix(' assumed')}", room, first=" ", rest="   ")

    def document(self) -> dict[str, Any]:
        head: dict[str, Any] = {"model": self.model, "precision": self.precision, "engine": self.engine}
        head["parallelism"] = self.layout.dump_set()
        found = self.found
        if isinstance(found, Refusal):
            return {**head, "reason": found.reason, "message": found.message, "hint": found.hint}
        numbers = {
            "outputTokensPerSecond": found.output_tokens_per_s, "point": found.point, "lower": found.lower, "upper": found.upper,
            "ttftSeconds": found.ttft_s, "itlSeconds": found.itl_s, "concurrency": found.concurrency, "evidence": found.evidence,
            "confidence": found.confidence, "source": found.source, "date": found.date, "entry": found.entry,
        }  # fmt: skip
        return {**head, **{name: value for name, value in numbers.items() if value is not None}, "assumptions": list(found.assumptions)}


def _bounds(found: Performance) -> str:
    if found.lower is None:
        return ""
    upper = f"{found.upper:.0f}" if found.upper is not None else "no upper claim"
    return f" (point {found.point:.0f}, bounds {found.lower:.0f} to {upper})"


def ask(item: Profile, profiles: Profiles, chosen: argparse.Namespace) -> Answer:
    """By the same function and after the same removal of faulty entries as the operator."""
    spec = trusted(profiles.specs, today=profiles.today).specs[item.name]
    known = catalogue.find(chosen.model)
    shape = known.shape if known is not None else None
    engine = chosen.engine or _engine(spec, chosen.model)
    precision = chosen.precision or _precision(spec, chosen.model, engine) or (known.precision if known is not None else None)
    load, slo = _load(chosen), _slo(chosen)
    if (given := layout_of(chosen)) is not None and (refused := _illegal(spec, given)) is not None:
        return Answer(item.name, chosen.model, precision, engine, given, refused)
    tried: list[tuple[Layout, Performance | Refusal]] = []
    for layout in _layouts(spec, chosen, engine, precision):
        found = performance(
            item.name, spec, model_id=chosen.model, shape=shape, precision=precision, engine=engine,
            engine_version=chosen.engine_version or None, layout=layout, load=load, slo=slo,
        )  # fmt: skip
        tried.append((layout, found))
        if isinstance(found, Performance):
            break
    layout, found = tried[-1] if isinstance(tried[-1][1], Performance) else tried[0]
    if known is None and isinstance(found, Refusal) and not any(entry.model == chosen.model for entry in spec.throughput):
        _unknown_model(chosen.model, spec)
    return Answer(item.name, chosen.model, precision, engine, layout, found)


def _illegal(spec: HardwareProfileSpec, layout: Layout) -> Refusal | None:
    """A layout that no pod of this profile can have: nothing is planned with it, so no number of it is shown."""
    sizes = sorted(spec.allocation.sizes)
    per_pod, rest = divmod(layout.devices, layout.span)
    if not rest and per_pod in sizes:
        return None
    text = (
        f"{layout.devices} {'device' if layout.devices == 1 else 'devices'} over {'1 node' if layout.span == 1 else f'{layout.span} nodes'}"
    )
    allowed = f"allowed per node (allocation.sizes): {', '.join(map(str, sizes))}"
    return Refusal("SizeNotAllowed", f"{text} is no size that a pod may ask for; {allowed}", "give a layout of one of these sizes")


def _unknown_model(name: str, spec: HardwareProfileSpec) -> None:
    from polyfleet.cli.failure import nearest

    known = sorted({entry.model for entry in catalogue.entries()} | {entry.model for entry in spec.throughput})
    near = nearest(name, known, 1)
    next_ = f"repeat with --model {near[0]}" if near else "polyfleet model list"
    raise Failure(f"no model named {name}", "neither the catalogue nor an entry of this profile has it", next_)


def _load(chosen: argparse.Namespace) -> Load | None:
    if chosen.input_tokens is None and chosen.output_tokens is None:
        if chosen.concurrency is not None:
            raise usage(
                "--concurrency needs the lengths", "a load is lengths and requests in flight", "add --input-tokens N --output-tokens N"
            )
        return None
    for flag, value in (("--input-tokens", chosen.input_tokens), ("--output-tokens", chosen.output_tokens)):
        if value is None or value < 1:
            raise usage(f"{flag} {'is missing' if value is None else value}", "both lengths must be at least 1", f"give {flag} TOKENS")
    return Load(chosen.input_tokens, chosen.output_tokens, chosen.concurrency)


def _slo(chosen: argparse.Namespace) -> Slo:
    try:
        ttft, itl = (duration_seconds(value) if value else None for value in (chosen.ttft, chosen.itl))
    except SchemaError as error:
        raise usage("a goal is no duration", str(error), "for example --ttft 2s --itl 50ms") from error
    return Slo(ttft, itl)


def _engine(spec: HardwareProfileSpec, model: str) -> str:
    """The engine of this model's entries, if they agree, else the first of the profile's, vllm before others."""
    of_entries = sorted({entry.engine for entry in spec.throughput if entry.model == model})
    if len(of_entries) == 1:
        return of_entries[0]
    known = sorted(of_entries or spec.engines or ("vllm",))
    return "vllm" if "vllm" in known else known[0]


def _precision(spec: HardwareProfileSpec, model: str, engine: str) -> str | None:
    found = sorted({entry.precision for entry in spec.throughput if entry.model == model and entry.engine == engine and entry.precision})
    return found[0] if len(found) == 1 else None


def _layouts(spec: HardwareProfileSpec, chosen: argparse.Namespace, engine: str, precision: str | None) -> list[Layout]:
    """What was asked for; else the layouts of this model's entries; else the legal sizes, smallest first, as tensor parallelism."""
    given = layout_of(chosen)
    if given is not None:
        return [given]
    entries = [
        entry.parallelism
        for entry in spec.throughput
        if entry.model == chosen.model and entry.engine == engine and (precision is None or entry.precision == precision)
    ]
    # Never around an entry: a load outside its range is refused, also where another layout could be estimated.
    return list(dict.fromkeys(entries)) or [Layout(tensor=size) for size in sorted(spec.allocation.sizes)]


def layout_of(chosen: argparse.Namespace) -> Layout | None:
    """The layout that the options spell; None if they spell none."""
    sizes = {name: value for name in ("tensor", "pipeline", "data", "expert", "span") if (value := getattr(chosen, name)) is not None}
    for name, value in sizes.items():
        if not 1 <= value <= 1024:
            raise usage(f"--{name} {value}", "it must be from 1 to 1024", f"give --{name} N")
    return Layout(**sizes) if sizes else None


__all__ = ["Answer", "ask", "layout_of"]
