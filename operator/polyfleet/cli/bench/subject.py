"""What `polyfleet bench` measures: from the options, the cluster's objects and the endpoint itself to what an entry will say.

A measurement is attributed only to what is known to run. Where two of the three sources contradict each other, nothing is measured.
"""

from __future__ import annotations

import argparse

from hwprofiles.model import Layout
from polyfleet.cli.bench.options import Asked, layout
from polyfleet.cli.failure import Failure
from polyfleet.loadtest import client as http
from polyfleet.loadtest import entries as made
from polyfleet.loadtest import identify, target


def subject_of(
    chosen: argparse.Namespace, text: str, replica: target.Replica | None, server: identify.Server
) -> tuple[made.Subject, list[str]]:
    """The subject of the entries, and notes for the reader. `text` is where it runs, `replica` what the cluster says of it."""
    notes = list[str]()
    engine = chosen.engine or (replica.engine if replica is not None else "") or server.engine
    if not engine:
        raise Failure("the engine is not known", "the endpoint does not say it", "repeat with --engine NAME, for example --engine vllm")
    if chosen.engine and server.engine and chosen.engine != server.engine:
        why = f"the endpoint's model list says {server.engine}"
        raise Failure(f"--engine {chosen.engine} is not what runs there", why, "leave --engine out")
    model = chosen.model or (replica.model if replica is not None else "")
    if replica is not None and chosen.model and chosen.model != replica.model:
        raise Failure(f"--model {chosen.model} is not what runs there", f"the replica serves {replica.model}", "leave --model out")
    version = _version(chosen, replica, server, notes)
    if replica is None and chosen.served_name:
        notes.append(f"the endpoint serves {server.model}; that this is {model} is stated by --model")
    if replica is not None and not replica.verified:
        notes.append("an AcceleratorPool names the profile; the node's labels do not confirm it")
    notes += [server.note] if server.note else []
    known = replica.layout if replica is not None else Layout()
    subject = made.Subject(
        profile=replica.profile if replica is not None else chosen.profile,
        model=model,
        precision=_precision(chosen, replica, server, model, notes),
        engine=engine,
        engine_version=version,
        layout=layout(chosen, known),
        place=text + (f" ({server.note})" if server.note else ""),
        verified=replica is not None and bool(replica.verified),
    )
    if server.devices is not None and server.devices != subject.layout.tensor:
        why = f"the endpoint says {server.devices}, the entry would say {subject.layout.tensor}"
        raise Failure("the tensor parallel size is not what runs there", why, f"repeat with --tensor {server.devices}")
    return subject, notes


def _version(chosen: argparse.Namespace, replica: target.Replica | None, server: identify.Server, notes: list[str]) -> str:
    """The endpoint's own word where it is a version; else what was stated; else the profile's version of the image that runs."""
    told = server.version if server.version[:1].isdigit() else ""
    stated, image = chosen.engine_version, replica.engine_version if replica is not None else ""
    if told and stated and told != stated:
        raise Failure(f"--engine-version {stated} is not what runs there", f"the endpoint says {told}", "leave --engine-version out")
    found = told or stated or image or server.version
    if not found:
        raise Failure("the engine's version is not known", "the endpoint does not say it", "repeat with --engine-version VERSION")
    if told and image and told != image:
        notes.append(f"the endpoint says version {told}, the profile says {image} of its image: {told} is used")
    return str(found)


def _precision(
    chosen: argparse.Namespace, replica: target.Replica | None, server: identify.Server, model: str, notes: list[str]
) -> str | None:
    found = chosen.precision or (replica.precision if replica is not None else None) or server.precision
    if found:
        return str(found)
    from hwprofiles import catalogue

    known = catalogue.find(model)
    if known is not None and known.precision is not None:
        notes.append(f"nobody says the precision; {known.precision} is that of the published weights (--precision states another)")
        return known.precision
    raise Failure(
        "the precision is not known", f"neither the endpoint nor the catalogue says it for {model}", "repeat with --precision WORD"
    )


def fits(asked: Asked, server: identify.Server) -> None:
    """Failure where the longest request would be longer than the engine's context."""
    most = max(sum(row) for row in asked.lengths.rows) if asked.lengths.rows else 0
    most = most or round((asked.lengths.input_tokens + asked.lengths.output_tokens) * (1 + asked.lengths.spread))
    if server.context is not None and most > server.context:
        why = f"the longest requests would have {most} tokens ({asked.lengths.describe()}), its context is {server.context}"
        raise Failure("the requests do not fit into the engine's context", why, "repeat with a lower --input or --output")


def dialect(api: http.Api) -> list[str]:
    """What the endpoint does not know, and what follows from it."""
    notes = []
    if api.chat:
        notes.append("the endpoint has no /v1/completions: chat requests are sent, which share the template as a prefix")
    if not api.ignore_eos:
        notes.append("the endpoint does not know ignore_eos: answers may be shorter than asked for; the lengths seen are what counts")
    if not api.usage:
        notes.append("the endpoint counts no tokens in streams: pieces of text are counted instead, which may hold several tokens")
    return notes
