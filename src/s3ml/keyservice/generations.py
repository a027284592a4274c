"""Generation keys: they wrap the private halves of epochs, live in replicas' memory alone, and are destroyed.

A generation is used for new epochs for a day. It is destroyed once no living epoch needs it: whoever steals
everything that is stored or long-lived afterwards opens nothing that was sealed to its epochs. Its id is a
digest of the key, so that every replica can tell which one a log entry names.

Source: docs/spec/encodings.md, section "Stored secrets".
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from s3ml.keyservice.storage import SecretName
from s3ml.keyservice.vault import KEY_BYTES, Vault
from s3ml.primitives.encoding import tagged_sha256
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.units import DAY_S

LIFETIME = timedelta(seconds=DAY_S)


def generation_id(key: SecretBytes) -> str:
    """Return the id of a generation key, 64 hexadecimal digits."""
    return tagged_sha256("S3ML generation v1", key.reveal()).hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A generation key and when it was made."""

    id: str
    key: SecretBytes
    made_at: datetime


class Generations:
    """The generation keys that this replica holds.

    Args:
        deployment: The deployment's id.
    """

    __slots__ = ("_deployment", "_held", "_vaults")

    def __init__(self, deployment: str) -> None:
        self._deployment = deployment
        self._held: dict[str, Generation] = {}
        self._vaults: dict[str, Vault] = {}

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the keys that are held."""
        return frozenset(self._held)

    def all(self) -> tuple[Generation, ...]:
        """Return everything that is held, for a replica that joins; secrets."""
        return tuple(self._held.values())

    def add(self, key: SecretBytes, made_at: datetime) -> str:
        """Hold a key that another replica gave."""
        found = Generation(id=generation_id(key), key=key, made_at=made_at)
        self._held.setdefault(found.id, found)
        return found.id

    def vault(self, generation: str) -> Vault | None:
        """Return what opens the epochs of `generation`, or nothing where its key is not held."""
        found = self._held.get(generation)
        return (
            None if found is None else self._vaults.setdefault(generation, Vault(found.key, self._deployment))
        )

    def retain_opened(self, living: Container[SecretName]) -> None:
        """Wipe every opened secret of an epoch from memory, but for what still lives."""
        for vault in tuple(self._vaults.values()):
            vault.retain(living)

    def newest(self, now: datetime) -> str:
        """Return the generation that new epochs belong to; it is made where all that are held are too old."""
        young = [one for one in self._held.values() if timedelta() <= now - one.made_at < LIFETIME]
        if young:
            return max(young, key=lambda one: (one.made_at, one.id)).id
        return self.add(SecretBytes.random(KEY_BYTES), now)

    def retain(self, needed: Container[str], now: datetime) -> tuple[str, ...]:
        """Destroy every key that no living epoch needs and that no new one will be wrapped with.

        Returns:
            The ids of those destroyed.
        """
        gone = [one for one in self._held.values() if one.id not in needed and now - one.made_at >= LIFETIME]
        return self._destroy(gone)

    def clear(self) -> None:
        """Destroy every key."""
        self._destroy(tuple(self._held.values()))

    def _destroy(self, gone: Iterable[Generation]) -> tuple[str, ...]:
        ids = []
        for one in gone:
            del self._held[one.id]
            one.key.wipe()
            if vault := self._vaults.pop(one.id, None):
                vault.retain(())
            ids.append(one.id)
        return tuple(ids)
