"""The chart's values as pydantic models: the source of values.schema.json, so that a typo fails at `helm install`.

Kubernetes' own types (resources, security contexts, affinity) stay open objects: the API server checks them.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from polyfleet.api import FleetPolicySpec
from pydantic import BaseModel, ConfigDict, Field

Open = dict[str, Any]


class Values(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Global(Values):
    imageRegistry: str = Field(default="", description="Put before image.repository, for mirrors.")
    imagePullSecrets: list[Open] = Field(default=[], max_length=16)


class Image(Values):
    repository: str = Field(default="registry.example/polyfleet", min_length=1)
    tag: str = Field(default="", pattern=r"^[A-Za-z0-9_.-]{0,128}$", description="Default: the chart's appVersion.")
    digest: str = Field(default="", pattern=r"^(sha256:[0-9a-f]{64})?$", description="Wins over tag.")
    pullPolicy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"


class Crds(Values):
    install: bool = True
    keep: bool = Field(default=True, description="helm uninstall leaves the CRDs, and with them every object.")


class LeaderElection(Values):
    namespace: str = "kube-system"
    name: str = "polyfleet"
    leaseDuration: str = Field(default="15s", pattern=r"^[1-9][0-9]{0,3}s$")


class Operator(Values):
    replicas: int = Field(default=1, ge=0, le=3)
    leaderElection: LeaderElection = LeaderElection()
    watchNamespaces: list[str] = Field(default=[], max_length=256)
    resources: Open = {}
    logFormat: Literal["json", "text"] = "json"
    nodeSelector: dict[str, str] = {}
    tolerations: list[Open] = []
    affinity: Open = {}


class ActivatorLimits(Values):
    requests: int = Field(default=1000, ge=1, le=100_000)
    mebibytes: int = Field(default=256, ge=1, le=65_536)
    modelRequests: int = Field(default=250, ge=1, le=100_000)
    modelMebibytes: int = Field(default=64, ge=1, le=65_536)
    bodyMebibytes: int = Field(default=16, ge=1, le=1024)


class Activator(Values):
    enabled: bool = Field(default=False, description="Models may go to zero; it holds their requests until a replica serves.")
    replicas: int = Field(default=2, ge=1, le=10)
    maxHoldSeconds: int = Field(default=900, ge=10, le=86_400)
    limits: ActivatorLimits = ActivatorLimits()
    resources: Open = {}
    nodeSelector: dict[str, str] = {}
    tolerations: list[Open] = []
    affinity: Open = {}


class Profiles(Values):
    builtin: list[Literal["nvidia", "huawei", "alibaba", "amd", "sandbox"]] = ["nvidia", "huawei", "alibaba", "amd"]
    extra: dict[str, str] = Field(default={}, description="File name to HardwareProfile, as a text block.")
    overwriteEdited: bool = False


class CaSource(Values):
    configMap: str = Field(default="", max_length=253, description="In the release's namespace; empty: the CAs of the image.")
    key: str = Field(default="ca.crt", pattern=r"^[-._a-zA-Z0-9]{1,253}$")


class TokenSource(Values):
    secret: str = Field(default="", max_length=253, description="In the release's namespace; empty: no token.")
    key: str = Field(default="token", pattern=r"^[-._a-zA-Z0-9]{1,253}$")


class Prometheus(Values):
    """Second source of the load, for replicas that do not answer themselves."""

    url: str = Field(default="", max_length=2048, pattern=r"^(https?://[^\s@?#]+)?$", description="Empty: none.")
    ca: CaSource = CaSource()
    token: TokenSource = TokenSource()


class ChartValues(Values):
    """Values of the polyfleet chart."""

    global_: Global = Field(default=Global(), alias="global")
    image: Image = Image()
    crds: Crds = Crds()
    operator: Operator = Operator()
    activator: Activator = Activator()
    profiles: Profiles = Profiles()
    prometheus: Prometheus = Prometheus()
    policy: FleetPolicySpec = Field(description="FleetPolicy.spec of the object named default.")
    podSecurityContext: Open = {}
    securityContext: Open = {}
    extraObjects: list[Open] = []


def _closed(node: Any) -> Any:
    """Refuse unknown keys in every object that lists its properties, and drop what helm's validator does not need."""
    if isinstance(node, dict):
        out = {k: _closed(v) for k, v in node.items() if k not in ("title", "default")}
        if "properties" in node:
            out["properties"] = {k: _closed(v) for k, v in node["properties"].items()}
            out["additionalProperties"] = False
        return out
    return [_closed(v) for v in node] if isinstance(node, list) else node


def schema() -> dict[str, Any]:
    raw = ChartValues.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_closed(raw)}


def schema_text() -> str:
    return json.dumps(schema(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
