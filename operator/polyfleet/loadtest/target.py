"""Replicas of a ModelDeployment in a cluster: which pod is measured, what it runs, how to reach it through the API server.

From outside the pod network the pod proxy of the API server is used: it needs no route and no right but `pods/proxy`, and passes event
streams on as they come. It takes the Authorization header for itself, so an engine with a key of its own is measured by --url. In a pod
the way is direct, and so it is to a pod with a loopback address: that is on this machine, and the API server forwards to none of them.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from kubernetes.aio import client as kube
from pydantic import ValidationError

from hwprofiles import HardwareProfileSpec, Layout, match_node
from polyfleet import naming, parse
from polyfleet.api import ModelDeploymentSpec
from polyfleet.client import Client, Object
from polyfleet.errors import ApiError, Forbidden, NotFound
from polyfleet.loadtest.client import STALL_S, Where, no_headers
from polyfleet.loadtest.problem import Problem
from polyfleet.merge import strip_scheme
from polyfleet.render.engines import PORT
from polyfleet.resources import DEPLOYMENTS, HARDWARE_PROFILES, MODEL_DEPLOYMENTS, NODES, PODS

_IN_POD = "KUBERNETES_SERVICE_HOST"
_SIZE_FLAGS = {
    "tensor": ("--tensor-parallel-size", "-tp", "--tp-size", "--tp"),
    "pipeline": ("--pipeline-parallel-size", "-pp", "--pp-size"),
    "data": ("--data-parallel-size", "-dp", "--dp-size"),
    "expert": ("--ep-size",),
}


@dataclass(frozen=True, slots=True)
class Replica:
    """One pod and what the cluster's objects say about it; "" and None = they do not say.

    `verified` says how the profile was checked ("" = it was not): the pod's label is what the operator wrote, the node's labels are what
    the hardware says.
    """

    namespace: str
    deployment: str
    pod: str
    node: str
    profile: str
    verified: str
    serving: bool
    model: str
    served_name: str
    precision: str | None
    engine: str
    engine_version: str
    layout: Layout
    address: str  # of the pod

    def place(self, direct: bool) -> str:
        return f"pod {self.namespace}/{self.pod} on node {self.node}, {'directly' if direct else 'through the API server'}"


def reference(text: str, namespace: str) -> tuple[str, str]:
    """(namespace, name) of mdep/NAME or mdep/NAMESPACE/NAME."""
    parts = text.split("/")
    if parts[0] not in ("mdep", "modeldeployment") or not 2 <= len(parts) <= 3 or not all(parts):
        raise Problem(f"{text} is no replica's address", "it must be mdep/NAME or mdep/NAMESPACE/NAME", "kubectl get mdep -A")
    return (parts[1], parts[2]) if len(parts) == 3 else (namespace, parts[1])


async def search(client: Client, profile: str, model: str) -> tuple[str, str]:
    """The first ModelDeployment (by namespace and name) that serves `model` and has a ready replica on `profile`."""
    selector = f"{naming.PROFILE}={naming.label_value(profile)}"
    pods = await _all(client, PODS, "", selector)
    names = {(p["metadata"]["namespace"], _label(p, naming.DEPLOYMENT)) for p in pods if is_ready(p)}
    for item in sorted(await _all(client, MODEL_DEPLOYMENTS), key=lambda o: (o["metadata"]["namespace"], o["metadata"]["name"])):
        key = (item["metadata"]["namespace"], item["metadata"]["name"])
        if key in names and model in _models(item):
            return key
    raise Problem(
        f"nothing to measure: no ready replica of {model} runs on {profile}",
        "neither --url nor mdep/NAME was given, so the cluster was searched",
        "give --url http://HOST:PORT/v1 of an engine that runs there, or deploy the model with placement.profiles first",
    )


def _models(item: Object) -> set[str]:
    spec = item.get("spec") or {}
    uris = [(spec.get("model") or {}).get("uri")] + [((v.get("model") or {}).get("uri")) for v in spec.get("variants") or ()]
    return {strip_scheme(uri) for uri in uris if isinstance(uri, str)}


async def replica(client: Client, namespace: str, name: str, profile: str = "") -> Replica:
    """The replica that is measured: ready, of `profile` if given; one that does not serve yet before one that does; then by name."""
    try:
        owner = await client.get(MODEL_DEPLOYMENTS, name, namespace)
    except NotFound as error:
        raise Problem(f"no ModelDeployment {namespace}/{name}", error.message or "404", "kubectl get mdep -A") from error
    found = await replicas(client, namespace, name)
    fitting = [pod for pod in found if not profile or _full(pod, naming.PROFILE) == profile]
    ready = [pod for pod in fitting if is_ready(pod)]
    if not ready:
        profiles = sorted({_full(pod, naming.PROFILE) for pod in found})
        why = f"{len(found)} pods, {len(fitting)} on the asked profile, none of them ready" if found else "it has no pod"
        extra = f"; its profiles: {', '.join(profiles)}" if profile and profiles else ""
        raise Problem(
            f"no replica of {namespace}/{name} can be measured",
            why + extra,
            f"kubectl get pods -n {namespace} -l {naming.DEPLOYMENT}={name}",
        )
    pod = min(ready, key=lambda p: (_serving(p), p["metadata"]["name"]))
    return await _describe(client, namespace, name, owner, pod)


async def replicas(client: Client, namespace: str, name: str) -> list[Object]:
    """All pods of a ModelDeployment, by name."""
    selector = f"{naming.DEPLOYMENT}={naming.label_value(name)}"
    return sorted(await _all(client, PODS, namespace, selector), key=lambda pod: str(pod["metadata"]["name"]))


async def describe(client: Client, namespace: str, name: str, pod: Object) -> Replica:
    return await _describe(client, namespace, name, await client.get(MODEL_DEPLOYMENTS, name, namespace), pod)


async def _describe(client: Client, namespace: str, name: str, owner: Object, pod: Object) -> Replica:
    profile = _full(pod, naming.PROFILE)
    spec = ModelDeploymentSpec.parse(owner["spec"])
    variant = next((v for v in spec.variants if v.name == _full(pod, naming.VARIANT)), None)
    weights = variant.model if variant is not None else None
    uri = (weights.uri if weights is not None else None) or spec.model.uri
    engine, version = await _engine(client, namespace, pod, profile)
    node = str(pod["spec"].get("nodeName") or "")
    return Replica(
        namespace=namespace,
        deployment=name,
        pod=str(pod["metadata"]["name"]),
        node=node,
        profile=profile,
        verified=await _verify(client, node, profile),
        serving=_serving(pod),
        model=strip_scheme(uri),
        served_name=spec.model.name or name,
        precision=(weights.precision if weights is not None else None) or spec.model.precision,
        engine=engine,
        engine_version=version,
        layout=layout_of(_container(pod).get("args") or ()),
        address=str((pod.get("status") or {}).get("podIP") or ""),
    )


async def _engine(client: Client, namespace: str, pod: Object, profile: str) -> tuple[str, str]:
    """Engine and version: what the operator wrote on the child, and the profile's version of the image that really runs."""
    labels = {key: _label(pod, key) for key in (naming.DEPLOYMENT, naming.POOL, naming.REVISION)}
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()) if value)
    children = await _all(client, DEPLOYMENTS, namespace, selector)
    words = {(child["metadata"].get("annotations") or {}).get(naming.ENGINE) for child in children}
    words.discard(None)
    engine = str(words.pop()) if len(words) == 1 else ""
    try:
        raw = await client.get(HARDWARE_PROFILES, profile)
        known = (HardwareProfileSpec.parse(raw["spec"]).engines or {}).get(engine)
    except (NotFound, ValidationError):
        return engine, ""
    same = known is not None and known.image == _container(pod).get("image")
    return engine, (known.version or "") if known is not None and same else ""


async def _verify(client: Client, node: str, profile: str) -> str:
    """How it is known that the node is of this profile. Raises Problem where its labels say another one."""
    raw = await client.get(NODES, node)
    profiles: dict[str, HardwareProfileSpec] = {}
    for item in await _all(client, HARDWARE_PROFILES):
        try:
            profiles[str(item["metadata"]["name"])] = HardwareProfileSpec.parse(item["spec"])
        except ValidationError:
            continue  # a broken profile matches no node
    capacity = parse.extended((raw.get("status") or {}).get("capacity"))
    found = match_node(profiles, raw["metadata"].get("labels") or {}, capacity)
    if found.profile == profile:
        return f"node {node} matches it ({found.message})"
    if found.profile is not None:
        raise Problem(
            f"the replica was placed as {profile}, but its node {node} is {found.profile}",
            found.message,
            f"kubectl get node {node} --show-labels; kubectl get apool",
        )
    return ""  # an AcceleratorPool names the profile: stated by a person, not by the hardware


def layout_of(args: Any) -> Layout:
    """The layout in the engine's arguments, later ones before earlier ones as the engines read them."""
    words = [str(word) for word in args]
    sizes: dict[str, int] = {}
    for name, flags in _SIZE_FLAGS.items():
        for index, word in enumerate(words):
            flag, _, value = word.partition("=")
            if flag in flags:
                text = value or (words[index + 1] if index + 1 < len(words) else "")
                if re.fullmatch(r"[1-9][0-9]{0,3}", text):
                    sizes[name] = int(text)
    return Layout.parse(sizes)


def is_direct(address: str, environ: Mapping[str, str]) -> bool:
    """Whether a pod of this address is reached without the API server."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return parsed.is_loopback or bool(environ.get(_IN_POD))


def where(configuration: kube.Configuration, replica: Replica, environ: Mapping[str, str], stall_s: float = STALL_S) -> Where:
    """The replica's engine port: directly, or behind the API server's proxy."""
    if is_direct(replica.address, environ):
        host = f"[{replica.address}]" if ":" in replica.address else replica.address
        return Where(f"http://{host}:{PORT}", no_headers, True, stall_s)

    async def headers() -> Mapping[str, str]:
        bearer = (await configuration.auth_settings()).get("BearerToken")
        return {"Authorization": str(bearer["value"])} if bearer and bearer["value"] else {}

    path = f"/api/v1/namespaces/{replica.namespace}/pods/{replica.pod}:{PORT}/proxy"
    return Where(str(configuration.host).rstrip("/") + path, headers, tls(configuration), stall_s)


def tls(configuration: kube.Configuration) -> ssl.SSLContext | bool:
    """As the library's own connection is secured: the cluster's authority, the user's certificate."""
    if not str(configuration.host).startswith("https"):
        return True
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    return context


async def _all(client: Client, resource: Any, namespace: str = "", selector: str = "") -> list[Object]:
    found: list[Object] = []
    try:
        async for page in client.list_pages(resource, namespace, label_selector=selector):
            found += page.items
    except Forbidden as error:
        right = f"kubectl auth can-i list {resource.plural} {f'-n {namespace}' if namespace else '-A'}"
        raise Problem(f"these credentials may not list {resource.plural}", error.message, f"{right}; or measure by --url") from error
    except ApiError as error:
        raise Problem(f"the API server does not list {resource.plural}", str(error), "kubectl cluster-info; or measure by --url") from error
    return found


def _label(pod: Object, key: str) -> str:
    return str((pod["metadata"].get("labels") or {}).get(key) or "")


def _full(pod: Object, key: str) -> str:
    """A label's full text: the annotation of the same name where the label had to be shortened."""
    return str((pod["metadata"].get("annotations") or {}).get(key) or _label(pod, key))


def _container(pod: Object) -> Object:
    containers = pod["spec"].get("containers") or [{}]
    return next((c for c in containers if c.get("name") == "engine"), containers[0])


def _condition(pod: Object, kind: str) -> bool:
    rows = (pod.get("status") or {}).get("conditions") or ()
    return any(row.get("type") == kind and row.get("status") == "True" for row in rows)


def is_ready(pod: Object) -> bool:
    """Its engine answers. (The pod's own Ready also needs the serving gate, which a candidate has not passed.)"""
    return not pod["metadata"].get("deletionTimestamp") and _condition(pod, "ContainersReady")


def _serving(pod: Object) -> bool:
    return _condition(pod, naming.SERVING)
