"""What all parts of one node's agent share."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.processnode.addresses import AddressPool
from sandbox.processnode.devices import DeviceManager
from sandbox.processnode.events import EventRecorder
from sandbox.processnode.kube import Kube
from sandbox.processnode.scenario import Scenario
from sandbox.processnode.volumes import Volumes


@dataclass
class NodeContext:
    """One node."""

    name: str
    kube: Kube
    state: Path
    addresses: AddressPool
    devices: DeviceManager
    events: EventRecorder
    allocatable: dict[str, str]
    scenario: Scenario = field(default_factory=Scenario)
    online: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared while the scenario says that the node is silent: nothing is written then."""

    @property
    def lock(self) -> Path:
        """Held by the living agent."""
        return self.state / "agent.lock"

    @property
    def host_ip(self) -> str:
        """The node's own address."""
        return self.addresses.node


@dataclass
class Pod:
    """One pod on this node, as its containers see it."""

    object: dict[str, Any]
    folder: Path
    ip: str
    volumes: Volumes
    devices: dict[str, tuple[str, ...]]

    @property
    def uid(self) -> str:
        """The object's uid."""
        return str(self.object["metadata"]["uid"])

    @property
    def label(self) -> str:
        """For log lines and messages."""
        metadata = self.object["metadata"]
        return f"{metadata['namespace']}/{metadata['name']}"
