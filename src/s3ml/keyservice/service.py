"""The key service: each operation once, without HTTP.

Operations run on one event loop. Evidence is verified and releases are sealed in threads, without any lock;
quotes are made in a thread, because the TEE takes its time.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence

from s3ml.attestation import Attester, Evidence, VerdictCache, encode_evidence
from s3ml.keyservice.audit import AuditStream
from s3ml.keyservice.batching import Batcher
from s3ml.keyservice.bindings import statement_binding
from s3ml.keyservice.cosigning import Cosigner
from s3ml.keyservice.documents import (
    AcknowledgeReply,
    AuditReply,
    AuthorityReply,
    ChallengeReply,
    ChallengeRequest,
    ControlMessage,
    ControlReply,
    DeletedReply,
    DeploymentReply,
    EntriesReply,
    GenesisReply,
    GenesisRequest,
    ReleaseReply,
    ReleaseRequest,
    ReleasesEntry,
    ResourceReply,
    ResourcesReply,
    StatusReply,
    TrustBundleRequest,
)
from s3ml.keyservice.errors import NotFoundError
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.governing import Governor
from s3ml.keyservice.ledger import Ledger, Plan
from s3ml.keyservice.log import LogTamperedError
from s3ml.keyservice.membership import Membership
from s3ml.keyservice.metrics import Metrics, Values
from s3ml.keyservice.peering import Door, HttpPeers
from s3ml.keyservice.rates import DEFAULTS, Limit, Outcome, RateLimits, Subject, address_identity
from s3ml.keyservice.releases import served
from s3ml.keyservice.releasing import Releaser
from s3ml.keyservice.replaying import View, audit_digest
from s3ml.keyservice.replica import Replica
from s3ml.keyservice.resources import Place
from s3ml.keyservice.restoring import Restorer
from s3ml.keyservice.statements import Batch
from s3ml.keyservice.status import deployment_status, gauges, whole_status
from s3ml.keyservice.storage import Storage
from s3ml.primitives.clock import Clock, RatchetClock
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import ConfigurationError, S3MLError, UnavailableError
from s3ml.transparency.merkle import leaf_hash

NONCE_BYTES = 32
BATCH_WINDOW_S = 0.02
MAX_BATCH = 1024
MAX_WAITING = 4096
QUOTE_TIMEOUT_S = 10.0
ENTRIES_LIMIT = 256


class KeyService:
    """One replica of the key service.

    Args:
        storage: The host's; untrusted.
        attester: The TEE that this process runs in.
        clock: The host's; held in check by signed instants.
        events: Where structured events go.
        cosigner: Leads to the witnesses.
        peers: Where the other replicas listen; addresses, never trust.
        batch_window_s: How long trust-bundle requests gather for one quote, in seconds.
        limits: How often each identity may ask.

    Raises:
        LogTamperedError: what is stored breaks the rules that this key service writes by.
        UnavailableError: storage does not answer.
    """

    def __init__(
        self,
        storage: Storage,
        attester: Attester,
        clock: Clock,
        events: EventLog,
        *,
        cosigner: Cosigner,
        peers: Sequence[str] = (),
        batch_window_s: float = BATCH_WINDOW_S,
        limits: Mapping[Subject, Limit] = DEFAULTS,
    ) -> None:
        self._attester = attester
        self._clock = RatchetClock(clock)
        self._events = events
        self.metrics = Metrics()
        self._is_draining = False
        self._rates = RateLimits(limits, now_s=clock.monotonic_s(), count=self._count_rate)
        self._verdicts = VerdictCache()
        ledger = Ledger(storage, self._clock, cosigner, metrics=self.metrics)
        self.replica = Replica(ledger, attester, self._clock)
        others = HttpPeers(peers, attester, self._clock, cache=self._verdicts)
        self.membership = Membership(self.replica, attester, others, self._clock, events)
        self.restorer = Restorer(self.replica, attester, self._clock, events)
        self.door = Door(
            self.replica,
            self.quote,
            self._clock,
            cache=self._verdicts,
            rates=self._rates,
            events=events,
            metrics=self.metrics,
        )
        self._governor = Governor(self.replica, attester, self.quote, self._clock, rates=self._rates)
        self._audit = AuditStream(self._record, failed=self._report_audit)
        self._releaser = Releaser(
            self.replica,
            self._audit,
            self._clock,
            verdicts=self._verdicts,
            rates=self._rates,
            events=events,
            metrics=self.metrics,
        )
        self._batcher = Batcher(
            self._answer_batch, window_s=batch_window_s, max_batch=MAX_BATCH, max_waiting=MAX_WAITING
        )

    def drain(self) -> None:
        """Say from now on that this replica is not ready; what asks nevertheless is still answered."""
        self._is_draining = True
        self._events.emit("draining", detail=self.replica.id)

    @property
    def is_ready(self) -> bool:
        """Whether a deployment is served, and will be for longer than the end of this process takes."""
        if self._is_draining:
            return False
        try:
            self.replica.serving()
        except S3MLError:
            return False
        return True

    def admit(self, host: str) -> None:
        """Count a request for the address that it comes from, before anything of it is read.

        Raises:
            TooManyRequestsError: that address asks too often.
        """
        self._rates.admit(Subject.ADDRESS, address_identity(host), now_s=self._clock.monotonic_s())

    async def run(self) -> None:
        """Keep this replica in its deployment, answer clients, commit the audit stream; until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.membership.run())
            tasks.create_task(self._batcher.run())
            tasks.create_task(self._audit.run())

    def gauges(self) -> dict[str, Values]:
        """Return the present values for the metrics."""
        return gauges(self.replica, audit_waiting=len(self._audit))

    def deployment(self) -> DeploymentReply:
        """Tell where the key service stands."""
        return deployment_status(self.replica, self._attester.tee)

    def status(self) -> StatusReply:
        """Tell how the whole key service does."""
        return whole_status(self.replica, self._attester.tee, audit_waiting=len(self._audit))

    async def genesis(self, request: GenesisRequest) -> GenesisReply:
        """Begin the deployment: its keys come into being here, and evidence says so.

        The same proposal may be sent again with another nonce, by an owner who lost the reply or wants to
        see for themselves: it begins nothing, and is answered with fresh evidence about what it began.

        Raises:
            ConflictError: the deployment has begun already, by another proposal.
            ConfigurationError: the proposal breaks its own rules.
            SignatureError: too few owners signed it.
            UncommittedError: it is stored, and waits for its witnesses: send it again.
            UnavailableError: the TEE or storage does not answer.
        """
        founded = await self._governor.begin(request.proposal, request.nonce)
        if founded.is_new:
            self._events.emit("genesis", deployment=founded.genesis.deployment)
        return GenesisReply(
            entry=founded.genesis.entry,
            attester_nonce=founded.attester_nonce,
            evidence=encode_evidence(founded.evidence),
        )

    async def control(self, message: ControlMessage) -> ControlReply:
        """Change a resource, by the will of k of n owners; see `Governor.change`.

        Raises:
            NotFoundError: there is no deployment yet.
            ConfigurationError: malformed.
            ConflictError: the resource has another version, or the message was seen before.
            UntrustedPeerError: signatures or rules fail; mismatches are listed.
            UnavailableError: this replica or storage does not serve.
        """
        placed = await self._governor.change(message)
        change = placed.change
        if change is not None:
            self._events.emit(
                "control", resource=change.resource, resource_version=change.version, index=placed.index
            )
        return ControlReply(index=placed.index, log_size=placed.size)

    async def acknowledge(self, acknowledgement: Envelope) -> AcknowledgeReply:
        """Serve from what is stored, by the word of k of n owners; see `Replica.restart`."""
        await self.replica.ledger.refresh()
        await self.replica.restart(acknowledgement)
        self._events.emit("acknowledged", detail=self.replica.id)
        return AcknowledgeReply(state=self.replica.phase.value, log_size=self.replica.ledger.view.size)

    def authority(self) -> AuthorityReply:
        """Return how the deployment came to be governed as it is.

        Raises:
            NotFoundError: there is no deployment yet.
        """
        authority = self.replica.ledger.view.authority
        return AuthorityReply(
            genesis=authority.genesis.entry, entries=tuple(data for _, data in authority.chain)
        )

    def resources(self) -> ResourcesReply:
        """List the governed resources.

        Raises:
            NotFoundError: there is no deployment yet.
        """
        state = self.replica.ledger.view.state
        _ = state.governing
        places = sorted(state.places.items())
        return ResourcesReply(
            resources=tuple(_resource(name, place) for name, place in places if place.body),
            deleted=tuple(
                DeletedReply(resource=name, resource_version=place.version, log_index=place.index)
                for name, place in places
                if not place.body
            ),
        )

    def challenge(self, request: ChallengeRequest) -> ChallengeReply:
        """Issue a challenge for a model server's evidence; see `Releaser.challenge`."""
        return self._releaser.challenge(request)

    async def release(self, request: ReleaseRequest) -> ReleaseReply:
        """Release keys to the enclave that the evidence proves; see `Releaser.release`."""
        return await self._releaser.release(request)

    async def trust_bundle(self, request: TrustBundleRequest) -> bytes:
        """Prove a service to a client.

        Raises:
            NotFoundError: there is no such service, or no deployment.
            ConflictError: its policy was replaced, or the client knows a longer log.
            UnavailableError: this replica does not serve, too many wait, or the TEE does not answer.
        """
        try:
            served(self.replica.serving().view, request.service)
        except ConfigurationError:  # another replica may have committed it a moment ago
            served(await self.replica.ledger.refresh(), request.service)
        self._rates.admit(Subject.SERVICE, request.service, now_s=self._clock.monotonic_s())
        bundle = await self._batcher.ask(request)
        self.metrics.count("s3ml_keyservice_trust_bundles_total")
        return bundle

    def checkpoint(self) -> str:
        """Return the newest committed checkpoint, with its cosignatures.

        Raises:
            NotFoundError: there is no deployment yet.
        """
        view = self.replica.ledger.view
        _ = view.authority
        return view.checkpoint

    async def entries(self, start: int, end: int) -> EntriesReply:
        """Return log entries from `start` up to before `end`, at most 256, as they were written.

        Raises:
            NotFoundError: there is no entry `start`.
            LogTamperedError: a stored entry is not the one that was written.
            UnavailableError: storage does not answer.
        """
        ledger = self.replica.ledger
        view = ledger.view
        end = min(end, view.size, start + ENTRIES_LIMIT)
        if not 0 <= start < end:
            raise NotFoundError(f"entries: expected a range that begins below {view.size}, got {start}")
        found = await asyncio.to_thread(ledger.storage.entries, start, end)
        leaves = [view.tree.leaf(index) for index in range(start, start + len(found))]
        if not found or [leaf_hash(entry) for entry in found] != leaves:
            raise LogTamperedError(f"stored log: entries {start} to {end} are not those that were written")
        return EntriesReply(entries=tuple(found))

    async def audit_records(self, start: int, end: int) -> AuditReply:
        """Return committed audit records from `start` up to before `end`, at most 256, as they are stored.

        Raises:
            NotFoundError: there is no committed record `start`.
            UnavailableError: storage does not answer.
        """
        ledger = self.replica.ledger
        committed = ledger.view.state.audited
        end = min(end, committed, start + ENTRIES_LIMIT)
        if not 0 <= start < end:
            raise NotFoundError(f"audit: expected a range that begins below {committed}, got {start}")
        found = await asyncio.to_thread(ledger.storage.audit, start, end)
        return AuditReply(records=tuple(found))

    async def quote(self, report: bytes) -> Evidence:
        """Have the TEE vouch for 64 bytes.

        Raises:
            UnavailableError: it does not answer in time.
        """
        try:
            async with asyncio.timeout(QUOTE_TIMEOUT_S):
                return await asyncio.to_thread(self._attester.quote, report)
        except TimeoutError as error:
            raise UnavailableError("key service: its TEE does not answer in time") from error

    async def _answer_batch(self, requests: Sequence[TrustBundleRequest]) -> Sequence[bytes | S3MLError]:
        serving = self.replica.serving(await self.replica.ledger.refresh())
        view = serving.view
        batch = Batch(view, requests, serving.keyring.deployment.statement, self._clock.now())
        evidence, attester_nonce = b"", secrets.token_bytes(NONCE_BYTES)
        if batch.leaves:
            binding = statement_binding(
                view.authority, batch_root=batch.root, attester_nonce=attester_nonce, log_root=view.root
            )
            evidence = encode_evidence(await self.quote(binding.report_data()))
            self.metrics.count("s3ml_keyservice_quotes_total")
        return [
            batch.bundle(position, evidence=evidence, attester_nonce=attester_nonce)
            if position in batch.leaves
            else batch.errors[position]
            for position in range(len(requests))
        ]

    def _count_rate(self, subject: Subject, outcome: Outcome) -> None:
        self.metrics.count("s3ml_keyservice_rates_total", subject=subject, outcome=outcome)

    async def _record(self, records: Sequence[bytes]) -> None:
        """Commit a batch of the audit stream, once: an attempt that failed later may have stored it."""
        keyring, digest = self.replica.serving_keyring(), audit_digest(records)

        def plan(view: View) -> Plan | None:
            start = view.state.audited
            if view.state.newest_audit == (len(records), digest):
                return None
            body = ReleasesEntry(first=start, count=len(records), sha256=digest)
            return Plan(keyring=keyring, bodies=(body,), audit_start=start, audit=tuple(records))

        await self.replica.ledger.commit(plan)

    def _report_audit(self, error: UnavailableError) -> None:
        self._events.emit("audit-not-stored", error=str(error), records=len(self._audit))


def _resource(name: str, place: Place) -> ResourceReply:
    return ResourceReply(
        resource=name,
        resource_version=place.version,
        body=place.body,
        body_sha256=place.sha256,
        log_index=place.index,
    )
