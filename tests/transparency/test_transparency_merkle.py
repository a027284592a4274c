"""The tree against the definition itself, and proofs against every change."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.transparency.merkle import (
    EMPTY_ROOT,
    ProofRejectedError,
    Tree,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [leaf_hash(bytes([n])) for n in range(40)]


def definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + definition(leaves[:k]) + definition(leaves[k:])).digest()


class TestRoots:
    def test_every_size_has_the_defined_root(self) -> None:
        tree = Tree(LEAVES)
        assert [tree.root(n) for n in range(41)] == [definition(LEAVES[:n]) for n in range(41)]
        assert Tree().root() == EMPTY_ROOT

    def test_leaves_are_kept(self) -> None:
        assert [Tree(LEAVES).leaf(n) for n in range(40)] == LEAVES

    def test_truncation_forgets(self) -> None:
        tree = Tree(LEAVES)
        tree.truncate(13)
        for leaf in LEAVES[13:29]:
            tree.append(leaf)
        assert len(tree) == 29
        assert tree.root() == definition(LEAVES[:29])


class TestInclusion:
    @given(st.data())
    def test_every_leaf_is_proven_and_nothing_else(self, data: st.DataObject) -> None:
        size = data.draw(st.integers(1, 40))
        index = data.draw(st.integers(0, size - 1))
        tree = Tree(LEAVES)
        path, root = tree.inclusion(index, size), tree.root(size)
        verify_inclusion(index, size, LEAVES[index], path, root)
        wrong = [
            (index, size, bytes(32), path, root),
            (index, size, LEAVES[index], path, bytes(32)),
            (index, size, LEAVES[index], (*path, bytes(32)), root),
            (size, size, LEAVES[index], path, root),
            (-1, size, LEAVES[index], path, root),
        ]
        if path:
            wrong += [
                (index, size, LEAVES[index], path[:-1], root),
                (index, size, LEAVES[index], (bytes(32), *path[1:]), root),
                ((index + 1) % size, size, LEAVES[index], path, root),
            ]
        for arguments in wrong:
            with pytest.raises(ProofRejectedError):
                verify_inclusion(*arguments)


class TestConsistency:
    @given(st.data())
    def test_every_prefix_is_proven_and_nothing_else(self, data: st.DataObject) -> None:
        second = data.draw(st.integers(1, 40))
        first = data.draw(st.integers(1, second))
        tree = Tree(LEAVES)
        path = tree.consistency(first, second)
        old, new = tree.root(first), tree.root(second)
        verify_consistency(first, old, second, new, path)
        wrong = [
            (first, bytes(32), second, new, path),
            (first, old, second, bytes(32), path),
            (first, old, second, new, (*path, bytes(32))),
            (0, EMPTY_ROOT, second, new, ()),
            (second + 1, old, second, new, path),
        ]
        if path:
            wrong += [(first, old, second, new, path[:-1]), (first, old, second, new, ())]
        for arguments in wrong:
            with pytest.raises(ProofRejectedError):
                verify_consistency(*arguments)
