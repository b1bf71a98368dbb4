"""Devices that DRA drivers publish (ResourceSlices) and that claims hold, put beside what device plugins advertise. Pure.

A device counts once. Where a node advertises the extended resource itself, that number is the stock and the slices are only a second
view of it (Kubernetes' scheduler decides alike: it looks at DRA where allocatable has none). Where only slices show the devices, they are
counted under the DeviceClass's `extendedResourceName`, for which pods may ask as ever; a class without one gives devices that are seen and
counted, and that no replica of ours can ask for.

Which devices a class selects is written in CEL. Of that language the two comparisons that the vendors' classes use are read, joined by
`&&`; a class that says more is not guessed at: its devices are unknown, and the text says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from hwprofiles import HardwareProfileSpec
from hwprofiles.resources import class_resource
from polyfleet.state import ClaimState, DeviceClassState, NodeState, Observed, PodState, SliceDevice, SliceState

SLICES, CLAIMS, CLASSES = "resourceslices", "resourceclaims", "deviceclasses"
_DRIVER = re.compile(r"""device\.driver\s*==\s*(?P<quote>["'])(?P<value>[^"']*)(?P=quote)""")
_ATTRIBUTE = re.compile(
    r"""device\.attributes\[(?P<mark>["'])(?P<domain>[^"']+)(?P=mark)\]\.(?P<name>\w+)\s*==\s*"""
    r"""(?:(?P<quote>["'])(?P<text>[^"']*)(?P=quote)|(?P<word>true|false|-?[0-9]+))"""
)

Ref = tuple[str, str, str]  # driver, pool, device


@dataclass(frozen=True, slots=True)
class Stock:
    """Devices of one class on one node."""

    installed: int
    healthy: int  # without those that a device taint keeps away


@dataclass(frozen=True, slots=True)
class View:
    """What DRA knows. `holders` stand for claims as pods do for requests, so that every later sum sees them without knowing of DRA."""

    stock: Mapping[str, Mapping[str, Stock]] = field(default_factory=dict)  # node -> class -> devices
    extended: Mapping[str, str] = field(default_factory=dict)  # class -> extended resource
    holders: tuple[PodState, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict)  # class -> why its devices cannot be counted or asked for
    published: frozenset[str] = frozenset()  # nodes of which a driver tells anything
    unread: str = ""  # what of DRA cannot be read, in words; "" = all of it can


NOTHING = View()


def classes_of(profiles: Iterable[HardwareProfileSpec]) -> frozenset[str]:
    return frozenset(spec.dra.device_class for spec in profiles if spec.dra is not None)


def unread(observed: Observed) -> str:
    """What of DRA cannot be read: the rest of the inventory is not less known for it."""
    parts = [f"{plural} ({observed.unknown[plural]})" for plural in (SLICES, CLAIMS, CLASSES) if plural in observed.unknown]
    return f"{', '.join(parts)} cannot be read: devices that only DRA shows or holds are not counted" if parts else ""


def view(observed: Observed, classes: frozenset[str]) -> View:
    """`classes`: the DeviceClasses that some profile names; others are nobody's business here."""
    text = unread(observed)
    if not classes or not (observed.slices or observed.claims):
        return View(unread=text) if text else NOTHING
    known = {item.name: item for item in observed.device_classes}
    faults = {name: fault for name in sorted(classes) if (fault := _fault(name, known.get(name), observed))}
    devices = _devices(observed.slices)
    members: dict[str, dict[Ref, tuple[str, SliceDevice]]] = {}
    for name in sorted(classes):
        terms = _terms(name, known.get(name))
        members[name] = {} if terms is None else {ref: item for ref, item in devices.items() if _selected(terms, ref[0], item[1])}
    stock: dict[str, dict[str, Stock]] = {}
    for name, found in members.items():
        counts: dict[str, list[int]] = {}
        for node, device in found.values():
            both = counts.setdefault(node, [0, 0])
            both[0] += 1
            both[1] += not device.tainted
        for node, (installed, healthy) in counts.items():
            stock.setdefault(node, {})[name] = Stock(installed, healthy)
    extended = {name: known[name].extended_resource for name in sorted(classes & known.keys()) if known[name].extended_resource}
    holders = tuple(_holders(observed, devices, members, known))
    published = frozenset(node for node, _ in devices.values())
    return View(stock, extended, holders, faults, published, text)


def _fault(name: str, found: DeviceClassState | None, observed: Observed) -> str:
    if found is None:
        why = f"cannot be read ({observed.unknown[CLASSES]})" if CLASSES in observed.unknown else "does not exist"
        return f"DeviceClass {name} {why}, so what a DRA driver publishes here is not counted"
    if _terms(name, found) is None:
        return f"DeviceClass {name} selects its devices by more than driver and attributes, so they cannot be counted here"
    if not found.extended_resource:
        return (
            f"DeviceClass {name} has no extendedResourceName, so pods can ask for its devices by claim only;"
            f" set spec.extendedResourceName of the class to the resource of the HardwareProfile"
        )
    return ""


@dataclass(frozen=True, slots=True)
class _Term:
    attribute: str  # "" = the driver
    value: str


def _terms(name: str, found: DeviceClassState | None) -> tuple[_Term, ...] | None:
    """The comparisons of a class; None if it is not known, or says what is not understood. Where it has no selector, the vendors' own
    convention is left: class and driver have one name."""
    if found is None:
        return None
    texts = [part.strip() for text in found.selectors for part in text.split("&&")]
    if not texts:
        return (_Term("", name),)
    terms: list[_Term] = []
    for text in texts:
        if match := _DRIVER.fullmatch(text):
            terms.append(_Term("", match["value"]))
        elif match := _ATTRIBUTE.fullmatch(text):
            terms.append(_Term(f"{match['domain']}/{match['name']}", match["text"] if match["quote"] else match["word"]))
        else:
            return None
    return tuple(terms)


def _selected(terms: tuple[_Term, ...], driver: str, device: SliceDevice) -> bool:
    for term in terms:
        have = device.attributes.get(term.attribute) if term.attribute else driver
        if have is None or _word(have) != term.value:
            return False
    return True


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _devices(slices: Iterable[SliceState]) -> dict[Ref, tuple[str, SliceDevice]]:
    """Every device with its node; of each pool only the newest generation, as older slices are about to be deleted."""
    slices = tuple(slices)
    newest: dict[tuple[str, str], int] = {}
    for item in slices:
        key = (item.driver, item.pool)
        newest[key] = max(item.generation, newest.get(key, 0))
    found: dict[Ref, tuple[str, SliceDevice]] = {}
    for item in slices:
        if item.generation < newest[(item.driver, item.pool)]:
            continue
        for device in item.devices:
            if node := device.node or item.node:
                found[(item.driver, item.pool, device.name)] = (node, device)
    return found


def _holders(
    observed: Observed,
    devices: Mapping[Ref, tuple[str, SliceDevice]],
    members: Mapping[str, Mapping[Ref, tuple[str, SliceDevice]]],
    known: Mapping[str, DeviceClassState],
) -> Iterable[PodState]:
    """One stand-in per claim and class, for the devices that no earlier claim holds."""
    listed = {pod.uid for pod in observed.pods if pod.requests and not pod.finished}
    siblings: dict[tuple[str, str, str], list[tuple[str, Ref]]] = {}  # (driver, pool, counter set) -> (class, device)
    for name, found in members.items():
        for ref, (_, device) in found.items():
            for counter in device.counters:
                siblings.setdefault((ref[0], ref[1], counter), []).append((name, ref))
    taken: set[tuple[str, Ref]] = set()
    for claim in sorted(observed.claims, key=lambda item: (item.namespace, item.name, item.uid)):
        if claim.extended and listed.intersection(claim.pods):
            continue  # the pod's own request says the same
        sums: dict[tuple[str, str], int] = {}  # (class, node) -> devices
        for ref in ((item.driver, item.pool, item.device) for item in claim.devices):
            there = devices.get(ref)
            hit = [(name, ref) for name, found in members.items() if ref in found]
            if there is None:
                # Its slice is gone while it is held: the class is told by the driver, the node by the allocation.
                hit = [(name, ref) for name in members if name in known and ref[0] == _driver(name, known[name])]
            else:
                # A part of a device makes the whole of it unavailable.
                hit += [pair for counter in there[1].counters for pair in siblings.get((ref[0], ref[1], counter), ())]
            for pair in hit:
                node = devices[pair[1]][0] if pair[1] in devices else claim.node
                if node and pair not in taken:
                    taken.add(pair)
                    sums[(pair[0], node)] = sums.get((pair[0], node), 0) + 1
        for (name, node), count in sorted(sums.items()):
            yield _stand_in(claim, name, node, count)


def _driver(name: str, found: DeviceClassState) -> str:
    return next((term.value for term in _terms(name, found) or () if not term.attribute), name)


def _stand_in(claim: ClaimState, name: str, node: str, count: int) -> PodState:
    return PodState(
        namespace=claim.namespace, name=f"resourceclaim/{claim.name}", uid=f"{claim.uid}/{name}/{node}", resource_version="", owner_uid="",
        labels={}, annotations={}, node=node, pinned_node="", gates=(), phase="Running", reason="", deleting=False,
        requests={class_resource(name): count}, conditions={}, containers=(), ip="", created="",
    )  # fmt: skip


def with_stock(node: NodeState, found: View) -> NodeState:
    """The node with its DRA devices among its resources: under the class's extended resource if the node itself advertises none of it,
    and always under the name of the class, which counts only where no alias does."""
    own = found.stock.get(node.name)
    if not own:
        return node
    capacity, allocatable = dict(node.capacity), dict(node.allocatable)
    for name in sorted(own):
        resource = found.extended.get(name, "")
        if resource and allocatable.get(resource, 0) <= 0:
            capacity[resource], allocatable[resource] = own[name].installed, own[name].healthy
        capacity[class_resource(name)], allocatable[class_resource(name)] = own[name].installed, own[name].healthy
    return replace(node, capacity=capacity, allocatable=allocatable)
