"""Names, labels and hashes of everything that the operator generates.

Child names are pure functions of what a child is for, so a second copy of the operator computes the same name and cannot create a
second child. Kubernetes limits names of Services and label values to 63 characters; longer ones become a prefix and a hash of the
whole, never a bare truncation, because two long names may share their first characters.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

GROUP = "polyfleet.io"
API_VERSION = "polyfleet.io/v1alpha1"
FIELD_MANAGER = "polyfleet"
SERVING_MANAGER = "polyfleet-serving"

GATE = "polyfleet.io/placement"
SERVING = "polyfleet.io/serving"

DEPLOYMENT = "polyfleet.io/deployment"
POOL = "polyfleet.io/pool"
PROFILE = "polyfleet.io/profile"
VENDOR = "polyfleet.io/vendor"
VARIANT = "polyfleet.io/variant"
REVISION = "polyfleet.io/revision"
ROLE = "polyfleet.io/role"
CAPACITY_CLASS = "polyfleet.io/capacity-class"
CANDIDATE = "polyfleet.io/candidate"
DRAINING = "polyfleet.io/draining"
# On a draining pod that served: when its drain began, RFC 3339.
DRAIN_SINCE = "polyfleet.io/draining-since"
# Annotations of a child: what its replicas are, in full length, so that a child can be read without its ModelDeployment.
ENGINE = "polyfleet.io/engine"
DEVICES = "polyfleet.io/devices"
# Digest of the part of the ModelDeployment's spec that shaped the child (`outdated`).
SPEC = "polyfleet.io/spec"
# Digest of the part of the HardwareProfile that shaped the child (`outdated`).
CONVENTIONS = "polyfleet.io/conventions"
# Digest of the address of the weights that a child's replicas load: `clearance` binds verdicts and records to it.
WEIGHTS = "polyfleet.io/weights"
# On a pod that has got its place: the planned node, also where the pool's scheduler may choose another one.
PLANNED_NODE = "polyfleet.io/planned-node"
# On a gated pod whose node is reserved: uids of the pods whose devices it waits for.
WAITS_FOR = "polyfleet.io/waits-for"
# On the same: since when, RFC 3339.
RESERVED_SINCE = "polyfleet.io/reserved-since"

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
# Of spec.podTemplate: where a replica's counters are, if not where its engine has them. The operator reads them and never writes them.
METRICS_PORT, METRICS_PATH = f"{GROUP}/metrics-port", f"{GROUP}/metrics-path"

MAX_LABEL = 63
_HASH_LENGTH = 8
_LABEL_VALUE = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")
_DNS_LABEL = re.compile(r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")


def canonical(value: Any) -> str:
    """One text for one value: sorted keys, no blanks. Every hash of this package is taken over it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def short_hash(value: Any) -> str:
    """Eight hexadecimal digits. A string, never a number: a 32-bit field could not hold every value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:_HASH_LENGTH]


def label_value(text: str) -> str:
    """The text itself if it is a legal label value, else a prefix of its legal characters and a hash of the whole."""
    if text == "" or _LABEL_VALUE.match(text):
        return text
    prefix = re.sub(r"[^A-Za-z0-9_.-]", "-", text)[: MAX_LABEL - _HASH_LENGTH - 1]
    prefix = re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9]+$", "", prefix)
    return f"{prefix}-{short_hash(text)}" if prefix else short_hash(text)


def labels_and_annotations(values: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Legal label values, and under the same key as an annotation the full text of those that had to be shortened."""
    labels = {key: label_value(text) for key, text in sorted(values.items())}
    annotations = {key: text for key, text in sorted(values.items()) if labels[key] != text}
    return labels, annotations


def dns_label(*parts: str, salt: Any = None) -> str:
    """Joins the parts to a name that a Service may have: at most 63 characters, first a letter, else prefix + hash.

    The hash covers the parts and `salt`; with a salt it is always appended.
    """
    joined = "-".join(part for part in parts if part)
    if salt is None and _DNS_LABEL.match(joined):
        return joined
    digest = short_hash([list(parts), salt])
    prefix = re.sub(r"[^a-z0-9-]", "-", joined.lower())
    if not prefix[:1].isalpha():
        prefix = f"m-{prefix}" if prefix else "m"
    prefix = prefix[: MAX_LABEL - _HASH_LENGTH - 1].rstrip("-")
    return f"{prefix}-{digest}"


def service_name(deployment: str) -> str:
    """The Service of a model has the model's own name wherever a Service may have it."""
    return dns_label(deployment)


def child_name(deployment: str, pool: str, variant: str, engine: str, devices: int, revision: str, template: str) -> str:
    """The Deployment for one (deployment, pool, variant, engine, size, revision).

    `template` is the hash of the rendered template: a child's template never changes under its name, so an edit that must not
    restart running replicas (a toleration) makes a new child beside the old one instead of a rolling update nobody planned.
    """
    return dns_label(deployment, pool, salt=[variant, engine, devices, revision, template])


def weights_digest(uri: str, revision: str) -> str:
    """Of where weights are read from; their content is not looked at."""
    return f"address:{short_hash([uri, revision])}"


def option_id(model: str, profile: str, variant: str, engine: str, devices: int) -> str:
    return f"{model}|{profile}|{variant}|{engine}|{devices}"
