"""Whether a replica runs on the kind of device it was planned for: judged by its resource, its node's labels and the profile.

What an engine says of its device is not asked: a PPU calls itself `cuda`. A node that says nothing (its labels are gone while a
discovery daemon restarts, or it cannot be read) is no proof of the wrong device: such a replica keeps its traffic and gets none anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from polyfleet.fleet import Fleet
from polyfleet.inventory import device_names, devices_of
from polyfleet.snapshot import Standing

VERIFIED, WRONG_DEVICE, NOT_REPORTED = "Verified", "WrongDevice", "NotReported"


@dataclass(frozen=True, slots=True)
class Verdict:
    reason: str
    text: str = ""

    @property
    def good(self) -> bool:
        return self.reason == VERIFIED

    @property
    def wrong(self) -> bool:
        return self.reason == WRONG_DEVICE


def verify(fleet: Fleet, item: Standing) -> Verdict:
    """Of a replica that is bound to a node."""
    pod, planned = item.pod, item.child.profile
    if pod.node not in fleet.matches:
        return Verdict(NOT_REPORTED, f"node {pod.node} cannot be read")
    profile = fleet.profiles.get(planned)
    if profile is None:
        return Verdict(NOT_REPORTED, f"HardwareProfile {planned} does not exist or cannot be read")
    found = _profile_of(fleet, pod.node)
    if not found:
        return Verdict(NOT_REPORTED, f"no profile matches the labels of node {pod.node}")
    if found != planned:
        return Verdict(WRONG_DEVICE, f"planned for {planned}, runs on {pod.node}, which is {found}")
    if devices_of(pod, device_names(profile)):
        return Verdict(VERIFIED)
    foreign = sorted({name for other in fleet.profiles.values() for name in device_names(other)} & pod.requests.keys())
    if foreign:
        return Verdict(WRONG_DEVICE, f"planned for {planned}, holds {', '.join(foreign)} on {pod.node}")
    return Verdict(NOT_REPORTED, f"the pod on {pod.node} asks for no device of {planned}")


def _profile_of(fleet: Fleet, node: str) -> str:
    """The profile of the node's pool, unless its labels plainly say other silicon; "" if neither is known."""
    match = fleet.matches[node].profile
    pool = fleet.pool(fleet.pool_of.get(node, ""))
    if pool is None:
        return match or ""
    if match is not None and pool.profile is not None and pool.profile.match:
        return match
    return pool.profile_name
