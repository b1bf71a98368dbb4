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
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from sandbox import dns, netns
from sandbox.api import PAUSE_SECONDS
from sandbox.controlplane import SERVICE_RANGE
from sandbox.errors import SandboxError
from sandbox.fleet import Node
from sandbox.pki import Pki
from sandbox.proc import Processes

CONTROL_ADDRESS = "10.77.0.1"
POD_RANGE = "10.244.0.0/16"
DNS_ADDRESS = CONTROL_ADDRESS
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


def make_folders(node: RealNode, unpacking: str) -> None:
    """Make a node's folders and containerd's configuration."""
    config = node.folder / "config"
    for path in (node.folder / "var-lib", node.folder / "log", node.folder / "run", config / "cni", config / "kernel"):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in (node.folder / "var-lib", node.folder / "log"):
        path.chmod(0o755)  # pods of other users read their hostPaths below; the state folder itself keeps strangers of the host out
    (node.folder / "var-lib" / "kubelet").mkdir(exist_ok=True)
    (config / "containerd.toml").write_text(_containerd_config(unpacking))
    for name, value in _KERNEL_VALUES.items():
        (config / "kernel" / name.replace("/", ".")).write_text(value + "\n")


def make_node(node: RealNode, binaries: Path, pki: Pki, server: str, pods_root: str, unpacking: str) -> None:
    """Write a node's files and make its mount namespace."""
    config = node.folder / "config"
    make_folders(node, unpacking)
    node.devices_folder.mkdir(parents=True, exist_ok=True)
    pair = pki.kubelet_pair(node.node.name, node.address)
    shutil.copy(pki.ca, config / "ca.crt")
    shutil.copy(pair.certificate, config / "kubelet.crt")
    shutil.copy(pair.key, config / "kubelet.key")
    pki.kubeconfig(config / "kubeconfig", server, f"system:node:{node.node.name}", pair=pair)
    (config / "cni" / "10-bridge.conflist").write_text(_cni_config(node))
    (config / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet_config(node, pods_root)))
    (config / "resolv.conf").write_text(f"nameserver {DNS_ADDRESS}\n")
    netns.make_mounts(node.pin, mount_script(node, binaries))


def mount_script(node: RealNode, binaries: Path) -> str:
    """The shell script that arranges a node's view of the file system."""
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


def snapshotter(folder: Path) -> str:
    """overlayfs where the disk of this folder carries it (it is not possible on top of another overlay), else plain copies."""
    trial = folder / f"overlay-trial-{os.getpid()}"
    for name in ("lower", "upper", "work", "merged"):
        (trial / name).mkdir(parents=True, exist_ok=True)
    options = "lowerdir=lower,upperdir=upper,workdir=work"
    script = f"cd {_quoted(trial)} && mount -n -t overlay -o {options} overlay merged"
    done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-ec", script], capture_output=True, check=False)
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
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "evictionHard": {},
        # The machine's disk is not the cluster's to judge, and there is no registry to fetch a removed image from again.
        "imageGCHighThresholdPercent": 100,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": dns.DOMAIN,
        "resolvConf": "/run/node/config/resolv.conf",
        # A device that comes or fails shows in the Node's status at the next look; reports without a change stay as rare as usual.
        "nodeStatusUpdateFrequency": "1s",
        "nodeStatusReportFrequency": "5m",
        # The controller manager's grace period here is 20 s; a Lease must be renewed well within it.
        "nodeLeaseDurationSeconds": 20,
        "logging": {"verbosity": 1},
    }


def enter(state: Path, node: RealNode | None = None) -> list[str]:
    """The command prefix that enters the cluster's network and, when given, a node's mounts. nsenter keeps the process id."""
    mount = [f"--mount={node.pin}"] if node else []
    return ["nsenter", f"--net={network_pin(state)}", *mount, "--"]


def start_containerd(processes: Processes, node: RealNode, group: Path | None) -> None:
    """Start a node's containerd; its shims inherit control group and namespaces."""
    processes.start(
        f"containerd-{node.node.name}",
        ["/run/bin/containerd", "--config", "/run/node/config/containerd.toml", "--log-level", "warn"],
        prefix=enter(processes.state, node),
        cgroups=[group] if group else [],
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


def wait_containerd(processes: Processes, node: RealNode) -> None:
    """containerd offers no event from outside: its own client asks until it answers."""
    name, deadline = f"containerd-{node.node.name}", time.monotonic() + 60
    while time.monotonic() < deadline:
        processes.check(name)
        try:
            ctr(processes.state, node, "version")
            return
        except SandboxError:
            time.sleep(PAUSE_SECONDS)
    raise SandboxError(f"containerd of node {node.node.name} does not answer. Its log: polyfleet-sandbox logs {name}")


def ctr(state: Path, node: RealNode, *arguments: str) -> str:
    """Run containerd's client on a node, in the kubelet's namespace of images."""
    command = [*enter(state, node), "/run/bin/ctr", "--namespace", "k8s.io", *arguments]
    return netns.run(command, doing=f"run `ctr {' '.join(arguments[:2])}` on node {node.node.name}")


def import_image(state: Path, node: RealNode, archive: Path) -> None:
    """Load one image archive into a node's containerd. The archive goes in as a stream: the node may not see the host's cache."""
    command = [*enter(state, node), "/run/bin/ctr", "--namespace", "k8s.io", "images", "import", "-"]
    with archive.open("rb") as stream:
        done = subprocess.run(command, stdin=stream, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SandboxError(f"node {node.node.name} cannot load the image {archive}: {done.stderr.strip()[-400:]}")
