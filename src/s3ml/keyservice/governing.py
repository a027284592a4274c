"""How a deployment begins, and how its owners change what holds.

Source: docs/spec/log.md, section "Genesis"; docs/spec/control-message.md.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from s3ml.attestation import Attester, Evidence, EvidenceRejectedError, verify_evidence
from s3ml.keyservice.authority import Authority
from s3ml.keyservice.bindings import genesis_binding
from s3ml.keyservice.documents import (
    ControlEntry,
    ControlMessage,
    ControlStatement,
    GenesisEntry,
    KeysEntry,
)
from s3ml.keyservice.epochs import due
from s3ml.keyservice.errors import (
    ConflictError,
    NotServingError,
    RefusedError,
    UncommittedError,
    mismatch,
)
from s3ml.keyservice.escrow import make_shares, stored_shares
from s3ml.keyservice.fields import REQUEST_LIMIT_BYTES
from s3ml.keyservice.genesis import Genesis, identify_genesis
from s3ml.keyservice.identities import rewrap_identities
from s3ml.keyservice.keys import DeploymentSecrets, Keyring, deployment_key_names
from s3ml.keyservice.ledger import Plan
from s3ml.keyservice.log import Chain, parse_entry
from s3ml.keyservice.parsing import parse_document
from s3ml.keyservice.rates import RateLimits, Subject
from s3ml.keyservice.replaying import View
from s3ml.keyservice.replica import Replica, seal_to, sealing_key_of
from s3ml.keyservice.resources import Change, wanted
from s3ml.keyservice.secret_terms import SecretTerms
from s3ml.keyservice.secret_values import secret_names, wrap_value
from s3ml.keyservice.state import State
from s3ml.keyservice.storage import SecretName, Storage, WrappedSecret
from s3ml.keyservice.upkeep import carry_out
from s3ml.keyservice.vault import identity_name
from s3ml.primitives.clock import Clock
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.secret import SecretBytes

NONCE_BYTES = 32
SELF_CHECK_BYTES = 64
Quote = Callable[[bytes], Awaitable[Evidence]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Founded:
    """A deployment, and evidence that this TEE made its keys."""

    genesis: Genesis
    attester_nonce: bytes
    evidence: Evidence
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where a change stands."""

    index: int
    size: int
    change: Change | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Keys:
    """The keys that hold before a change, and those that hold after it where it replaces them."""

    present: Keyring
    renewed: Keyring | None
    sealing: tuple[WrappedSecret, ...]

    @classmethod
    def of(
        cls, content: object, keyring: Keyring, authority: Authority, sealing_key: SecretBytes | None
    ) -> "_Keys":
        """Return the keys around a change; where the key service's policy changes, fresh ones at each call.

        Args:
            content: Of the change.
            keyring: What holds before it.
            authority: What governs before it.
            sealing_key: Of this platform and code.
        """
        if not isinstance(content, Authority) or not content.awaits_keys:
            return cls(present=keyring, renewed=None, sealing=())
        generations = keyring.generations if content.keeps_faith(authority) else None
        fresh = DeploymentSecrets.generate(retiring=keyring.deployment.checkpoint)
        renewed = Keyring.generate(content.keys_number + 1, content.deployment, fresh)
        renewed = renewed.with_generations(generations)
        return cls(present=keyring, renewed=renewed, sealing=seal_to(sealing_key, renewed))

    @property
    def newest(self) -> Keyring:
        return self.renewed or self.present


class Governor:
    """Carries out what owners signed.

    Args:
        replica: This process.
        attester: The TEE that it runs in.
        quote: Has that TEE vouch for 64 bytes, within a deadline.
        clock: Held in check by the log.
        rates: How often each owner may ask.
    """

    def __init__(
        self, replica: Replica, attester: Attester, quote: Quote, clock: Clock, *, rates: RateLimits
    ) -> None:
        self._replica = replica
        self._attester = attester
        self._quote = quote
        self._clock = clock
        self._rates = rates
        self._founded_at_s = 0.0

    async def begin(self, proposal: Envelope, nonce: bytes) -> Founded:
        """Begin the deployment that `proposal` proposes, or prove the one that it began before.

        Args:
            proposal: From an untrusted peer.
            nonce: The owner's, 32 bytes.

        Raises:
            ConflictError: the deployment has begun already, by another proposal.
            ConfigurationError: the proposal breaks its own rules.
            SignatureError: too few owners signed it.
            UncommittedError: it is stored, and waits for its witnesses: send it again.
            NotServingError: it has begun, and this replica does not hold its keys.
            UnavailableError: the TEE or storage does not answer; nothing has begun.
        """
        ledger, began_s = self._replica.ledger, self._clock.monotonic_s()
        if (await ledger.refresh()).size or ledger.stored.size:
            genesis = ledger.stored.authority.genesis
            if genesis.envelope.payload != proposal.payload:
                raise ConflictError("genesis: the deployment has begun already, by another proposal")
            await self._committed(genesis, ledger.settle())
            if self._replica.keyring is None:  # Anybody can store a genesis with keys of their own.
                raise NotServingError("genesis: this replica does not hold its keys", retry_after_s=1.0)
            return await self._prove(genesis, nonce, is_new=False)
        deployment_secrets = DeploymentSecrets.generate()
        body = GenesisEntry(proposal=proposal, keys=deployment_secrets.public())
        data = Chain().build(body, time=self._clock.now()).data
        genesis = identify_genesis(data)
        keyring = Keyring.generate(1, genesis.deployment, deployment_secrets)
        sealing_key = await sealing_key_of(self._attester)

        def plan(view: View) -> Plan:
            if view.size:
                raise ConflictError("genesis: the deployment has begun already")
            own = seal_to(sealing_key, keyring)
            wrapped = (*own, *deployment_secrets.wrapped(keyring.vault, 1))
            return Plan(keyring=keyring, bodies=(data,), secrets=wrapped)

        founded = await self._prove(genesis, nonce, is_new=True)
        self._replica.found(keyring)
        self._founded_at_s = began_s
        await self._committed(genesis, ledger.commit(plan))
        return founded

    async def _committed(self, genesis: Genesis, committing: Awaitable[View]) -> None:
        """Have the genesis cosigned; its keys are random bytes of this process, where it began it.

        Raises:
            UncommittedError: too few witnesses cosign it; the message says what to tell them.
        """
        try:
            await committing
        except UncommittedError as error:
            raise UncommittedError(
                f"{error}: have the witnesses watch the log {genesis.origin} with the key "
                f"{genesis.keys.checkpoint}, and send the proposal again",
                retry_after_s=error.retry_after_s,
            ) from error
        if self._founded_at_s:
            self._replica.renew(self._founded_at_s)

    async def _prove(self, genesis: Genesis, nonce: bytes, *, is_new: bool) -> "Founded":
        """Return evidence that this TEE holds the keys of `genesis`, in answer to an owner's nonce."""
        attester_nonce = secrets.token_bytes(NONCE_BYTES)
        binding = genesis_binding(genesis, nonce=nonce, attester_nonce=attester_nonce)
        evidence = await self._quote(binding.report_data())
        return Founded(genesis=genesis, attester_nonce=attester_nonce, evidence=evidence, is_new=is_new)

    async def change(self, message: ControlMessage) -> Placed:
        """Change a resource, and whatever begins and ends by that, as one.

        A message that is in the log already is answered as it was the first time.

        Raises:
            NotFoundError: there is no deployment yet.
            ConfigurationError: malformed.
            ConflictError: the resource has another version, or the nonce was seen before.
            UntrustedPeerError: signatures or rules fail; mismatches are listed.
            UncommittedError: it is stored, and waits for its witnesses: send it again.
            UnavailableError: this replica does not serve, or storage does not.
        """
        view = await self._replica.ledger.settle()
        self._replica.succeed()
        serving = self._replica.serving(view)
        if (index := find_change(view.state, message)) is not None:
            return Placed(index=index, size=view.size, change=None)
        change = view.state.judge(message.statement, message.body)
        for owner in message.statement.signers(view.authority.owner_keys):
            self._rates.admit(Subject.OWNER, owner, now_s=self._clock.monotonic_s())
        sealing_key = await self._expect_to_stay(change.content)
        made: list[Change] = []

        def plan(view: View) -> Plan:
            judged = view.state.judge(message.statement, message.body)
            made[:] = [judged]
            keys = _Keys.of(judged.content, serving.keyring, view.authority, sealing_key)
            if keys.renewed is not None:
                self._replica.prepare(keys.renewed)
            return self._plan(view, judged, message, keys)

        committed = await self._replica.ledger.commit(plan)
        self._replica.succeed()
        index = find_change(committed.state, message)
        return Placed(
            index=committed.size - 1 if index is None else index, size=committed.size, change=made[0]
        )

    async def _expect_to_stay(self, content: object) -> SecretBytes | None:
        """Check that this very code satisfies a new policy of the key service, where `content` is one.

        Returns:
            What the new keys are sealed to here, where there are new keys and the TEE seals.

        Raises:
            RefusedError: it does not: the change would lock this replica out, and perhaps every other.
        """
        if not isinstance(content, Authority) or not content.awaits_keys:
            return None
        challenge = secrets.token_bytes(SELF_CHECK_BYTES)
        evidence = await self._quote(challenge)
        try:
            await asyncio.to_thread(
                verify_evidence, evidence, content.policy, report_data=challenge, now=self._clock.now()
            )
        except EvidenceRejectedError as error:
            told = [mismatch(m.claim, expected=m.expected, got=m.got) for m in error.mismatches]
            raise RefusedError(
                "key-service policy: this replica does not satisfy it: send the change to one that does", told
            ) from error
        return await sealing_key_of(self._attester)

    def _plan(self, view: View, change: Change, message: ControlMessage, keys: "_Keys") -> Plan:
        """Return what a change writes, with the epochs and keys that begin and end by it."""
        now, state, storage = self._clock.now(), view.state, self._replica.ledger.storage
        after = state.after(change, index=view.size, data=b"", at=now)
        wrapped = _taken_in(change, after, message.attachments, keys.present, storage)
        steps = due(after.epochs, wanted(after.standing), now=now)
        work = carry_out(state, after, steps, keyring=keys.newest, replica=self._replica.id, now=now)
        entry = ControlEntry(statement=message.statement, body=message.body)
        forget = (*work.forget, *_unneeded(state, after))
        if after.recovery is not None and (keys.renewed is not None or after.recovery != state.recovery):
            wrapped = (*wrapped, share_out(after, keys.newest))
        if keys.renewed is None:
            return Plan(
                keyring=keys.present,
                bodies=(entry, *work.bodies),
                secrets=(*wrapped, *work.secrets),
                forget=forget,
            )
        renewed = keys.renewed
        announced = KeysEntry(
            number=renewed.number,
            policy_sha256=after.governing.policy_digest.hex(),
            keys=renewed.public,
        )
        own = renewed.deployment.wrapped(renewed.vault, renewed.number)
        return Plan(
            keyring=renewed,
            bodies=(entry, announced, *work.bodies),
            secrets=(
                *wrapped,
                *self._rewrapped(after, keys.present, renewed),
                *own,
                *keys.sealing,
                *work.secrets,
            ),
            forget=(*forget, *self._older_keys(keys.present)),
        )

    def _rewrapped(self, state: State, old: Keyring, new: Keyring) -> Iterator[WrappedSecret]:
        """Return everything that the old wrapping key wraps and that goes on, under the new one."""
        storage = self._replica.ledger.storage
        for name in stored_names(state):
            yield new.vault.wrap(name, old.vault.read(storage, name))

    def _older_keys(self, keyring: Keyring) -> Iterator[SecretName]:
        """Return the names of the deployment's older keys, sealed to any platform or wrapped."""
        yield from deployment_key_names(keyring.number)
        for found in self._replica.ledger.storage.secrets_of("wrapping-key"):
            if found.name.version == str(keyring.number):
                yield found.name


def find_change(state: State, message: ControlMessage) -> int | None:
    """Return where `message` stands in the log, when what it put there still stands.

    Raises:
        ConfigurationError: its statement is none.
    """
    statement = parse_document(
        message.statement.payload, ControlStatement, what="statement", limit_bytes=REQUEST_LIMIT_BYTES
    )
    place = state.places.get(statement.resource)
    if place is None:
        return None
    entry = parse_entry(place.data).body
    is_same = (
        isinstance(entry, ControlEntry)
        and entry.body == message.body
        and entry.statement.payload == message.statement.payload
    )
    return place.index if is_same else None


def _taken_in(
    change: Change, after: State, attachments: Sequence[bytes], keyring: Keyring, storage: Storage
) -> tuple[WrappedSecret, ...]:
    """Return what a change brings along, or has made, wrapped for storage.

    Raises:
        RefusedError: an attachment is missing, unasked for, or not what was signed.
        StorageUnavailableError: storage does not answer.
    """
    if isinstance(change.content, SecretTerms):
        return wrap_value(after.secrets[change.name].current, attachments, keyring)
    return rewrap_identities(change, attachments, keyring, storage)


def share_out(state: State, keyring: Keyring) -> WrappedSecret:
    """Return the shares of the wrapping key, each encrypted to its holder, for storage."""
    if state.recovery is None:
        raise AssertionError("shares are for the holders that owners named")
    shares = make_shares(
        keyring.wrapping_key,
        state.recovery,
        deployment=state.governing.deployment,
        statement_key=keyring.deployment.statement,
    )
    return stored_shares(shares)


def stored_names(state: State) -> list[SecretName]:
    """Return under which names secrets lie that the wrapping key wraps, but for the deployment's own keys."""
    identities = [
        identity_name(manifest) for service in state.services.values() for manifest in service.terms.manifests
    ]
    return [*identities, *secret_names(state.secrets)]


def _unneeded(before: State, after: State) -> set[SecretName]:
    return set(stored_names(before)) - set(stored_names(after))
