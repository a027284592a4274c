"""The key service: each operation once, without HTTP.

Operations run on one event loop. Evidence is verified and releases are sealed in threads, without any lock;
quotes are made in a thread, because the TEE takes its time.
"""

import asyncio
import secrets
from collections.abc import Sequence

from s3ml.attestation import Attester, EvidenceRejectedError, Tee, VerdictCache, encode_evidence
from s3ml.keyservice.audit import AuditStream
from s3ml.keyservice.batching import Batcher
from s3ml.keyservice.bindings import genesis_binding, statement_binding
from s3ml.keyservice.challenges import Challenges
from s3ml.keyservice.documents import (
    ChallengeReply,
    ChallengeRequest,
    ControlEntry,
    ControlMessage,
    ControlReply,
    DeploymentReply,
    EntriesReply,
    GenesisReply,
    GenesisRequest,
    ReleaseReply,
    ReleaseRequest,
    ResourceReply,
    ResourcesReply,
    TrustBundleRequest,
)
from s3ml.keyservice.errors import ConflictError, HaltedError, NotFoundError, mismatch
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.genesis import Genesis
from s3ml.keyservice.identities import rewrap_identities
from s3ml.keyservice.ledger import Ledger
from s3ml.keyservice.log import LogTamperedError
from s3ml.keyservice.metrics import Metrics
from s3ml.keyservice.releases import report_data, seal_release, served, verify_request
from s3ml.keyservice.resources import Place
from s3ml.keyservice.statements import Batch
from s3ml.keyservice.storage import Storage
from s3ml.primitives.clock import Clock, RatchetClock
from s3ml.primitives.errors import S3MLError, UnavailableError
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
        batch_window_s: How long trust-bundle requests gather for one quote, in seconds.

    Raises:
        LogTamperedError: what is stored is not what this key service wrote.
        StorageTamperedError: likewise, of its secrets.
        UnavailableError: storage or the TEE does not answer.
    """

    def __init__(
        self,
        storage: Storage,
        attester: Attester,
        clock: Clock,
        events: EventLog,
        *,
        batch_window_s: float = BATCH_WINDOW_S,
    ) -> None:
        self._attester = attester
        self._clock = RatchetClock(clock)
        self._events = events
        self._ledger = Ledger(storage, attester, self._clock)
        self._ledger.restart_epochs()
        self._challenges = Challenges()
        self._verdicts = VerdictCache()
        self.metrics = Metrics()
        self._audit = AuditStream(self._ledger.record, failed=self._report_audit)
        self._batcher = Batcher(
            self._answer_batch, window_s=batch_window_s, max_batch=MAX_BATCH, max_waiting=MAX_WAITING
        )

    @property
    def is_ready(self) -> bool:
        """Whether a deployment is served."""
        return self._ledger.view.size > 0 and not self._ledger.is_halted

    async def run(self) -> None:
        """Answer trust-bundle requests and commit the audit stream, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._batcher.run())
            tasks.create_task(self._audit.run())

    def gauges(self) -> dict[str, float]:
        """Return the present values for the metrics."""
        return {
            "s3ml_keyservice_log_size": self._ledger.view.size,
            "s3ml_keyservice_audit_waiting": len(self._audit),
            "s3ml_keyservice_ready": int(self.is_ready),
        }

    def deployment(self) -> DeploymentReply:
        """Tell where the key service stands."""
        view = self._ledger.view
        genesis = view.state.genesis
        if genesis is None:
            return DeploymentReply(
                state="uninitialised",
                is_simulated=self._attester.tee is Tee.SIMULATED,
                is_fork_protected=False,
            )
        return DeploymentReply(
            state="serving",
            deployment=genesis.deployment,
            genesis=genesis.entry,
            checkpoint=view.checkpoint,
            is_simulated=genesis.is_simulated,
            is_fork_protected=genesis.is_fork_protected,
        )

    async def genesis(self, request: GenesisRequest) -> GenesisReply:
        """Begin the deployment: its keys come into being here, and evidence says so.

        The same proposal may be sent again with another nonce, by an owner who lost the reply or wants to
        see for themselves: it begins nothing, and is answered with fresh evidence about what it began.

        Raises:
            ConflictError: the deployment has begun already, by another proposal.
            ConfigurationError: the proposal breaks its own rules.
            SignatureError: too few owners signed it.
            UnavailableError: the TEE or storage does not answer; nothing has begun.
        """
        held = self._ledger.view.state.genesis
        if held is not None:
            if held.envelope.payload != request.proposal.payload:
                raise ConflictError("genesis: the deployment has begun already, by another proposal")
            return await self._prove(held, request.nonce)
        founding = self._ledger.found(request.proposal)
        reply = await self._prove(founding.genesis, request.nonce)
        sealing_key = await asyncio.to_thread(self._attester.sealing_key)
        self._expect_uninitialised()
        self._ledger.begin(founding, sealing_key)
        self._events.emit("genesis", deployment=founding.genesis.deployment)
        return reply

    def control(self, message: ControlMessage) -> ControlReply:
        """Change a resource, by the will of k of n owners.

        Raises:
            NotFoundError: there is no deployment yet.
            ConfigurationError: malformed.
            ConflictError: the resource has another version, or the message was seen before.
            UntrustedPeerError: signatures or rules fail; mismatches are listed.
            UnavailableError: storage does not serve; nothing has changed.
        """
        state = self._ledger.view.state
        change = state.judge(message.statement, message.body)
        identities = rewrap_identities(
            change, message.attachments, self._ledger.keyring, self._ledger.storage
        )
        index, size = self._ledger.change(
            change, ControlEntry(statement=message.statement, body=message.body), identities
        )
        self._events.emit(
            "control", resource=f"{change.kind}/{change.name}", resource_version=change.version, index=index
        )
        return ControlReply(index=index, log_size=size)

    def resources(self) -> ResourcesReply:
        """List the governed resources.

        Raises:
            NotFoundError: there is no deployment yet.
        """
        state = self._ledger.view.state
        _ = state.deployment
        policies = (_resource(f"policies/{name}", p.place) for name, p in sorted(state.policies.items()))
        services = (_resource(f"services/{name}", s.place) for name, s in sorted(state.services.items()))
        return ResourcesReply(resources=(*policies, *services))

    def challenge(self, request: ChallengeRequest) -> ChallengeReply:
        """Issue a challenge for a model server's evidence.

        Raises:
            NotFoundError: there is no such service, or no deployment.
            ConflictError: the service's policy was replaced since it was signed.
            BusyError: too many challenges are open.
            HaltedError: the stored log was changed by another hand.
        """
        self._expect_not_halted()
        view = self._ledger.view
        document = served(view, request.service).service.terms.document
        challenge = self._challenges.issue(
            service=request.service,
            policy_sha256=document.policy_sha256,
            log_head=view.root,
            now_s=self._clock.monotonic_s(),
        )
        return ChallengeReply(
            deployment=view.genesis.deployment,
            genesis=view.genesis.entry,
            nonce=challenge.nonce,
            policy_sha256=challenge.policy_sha256,
            log_head=challenge.log_head,
            log_size=view.size,
            expires_in_s=self._challenges.lifetime_s,
        )

    async def release(self, request: ReleaseRequest) -> ReleaseReply:
        """Release keys to the enclave that the evidence proves.

        1. The nonce is of an open challenge, which this consumes.
        2. The evidence satisfies the policy that the service has, and binds the challenge and the key.
        3. The service's policy is still the one of the challenge.
        4. The release is recorded, and then leaves, sealed to that key.

        Raises:
            RefusedError: (1) fails.
            EvidenceMalformedError: the evidence cannot be read.
            EvidenceRejectedError: (2) fails; all mismatches are listed.
            ConflictError: (3) fails.
            ConfigurationError: the requester's key is malformed.
            UnavailableError: storage does not serve, or records of releases pile up.
        """
        self._expect_not_halted()
        challenge = self._challenges.take(request.nonce, now_s=self._clock.monotonic_s())  # (1)
        ledger, service = self._ledger, challenge.service
        policy = served(ledger.view, service).policy.policy
        bound = report_data(ledger.view.genesis.deployment, request, challenge)
        try:
            enclave = await asyncio.to_thread(  # (2)
                verify_request,
                request,
                policy,
                expected=bound,
                now=self._clock.now(),
                cache=self._verdicts,
            )
        except EvidenceRejectedError as error:
            self._refused(service, error)
            raise
        self._clock.observe(enclave.signed_at)
        sealed = await asyncio.to_thread(  # (3)
            seal_release,
            ledger.view,
            ledger.keyring,
            ledger.storage,
            request=request,
            challenge=challenge,
            bound=bound,
            enclave=enclave,
            now=self._clock.now(),
        )
        self._audit.add(sealed.record)  # (4)
        self._events.emit("release", service=service, tee=enclave.tee, measurement=enclave.measurement)
        self.metrics.count("s3ml_keyservice_releases_total", outcome="released")
        return ReleaseReply(sealed=sealed.sealed)

    async def trust_bundle(self, request: TrustBundleRequest) -> bytes:
        """Prove a service to a client.

        Raises:
            NotFoundError: there is no such service, or no deployment.
            ConflictError: its policy was replaced, or the client knows a longer log.
            UnavailableError: too many wait, or the TEE does not answer.
        """
        self._expect_not_halted()
        served(self._ledger.view, request.service)
        bundle = await self._batcher.ask(request)
        self.metrics.count("s3ml_keyservice_trust_bundles_total")
        return bundle

    def checkpoint(self) -> str:
        """Return the newest checkpoint.

        Raises:
            NotFoundError: there is no deployment yet.
        """
        view = self._ledger.view
        _ = view.genesis
        return view.checkpoint

    async def entries(self, start: int, end: int) -> EntriesReply:
        """Return log entries from `start` up to before `end`, at most 256, as they were written.

        Raises:
            NotFoundError: there is no entry `start`.
            LogTamperedError: a stored entry is not the one that was written.
            UnavailableError: storage does not answer.
        """
        view = self._ledger.view
        end = min(end, view.size, start + ENTRIES_LIMIT)
        if not 0 <= start < end:
            raise NotFoundError(f"entries: expected a range that begins below {view.size}, got {start}")
        found = await asyncio.to_thread(self._ledger.storage.entries, start, end)
        if [leaf_hash(entry) for entry in found] != [view.tree.leaf(index) for index in range(start, end)]:
            raise LogTamperedError(f"stored log: entries {start} to {end} are not those that were written")
        return EntriesReply(entries=tuple(found))

    async def _prove(self, genesis: Genesis, nonce: bytes) -> GenesisReply:
        """Return evidence that this TEE holds the keys of `genesis`, in answer to an owner's nonce."""
        attester_nonce = secrets.token_bytes(NONCE_BYTES)
        binding = genesis_binding(genesis, nonce=nonce, attester_nonce=attester_nonce)
        evidence = await self._quote(binding.report_data())
        return GenesisReply(entry=genesis.entry, attester_nonce=attester_nonce, evidence=evidence)

    async def _quote(self, report: bytes) -> bytes:
        try:
            async with asyncio.timeout(QUOTE_TIMEOUT_S):
                return encode_evidence(await asyncio.to_thread(self._attester.quote, report))
        except TimeoutError as error:
            raise UnavailableError("key service: its TEE does not answer in time") from error

    async def _answer_batch(self, requests: Sequence[TrustBundleRequest]) -> Sequence[bytes | S3MLError]:
        ledger = self._ledger
        view = ledger.view
        batch = Batch(view, requests, ledger.keyring.deployment.statement, self._clock.now())
        evidence, attester_nonce = b"", secrets.token_bytes(NONCE_BYTES)
        if batch.leaves:
            binding = statement_binding(
                view.genesis, batch_root=batch.root, attester_nonce=attester_nonce, log_root=view.root
            )
            evidence = await self._quote(binding.report_data())
            self.metrics.count("s3ml_keyservice_quotes_total")
        return [
            batch.bundle(position, evidence=evidence, attester_nonce=attester_nonce)
            if position in batch.leaves
            else batch.errors[position]
            for position in range(len(requests))
        ]

    def _refused(self, service: str, error: EvidenceRejectedError) -> None:
        told = [mismatch(m.claim, expected=m.expected, got=m.got) for m in error.mismatches]
        self._events.emit("release-refused", service=service, mismatches=told)
        self.metrics.count("s3ml_keyservice_releases_total", outcome="refused")

    def _report_audit(self, error: UnavailableError) -> None:
        self._events.emit("audit-not-stored", error=str(error), records=len(self._audit))

    def _expect_uninitialised(self) -> None:
        if self._ledger.view.size:
            raise ConflictError("genesis: the deployment has begun already")

    def _expect_not_halted(self) -> None:
        if self._ledger.is_halted:
            raise HaltedError("key service: the stored log was changed by another hand: restart it")


def _resource(name: str, place: Place) -> ResourceReply:
    return ResourceReply(
        resource=name,
        resource_version=place.version,
        body=place.body,
        body_sha256=place.sha256,
        log_index=place.index,
    )
