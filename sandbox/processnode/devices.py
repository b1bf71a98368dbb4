"""The device manager of one node: which device belongs to which container, as the kubelet decides it.

Where a vendor's plugin answers GetPreferredAllocation (nvidia, ppu) a container gets what it prefers. The ascend plugin gives no
preference, and the kubelet then picks arbitrary dies: a real one answered a request of four with 3, 15, 2 and 5, which are not whole
cards. Here that pick is pseudo-random by pod uid, and is turned away from whole cards where it can be, so that nobody comes to rely
on luck. Names, ids and environments are those of `sandbox.deviceplugin.kinds`. Pure: no I/O, no clock.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sandbox.deviceplugin.kinds import Advertisement, index_of, preferred


class AdmissionError(Exception):
    """The node cannot take a pod that was bound to it. The reason becomes the pod's status.reason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def is_whole_cards(devices: Collection[str]) -> bool:
    """Whether the dies make up whole cards: on an Atlas A3, dies 2n and 2n+1 sit on one."""
    dies = {index_of(device) for device in devices}
    return all(die ^ 1 in dies for die in dies)


def arbitrary(free: Collection[str], count: int, seed: str) -> tuple[str, ...]:
    """Pick as a kubelet without a preference does, repeatably; not whole cards unless nothing else is left."""
    shuffled = sorted(free, key=index_of)
    random.Random(seed).shuffle(shuffled)
    picked, spare = shuffled[:count], shuffled[count:]
    if picked and spare and is_whole_cards(picked):
        picked[-1] = spare[0]  # the spare die's partner is not among the picked, so this breaks a pair
    return tuple(picked)


@dataclass
class DeviceManager:
    """Devices of one node, if it has any. ``held`` maps pod uid to container name to device ids."""

    offer: Advertisement | None
    unhealthy: frozenset[str] = frozenset()
    held: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)

    @property
    def devices(self) -> tuple[str, ...]:
        """All device ids, healthy or not: the node's capacity."""
        return self.offer.ids if self.offer else ()

    @property
    def allocatable(self) -> int:
        """How many devices are healthy."""
        return len(set(self.devices) - self.unhealthy)

    def mark_unhealthy(self, devices: Collection[str]) -> bool:
        """Declare exactly these devices unhealthy; True when that changed something. Running pods keep theirs, as with the kubelet."""
        unhealthy = frozenset(devices) & frozenset(self.devices)
        changed = unhealthy != self.unhealthy
        self.unhealthy = unhealthy
        return changed

    def restore(self, pod_uid: str, allocation: Mapping[str, Sequence[str]]) -> None:
        """Take back an allocation from the state directory."""
        self.held[pod_uid] = {name: tuple(devices) for name, devices in allocation.items()}

    def allocate(self, pod_uid: str, init: Mapping[str, int], main: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
        """Devices for each container of a pod; what init containers held is used again by the main ones. All or nothing."""
        taken = {device for pod in self.held.values() for devices in pod.values() for device in devices}
        free = [device for device in self.devices if device not in taken and device not in self.unhealthy]
        reusable: list[str] = []
        result: dict[str, tuple[str, ...]] = {}
        for name, count in init.items():
            result[name] = self._take(f"{pod_uid}/{name}", count, reusable, free)
            reusable += [device for device in result[name] if device not in reusable]
        for name, count in main.items():
            result[name] = self._take(f"{pod_uid}/{name}", count, reusable, free)
            reusable = [device for device in reusable if device not in result[name]]
        self.held[pod_uid] = result
        return result

    def _take(self, seed: str, count: int, reusable: list[str], free: list[str]) -> tuple[str, ...]:
        again = reusable[:count]
        missing = count - len(again)
        if self.offer is None or missing > len(free):
            resource = self.offer.resource if self.offer else "extended resources"
            raise AdmissionError(
                "UnexpectedAdmissionError",
                f"Pod was rejected: Allocate failed due to requested number of devices unavailable for {resource}. "
                f"Requested: {missing}, Available: {len(free)}, which is unexpected",
            )
        fresh = preferred(free, [], missing) if self.offer.kind.prefers else arbitrary(free, missing, seed)
        for device in fresh:
            free.remove(device)
        return (*again, *fresh)

    def release(self, pod_uid: str) -> None:
        """Give a pod's devices back."""
        self.held.pop(pod_uid, None)

    def environment(self, devices: Sequence[str]) -> dict[str, str]:
        """What the plugin's Allocate adds to a container's environment."""
        return self.offer.environment(devices) if self.offer and devices else {}
