"""A log that can fork, its keys, and witnesses with a clock of their own."""

from s3ml.primitives.signing import SigningKey
from s3ml.transparency.checkpoint import Checkpoint, sign_checkpoint
from s3ml.transparency.merkle import Tree, leaf_hash
from s3ml.transparency.witness.request import encode_request
from s3ml.transparency.witness.signer import WitnessSigner

LOG_KEY = SigningKey.from_raw(bytes([5]) * 32)
OTHER_KEY = SigningKey.from_raw(bytes([6]) * 32)
ORIGIN = "s3ml/" + "ab" * 32


def signer(number: int) -> WitnessSigner:
    return WitnessSigner(f"witness.example/w{number}", SigningKey.from_raw(bytes([100 + number]) * 32))


class Branch:
    """One version of a log: the entries of `name` from `since` on, the common ones before."""

    def __init__(
        self, name: str = "", *, since: int = 0, origin: str = ORIGIN, key: SigningKey = LOG_KEY
    ) -> None:
        self.origin, self.key = origin, key
        self._name, self._since = name, since
        self._tree = Tree()

    def tree(self, size: int) -> Tree:
        for index in range(len(self._tree), size):
            name = self._name if index >= self._since else ""
            self._tree.append(leaf_hash(f"{name}{index}".encode()))
        return self._tree

    def root(self, size: int) -> bytes:
        return self.tree(size).root(size)

    def note(self, size: int) -> str:
        return sign_checkpoint(Checkpoint(origin=self.origin, size=size, root=self.root(size)), self.key)

    def proof(self, old: int, size: int) -> tuple[bytes, ...]:
        return self.tree(size).consistency(old, size) if 0 < old < size else ()

    def request(self, old: int, size: int) -> bytes:
        return encode_request(old_size=old, proof=self.proof(old, size), note=self.note(size))
