"""How each scheme of `model.uri` reaches the engine: arguments, environment, volumes.

| scheme | the engine gets | the pod gets |
|---|---|---|
| hf | --model=ORG/NAME | a scratch volume for the download; HF_TOKEN from `secretName` |
| ms | --model=ORG/NAME | the same, and the switch to ModelScope; MODELSCOPE_API_TOKEN from `secretName` |
| pvc | --model=/models/PATH | the claim, read-only |
| oci | --model=/models | an image volume |
| s3, oss, obs | --model=URI, --load-format | the whole Secret as environment |

vLLM's switches (VLLM_USE_MODELSCOPE, --load-format=runai_streamer for object storage) are those of its documentation, 2026-08;
object storage other than s3 is unverified.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from polyfleet.merge import strip_scheme

MODEL_PATH = "/models"
CACHE_PATH = "/var/cache/models"
MODEL_VOLUME = "model"
CACHE_VOLUME = "model-cache"


@dataclass(frozen=True, slots=True)
class Source:
    model: str  # what follows --model=
    args: tuple[str, ...] = ()
    env: tuple[dict[str, Any], ...] = ()
    env_from: tuple[dict[str, Any], ...] = ()
    volumes: tuple[dict[str, Any], ...] = ()
    mounts: tuple[dict[str, Any], ...] = ()


def source(uri: str, secret_name: str) -> Source:
    scheme = uri.split("://", 1)[0]
    rest = strip_scheme(uri)
    if scheme == "pvc":
        claim, _, path = rest.partition("/")
        volume = {"name": MODEL_VOLUME, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        return Source(f"{MODEL_PATH}/{path}".rstrip("/"), volumes=(volume,), mounts=(_model_mount(),))
    if scheme == "oci":
        volume = {"name": MODEL_VOLUME, "image": {"reference": rest, "pullPolicy": "IfNotPresent"}}
        return Source(MODEL_PATH, volumes=(volume,), mounts=(_model_mount(),))
    if scheme in ("s3", "oss", "obs"):
        env_from = ({"secretRef": {"name": secret_name}},) if secret_name else ()
        return Source(uri, args=("--load-format=runai_streamer",), env_from=env_from)
    cache = {"name": CACHE_VOLUME, "emptyDir": {}}
    mount = {"name": CACHE_VOLUME, "mountPath": CACHE_PATH}
    if scheme == "ms":
        env: list[dict[str, Any]] = [
            {"name": "VLLM_USE_MODELSCOPE", "value": "True"},
            {"name": "MODELSCOPE_CACHE", "value": CACHE_PATH},
        ]
        return Source(rest, env=(*env, *_token("MODELSCOPE_API_TOKEN", secret_name)), volumes=(cache,), mounts=(mount,))
    home: dict[str, Any] = {"name": "HF_HOME", "value": CACHE_PATH}
    return Source(rest, env=(home, *_token("HF_TOKEN", secret_name)), volumes=(cache,), mounts=(mount,))


def _token(key: str, secret_name: str) -> tuple[dict[str, Any], ...]:
    if not secret_name:
        return ()
    return ({"name": key, "valueFrom": {"secretKeyRef": {"name": secret_name, "key": key}}},)


def _model_mount() -> dict[str, Any]:
    return {"name": MODEL_VOLUME, "mountPath": MODEL_PATH, "readOnly": True}
