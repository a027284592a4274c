"""The log's Merkle tree: roots, inclusion and consistency proofs.

A leaf hash is ``SHA-256(0x00 || entry)`` and a node ``SHA-256(0x01 || left || right)``. The tree keeps the
root of every complete subtree, so that a proof costs a logarithmic number of hashes.

Source: RFC 9162, section 2.1.
"""

import hashlib
from collections.abc import Iterable, Sequence

from s3ml.primitives.errors import UntrustedPeerError

EMPTY_ROOT = hashlib.sha256(b"").digest()


class ProofRejectedError(UntrustedPeerError):
    """An inclusion or consistency proof does not hold."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _split(size: int) -> int:
    """Return the largest power of two smaller than `size` (at least 2)."""
    return 1 << ((size - 1).bit_length() - 1)


class Tree:
    """An append-only tree over leaf hashes; every method also answers for an earlier size.

    Args:
        leaves: Leaf hashes to begin with, in order.
    """

    __slots__ = ("_levels",)

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]
        for leaf in leaves:
            self.append(leaf)

    def __len__(self) -> int:
        return len(self._levels[0])

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        self._levels[0].append(leaf)
        level = 0
        while len(self._levels[level]) % 2 == 0:
            if level + 1 == len(self._levels):
                self._levels.append([])
            self._levels[level + 1].append(_node_hash(*self._levels[level][-2:]))
            level += 1

    def truncate(self, size: int) -> None:
        """Forget every leaf from index `size` on."""
        for level, hashes in enumerate(self._levels):
            del hashes[size >> level :]

    def leaf(self, index: int) -> bytes:
        """Return the leaf hash at `index`."""
        return self._levels[0][index]

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first `size` leaves, of all of them by default."""
        size = len(self) if size is None else size
        return EMPTY_ROOT if size == 0 else self._range(0, size)

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that leaf `index` is in the tree of `size` leaves.

        Source: RFC 9162, section 2.1.3.1.
        """
        path: list[bytes] = []
        start, end = 0, size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                path.append(self._range(middle, end))
                end = middle
            else:
                path.append(self._range(start, middle))
                start = middle
        return tuple(reversed(path))

    def consistency(self, first: int, second: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of `first` leaves (at least 1) is a prefix of that of `second`.

        Source: RFC 9162, section 2.1.4.1.
        """
        path: list[bytes] = []
        start, end, is_whole = 0, second, True
        while first != end:
            middle = start + _split(end - start)
            if first <= middle:
                path.append(self._range(middle, end))
                end = middle
            else:
                path.append(self._range(start, middle))
                start, is_whole = middle, False
        if not is_whole:
            path.append(self._range(start, end))
        return tuple(reversed(path))

    def _range(self, start: int, end: int) -> bytes:
        """Return the root over leaves [start, end); `start` is a multiple of a covering power of two."""
        size = end - start
        level = size.bit_length() - 1
        if size == 1 << level:
            return self._levels[level][start >> level]
        middle = start + _split(size)
        return _node_hash(self._range(start, middle), self._range(middle, end))


def verify_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf hash `leaf` stands at `index` in the tree of `size` leaves under `root`.

    Raises:
        ProofRejectedError: it does not follow from `path`.
    """
    if inclusion_root(index, size, leaf, path) != root:
        raise ProofRejectedError(f"inclusion proof: entry {index} does not lead to the root of size {size}")


def inclusion_root(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """Return the root that `path` leads to from the leaf hash `leaf` at `index` of `size`.

    Raises:
        ProofRejectedError: `path` has another length than that position has.

    Source: RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < size:
        raise ProofRejectedError(f"inclusion proof: expected an index below {size}, got {index}")
    fn, sn, computed = index, size - 1, leaf
    for sibling in path:
        if sn == 0:
            raise ProofRejectedError("inclusion proof: longer than the tree is high")
        if fn & 1 or fn == sn:
            computed = _node_hash(sibling, computed)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            computed = _node_hash(computed, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise ProofRejectedError("inclusion proof: shorter than the tree is high")
    return computed


def verify_consistency(
    first: int, first_root: bytes, second: int, second_root: bytes, path: Sequence[bytes]
) -> None:
    """Check that the tree of `first` leaves is a prefix of the tree of `second` leaves.

    Raises:
        ProofRejectedError: it does not follow from `path`, or `first` is 0 or larger than `second`.

    Source: RFC 9162, section 2.1.4.2.
    """
    failure = f"consistency proof: size {second} does not extend size {first}"
    if not 1 <= first <= second:
        raise ProofRejectedError(failure)
    if first == second:
        if path or first_root != second_root:
            raise ProofRejectedError(failure)
        return
    hashes = [first_root, *path] if first & (first - 1) == 0 else list(path)
    if not hashes or _fold(first, second, hashes) != (first_root, second_root):
        raise ProofRejectedError(failure)


def _fold(first: int, second: int, hashes: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """Return both roots that a consistency proof leads to, or nothing where its length is wrong."""
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            old, new = _node_hash(sibling, old), _node_hash(sibling, new)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new = _node_hash(new, sibling)
        fn, sn = fn >> 1, sn >> 1
    return (old, new) if sn == 0 else None
