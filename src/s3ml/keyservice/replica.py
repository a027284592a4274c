"""What one replica is: whether it has the keys, and whether it knows that its state is the newest.

A replica that has just started is *sealed* (it cannot open the wrapping key) or *recovering* (it can, and
does not know whether what is stored is the newest). It serves once a live peer has let it in, or a quorum of
witnesses has cosigned its fresh random bytes, or k owners have signed its nonce and head. Two that have just
started vouch for nobody. Serving goes on for a lease, which every head renews that was cosigned after random
bytes of this replica; with no witnesses there is nothing to prove, and no lease.

Source: docs/spec/log.md, section "Replicas".
"""

import asyncio
import secrets
from dataclasses import dataclass
from enum import StrEnum

from s3ml.attestation import Attester
from s3ml.attestation.generate import SealingAbsentError
from s3ml.keyservice.documents import RestartEntry
from s3ml.keyservice.epochs import due
from s3ml.keyservice.errors import ConflictError, NotServingError
from s3ml.keyservice.keys import Keyring
from s3ml.keyservice.ledger import Ledger, Plan
from s3ml.keyservice.replaying import View
from s3ml.keyservice.resources import wanted
from s3ml.keyservice.storage import WrappedSecret
from s3ml.keyservice.upkeep import REPLICA_LEASE_S, carry_out, needed_generations, presence
from s3ml.keyservice.vault import Vault, wrapping_key_name
from s3ml.primitives.aead import StorageTamperedError
from s3ml.primitives.clock import Clock
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.secret import SecretBytes

NONCE_BYTES = 32


class Phase(StrEnum):
    """Where a replica stands."""

    UNINITIALISED = "uninitialised"
    SEALED = "sealed"
    RECOVERING = "recovering"
    SERVING = "serving"


_REMEDIES = {
    Phase.UNINITIALISED: "its owners begin it: s3ml deployment init",
    Phase.SEALED: "it has no keys: it needs a serving replica among its peers, or recovery shares",
    Phase.RECOVERING: "it does not know whether its state is the newest: it needs a serving replica among "
    "its peers, a quorum of witnesses, or the owners: s3ml deployment acknowledge",
}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Serving:
    """What a serving replica serves from; made by `Replica.serving` alone."""

    view: View
    keyring: Keyring


class Replica:
    """This process as a replica of its deployment.

    Args:
        ledger: Its way to the log.
        attester: The TEE that it runs in.
        clock: Held in check by the log.

    Attributes:
        id: 64 hexadecimal digits, drawn when the process started; a name for people, proof of nothing.
        nonce: 32 random bytes of this process, which owners may acknowledge.
    """

    def __init__(self, ledger: Ledger, attester: Attester, clock: Clock) -> None:
        self.id = secrets.token_hex(32)
        self.nonce = secrets.token_bytes(NONCE_BYTES)
        self.ledger = ledger
        self._attester = attester
        self._clock = clock
        self._keyring: Keyring | None = None
        self._successor: Keyring | None = None
        self._is_admitted = False
        self._is_stored = False
        self._fresh_until_s = 0.0

    @property
    def phase(self) -> Phase:
        """Where this replica stands, whatever its lease."""
        view = self.ledger.view
        if view.state.authority is None:
            return Phase.UNINITIALISED
        if self._keyring is None or not self._keyring.is_of(view.authority):
            return Phase.SEALED
        return Phase.SERVING if self._is_admitted else Phase.RECOVERING

    @property
    def keyring(self) -> Keyring | None:
        """The keys, where they are held and current."""
        return self._keyring if self.phase in {Phase.RECOVERING, Phase.SERVING} else None

    @property
    def is_fresh(self) -> bool:
        """Whether the lease lasts; always where there are no witnesses to renew it."""
        authority = self.ledger.view.state.authority
        return authority is None or authority.quorum == 0 or self._clock.monotonic_s() < self._fresh_until_s

    @property
    def lease_s(self) -> float:
        """What is left of the lease, in seconds; 0 where there are no witnesses, and so no lease."""
        authority = self.ledger.view.state.authority
        if authority is None or authority.quorum == 0:
            return 0.0
        return max(0.0, self._fresh_until_s - self._clock.monotonic_s())

    def serving(self, view: View | None = None) -> Serving:
        """Return what is served from now.

        Args:
            view: What to serve from, where another than the newest was taken before.

        Raises:
            NotFoundError: there is no deployment yet.
            NotServingError: this replica is sealed or recovering, or its lease has ended.
            HaltedError: what is stored is not the log that was committed.
            LogTamperedError: likewise.
        """
        found = view or self.ledger.view
        _ = found.authority
        if self.ledger.trouble is not None:
            raise self.ledger.trouble
        keyring = self._keyring
        if self.phase is not Phase.SERVING or keyring is None:
            raise NotServingError(
                f"key service: this replica is {self.phase}: {_REMEDIES[self.phase]}", retry_after_s=1.0
            )
        if not self.is_fresh:
            raise NotServingError(
                f"key service: no quorum of witnesses has cosigned anything of this replica for "
                f"{REPLICA_LEASE_S:.0f} s: it serves again once one does",
                retry_after_s=1.0,
            )
        return Serving(view=found, keyring=keyring)

    def renew(self, began_s: float) -> None:
        """Begin the lease anew, from when the newest proof of freshness was asked for."""
        self._fresh_until_s = max(self._fresh_until_s, began_s + REPLICA_LEASE_S)

    def found(self, keyring: Keyring) -> None:
        """Hold the keys of the deployment that this replica begins: it serves once that is committed."""
        self._keyring, self._is_admitted, self._is_stored = keyring, True, True

    def admit(self, keyring: Keyring) -> None:
        """Serve with the keys that a live peer gave: what it serves from is the newest.

        The lease is the caller's to begin, with this replica's own proof.
        """
        self._drop(keeping=keyring)
        self._keyring, self._is_admitted, self._is_stored = keyring, True, False

    def prepare(self, keyring: Keyring) -> None:
        """Keep keys that are about to take the place of the present ones: see `succeed`."""
        self._successor = keyring

    def succeed(self) -> None:
        """Go on with the keys that this replica prepared, once the log says that they govern.

        Their commit may be answered late, or be finished by another replica: they live here until then.
        """
        successor, authority = self._successor, self.ledger.view.state.authority
        if successor is not None and authority is not None and successor.is_of(authority):
            self._drop(keeping=successor)
            self._keyring, self._successor, self._is_stored = successor, None, True

    def open_sealed(self, sealing_key: SecretBytes) -> bool:
        """Open what an earlier process of this platform and code left; tell whether there is such.

        Blocking.

        Raises:
            StorageTamperedError: it was changed, or what it wraps was.
            UnavailableError: storage does not answer.
        """
        storage, authority = self.ledger.storage, self.ledger.view.authority
        name = wrapping_key_name(sealing_key, authority.keys_number)
        stored = storage.secret(name)
        if stored is None:
            return False
        wrapping_key = SecretBytes(Vault(sealing_key, authority.deployment).unwrap(name, stored))
        self.take(wrapping_key)
        self._is_stored = True
        return True

    def take(self, wrapping_key: SecretBytes) -> None:
        """Hold what `wrapping_key` opens; this replica is recovering then, whatever it was before.

        Blocking.

        Raises:
            StorageTamperedError: a secret is missing, was changed, or is not the deployment's; or the stored
                head was not written by a holder of this key.
            UnavailableError: storage does not answer.
        """
        storage, stored = self.ledger.storage, self.ledger.stored
        keyring = Keyring.read(wrapping_key, storage, self.ledger.view.authority)
        head = storage.head()
        is_newer = head is not None and head.size > stored.size
        if head is None or not (is_newer or keyring.is_sealed(stored.size, stored.root, head.seal)):
            raise StorageTamperedError("stored log: is not the one that its sealed head names")
        self._drop()
        self._keyring, self._is_admitted, self._is_stored = keyring, False, False

    async def restart(self, acknowledgement: Envelope | None = None) -> None:
        """Prove that what is stored is the newest, and serve: by witnesses, or by the owners' word.

        Epochs whose generation keys ended with other processes begin anew, in the same commit. Where owners
        name successors of the witnesses, what is stored and not committed is taken over as it is: those who
        should have cosigned it are gone.

        Raises:
            ConfigurationError: this replica is not recovering.
            SignatureError: too few owners signed the acknowledgement.
            ConflictError: it is for another process or another head.
            UncommittedError: too few witnesses cosign now.
            HaltedError: the witnesses know another log.
            UnavailableError: storage or the TEE does not answer.
        """
        keyring = self._keyring
        if self.phase is not Phase.RECOVERING or keyring is None:
            raise ConfigurationError(
                f"replica: expected one that is recovering, got one that is {self.phase}"
            )
        is_succeeded = False
        if acknowledgement is not None:  # else who waits for witnesses would not learn that it is wrong
            is_succeeded = _check_head(acknowledgement, self.ledger.stored, self.nonce)
        sealing_key = await self._sealing_key()
        began_s = self._clock.monotonic_s()
        random = self.nonce if acknowledgement is not None else secrets.token_bytes(NONCE_BYTES)

        def plan(view: View) -> Plan:
            if acknowledgement is not None:
                _check_head(acknowledgement, view, self.nonce)
            now = self._clock.now()
            lost = needed_generations(view.state) - keyring.generations.ids
            steps = due(view.state.epochs, wanted(view.state.standing), now=now, lost=lost)
            work = carry_out(view.state, view.state, steps, keyring=keyring, replica=self.id, now=now)
            entry = RestartEntry(replica=self.id, random=random, acknowledgement=acknowledgement)
            return Plan(
                keyring=keyring,
                bodies=(entry, *work.bodies),
                secrets=(*work.secrets, *seal_to(sealing_key, keyring)),
                forget=work.forget,
            )

        await self.ledger.commit(plan, must_settle=not is_succeeded)
        self._is_admitted = self._is_stored = True
        self.renew(began_s)

    async def be_present(self) -> None:
        """Prove that this replica sees the newest log, and say which generations it holds.

        Raises:
            UnavailableError: it cannot be proven now.
        """
        keyring = self.serving_keyring()
        sealing_key = await self._sealing_key()
        began_s = self._clock.monotonic_s()

        def plan(_: View) -> Plan:
            own = seal_to(sealing_key, keyring)
            return Plan(keyring=keyring, bodies=(presence(self.id, keyring),), secrets=own)

        await self.ledger.commit(plan)
        self._is_stored = True
        self.renew(began_s)

    def serving_keyring(self) -> Keyring:
        """Return the keys of an admitted replica, whether or not its lease lasts.

        Raises:
            NotServingError: it is not admitted.
        """
        if self.phase is not Phase.SERVING or self._keyring is None:
            raise NotServingError(f"key service: this replica is {self.phase}", retry_after_s=1.0)
        return self._keyring

    async def _sealing_key(self) -> SecretBytes | None:
        """Return what lets this platform open its keys after a restart, where that is not stored yet."""
        return None if self._is_stored else await sealing_key_of(self._attester)

    def _drop(self, keeping: Keyring | None = None) -> None:
        """Destroy the generation keys of the keyring that is replaced, but for those that go on."""
        old = self._keyring
        if old is not None and (keeping is None or old.vault is not keeping.vault):
            old.vault.retain(())
        if old is not None and (keeping is None or old.generations is not keeping.generations):
            old.generations.clear()


async def sealing_key_of(attester: Attester) -> SecretBytes | None:
    """Return the key of this platform and code; nothing where the TEE cannot seal.

    Raises:
        UnavailableError: the TEE does not answer.
    """
    try:
        return await asyncio.to_thread(attester.sealing_key)
    except SealingAbsentError:  # such a replica needs a live peer when it starts again
        return None


def seal_to(sealing_key: SecretBytes | None, keyring: Keyring) -> tuple[WrappedSecret, ...]:
    """Return the wrapping key sealed to a platform and code, where there is such a key; anew at each call."""
    return () if sealing_key is None else (keyring.sealed_to(sealing_key, keyring.vault.deployment),)


def _check_head(acknowledgement: Envelope, view: View, nonce: bytes) -> bool:
    """Check that owners acknowledge this process and this head; tell whether they name other witnesses."""
    found, _ = view.authority.acknowledge(acknowledgement, nonce=nonce, log_size=view.size)
    if found.log_root != view.root:
        raise ConflictError("acknowledgement: is for another log of this size")
    return found.successors is not None
