"""The workload-variant-autoscaler of llm-d: accelerator prices, and the linear latency model of a variant.

Formats (llm-d-incubation/workload-variant-autoscaler):
    ConfigMap `accelerator-unit-costs`: one key per accelerator, its value JSON text with `device` (product name of the node) and `cost`
    (config/samples/acc-servclass-configmap.yaml: "the cents/hour cost of this accelerator").
    VariantAutoscaling, api/v1alpha1: `spec.modelID` with `spec.modelProfile.accelerators[]` of acc, accCount, maxBatchSize and perfParms
    (earlier), or `spec.accelerator`, `acceleratorCount` and `spec.variantProfile` (later). perfParms: decodeParms alpha, beta
    (ITL ms = alpha + beta x batch) and prefillParms gamma, delta (TTFT ms = gamma + delta x input tokens x batch).

An entry made of such parameters is the value of a fitted formula and not an observation, so it is Estimated: at `maxBatchSize`,
output tokens/s = batch x output tokens / (TTFT + (output tokens - 1) x ITL). The lengths are not part of the format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from polyfleet.profiledata.entry import Given, Imported, Price, Reading, build, source_of
from polyfleet.profiledata.fields import ReadError, dig, mapping, needed, parse_yaml, shown, text, whole

TOOL = "WVA"
CENTS = 100.0


def read(content: str, given: Given) -> Imported:
    documents = [mapping(item, "(document)") for item in parse_yaml(content, TOOL)]
    variants = [item for item in documents if item.get("kind") == "VariantAutoscaling"]
    if variants:
        return _variants(variants, given)
    prices = [found for item in documents if (found := _accelerators(item))]
    if not prices:
        kinds = ", ".join(sorted({str(item.get("kind")) for item in documents})) or "nothing"
        raise ReadError(
            "this is no WVA file",
            f"it holds {kinds}; needed: the ConfigMap accelerator-unit-costs, or VariantAutoscaling objects",
            "kubectl get configmap accelerator-unit-costs -A -o yaml",
        )
    return _price({name: item for each in prices for name, item in each.items()}, given)


def _accelerators(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Name -> {device, cost} of a ConfigMap whose values are such JSON texts; {} if it is another ConfigMap."""
    data = document.get("data")
    if document.get("kind") != "ConfigMap" or not isinstance(data, Mapping):
        return {}
    found = {}
    for name, value in sorted(data.items()):
        try:
            body = json.loads(value) if isinstance(value, str) else None
        except ValueError:
            body = None
        if isinstance(body, Mapping) and "cost" in body:
            found[str(name)] = body
        elif dig(document, "metadata.name") == "accelerator-unit-costs":
            raise ReadError(f"field data.{name}", f'{shown(value)}, must be JSON text {{"device": ..., "cost": ...}}')
    return found


def _chosen(names: list[str], given: Given) -> str:
    if given.accelerator is None and len(names) == 1:
        return names[0]
    if given.accelerator in names:
        return str(given.accelerator)
    why = f"the file has: {', '.join(names)}"
    what = f"no accelerator named {given.accelerator}" if given.accelerator else "the file has several accelerators"
    raise ReadError(what, why, "add --accelerator NAME")


def _price(accelerators: dict[str, Mapping[str, Any]], given: Given) -> Imported:
    name = _chosen(sorted(accelerators), given)
    body = accelerators[name]
    cents = needed(body, "cost", TOOL, above=False)
    device = text(body, "device") or "no device named"
    price = Price(cents / CENTS, source_of("WVA accelerator-unit-costs", given, f"{name}, {device}"), given.date, given.confidence or "Low")
    return Imported(price=price, notes=(f"{name} ({device}): {cents:g} cents per hour",))


def _variants(variants: list[Mapping[str, Any]], given: Given) -> Imported:
    rows = [row for item in variants for row in _parameters(mapping(item.get("spec"), "spec"))]
    names = sorted({row[1] for row in rows})
    chosen = _chosen(names, given)
    readings = []
    for model, name, profile, count in rows:
        if name != chosen:
            continue
        if given.layout is not None and given.layout.devices != count:
            raise ReadError(
                f"the layout has {given.layout.devices} devices", f"the file says {count} of {name}", "give a layout of as many"
            )
        readings.append(_reading(model, profile, given))
    return Imported(build(TOOL, readings, given), notes=("values of a fitted formula, so Estimated whatever was measured for the fit",))


def _parameters(spec: Mapping[str, Any]) -> list[tuple[str | None, str, Mapping[str, Any], int]]:
    model = text(spec, "modelID")
    several = dig(spec, "modelProfile.accelerators")
    if isinstance(several, list):
        rows = [mapping(item, f"modelProfile.accelerators[{index}]") for index, item in enumerate(several)]
        return [(model, text(row, "acc") or "?", row, whole(needed(row, "accCount", TOOL), "accCount")) for row in rows]
    if "variantProfile" in spec:
        count = whole(needed(spec, "acceleratorCount", TOOL), "acceleratorCount")
        return [(model, text(spec, "accelerator") or "?", mapping(spec["variantProfile"], "variantProfile"), count)]
    raise ReadError(
        "field spec.variantProfile is missing",
        "this VariantAutoscaling holds no performance parameters (newer releases of WVA learn them)",
        "measure instead: polyfleet bench",
    )


def _reading(model: str | None, profile: Mapping[str, Any], given: Given) -> Reading:
    if given.input_tokens is None or given.output_tokens is None:
        flag = "--input-tokens" if given.input_tokens is None else "--output-tokens"
        raise ReadError("a WVA file does not say the lengths", "its formula needs them", f"add {flag} TOKENS")
    batch = whole(needed(profile, "maxBatchSize", TOOL), "maxBatchSize")
    alpha, beta = (needed(profile, f"perfParms.decodeParms.{name}", TOOL, above=False) for name in ("alpha", "beta"))
    gamma, delta = (needed(profile, f"perfParms.prefillParms.{name}", TOOL, above=False) for name in ("gamma", "delta"))
    itl = (alpha + beta * batch) / 1000
    ttft = (gamma + delta * given.input_tokens * batch) / 1000
    seconds = ttft + (given.output_tokens - 1) * itl
    if seconds <= 0:
        raise ReadError("field perfParms", "a request would take no time", "give the parameters of a real fit")
    return Reading(
        rate=batch * given.output_tokens / seconds,
        model=model,
        input_tokens=given.input_tokens,
        output_tokens=given.output_tokens,
        concurrency=batch,
        ttft_s=ttft,
        itl_s=itl,
        how=f"formula with alpha {alpha:g}, beta {beta:g}, gamma {gamma:g}, delta {delta:g} at batch {batch}",
        derived=True,
    )
