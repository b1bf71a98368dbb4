"""Addresses of one node, out of 127/8: the first belongs to the node, the rest to pods. Every local process may bind them."""

from ipaddress import IPv4Address, IPv4Network


class AddressPool:
    """Hands out addresses round robin, so that a new pod does not at once get the address of one that just went."""

    def __init__(self, cidr: str) -> None:
        network = IPv4Network(cidr)
        if not network.subnet_of(IPv4Network("127.0.0.0/8")) or network.prefixlen > 29:
            raise ValueError(f"--pod-cidr is {cidr}; allowed: a network inside 127.0.0.0/8, prefix at most 29, such as 127.7.1.0/24")
        hosts = list(network.hosts())
        self.node: str = str(hosts[0])
        self._pods: list[IPv4Address] = hosts[1:]
        self._next = 0
        self._used: set[str] = set()

    def take(self) -> str:
        """An address that no pod uses."""
        for _ in self._pods:
            address = str(self._pods[self._next])
            self._next = (self._next + 1) % len(self._pods)
            if address not in self._used:
                self._used.add(address)
                return address
        raise RuntimeError(f"all {len(self._pods)} pod addresses of this node are in use; give the node a larger --pod-cidr")

    def reserve(self, address: str) -> None:
        """Mark an address as used by a pod that was there before."""
        self._used.add(address)

    def release(self, address: str) -> None:
        """Give an address back."""
        self._used.discard(address)
