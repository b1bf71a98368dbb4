"""The merged configuration of one option, each line with where it comes from.

Order of merging: HardwareProfile.engines.<engine>, spec.runtime, variants[].runtime. What polyfleet adds itself (model, port, layout,
download) comes before them. Values of environment variables are never shown: they may be secrets.
"""

from __future__ import annotations

from dataclasses import dataclass

from polyfleet.api import ModelDeploymentSpec
from polyfleet.api.modeldeployment import Variant, VariantModel, VariantRuntime
from polyfleet.cli.redact import arguments as without_secrets
from polyfleet.merge import env_items
from polyfleet.render.engines import arguments
from polyfleet.render.model_uri import source
from polyfleet.resolve import ResolvedOption

OWN = "polyfleet"


@dataclass(frozen=True, slots=True)
class Line:
    field: str
    value: str
    origin: str


def of(spec: ModelDeploymentSpec, option: ResolvedOption) -> tuple[Line, ...]:
    wanted = option.wanted
    variant = next((item for item in spec.variants if item.name == wanted.variant), None)
    profile = f"hwp/{wanted.profile_name} engines.{wanted.engine}"
    own, weights = _runtime(variant), _weights(variant)
    at = f"variants[{wanted.variant}]"
    engine = (wanted.profile.engines or {}).get(wanted.engine)
    lines = [
        Line("model", wanted.uri, f"{at}.model.uri" if weights.uri else "spec.model.uri"),
        Line("precision", wanted.precision, f"{at}.model.precision" if weights.precision else "spec.model.precision")
        if wanted.precision
        else Line("precision", "as the weights say", OWN),
        Line("engine", wanted.engine, _engine(spec, own, at)),
        Line(
            "image",
            wanted.image,
            f"{at}.runtime.image" if own.image else "spec.runtime.image" if spec.runtime.image else f"{profile}.image",
        ),
        Line("devices", str(option.devices), _size(spec, own, at)),
    ]
    origin = source(wanted.uri, wanted.secret_name)
    layers = [
        (OWN, arguments(option, origin)[: -len(wanted.args) or None]),
        (f"{profile}.args", engine.args if engine is not None else ()),
        ("spec.runtime.args", spec.runtime.args),
        (f"{at}.runtime.args", own.args),
    ]
    for name, args in layers:
        lines += [Line("args", text, name) for text in without_secrets(list(args))]
    where: dict[str, str] = {str(item["name"]): OWN for item in origin.env}
    for name, env in (
        (f"{profile}.env", engine.env if engine is not None else ()),
        ("spec.runtime.env", spec.runtime.env),
        (f"{at}.runtime.env", own.env),
    ):
        where.update(dict.fromkeys((item.name for item in env_items(env)), name))
    lines += [Line("env", f"{key} (value not shown)", name) for key, name in where.items()]
    if spec.pod_template is not None:
        lines.append(Line("pod", "merged over the generated pod", "spec.podTemplate"))
    return tuple(lines)


def _runtime(variant: Variant | None) -> VariantRuntime:
    return (variant.runtime if variant is not None else None) or VariantRuntime()


def _weights(variant: Variant | None) -> VariantModel:
    return (variant.model if variant is not None else None) or VariantModel()


def _engine(spec: ModelDeploymentSpec, own: VariantRuntime, at: str) -> str:
    asked, name = (own.engine, f"{at}.runtime.engine") if own.engine else (spec.runtime.engine, "spec.runtime.engine")
    return f"{name}: auto" if asked == "auto" else name


def _size(spec: ModelDeploymentSpec, own: VariantRuntime, at: str) -> str:
    if own.parallelism is not None:
        return f"{at}.runtime.parallelism"
    return "spec.runtime.parallelism" if spec.runtime.parallelism is not None else f"{OWN}: smallest that holds the model"
