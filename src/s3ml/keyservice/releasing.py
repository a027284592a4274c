"""The exchange with model servers: challenge, evidence, release.

Source: docs/spec/release.md.
"""

import asyncio

from s3ml.attestation import EvidenceRejectedError, VerdictCache
from s3ml.keyservice.audit import AuditStream
from s3ml.keyservice.challenges import Challenges
from s3ml.keyservice.documents import ChallengeReply, ChallengeRequest, ReleaseReply, ReleaseRequest
from s3ml.keyservice.errors import mismatch
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.metrics import Metrics
from s3ml.keyservice.rates import RateLimits, Subject, enclave_identity
from s3ml.keyservice.releases import appraise, seal_release, served
from s3ml.keyservice.replica import Replica
from s3ml.primitives.clock import RatchetClock


class Releaser:
    """Challenges model servers, and releases keys to those that answer.

    Args:
        replica: This process.
        audit: Takes the record of every release before it leaves.
        clock: Held in check by signed instants.
        verdicts: What earlier verifications proved.
        rates: How often each service and each enclave may ask.
        events: Where structured events go.
        metrics: Counts outcomes.
    """

    def __init__(
        self,
        replica: Replica,
        audit: AuditStream,
        clock: RatchetClock,
        *,
        verdicts: VerdictCache,
        rates: RateLimits,
        events: EventLog,
        metrics: Metrics,
    ) -> None:
        self._replica = replica
        self._audit = audit
        self._clock = clock
        self._verdicts = verdicts
        self._rates = rates
        self._events = events
        self._metrics = metrics
        self._challenges = Challenges()

    def challenge(self, request: ChallengeRequest) -> ChallengeReply:
        """Issue a challenge for a model server's evidence.

        Raises:
            NotFoundError: there is no such service, or no deployment.
            ConflictError: the service's policy was replaced since it was signed.
            UnavailableError: this replica does not serve.
        """
        view = self._replica.serving().view
        document = served(view, request.service).service.terms.document
        self._rates.admit(Subject.SERVICE, request.service, now_s=self._clock.monotonic_s())
        challenge = self._challenges.issue(
            service=request.service,
            policy_sha256=document.policy_sha256,
            log_head=view.root,
            now_s=self._clock.monotonic_s(),
        )
        return ChallengeReply(
            deployment=view.authority.deployment,
            genesis=view.authority.genesis.entry,
            authority=tuple(data for _, data in view.authority.chain),
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
        3. At what is committed *now*, the service's policy is still the one of the challenge.
        4. The release is recorded, and then leaves, sealed to that key.

        Raises:
            RefusedError: (1) fails.
            EvidenceMalformedError: the evidence cannot be read.
            EvidenceRejectedError: (2) fails; all mismatches are listed.
            ConflictError: (3) fails.
            ConfigurationError: the requester's key is malformed.
            UnavailableError: this replica or storage does not serve, or records of releases pile up.
        """
        serving, began_s = self._replica.serving(), self._clock.monotonic_s()
        challenge = self._challenges.take(request.nonce, now_s=self._clock.monotonic_s())  # (1)
        try:
            appraised = await asyncio.to_thread(  # (2)
                appraise, request, challenge, serving.view, now=self._clock.now(), cache=self._verdicts
            )
        except EvidenceRejectedError as error:
            self._refused(challenge.service, error)
            raise
        self._clock.observe(appraised.enclave.signed_at)
        who, now_s = enclave_identity(appraised.enclave), self._clock.monotonic_s()
        self._rates.admit(Subject.ENCLAVE, who, now_s=now_s)
        now_serving = self._replica.serving(await self._replica.ledger.refresh())  # (3)
        sealed = await asyncio.to_thread(
            seal_release,
            now_serving.view,
            now_serving.keyring,
            self._replica.ledger.storage,
            appraised=appraised,
            now=self._clock.now(),
        )
        self._audit.add(sealed.record)  # (4)
        enclave = appraised.enclave
        self._events.emit(
            "release", service=challenge.service, tee=enclave.tee, measurement=enclave.measurement
        )
        self._metrics.count("s3ml_keyservice_releases_total", outcome="released")
        self._metrics.observe("s3ml_keyservice_release_seconds", self._clock.monotonic_s() - began_s)
        return ReleaseReply(sealed=sealed.sealed)

    def _refused(self, service: str, error: EvidenceRejectedError) -> None:
        told = [mismatch(m.claim, expected=m.expected, got=m.got) for m in error.mismatches]
        self._events.emit("release-refused", service=service, mismatches=told)
        self._metrics.count("s3ml_keyservice_releases_total", outcome="refused")
