"""The keys that the key service makes: the deployment's own, and those of epochs."""

from collections.abc import Container
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from s3ml.keyservice.authority import Authority
from s3ml.keyservice.documents import DeploymentKeys, EpochEntry, ReleasedKey
from s3ml.keyservice.epochs import Begin, Epoch, key_ids
from s3ml.keyservice.errors import GenerationMissingError
from s3ml.keyservice.generations import Generations
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.storage import SecretName, Storage, WrappedSecret
from s3ml.keyservice.vault import (
    KEY_BYTES,
    Vault,
    deployment_key_name,
    epoch_name,
    head_name,
    wrapping_key_name,
)
from s3ml.primitives.aead import StorageTamperedError
from s3ml.primitives.encoding import tagged
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.signing import SigningKey
from s3ml.wire.hpke import HYBRID_AES256, X25519_AES128, Kem, PrivateKey, Suite
from s3ml.wire.ohttp import KeyConfig, encode_key_configs

RETIRING = "retiring-checkpoint"


def deployment_key_names(number: int) -> tuple[SecretName, ...]:
    """Return where the private keys `number` of a deployment lie."""
    kinds = ("checkpoint", "statement", "intake", *(() if number == 1 else (RETIRING,)))
    return tuple(deployment_key_name(kind, number) for kind in kinds)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSecrets:
    """The private halves of a deployment's keys.

    Args:
        checkpoint: Signs the log's heads.
        statement: Signs statements and releases.
        intake: Opens what owners of models and secrets seal.
        retiring: The checkpoint key before this one, where there was one: it signs heads beside the new one,
            so that witnesses who have not been told of that one yet still cosign. It counts for nobody else.
    """

    checkpoint: SigningKey
    statement: SigningKey
    intake: PrivateKey
    retiring: SigningKey | None = None

    @classmethod
    def generate(cls, *, retiring: SigningKey | None = None) -> "DeploymentSecrets":
        """Make fresh keys, in the place of those with the checkpoint key `retiring`."""
        return cls(
            checkpoint=SigningKey.generate(),
            statement=SigningKey.generate(),
            intake=PrivateKey.generate(Kem.MLKEM768_X25519),
            retiring=retiring,
        )

    @property
    def checkpoint_keys(self) -> tuple[SigningKey, ...]:
        """What signs a head: the key that governs first."""
        return (self.checkpoint,) if self.retiring is None else (self.checkpoint, self.retiring)

    @classmethod
    def read(cls, vault: Vault, storage: Storage, authority: Authority) -> "DeploymentSecrets":
        """Read the keys back, and hold their public halves against those that govern.

        Raises:
            StorageTamperedError: one is missing, was changed, or is not the deployment's.
            StorageUnavailableError: storage does not answer.
        """
        number = authority.keys_number
        found = cls(
            checkpoint=SigningKey.from_raw(vault.read(storage, deployment_key_name("checkpoint", number))),
            statement=SigningKey.from_raw(vault.read(storage, deployment_key_name("statement", number))),
            intake=PrivateKey.from_bytes(
                Kem.MLKEM768_X25519, vault.read(storage, deployment_key_name("intake", number))
            ),
            retiring=None
            if number == 1
            else SigningKey.from_raw(vault.read(storage, deployment_key_name(RETIRING, number))),
        )
        if found.public() != authority.keys:
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

    def wrapped(self, vault: Vault, number: int) -> tuple[WrappedSecret, ...]:
        """Return the private halves for storage, as keys `number` of the deployment."""
        raw = {
            "checkpoint": self.checkpoint.to_raw(),
            "statement": self.statement.to_raw(),
            "intake": self.intake.to_bytes(),
        }
        if self.retiring is not None:
            raw[RETIRING] = self.retiring.to_raw()
        return tuple(vault.wrap(deployment_key_name(kind, number), key) for kind, key in raw.items())


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Keyring:
    """The private keys of a deployment, and what wraps secrets: for storage, and for replicas' lives.

    Args:
        number: Which keys of the deployment these are: 1 for those of genesis, then counting.
        deployment: The signing keys and the intake key.
        wrapping_key: Wraps what outlives replicas.
        vault: Wraps and unwraps with it.
        generations: What wraps epochs.
        public: The public halves of the deployment's keys.
    """

    number: int
    public: DeploymentKeys
    deployment: DeploymentSecrets
    wrapping_key: SecretBytes
    vault: Vault
    generations: Generations

    @classmethod
    def generate(cls, number: int, deployment: str, secrets: DeploymentSecrets | None = None) -> "Keyring":
        """Make fresh keys for a deployment, around its signing keys where those are made already."""
        return cls.around(
            SecretBytes.random(KEY_BYTES), number, deployment, secrets or DeploymentSecrets.generate()
        )

    @classmethod
    def around(
        cls, wrapping_key: SecretBytes, number: int, deployment: str, secrets: DeploymentSecrets
    ) -> "Keyring":
        """Return the keyring of a wrapping key, without generations."""
        return cls(
            number=number,
            public=secrets.public(),
            deployment=secrets,
            wrapping_key=wrapping_key,
            vault=Vault(wrapping_key, deployment),
            generations=Generations(deployment),
        )

    @classmethod
    def read(cls, wrapping_key: SecretBytes, storage: Storage, authority: Authority) -> "Keyring":
        """Read what `wrapping_key` opens.

        Raises:
            StorageTamperedError: a key is missing, was changed, or is not the deployment's.
            StorageUnavailableError: storage does not answer.
        """
        vault = Vault(wrapping_key, authority.deployment)
        secrets = DeploymentSecrets.read(vault, storage, authority)
        return cls.around(wrapping_key, authority.keys_number, authority.deployment, secrets)

    def is_of(self, authority: Authority) -> bool:
        """Tell whether these are the keys that govern."""
        return (self.number, self.public) == (authority.keys_number, authority.keys)

    def with_generations(self, generations: Generations | None) -> "Keyring":
        """Return this keyring with the generations of another, or with none."""
        return replace(self, generations=generations or Generations(self.vault.deployment))

    def retain(self, living: Container[SecretName]) -> None:
        """Wipe every opened secret from memory, but for what still lives."""
        self.vault.retain(living)
        self.generations.retain_opened(living)

    def seal(self, size: int, root: bytes) -> bytes:
        """Return the head of the log under the wrapping key."""
        return self.vault.wrap(head_name(size), encode_head(size, root)).ciphertext

    def is_sealed(self, size: int, root: bytes, seal: bytes) -> bool:
        """Tell whether `seal` is what some holder of the wrapping key made of this head."""
        try:
            return self.vault.unwrap(head_name(size), seal) == encode_head(size, root)
        except StorageTamperedError:
            return False

    def sealed_to(self, sealing_key: SecretBytes, deployment: str) -> WrappedSecret:
        """Return the wrapping key, sealed to a platform and code."""
        name = wrapping_key_name(sealing_key, self.number)
        return Vault(sealing_key, deployment).wrap(name, self.wrapping_key.reveal())


def encode_head(size: int, root: bytes) -> bytes:
    """Return the plaintext of a sealed head."""
    return tagged("S3ML sealed head v1", size.to_bytes(8, "big"), root)


class EpochKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The private keys of one epoch, as they lie wrapped in storage."""

    keys: tuple[ReleasedKey, ...]


def make_epoch(begin: Begin, generations: Generations, now: datetime) -> tuple[EpochEntry, WrappedSecret]:
    """Make the keys of an epoch: the hybrid first, then X25519 for interoperability.

    Args:
        begin: Which epoch.
        generations: Wrap the private halves; their keys live in memory alone.
        now: Aware UTC.

    Returns:
        The log entry's body, with the public halves, and the private halves for storage.
    """
    suites: tuple[Suite, ...] = (HYBRID_AES256, X25519_AES128)
    released, configs = [], []
    for key_id, suite in zip(key_ids(begin.number), suites, strict=True):
        private = PrivateKey.generate(suite.kem)
        config = KeyConfig(key_id=key_id, kem=suite.kem, public_key=private.public, suites=(suite,))
        configs.append(config)
        released.append(ReleasedKey(key_config=encode_key_configs((config,)), private_key=private.to_bytes()))
    generation = generations.newest(now)
    vault = generations.vault(generation)
    if vault is None:
        raise AssertionError("the newest generation is always held")
    entry = EpochEntry(
        service=begin.service,
        policy_sha256=begin.policy_sha256,
        epoch=begin.number,
        state=begin.state,
        generation=generation,
        key_configs=encode_key_configs(configs),
        reason=begin.reason,
    )
    secret = encode_document(EpochKeys(keys=tuple(released)))
    return entry, vault.wrap(epoch_name(begin.service, begin.number), secret)


def read_epoch(generations: Generations, storage: Storage, epoch: Epoch) -> tuple[ReleasedKey, ...]:
    """Read the private keys of an epoch, once for as long as it lives.

    Raises:
        GenerationMissingError: its generation key is not held here.
        StorageTamperedError: they are missing or were changed.
        StorageUnavailableError: storage does not answer.
    """
    vault = generations.vault(epoch.generation)
    if vault is None:
        raise GenerationMissingError(
            f"service {epoch.service}: this replica lacks the generation key of epoch {epoch.number}: "
            "another replica holds it, or a new epoch begins"
        )
    name = epoch_name(epoch.service, epoch.number)
    return msgspec.json.decode(vault.recall(storage, name), type=EpochKeys).keys
