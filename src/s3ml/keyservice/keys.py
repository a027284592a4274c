"""The keys that the key service makes: the deployment's own, and those of epochs."""

from dataclasses import dataclass

import msgspec

from s3ml.keyservice.documents import DeploymentKeys, EpochEntry, ReleasedKey
from s3ml.keyservice.epochs import Beginning, key_ids
from s3ml.keyservice.genesis import Genesis
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.storage import SecretName, Storage, WrappedSecret
from s3ml.keyservice.vault import (
    CHECKPOINT_KEY,
    INTAKE_KEY,
    STATEMENT_KEY,
    Vault,
    epoch_name,
)
from s3ml.primitives.aead import StorageTamperedError
from s3ml.primitives.signing import SigningKey
from s3ml.wire.hpke import HYBRID_AES256, X25519_AES128, Kem, PrivateKey, Suite
from s3ml.wire.ohttp import KeyConfig, encode_key_configs


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSecrets:
    """The private halves of a deployment's keys."""

    checkpoint: SigningKey
    statement: SigningKey
    intake: PrivateKey

    @classmethod
    def generate(cls) -> "DeploymentSecrets":
        """Make fresh keys."""
        return cls(
            checkpoint=SigningKey.generate(),
            statement=SigningKey.generate(),
            intake=PrivateKey.generate(Kem.MLKEM768_X25519),
        )

    @classmethod
    def read(cls, vault: Vault, storage: Storage, genesis: Genesis) -> "DeploymentSecrets":
        """Read the keys back, and hold their public halves against genesis.

        Raises:
            StorageTamperedError: one is missing, was changed, or is not the deployment's.
            StorageUnavailableError: storage does not answer.
        """
        found = cls(
            checkpoint=SigningKey.from_raw(vault.read(storage, CHECKPOINT_KEY)),
            statement=SigningKey.from_raw(vault.read(storage, STATEMENT_KEY)),
            intake=PrivateKey.from_bytes(Kem.MLKEM768_X25519, vault.read(storage, INTAKE_KEY)),
        )
        if found.public() != genesis.keys:
            raise StorageTamperedError("stored keys: are not those of the deployment")
        return found

    def public(self) -> DeploymentKeys:
        """Return the public halves, as genesis carries them."""
        return DeploymentKeys(
            checkpoint=str(self.checkpoint.public),
            statement=str(self.statement.public),
            intake_kem=25722,
            intake=self.intake.public,
        )

    def wrapped(self, vault: Vault) -> tuple[WrappedSecret, ...]:
        """Return the private halves for storage."""
        return (
            vault.wrap(CHECKPOINT_KEY, self.checkpoint.to_raw()),
            vault.wrap(STATEMENT_KEY, self.statement.to_raw()),
            vault.wrap(INTAKE_KEY, self.intake.to_bytes()),
        )


class EpochKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The private keys of one epoch, as they lie wrapped in storage."""

    keys: tuple[ReleasedKey, ...]


def make_epoch(beginning: Beginning, generation: Vault) -> tuple[EpochEntry, WrappedSecret]:
    """Make the keys of an epoch: the hybrid first, then X25519 for interoperability.

    Args:
        beginning: Which epoch.
        generation: Wraps the private halves; its key lives in memory alone.

    Returns:
        The log entry's body, with the public halves, and the private halves for storage.
    """
    suites: tuple[Suite, ...] = (HYBRID_AES256, X25519_AES128)
    released, configs = [], []
    for key_id, suite in zip(key_ids(beginning.number), suites, strict=True):
        private = PrivateKey.generate(suite.kem)
        config = KeyConfig(key_id=key_id, kem=suite.kem, public_key=private.public, suites=(suite,))
        configs.append(config)
        released.append(ReleasedKey(key_config=encode_key_configs((config,)), private_key=private.to_bytes()))
    entry = EpochEntry(
        service=beginning.service,
        policy_sha256=beginning.policy_sha256,
        epoch=beginning.number,
        key_configs=encode_key_configs(configs),
        reason=beginning.reason,
        retires=beginning.retires,
    )
    secret = encode_document(EpochKeys(keys=tuple(released)))
    return entry, generation.wrap(epoch_name(beginning.service, beginning.number), secret)


def read_epoch(generation: Vault, storage: Storage, name: SecretName) -> tuple[ReleasedKey, ...]:
    """Read the private keys of an epoch.

    Raises:
        StorageTamperedError: they are missing, were changed, or belong to another generation.
        StorageUnavailableError: storage does not answer.
    """
    return msgspec.json.decode(generation.read(storage, name), type=EpochKeys).keys
