"""Replicas let each other in: what a serving one gives, and how another takes it.

Source: docs/spec/join.md.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import msgspec

from s3ml.attestation import Attester, Evidence, VerdictCache
from s3ml.keyservice.documents import JoinEntry
from s3ml.keyservice.documents.document import Document
from s3ml.keyservice.documents.joining import (
    SECRETS_LIMIT_BYTES,
    JoinHello,
    JoinOffer,
    JoinReply,
    JoinRequest,
)
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.fields import Instant, Version1
from s3ml.keyservice.joining import (
    JoinEndpoint,
    JoinSession,
    JoinSource,
    Reading,
    ServingStanding,
    VerifiedJoiner,
)
from s3ml.keyservice.keys import DeploymentSecrets, Keyring
from s3ml.keyservice.ledger import Plan
from s3ml.keyservice.metrics import Metrics
from s3ml.keyservice.parsing import encode_document, parse_document
from s3ml.keyservice.peers import PeerClient, find_source
from s3ml.keyservice.rates import RateLimits, Subject, enclave_identity
from s3ml.keyservice.replica import Replica
from s3ml.primitives.aead import StorageTamperedError
from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import UnavailableError
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.signing import SigningKey
from s3ml.transparency.checkpoint import Checkpoint, open_checkpoint
from s3ml.transparency.cosignature import require_quorum
from s3ml.wire.hpke import Kem, PrivateKey

READ_TIMEOUT_S = 30.0
_Key = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class SharedGeneration(Document, frozen=True, kw_only=True):
    """A generation key; a secret."""

    key: _Key
    made_at: Instant

    def __repr__(self) -> str:
        return "SharedGeneration(redacted)"


class SharedSecrets(Document, frozen=True, kw_only=True):
    """Everything that makes a replica one; a secret."""

    version: Version1 = 1
    number: int
    wrapping_key: _Key
    checkpoint: _Key
    statement: _Key
    intake: Annotated[bytes, msgspec.Meta(max_length=256)]
    retiring: _Key | None = None
    generations: Annotated[tuple[SharedGeneration, ...], msgspec.Meta(max_length=256)]

    def __repr__(self) -> str:
        return "SharedSecrets(redacted)"


def share(keyring: Keyring) -> SecretBytes:
    """Return what a joiner gets of `keyring`."""
    secrets = keyring.deployment
    return SecretBytes(
        encode_document(
            SharedSecrets(
                number=keyring.number,
                wrapping_key=keyring.wrapping_key.reveal(),
                checkpoint=secrets.checkpoint.to_raw(),
                statement=secrets.statement.to_raw(),
                intake=secrets.intake.to_bytes(),
                retiring=None if secrets.retiring is None else secrets.retiring.to_raw(),
                generations=tuple(
                    SharedGeneration(key=one.key.reveal(), made_at=one.made_at)
                    for one in keyring.generations.all()
                ),
            )
        )
    )


def take(shared: SecretBytes, replica: Replica) -> Keyring:
    """Return the keyring in what a source sealed, added to the generations that `replica` holds already.

    Raises:
        DocumentMalformedError: it is none.
        StorageTamperedError: the keys are not those that govern.
    """
    found = parse_document(shared.reveal(), SharedSecrets, what="join", limit_bytes=SECRETS_LIMIT_BYTES)
    authority = replica.ledger.view.authority
    secrets = DeploymentSecrets(
        checkpoint=SigningKey.from_raw(found.checkpoint),
        statement=SigningKey.from_raw(found.statement),
        intake=PrivateKey.from_bytes(Kem.MLKEM768_X25519, found.intake),
        retiring=None if found.retiring is None else SigningKey.from_raw(found.retiring),
    )
    held = replica.keyring
    keyring = Keyring.around(
        SecretBytes(found.wrapping_key), found.number, authority.deployment, secrets
    ).with_generations(None if held is None else held.generations)
    if not keyring.is_of(authority):
        raise StorageTamperedError("join: the keys are not those that govern the deployment")
    for one in found.generations:
        keyring.generations.add(SecretBytes(one.key), one.made_at)
    return keyring


class Door:
    """What this replica answers to those who want to join.

    Args:
        replica: This process.
        quote: Has its TEE vouch for 64 bytes, within a deadline.
        clock: Held in check by the log.
        cache: What earlier verifications proved.
        rates: How often each joiner may ask.
        events: Where structured events go.
        metrics: Counts joins.
    """

    def __init__(
        self,
        replica: Replica,
        quote: Callable[[bytes], Awaitable[Evidence]],
        clock: Clock,
        *,
        cache: VerdictCache,
        rates: RateLimits,
        events: EventLog,
        metrics: Metrics,
    ) -> None:
        self._replica = replica
        self._clock = clock
        self._rates = rates
        self._events = events
        self._metrics = metrics
        self._endpoint = JoinEndpoint(
            JoinSource(now_s=clock.monotonic_s()),
            standing=lambda: standing_of(replica),
            secrets=lambda: share(replica.serving_keyring()),
            quote=quote,
            clock=clock,
            cache=cache,
            record=self._record,
        )

    async def offer(self, hello: JoinHello) -> JoinOffer:
        """Answer a hello with where this replica stands now.

        Raises:
            NotFoundError: there is no deployment yet.
            RefusedError: it asks for another deployment.
            UnavailableError: this replica does not serve.
        """
        self._replica.serving()
        await self._replica.ledger.refresh()
        return await self._endpoint.offer(hello)

    async def join(self, request: JoinRequest) -> JoinReply:
        """Answer a request; see `JoinEndpoint.join`."""
        return await self._endpoint.join(request)

    async def _record(self, joiner: VerifiedJoiner) -> None:
        """Commit to the log who joins, before the secrets leave."""
        keyring, enclave = self._replica.serving_keyring(), joiner.enclave
        self._rates.admit(Subject.JOINER, enclave_identity(enclave), now_s=self._clock.monotonic_s())
        entry = JoinEntry(
            replica=hashlib.sha256(joiner.join.hello.public_key).hexdigest(),
            source=self._replica.id,
            tee=enclave.tee,
            measurement=enclave.measurement,
        )
        await self._replica.ledger.commit(lambda _: Plan(keyring=keyring, bodies=(entry,)))
        self._metrics.count("s3ml_keyservice_joins_total")
        self._events.emit("join", tee=enclave.tee, measurement=enclave.measurement)


def standing_of(replica: Replica) -> ServingStanding:
    """Return the newest committed head of a replica that serves.

    Raises:
        UnavailableError: it does not serve.
    """
    view = replica.serving().view
    return ServingStanding(
        deployment=view.authority.deployment,
        policy_document=view.authority.policy_body,
        log_size=view.size,
        log_root=view.root,
        checkpoint=view.checkpoint,
    )


class HttpPeers:
    """Other replicas by their addresses, which the host gives; trusted with nothing.

    Args:
        urls: Of each, up to before ``/v1``.
        attester: The TEE that this process runs in.
        clock: Held in check by the log.
        cache: What earlier verifications proved.
    """

    def __init__(self, urls: Sequence[str], attester: Attester, clock: Clock, *, cache: VerdictCache) -> None:
        self._peers = [PeerClient(url) for url in urls]
        self._attester = attester
        self._clock = clock
        self._cache = cache

    @property
    def is_empty(self) -> bool:
        """Whether there are none."""
        return not self._peers

    async def join(self, replica: Replica) -> None:
        """Have a live peer let `replica` in, or give it the generations that it lacks.

        Raises:
            NoSourceError: none serves; at least one may later.
            UntrustedSourcesError: each failed a check, or refused this replica.
            DocumentMalformedError: what was sealed is no set of keys.
            StorageTamperedError: the keys are not those that govern.
        """
        loop, committed = asyncio.get_running_loop(), replica.ledger.view.size
        deployment = replica.ledger.view.authority.deployment

        def begin() -> JoinSession:
            return JoinSession(deployment, self._attester.quote, now_s=self._clock.monotonic_s())

        def read(size: int) -> Reading:
            if replica.ledger.view.size < size:
                refreshed = asyncio.run_coroutine_threadsafe(replica.ledger.refresh(), loop)
                try:
                    refreshed.result(timeout=READ_TIMEOUT_S)
                except TimeoutError as error:
                    refreshed.cancel()
                    raise UnavailableError("join: storage does not answer in time") from error
            return reading_of(replica, committed)

        opened = await asyncio.to_thread(
            find_source, self._peers, begin, read, clock=self._clock, cache=self._cache
        )
        try:
            replica.admit(take(opened.secrets, replica))
        finally:
            opened.secrets.wipe()

    def close(self) -> None:
        """Close the connections."""
        for peer in self._peers:
            peer.close()


def reading_of(replica: Replica, committed: int) -> Reading:
    """Return what this replica has read of its log; no source may stand before `committed` entries."""
    view = replica.ledger.view
    authority = view.authority

    def open_note(note: str) -> Checkpoint:
        found = open_checkpoint(note, origin=authority.genesis.origin, key=authority.checkpoint_key)
        require_quorum(note, authority.witnesses, authority.quorum)
        return found

    return Reading(
        deployment=authority.deployment,
        policy_document=authority.policy_body,
        size=view.size,
        committed_size=committed,
        root_of=view.tree.root,
        open_checkpoint=open_note,
    )
