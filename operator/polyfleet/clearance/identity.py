"""What a verdict is bound to: the pair (profile, variant, engine, revision), and the image and the driver that each replica really has.

The revision covers every argument, variable, mount and layout that we give an engine, and the address of its weights; the content of the
weights is not read. A tag that was moved shows as another image digest at the kubelet, a new driver as another label of the node: both
make another fingerprint of the same pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from accuracy.types import Fingerprint
from polyfleet import naming
from polyfleet.children import Child
from polyfleet.render.deployment import Rendered
from polyfleet.render.pod import CONTAINER
from polyfleet.state import PodState

# Labels with which the vendors' own discovery says what driver a node has, the most exact first: NVIDIA's gpu-feature-discovery, the
# installers of Ascend's MindCluster and of Alibaba's PPU nodes where somebody sets them. All that are there count.
DRIVER_LABELS = (
    "nvidia.com/cuda.driver-version.full",
    "nvidia.com/cuda.driver.major",
    "nvidia.com/cuda.driver.minor",
    "nvidia.com/cuda.driver.rev",
    "huawei.com/npu.driver-version",
    "node.kubernetes.io/npu.driver.version",
    "aliyun.accelerator/ppu_driver_version",
    "polyfleet.io/driver-version",
)


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """What becomes eligible by a verdict, and what all replicas of one child are."""

    profile: str
    variant: str
    engine: str
    revision: str


def of_child(child: Child) -> Pair:
    return Pair(child.profile, child.variant, child.engine, child.revision)


def of_rendered(rendered: Rendered) -> Pair:
    def text(key: str) -> str:
        return str(rendered.annotations.get(key) or rendered.labels.get(key, ""))

    return Pair(text(naming.PROFILE), text(naming.VARIANT), text(naming.ENGINE), rendered.revision)


def driver(labels: Mapping[str, str]) -> str:
    """As the node's labels tell it; "" = nothing is told."""
    return " ".join(f"{key.rsplit('/', 1)[1]}={labels[key]}" for key in DRIVER_LABELS if labels.get(key))


def image(pod: PodState) -> str:
    """Digest of the image that runs, without the registry it was pulled from; "" until the kubelet tells."""
    found = next((container.image_id for container in pod.containers if container.name == CONTAINER), "")
    return found.rsplit("@", 1)[-1].removeprefix("docker-pullable://")


def fingerprint(child: Child, pod: PodState, labels: Mapping[str, str]) -> Fingerprint:
    """`labels`: of the pod's node."""
    return Fingerprint(
        profile=child.profile,
        weights=child.deployment.annotations.get(naming.WEIGHTS, ""),
        engine_image=image(pod),
        driver=driver(labels),
        flags=child.revision,
    )


def report_name(deployment: str, pair: Pair, found: Fingerprint) -> str:
    """One object per (deployment, variant, profile, engine, fingerprint)."""
    salt = [pair.variant, pair.engine, found.weights, found.engine_image, found.driver, found.flags]
    return naming.dns_label(deployment, pair.profile, salt=salt)


def record_name(deployment: str, weights: str, profile: str) -> str:
    return naming.dns_label(deployment, "record", salt=[weights, profile])
