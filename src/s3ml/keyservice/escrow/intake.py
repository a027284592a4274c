"""A replica's side of recovery: it asks for shares, takes contributions, and says how far it is.

What the edge calls; it holds a bounded table of requests. One recovery is open at a time, and whoever asks
again is shown the same one, so that nobody can throw away what holders gave. Rehearsals are told apart by
their askers' nonces; where there are too many, the oldest without a contribution goes.

Source: docs/spec/recovery.md.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from s3ml.attestation import Evidence, encode_evidence
from s3ml.keyservice.documents import (
    ContributionRequest,
    Outcome,
    OutcomeReply,
    RecoveryAsk,
    RecoveryRequest,
    RecoveryRequestReply,
    RecoverySharesReply,
    RecoveryStatusReply,
    RequestStatus,
)
from s3ml.keyservice.documents.recovery import FAILURES_LIMIT
from s3ml.keyservice.errors import BusyError, ConflictError
from s3ml.keyservice.escrow.binding import outcome_binding, request_binding
from s3ml.keyservice.escrow.collector import CheckKey, Collector, Findings, TakeKey
from s3ml.keyservice.escrow.shares import verify_share_set
from s3ml.keyservice.escrow.splitting import RandomBytes
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import S3MLError, UnavailableError
from s3ml.primitives.signing import VerifyKey
from s3ml.primitives.units import DAY_S
from s3ml.wire.hpke import Kem, PrivateKey

LIFETIME_S = 2.0 * DAY_S
CAPACITY = 8
NONCE_BYTES = 32

Quote = Callable[[bytes], Evidence]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the log and the store say where a request is made.

    Args:
        deployment: The deployment's id.
        policy_sha256: The digest of the key service's policy that stands.
        statement_key: The deployment's statement key that stands.
        log_size: The size of the log, at least 1.
        log_root: Its Merkle root.
        shares: From storage, as they are; nothing of them is trusted.
    """

    deployment: str
    policy_sha256: str
    statement_key: VerifyKey
    log_size: int
    log_root: bytes
    shares: RecoverySharesReply


@dataclass(slots=True, kw_only=True)
class _Open:
    """A request with what came of it."""

    reply: RecoveryRequestReply
    collector: Collector
    expires_at_s: float
    state: Literal["open", "complete"] = "open"
    contributed: tuple[str, ...] = ()
    missing: int = 0
    outcome: OutcomeReply | None = None

    @property
    def asked(self) -> tuple[str, bytes]:
        request = self.reply.request
        return request.purpose, b"" if request.purpose == "recovery" else request.asker_nonce


class RecoveryIntake:
    """Requests for shares, and what holders contribute to them.

    Methods block while the TEE makes a quote. Not for concurrent use: the edge lets one in at a time.

    Args:
        quote: Makes evidence of this very code over 64 bytes.
        clock: For the end of requests.
        check: What a rehearsed wrapping key opens; keeps nothing of it.
        random_bytes: Returns as many random bytes as it is asked for.
    """

    def __init__(
        self, quote: Quote, clock: Clock, check: CheckKey, *, random_bytes: RandomBytes = secrets.token_bytes
    ) -> None:
        self._quote = quote
        self._clock = clock
        self._check = check
        self._random_bytes = random_bytes
        self._table: dict[str, _Open] = {}

    def ask(self, ask: RecoveryAsk, standing: Standing) -> RecoveryRequestReply:
        """Return the request that answers `ask`: the open one, or a new one over a fresh key.

        Args:
            ask: From an untrusted peer. Whether this replica may recover at all is decided before.
            standing: As of now; a request for another share set than the newest is over.

        Raises:
            SignatureError: the deployment did not sign the stored share set.
            ConfigurationError: the stored share set is malformed.
            BusyError: too many rehearsals with contributions are open.
            UnavailableError: the TEE does not answer.
        """
        share_set = verify_share_set(
            standing.shares.share_set, deployment=standing.deployment, statement_key=standing.statement_key
        )
        self._expire(share_set.sha256)
        wanted = (ask.purpose, b"" if ask.purpose == "recovery" else ask.nonce)
        for name, found in list(self._table.items()):
            if found.asked == wanted and (found.state == "open" or ask.purpose == "rehearsal"):
                return found.reply
            if found.asked == wanted:
                self._forget(name)
        self._make_room()
        key = PrivateKey.generate(Kem.MLKEM768_X25519)
        bare = RecoveryRequest(
            deployment=standing.deployment,
            purpose=ask.purpose,
            asker_nonce=ask.nonce,
            nonce=self._random_bytes(NONCE_BYTES),
            public_key=key.public,
            policy_sha256=standing.policy_sha256,
            log_size=standing.log_size,
            log_root=standing.log_root,
            share_set=share_set.sha256,
            evidence=b"",
        )
        request = with_evidence(bare, self._quote(request_binding(bare).report_data()))
        reply = RecoveryRequestReply(request=request, shares=standing.shares)
        collector = Collector(request=request, key=key, share_set=share_set)
        self._table[collector.request_id] = _Open(
            reply=reply,
            collector=collector,
            expires_at_s=self._clock.monotonic_s() + LIFETIME_S,
            missing=collector.progress.missing,
        )
        return reply

    def contribute(self, contribution: ContributionRequest) -> RequestStatus:
        """Take a contribution to one of the open requests; a rehearsal that it completes is held at once.

        Raises:
            ConflictError: no such request is open here.
            RefusedError: it is not sealed to the request, or a share is not of its set.
            DocumentMalformedError: what was sealed is no contribution.
            UnavailableError: storage or the TEE does not answer; a rehearsal begins anew.
        """
        self._expire(None)
        found = self._table.get(contribution.request)
        if found is None:
            raise ConflictError(
                f"contribution: request {contribution.request} is not open at this replica: this is another "
                "replica, or the request is over: ask for another"
            )
        progress = found.collector.add(contribution)
        found.contributed, found.missing = progress.contributed, progress.missing
        if progress.is_complete and found.collector.purpose == "rehearsal":
            try:
                self._hold_rehearsal(found)
            except S3MLError:
                self._forget(contribution.request)
                raise
        return _status(found)

    def recover(self, take: TakeKey) -> bool:
        """Hand the recovered wrapping key to `take`, once, where a recovery has shares enough.

        Args:
            take: Keeps the key, or raises. Where it is unavailable, the next call tries again, and so does
                whoever sends a contribution again.

        Returns:
            Whether a key was handed over.

        Raises:
            PieceRejectedError: the signed set was not made of one key; the request is over.
            UnavailableError: of `take`; nothing is forgotten.
            S3MLError: of `take`; the request is over.
        """
        for name, found in self._table.items():
            is_ready = found.state == "open" and found.missing == 0
            if is_ready and found.collector.purpose == "recovery":
                try:
                    found.collector.hand_over(take)
                except UnavailableError:
                    raise
                except S3MLError:
                    self._forget(name)
                    raise
                found.state = "complete"
                return True
        return False

    def status(self) -> RecoveryStatusReply:
        """Say how far every request is."""
        self._expire(None)
        return RecoveryStatusReply(requests=tuple(_status(found) for found in self._table.values()))

    def _hold_rehearsal(self, found: _Open) -> None:
        request = found.reply.request
        findings = found.collector.rehearse(self._check)
        outcome = encode_document(outcome_of(found.collector.request_id, findings))
        nonce = self._random_bytes(NONCE_BYTES)
        binding = outcome_binding(request, outcome=outcome, attester_nonce=nonce)
        found.state = "complete"
        found.outcome = OutcomeReply(
            outcome=outcome,
            attester_nonce=nonce,
            evidence=encode_evidence(self._quote(binding.report_data())),
        )

    def _expire(self, share_set: str | None) -> None:
        """Forget requests that are over, and those for another set than `share_set`, where one is given."""
        now_s = self._clock.monotonic_s()
        for name, found in list(self._table.items()):
            is_of_old_set = share_set is not None and found.reply.request.share_set != share_set
            if found.expires_at_s <= now_s or is_of_old_set:
                self._forget(name)

    def _make_room(self) -> None:
        """Forget the oldest rehearsal that nobody contributed to, where the table is full.

        Raises:
            BusyError: there is none.
        """
        if len(self._table) < CAPACITY:
            return
        for name, found in self._table.items():
            is_idle = found.state == "complete" or not found.contributed
            if is_idle and found.collector.purpose == "rehearsal":
                self._forget(name)
                return
        raise BusyError("recovery: too many rehearsals are open", retry_after_s=60.0)

    def _forget(self, name: str) -> None:
        self._table.pop(name).collector.close()


def with_evidence(request: RecoveryRequest, evidence: Evidence) -> RecoveryRequest:
    """Return `request` with the evidence that binds it."""
    return msgspec.structs.replace(request, evidence=encode_evidence(evidence))


def outcome_of(request: str, findings: Findings) -> Outcome:
    """Write down what a rehearsal found; the first failures are listed, all are counted."""
    return Outcome(
        request=request,
        opened=findings.opened,
        failures=len(findings.failed),
        failed=findings.failed[:FAILURES_LIMIT],
    )


def _status(found: _Open) -> RequestStatus:
    request = found.reply.request
    return RequestStatus(
        request=found.collector.request_id,
        purpose=request.purpose,
        state=found.state,
        threshold=found.collector.progress.threshold,
        contributed=found.contributed,
        missing=found.missing,
        outcome=found.outcome,
    )
