"""Real nodes: one network namespace for the cluster, one mount namespace with containerd and kubelet per node, kube-proxy once.

Inside its mount namespace a node finds the paths that its programs take for granted (/var/lib/kubelet, /var/lib/containerd,
/run/containerd, /var/log/pods), and they all lie under the state folder: nothing is written to the host. The device-plugin
folder /var/lib/kubelet/device-plugins is a constant of the kubelet, which is why nodes cannot share a mount namespace.
Node addresses are /32 on the namespace's `lo`; pods sit on one bridge per node, and the namespace's own routing joins the bridges.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from sandbox import netns
from sandbox.controlplane import SERVICE_RANGE
from sandbox.errors import SandboxError
from sandbox.fleet import Node
from sandbox.pki import Pki
from sandbox.proc import Processes

CONTROL_ADDRESS = "10.77.0.1"
POD_RANGE = "10.244.0.0/16"
DNS_ADDRESS = "10.0.0.10"
SANDBOX_IMAGE = "sandbox.polyfleet.io/pause:dev"
KUBELET_PORT = 10250

# The kubelet writes these when they differ. They belong to the whole machine, so the node gets files with the wanted values in their
# place instead (values: Kubernetes, pkg/util/sysctl).
_KERNEL_VALUES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


@dataclass(frozen=True)
class RealNode:
    """A node's place: its number decides its addresses."""

    node: Node
    index: int
    folder: Path
    pin: Path

    @property
    def address(self) -> str:
        """The node's address in the cluster's namespace."""
        return f"10.77.0.{10 + self.index}"

    @property
    def pods(self) -> str:
        """The node's range of pod addresses."""
        return f"10.244.{self.index}.0/24"

    @property
    def devices_folder(self) -> Path:
        """Where the device plugin looks for withdrawn devices, as seen from the host."""
        return self.folder / "var-lib" / "polyfleet-sandbox" / "devices"


def layout(state: Path, nodes: tuple[Node, ...]) -> list[RealNode]:
    """Give each node its number and folders."""
    pins = state / "run" / "ns"
    return [RealNode(node, index, state / "nodes" / node.name, pins / f"mount-{node.name}") for index, node in enumerate(nodes)]


def network_pin(state: Path) -> Path:
    """The pin of the cluster's network namespace."""
    return state / "run" / "ns" / "network"


def make_network(state: Path, nodes: list[RealNode]) -> None:
    """Make the cluster's network namespace with the addresses of control plane and nodes."""
    netns.make_pin_folder(network_pin(state).parent)
    addresses = [CONTROL_ADDRESS, *(node.address for node in nodes)]
    script = "\n".join(
        [
            "ip link set lo up",
            *(f"ip addr add {address}/32 dev lo" for address in addresses),
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
            # Locally started connections to a Service need a route before nftables can turn them to an endpoint.
            f"ip route add {SERVICE_RANGE} dev lo src {CONTROL_ADDRESS}",
        ]
    )
    netns.make_network(network_pin(state), script)


def make_node(node: RealNode, binaries: Path, pki: Pki, server: str, pods_root: str) -> None:
    """Write a node's files and make its mount namespace."""
    config = node.folder / "config"
    for path in (node.folder / "var-lib" / "kubelet", node.folder / "log", node.folder / "run", config / "cni", config / "kernel"):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in (node.folder / "var-lib", node.folder / "log"):
        path.chmod(0o755)  # pods of other users read their hostPaths below; the state folder itself keeps strangers of the host out
    node.devices_folder.mkdir(parents=True, exist_ok=True)
    pair = pki.kubelet_pair(node.node.name, node.address)
    shutil.copy(pki.ca, config / "ca.crt")
    shutil.copy(pair.certificate, config / "kubelet.crt")
    shutil.copy(pair.key, config / "kubelet.key")
    pki.kubeconfig(config / "kubeconfig", server, f"system:node:{node.node.name}", pair=pair)
    (config / "containerd.toml").write_text(_containerd_config(_snapshotter(node.folder)))
    (config / "cni" / "10-bridge.conflist").write_text(_cni_config(node))
    (config / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet_config(node, pods_root)))
    (config / "resolv.conf").write_text(f"nameserver {DNS_ADDRESS}\n")
    for name, value in _KERNEL_VALUES.items():
        (config / "kernel" / name.replace("/", ".")).write_text(value + "\n")
    netns.make_mounts(node.pin, _mount_script(node, binaries))


def _mount_script(node: RealNode, binaries: Path) -> str:
    run = node.folder / "run"
    kernel = "\n".join(
        f"[ ! -e /proc/sys/{name} ] || mount -n --bind /run/node/config/kernel/{name.replace('/', '.')} /proc/sys/{name}"
        for name in sorted(_KERNEL_VALUES)
    )
    # The new /run is put together beside the state folder and moved into place last, because the checkout itself may lie under one of
    # the folders that get covered.
    return f"""
mount -n -t tmpfs -o mode=0755 tmpfs {_quoted(run)}
mkdir {_quoted(run)}/node {_quoted(run)}/bin {_quoted(run)}/containerd {_quoted(run)}/netns
mount -n --rbind {_quoted(node.folder)} {_quoted(run)}/node
mount -n --bind {_quoted(binaries)} {_quoted(run)}/bin
mount -n --move {_quoted(run)} /run
mount -n --bind /run/node/var-lib /var/lib
mount -n --bind /run/node/log /var/log
mount -n --bind /var/lib/kubelet /var/lib/kubelet
mount -n --make-rshared /var/lib/kubelet
{kernel}
"""


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "'\\''") + "'"


def _snapshotter(folder: Path) -> str:
    """overlayfs where the disk carries it (it is not possible on top of another overlay), else plain copies."""
    trial = folder / "overlay-trial"
    for name in ("lower", "upper", "work", "merged"):
        (trial / name).mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={trial}/lower,upperdir={trial}/upper,workdir={trial}/work"
    script = f"mount -t overlay -o {_quoted(Path(options))} overlay {_quoted(trial / 'merged')}"
    done = subprocess.run(["unshare", "--mount", "sh", "-ec", script], capture_output=True, check=False)
    shutil.rmtree(trial)
    return "overlayfs" if done.returncode == 0 else "native"


def _containerd_config(snapshotter: str) -> str:
    runc = shutil.which("runc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if runc is None:
        raise SandboxError("runc is not installed; install it: apt-get install runc")
    images, runtime = '"io.containerd.cri.v1.images"', '"io.containerd.cri.v1.runtime"'
    # restrict_oom_score_adj: without CAP_SYS_RESOURCE runc cannot lower the score, and every pod would die at its start.
    return f"""version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.tracing.processor.v1.otlp"]

[grpc]
address = "/run/containerd/containerd.sock"

[plugins.{images}]
snapshotter = "{snapshotter}"

[plugins.{images}.pinned_images]
sandbox = "{SANDBOX_IMAGE}"

[plugins.{runtime}]
restrict_oom_score_adj = true

[plugins.{runtime}.containerd]
default_runtime_name = "runc"

[plugins.{runtime}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.{runtime}.containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false

[plugins.{runtime}.cni]
bin_dirs = ["/run/bin"]
conf_dir = "/run/node/config/cni"
"""


def _cni_config(node: RealNode) -> str:
    return f"""{{"cniVersion": "1.0.0", "name": "pods", "plugins": [{{
 "type": "bridge", "bridge": "pods{node.index}", "isGateway": true, "ipMasq": false, "hairpinMode": true,
 "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{node.pods}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}], "dataDir": "/run/cni"}}
}}]}}
"""


def _kubelet_config(node: RealNode, pods_root: str) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "port": KUBELET_PORT,
        "readOnlyPort": 0,
        "healthzBindAddress": node.address,
        "tlsCertFile": "/run/node/config/kubelet.crt",
        "tlsPrivateKeyFile": "/run/node/config/kubelet.key",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": "/run/node/config/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": pods_root,
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "evictionHard": {},
        # The machine's disk is not the cluster's to judge, and there is no registry to fetch a removed image from again.
        "imageGCHighThresholdPercent": 100,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": "/run/node/config/resolv.conf",
        # The controller manager's grace period here is 20 s; a Lease must be renewed well within it.
        "nodeLeaseDurationSeconds": 20,
        "logging": {"verbosity": 1},
    }


def enter(state: Path, node: RealNode | None = None) -> list[str]:
    """The command prefix that enters the cluster's network and, when given, a node's mounts. nsenter keeps the process id."""
    mount = [f"--mount={node.pin}"] if node else []
    return ["nsenter", f"--net={network_pin(state)}", *mount, "--"]


def start_containerd(processes: Processes, node: RealNode, group: Path) -> None:
    """Start a node's containerd; its shims inherit control group and namespaces."""
    processes.start(
        f"containerd-{node.node.name}",
        ["/run/bin/containerd", "--config", "/run/node/config/containerd.toml", "--log-level", "warn"],
        prefix=enter(processes.state, node),
        cgroups=[group],
        env={"PATH": f"/run/bin:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
    )


def start_kubelet(processes: Processes, node: RealNode, group: Path) -> None:
    """Start a node's kubelet."""
    labels = ",".join(f"{key}={value}" for key, value in sorted(node.node.labels.items()))
    argv = [
        "/run/bin/kubelet", "--config=/run/node/config/kubelet.yaml", "--kubeconfig=/run/node/config/kubeconfig",
        f"--hostname-override={node.node.name}", f"--node-ip={node.address}", "--cert-dir=/var/lib/kubelet/pki", f"--node-labels={labels}",
    ]  # fmt: skip
    if node.node.taints:
        argv.append(f"--register-with-taints={','.join(taint.text() for taint in node.node.taints)}")
    processes.start(f"kubelet-{node.node.name}", argv, prefix=enter(processes.state, node), cgroups=[group])


def start_proxy(processes: Processes, node: RealNode, binaries: Path, pki: Pki, server: str, group: Path) -> None:
    """Start kube-proxy: once, because all nodes share the namespace."""
    folder = processes.state / "run"
    pki.kubeconfig(folder / "kube-proxy.kubeconfig", server, "system:kube-proxy")
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "bindAddress": node.address,
        "hostnameOverride": node.node.name,
        "healthzBindAddress": f"{node.address}:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "clusterCIDR": POD_RANGE,
        "clientConnection": {"kubeconfig": str(folder / "kube-proxy.kubeconfig")},
        # Two pods of one node share a bridge: an answer would go straight back and miss the address translation.
        "nftables": {"masqueradeAll": True, "minSyncPeriod": "100ms"},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    path = folder / "kube-proxy.yaml"
    path.write_text(yaml.safe_dump(config))
    processes.start("kube-proxy", [binaries / "kube-proxy", f"--config={path}"], prefix=enter(processes.state), cgroups=[group])


def import_image(state: Path, node: RealNode, archive: Path) -> None:
    """Load one image archive into a node's containerd. The archive goes in as a stream: the node may not see the host's cache."""
    with archive.open("rb") as stream:
        done = subprocess.run(
            [*enter(state, node), "/run/bin/ctr", "--namespace", "k8s.io", "images", "import", "-"],
            stdin=stream,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise SandboxError(f"node {node.node.name} cannot load the image {archive.name}: {done.stderr.strip()[-400:]}")


def wanted_images(node: Node, fleet: tuple[Node, ...], references: list[str]) -> list[str]:
    """Which images a node needs: engines and plugins where devices are, the operator on nodes without (or anywhere if there are none)."""
    has_system = any(each.devices is None for each in fleet)
    found = []
    for reference in sorted(references):
        name = reference.rsplit("/", 1)[-1].split(":", 1)[0]
        if name in ("engine", "device-plugin") and node.devices is None:
            continue
        if name == "operator" and node.devices is not None and has_system:
            continue
        found.append(reference)
    return found
