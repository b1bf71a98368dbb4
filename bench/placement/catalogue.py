"""What the synthetic fleets are drawn from: device types with prices, model sizes with their frequency, request lengths.

All figures are ours and synthetic (prices and speeds in proportion to public data sheets, rounded); nothing here is a claim about a
product. The order of the lists is part of the seeded instances: a draw names a position.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Device:
    name: str
    vendor: str
    per_node: int  # devices of a full node
    gigabytes: int
    compute: float  # of the first type's
    bandwidth: float  # of the first type's
    price: float  # per device-hour
    byte_weights: bool = False  # runs one byte per parameter; the others two, or one if the draw says so


DEVICES = (
    Device("h100", "nvidia", 8, 80, 1.00, 1.00, 2.50, byte_weights=True),
    Device("a100", "nvidia", 8, 80, 0.32, 0.61, 1.30),
    Device("h20", "nvidia", 8, 96, 0.15, 1.19, 1.10),
    Device("l40s", "nvidia", 4, 48, 0.37, 0.26, 0.80),
    Device("a910c", "huawei", 16, 64, 0.38, 0.48, 0.75),
    Device("a910b", "huawei", 8, 64, 0.32, 0.48, 0.60),
    Device("ppu", "alibaba", 16, 96, 0.13, 0.83, 0.70),
    Device("h200", "nvidia", 8, 141, 1.00, 1.43, 3.40, byte_weights=True),
)

# Speeds and prices of the device models named in the openb node list: ours, the list holds none.
OPENB = (
    Device("P100", "nvidia", 2, 16, 0.02, 0.22, 0.30),
    Device("T4", "nvidia", 4, 16, 0.06, 0.10, 0.25),
    Device("V100M16", "nvidia", 8, 16, 0.12, 0.27, 0.60),
    Device("V100M32", "nvidia", 8, 32, 0.12, 0.27, 0.80),
    Device("A10", "nvidia", 1, 24, 0.12, 0.18, 0.50),
    Device("G2", "nvidia", 8, 64, 0.32, 0.50, 0.90),
    Device("G3", "nvidia", 8, 80, 0.50, 0.70, 1.50),
)


@dataclass(frozen=True, slots=True)
class Size:
    parameters: float  # 1e9
    active: float  # 1e9 per token
    weight: int  # how often it is drawn


MODELS = (
    Size(0.6, 0.6, 6),
    Size(1.7, 1.7, 6),
    Size(4, 4, 9),
    Size(8, 8, 16),
    Size(14, 14, 10),
    Size(30, 3, 12),
    Size(32, 32, 12),
    Size(72, 72, 8),
    Size(106, 12, 6),
    Size(235, 22, 6),
    Size(480, 35, 3),
    Size(671, 37, 6),
)

BUCKETS = ((256, 128), (512, 1024), (2048, 256))  # input, output tokens of a request
LARGEST = 32  # devices of one replica
USABLE = 0.9  # of a device's memory
OVERHEAD, FIXED_GB = 1.15, 4.0  # memory of weights, and beside them
SCALING, ACROSS_NODES = 0.92, 0.8  # efficiency per doubling of devices, and over more than one node


def seconds_per_request(bucket: tuple[int, int], model: Size, device: Device, byte: float, room: float) -> float:
    """Device-seconds of one request: reading the prompt is bound by compute, writing the answer by bandwidth over a batch of 24."""
    read, write = bucket
    return read * model.active * 2e-3 / (400 * device.compute) + write * model.active * byte / (3350 * device.bandwidth) / (24 * room)


def smallest(model: Size, device: Device, byte: float) -> int:
    """Devices of the smallest replica that holds the weights: a power of two."""
    size = 1
    while size * device.gigabytes * USABLE < OVERHEAD * model.parameters * byte + FIXED_GB:
        size *= 2
    return size
