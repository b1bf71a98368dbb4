"""What a ModelDeployment asks for on one profile, before a size is chosen: weights, engine and image, or why this profile is out."""

from __future__ import annotations

from collections.abc import Mapping

from hwprofiles import HardwareProfileSpec
from hwprofiles.estimate.formats import support
from polyfleet import shapes
from polyfleet.api import ModelDeploymentSpec
from polyfleet.api.modeldeployment import Parallelism, VariantModel, VariantRuntime
from polyfleet.merge import DEFAULT_VARIANT, Wanted, choose_engine, env_items, merge_env, number_format, strip_scheme, too_old, variant_for
from polyfleet.rating import Asked
from polyfleet.sizing import Rejection

PRECISION_UNSUPPORTED = "PrecisionUnsupported"
ENGINE_MISSING = "EngineMissing"
ENGINE_TOO_OLD = "EngineTooOld"


def wanted_of(
    name: str,
    spec: ModelDeploymentSpec,
    profile_name: str,
    profile: HardwareProfileSpec,
    ask: Asked,
    readings: Mapping[str, shapes.Reading],
) -> Wanted | Rejection:
    variant = variant_for(spec, profile_name, profile.vendor)
    weights = (variant.model if variant is not None else None) or VariantModel()
    own = (variant.runtime if variant is not None else None) or VariantRuntime()
    uri = weights.uri or spec.model.uri
    precision = weights.precision or spec.model.precision
    known = shapes.known(strip_scheme(uri), strip_scheme(spec.model.uri), weights.shape or spec.model.shape, readings.get(uri))
    dtypes = profile.dtypes or {}
    number = number_format(profile, precision, known)
    if number is not None and support(number, dtypes) == "Unsupported":
        good = ", ".join(sorted(word for word, level in dtypes.items() if level != "Unsupported"))
        whose = "" if precision is not None else f", in which the weights of {strip_scheme(uri)} are published,"
        return Rejection(
            profile_name,
            PRECISION_UNSUPPORTED,
            f"precision {number}{whose} is not supported; it has {good}",
            f"add a variant with match.profiles [{profile_name}] and weights in one of: {good}",
        )
    image = own.image or spec.runtime.image
    asked = own.engine or spec.runtime.engine
    engine_name = choose_engine(profile, asked, known, number, image, ask.covers, ask.min_evidence)
    if engine_name is None:
        names = ", ".join(sorted(profile.engines or {})) or "none"
        return Rejection(
            profile_name,
            ENGINE_MISSING,
            f"no engine with an image for runtime.engine {asked}; the profile has: {names}",
            "set spec.runtime.engine and spec.runtime.image, or engines.<name>.image in the HardwareProfile",
        )
    engine = (profile.engines or {}).get(engine_name)
    least = too_old(engine, known) if engine is not None and image is None else ""
    if engine is not None and least:
        return Rejection(
            profile_name,
            ENGINE_TOO_OLD,
            f"engine {engine_name} {engine.version} is too old for {strip_scheme(uri)}, which needs {least}",
            f"set engines.{engine_name}.image and version in the HardwareProfile to {least} or later: kubectl edit hwp {profile_name}",
        )
    version = engine.version if engine is not None and image is None else None
    image = image or (engine.image if engine else None)
    if image is None:
        return Rejection(
            profile_name,
            ENGINE_MISSING,
            f"engine {engine_name} has no image",
            f"set spec.runtime.image, or engines.{engine_name}.image in the HardwareProfile",
        )
    return Wanted(
        profile_name=profile_name,
        profile=profile,
        variant=variant.name if variant is not None else DEFAULT_VARIANT,
        uri=uri,
        served_name=spec.model.name or name,
        # Other weights have revisions of their own.
        model_revision=weights.revision or ("" if weights.uri else spec.model.revision) or "",
        precision=precision,
        secret_name=weights.secret_name or spec.model.secret_name or "",
        footprint=weights.footprint or spec.model.footprint,
        known=known,
        parallelism=own.parallelism or spec.runtime.parallelism or Parallelism(),
        engine=engine_name,
        engine_version=version,
        image=image,
        args=(*(engine.args if engine else ()), *spec.runtime.args, *own.args),
        env=merge_env(env_items(engine.env if engine else ()), env_items(spec.runtime.env), env_items(own.env)),
    )
