"""The side of a join that has the secrets: a replica that serves.

The steps and their types: `JoinSource.offer` takes a hello; `JoinSource.take` turns a request into an
`OpenOffer`, once; `verify_joiner` turns that into a `VerifiedJoiner`, `JoinSource.admit` that into an
`AdmittedJoiner` where joins are not too many, and nothing else does; `seal` seals to no other thing, and
`SealedJoin.reply` needs the quote that vouches for what was sealed. Each step that decides takes a
`ServingStanding`, which only a serving replica has.

`JoinSource` belongs to one thread. `verify_joiner`, `seal` and quoting run wherever the caller likes.

Source: docs/spec/join.md.
"""

import secrets as random
from dataclasses import dataclass
from datetime import datetime

from s3ml.attestation import (
    Evidence,
    VerdictCache,
    VerifiedEnclave,
    encode_evidence,
    parse_evidence,
    verify_evidence,
)
from s3ml.keyservice.documents.joining import (
    SECRETS_LIMIT_BYTES,
    JoinHello,
    JoinOffer,
    JoinReply,
    JoinRequest,
)
from s3ml.keyservice.errors import BusyError, ConflictError, RefusedError, mismatch
from s3ml.keyservice.joining.standing import ServingStanding
from s3ml.keyservice.joining.transcript import join_info, joiner_binding, request_digest, source_binding
from s3ml.keyservice.rates import Rate, TokenBucket
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.secret import SecretBytes
from s3ml.wire.hpke import HYBRID_AES256, seal_once

NONCE_BYTES = 32
OFFER_LIFETIME_S = 60.0  # a joiner verifies and quotes within it; on hardware that takes milliseconds
OFFERS = 1024  # of about 2 KiB each
# A join costs a quote and an entry of the log, which others need, too. Replicas start by the dozen.
JOIN_RATE = Rate(per_s=2.0, burst=16)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Open:
    hello: JoinHello
    offer: JoinOffer
    expires_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OpenOffer:
    """An offer with the one request that answers it; made by `JoinSource.take` alone."""

    hello: JoinHello
    offer: JoinOffer
    request: JoinRequest


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VerifiedJoiner:
    """An enclave that may have the secrets; made by `verify_joiner` alone."""

    join: OpenOffer
    enclave: VerifiedEnclave


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AdmittedJoiner:
    """A verified joiner whose turn it is; made by `JoinSource.admit` alone."""

    joiner: VerifiedJoiner


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SealedJoin:
    """Secrets under a verified joiner's key; they leave with the quote that vouches for them.

    Args:
        enclave: Whom they are sealed to.
        report_data: The 64 bytes that this replica's quote must carry.
        sealed: ``enc || ciphertext``.
    """

    enclave: VerifiedEnclave
    report_data: bytes
    sealed: bytes

    def reply(self, evidence: Evidence) -> JoinReply:
        """Return the reply, with this replica's `evidence` over `report_data`."""
        return JoinReply(sealed=self.sealed, evidence=encode_evidence(evidence))


class JoinSource:
    """Offers joins, each to be answered once, and admits those who answered with the right evidence.

    An offer costs no quote and little memory. The table of open ones is bounded: a new one takes the place of
    the oldest, so that nobody can close it to others by filling it. What costs a quote and an entry of the
    log comes after admission, which a verified joiner alone reaches, and `rate` bounds that too.

    Args:
        now_s: Monotonic.
        lifetime_s: How long an offer may be answered.
        capacity: The most offers that are open at once.
        rate: How often a joiner is admitted, whoever asks.
    """

    def __init__(
        self,
        *,
        now_s: float,
        lifetime_s: float = OFFER_LIFETIME_S,
        capacity: int = OFFERS,
        rate: Rate = JOIN_RATE,
    ) -> None:
        self._lifetime_s = lifetime_s
        self._capacity = capacity
        self._turns = TokenBucket(rate, now_s=now_s)
        self._open: dict[bytes, _Open] = {}

    def __len__(self) -> int:
        return len(self._open)

    def offer(self, hello: JoinHello, *, standing: ServingStanding, now_s: float) -> JoinOffer:
        """Answer a hello from an untrusted peer.

        Raises:
            RefusedError: it asks for another deployment.
        """
        if hello.deployment != standing.deployment:
            failed = mismatch("deployment", expected=standing.deployment, got=hello.deployment)
            raise RefusedError("join", [failed])
        offer = JoinOffer(
            deployment=standing.deployment,
            nonce=random.token_bytes(NONCE_BYTES),
            policy_sha256=standing.policy_sha256,
            log_size=standing.log_size,
            log_root=standing.log_root,
            checkpoint=standing.checkpoint,
        )
        self._make_room(now_s)
        self._open[offer.nonce] = _Open(hello=hello, offer=offer, expires_at_s=now_s + self._lifetime_s)
        return offer

    def take(self, request: JoinRequest, *, now_s: float) -> OpenOffer:
        """Return the offer that `request` (from an untrusted peer) answers, and forget it, whatever follows.

        Raises:
            RefusedError: it was never made, was answered before, has expired, or made room for newer ones.
        """
        found = self._open.pop(request.nonce, None)
        if found is None or found.expires_at_s <= now_s:
            expected = f"an unanswered offer of the last {self._lifetime_s:.0f} s"
            raise RefusedError("join", [mismatch("nonce", expected=expected, got=request.nonce.hex())])
        return OpenOffer(hello=found.hello, offer=found.offer, request=request)

    def admit(self, joiner: VerifiedJoiner, *, now_s: float) -> AdmittedJoiner:
        """Let a verified joiner go on, where joins are not too many.

        Raises:
            BusyError: they are.
        """
        if wait_s := self._turns.take(now_s=now_s):
            raise BusyError("join: too many replicas join", retry_after_s=wait_s)
        return AdmittedJoiner(joiner=joiner)

    def _make_room(self, now_s: float) -> None:
        """Forget what has expired, and the oldest of a full table; insertion order is expiry order."""
        while self._open:
            oldest = next(iter(self._open.values()))
            if oldest.expires_at_s > now_s and len(self._open) < self._capacity:
                return
            del self._open[oldest.offer.nonce]


def verify_joiner(
    join: OpenOffer, *, standing: ServingStanding, now: datetime, cache: VerdictCache
) -> VerifiedJoiner:
    """Verify the joiner's evidence against the key service's policy in force.

    1. The policy is still the one of the offer.
    2. The evidence satisfies it, and binds both nonces, the joiner's key, the hello and the offer.

    Args:
        join: From an untrusted peer.
        standing: This replica's, now.
        now: Aware UTC.
        cache: What earlier verifications proved.

    Raises:
        ConflictError: (1) fails; a new join may succeed.
        EvidenceMalformedError: the evidence cannot be read.
        EvidenceRejectedError: (2) fails; all mismatches are listed.
    """
    _check_standing(join, standing)  # (1)
    enclave = verify_evidence(  # (2)
        parse_evidence(join.request.evidence),
        standing.policy,
        report_data=joiner_binding(join.hello, join.offer).report_data(),
        now=now,
        cache=cache,
    )
    return VerifiedJoiner(join=join, enclave=enclave)


def seal(admitted: AdmittedJoiner, secrets: SecretBytes, *, standing: ServingStanding) -> SealedJoin:
    """Seal `secrets` to an admitted joiner's key.

    Args:
        admitted: Whom to.
        secrets: At most 1 MiB; opaque here.
        standing: Taken after the joiner was verified, and admitted.

    Raises:
        ConflictError: the policy changed since the offer.
        ConfigurationError: the joiner's key is malformed, or `secrets` are too many.
    """
    if len(secrets) > SECRETS_LIMIT_BYTES:
        raise ConfigurationError(
            f"join: expected at most {SECRETS_LIMIT_BYTES} bytes of secrets, got {len(secrets)}"
        )
    join = admitted.joiner.join
    _check_standing(join, standing)
    info = join_info(request_digest(join.hello, join.offer, join.request))
    sealed = seal_once(HYBRID_AES256, join.hello.public_key, secrets.reveal(), info=info)
    binding = source_binding(join.hello, join.offer, join.request, sealed)
    return SealedJoin(enclave=admitted.joiner.enclave, report_data=binding.report_data(), sealed=sealed)


def _check_standing(join: OpenOffer, standing: ServingStanding) -> None:
    """Hold the offer against where this replica stands now; a log that merely grew does no harm."""
    if join.offer.policy_sha256 != standing.policy_sha256:
        raise ConflictError("join: the key service's policy changed since the offer: ask for another offer")
