"""Bookkeeping of the paged key-value cache: which block belongs to whom, and which full blocks another request may share.

A block holds `size` positions. A full block is known by a digest of all tokens up to its end, so an equal prefix finds equal
blocks. A block that nobody uses keeps its contents until it is needed (least recently freed goes first). Pure: no arrays here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b


def block_digests(tokens: Sequence[int], size: int, known: Sequence[bytes] = ()) -> list[bytes]:
    """A digest per full block; each covers every token before it too. `known` are those of the first blocks, if computed before."""
    out = list(known)
    for low in range(len(out) * size, len(tokens) - size + 1, size):
        hasher = blake2b(out[-1] if out else b"", digest_size=16)
        hasher.update(b",".join(b"%d" % token for token in tokens[low : low + size]))
        out.append(hasher.digest())
    return out


class BlockPool:
    def __init__(self, count: int, size: int, prefix_caching: bool = True) -> None:
        self.count, self.size, self.prefix_caching = count, size, prefix_caching
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(count))
        self._users = [0] * count
        self._digest_of: list[bytes | None] = [None] * count
        self._by_digest: dict[bytes, int] = {}

    @property
    def used(self) -> int:
        return self.count - len(self._free)

    @property
    def free(self) -> int:
        return len(self._free)

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.size)

    def take_prefix(self, tokens: Sequence[int]) -> list[int]:
        """Blocks of the longest known prefix, now also used by the caller. At least the last token is left to compute."""
        if not self.prefix_caching:
            return []
        found: list[int] = []
        for digest in block_digests(tokens[: len(tokens) - 1], self.size):
            block = self._by_digest.get(digest)
            if block is None:
                break
            if self._users[block] == 0:
                del self._free[block]
            self._users[block] += 1
            found.append(block)
        return found

    def take(self) -> int | None:
        """A block for new contents, or None when all are in use."""
        if not self._free:
            return None
        block, _ = self._free.popitem(last=False)
        digest, self._digest_of[block] = self._digest_of[block], None
        if digest is not None:
            del self._by_digest[digest]
        self._users[block] = 1
        return block

    def publish(self, block: int, digest: bytes) -> None:
        """The block is full and may be shared from now on. The first of two equal blocks keeps the name."""
        if self.prefix_caching and self._digest_of[block] is None and digest not in self._by_digest:
            self._digest_of[block] = digest
            self._by_digest[digest] = block

    def release(self, blocks: Sequence[int]) -> None:
        """The caller uses them no more. The last blocks of a sequence are freed first: a prefix is worth more than a tail."""
        for block in reversed(blocks):
            self._users[block] -= 1
            if self._users[block] == 0:
                self._free[block] = None
