"""A device plugin without devices: speaks the kubelet's v1beta1 protocol and advertises what the node's labels say.

It turns any cluster into a mixed-vendor one: a real kubelet counts and allocates the units, and containers get the environment that
the vendors' plugins document. `kinds` holds what differs between vendors (pure), `service` the protocol, `plugin` its life.
"""

from sandbox.deviceplugin.kinds import KINDS, Advertisement, DeviceKind, LabelError, advertisement

__all__ = ["KINDS", "Advertisement", "DeviceKind", "LabelError", "advertisement"]
