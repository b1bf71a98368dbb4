"""`polyfleet scaler mdep/NAME --kind keda|hpa`: prints the object with which KEDA or an HPA follows polyfleet's number. Writes nothing."""

from __future__ import annotations

import argparse
from typing import Any, TextIO

from polyfleet.cli import options

KINDS = ("keda", "hpa")


def add(subparsers: Any) -> None:
    scaler = subparsers.add_parser("scaler", help="a KEDA ScaledObject or an HPA for a model with scaling.mode External; writes nothing")
    scaler.add_argument("model", metavar="mdep/NAME", help="mdep/NAME or mdep/NAMESPACE/NAME")
    scaler.add_argument("--kind", choices=KINDS, required=True, help="keda: a ScaledObject; hpa: a HorizontalPodAutoscaler")
    scaler.add_argument(
        "--prometheus", metavar="URL", default="", help="for keda: the Prometheus that scrapes the operator (default: a usual address)"
    )
    options.cluster(scaler)
    options.snapshot(scaler)
    options.files(scaler)


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    from polyfleet.cli import explaining, plan_data
    from polyfleet.cli.commands import where
    from polyfleet.cli.failure import FINE, Failure, usage
    from polyfleet.cli.source import situation
    from polyfleet.scaling import external, sizes

    if chosen.prometheus and chosen.kind != "keda":
        raise usage("--prometheus is for --kind keda", "an HPA asks the metrics API and no Prometheus", "leave --prometheus out")
    seen = situation(where(chosen))
    key = explaining.find(chosen.model, chosen.namespace, seen)
    view = seen.inputs.models.get(key) if seen.inputs is not None else None
    spec = view.spec if view is not None else None
    if view is None or spec is None:
        raise Failure(f"{key} has no spec that can be read", "a scaler needs its bounds", f"polyfleet explain mdep/{key}{seen.option}")
    scaling = spec.scaling
    if scaling is None or scaling.mode != sizes.EXTERNAL:
        mode = "no spec.scaling" if scaling is None else f"spec.scaling.mode {scaling.mode}"
        raise Failure(
            f"no other scaler may write the size of {key}",
            f"it has {mode}, allowed: External, with a first size in spec.replicas",
            f"kubectl -n {view.state.namespace} edit mdep {view.state.name}",
        )
    name = (view.state.namespace, view.state.name)
    if chosen.kind == "keda":
        found = external.keda(*name, spec, chosen.prometheus or external.DEFAULT_PROMETHEUS)
        if not chosen.prometheus:
            print(f"serverAddress is {external.DEFAULT_PROMETHEUS}; name yours with --prometheus URL", file=err)
    else:
        found = external.hpa(*name, spec)
        print(f"an adapter must serve {external.SERIES} as an external metric, such as prometheus-adapter", file=err)
        if scaling.min_replicas == 0:
            print("an HPA does not go to zero: minReplicas is 1 here; a ScaledObject does (--kind keda)", file=err)
    out.write(plan_data.to_yaml(found).rstrip("\n") + "\n")
    return FINE
