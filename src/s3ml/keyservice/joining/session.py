"""The side of a join that wants the secrets: a fresh or restarted replica.

It believes nothing that it cannot hold against its own reading of the log: which deployment, which policy the
key service has to satisfy, which entries there are.

Source: docs/spec/join.md.
"""

import secrets as random
from collections.abc import Callable
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
from s3ml.keyservice.documents import Mismatch
from s3ml.keyservice.documents.joining import JOIN_KEM, JoinHello, JoinOffer, JoinReply, JoinRequest
from s3ml.keyservice.errors import ConflictError, RefusedError, mismatch
from s3ml.keyservice.joining.standing import Reading
from s3ml.keyservice.joining.transcript import join_info, joiner_binding, request_digest, source_binding
from s3ml.keyservice.log import origin
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.secret import SecretBytes
from s3ml.transparency.checkpoint import Checkpoint
from s3ml.wire.hpke import HYBRID_AES256, PrivateKey, open_once

NONCE_BYTES = 32
JOIN_LIFETIME_S = 60.0  # what a host holds back for longer says nothing of the present

Quote = Callable[[bytes], Evidence]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OpenedJoin:
    """What a source sealed to this joiner, and who the source is.

    Args:
        secrets: Opaque here.
        source: What the source's evidence proved.
        offer: Where the source stood: a committed head of this log.
    """

    secrets: SecretBytes
    source: VerifiedEnclave
    offer: JoinOffer


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Asked:
    hello: JoinHello
    key: PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Answered:
    asked: _Asked
    reading: Reading
    offer: JoinOffer
    request: JoinRequest


class JoinSession:
    """One attempt to join, with one source: a hello, an answer, an opening, each once, whatever comes of it.

    A later attempt takes a new session. Not for concurrent use.

    Args:
        deployment: The id of the deployment whose log this replica reads.
        quote: Has this replica's TEE vouch for 64 bytes; may block.
        now_s: Monotonic.
        lifetime_s: How long the whole attempt may take.
    """

    def __init__(
        self, deployment: str, quote: Quote, *, now_s: float, lifetime_s: float = JOIN_LIFETIME_S
    ) -> None:
        self._quote = quote
        self._lifetime_s = lifetime_s
        self._expires_at_s = now_s + lifetime_s
        key = PrivateKey.generate(JOIN_KEM)
        self._hello: JoinHello | None = JoinHello(
            deployment=deployment, nonce=random.token_bytes(NONCE_BYTES), public_key=key.public
        )
        self._asked: _Asked | None = _Asked(hello=self._hello, key=key)
        self._answered: _Answered | None = None

    def hello(self) -> JoinHello:
        """Return the hello for one source.

        Raises:
            ConfigurationError: it was returned before.
        """
        hello, self._hello = self._hello, None
        if hello is None:
            raise ConfigurationError("join: expected one hello of each session")
        return hello

    def answer(self, offer: JoinOffer, reading: Reading, *, now_s: float) -> JoinRequest:
        """Answer `offer` with evidence over everything said; blocks while the TEE makes the quote.

        1. The reading covers the head of the offer: read on first, where it does not.
        2. The offer is of the deployment and under the policy of the reading.
        3. Its head is one that the reading has passed through, and not before what is known to be committed.
        4. Its checkpoint commits that head.

        Args:
            offer: From an untrusted peer.
            reading: This replica's own.
            now_s: Monotonic.

        Raises:
            ConfigurationError: there is no hello to answer for, or it was answered before.
            ConflictError: (1) fails.
            RefusedError: one of (2) to (4) fails, or the attempt took too long; all mismatches are listed.
            UntrustedPeerError: the checkpoint is not signed and cosigned as this log demands.
            UnavailableError: the TEE does not answer.
        """
        asked, self._asked = self._asked, None
        if asked is None or self._hello is not None:
            raise ConfigurationError("join: expected one answer to one hello")
        try:
            self._check_offer(asked.hello, offer, reading, now_s)
            evidence = self._quote(joiner_binding(asked.hello, offer).report_data())
        except BaseException:
            asked.key.wipe()
            raise
        request = JoinRequest(nonce=offer.nonce, evidence=encode_evidence(evidence))
        self._answered = _Answered(asked=asked, reading=reading, offer=offer, request=request)
        return request

    def open(self, reply: JoinReply, *, now: datetime, now_s: float, cache: VerdictCache) -> OpenedJoin:
        """Open what the source sealed.

        1. It comes in time.
        2. The source's evidence satisfies the policy of the reading, and vouches for these sealed bytes in
           this very join: both nonces, both roles, both sides' evidence, the key, the head.
        3. They open under this session's key.

        Args:
            reply: From an untrusted peer.
            now: Aware UTC.
            now_s: Monotonic.
            cache: What earlier verifications proved.

        Raises:
            ConfigurationError: no offer was answered, or a reply was opened before.
            RefusedError: (1) fails.
            EvidenceMalformedError: the evidence cannot be read.
            EvidenceRejectedError: (2) fails; all mismatches are listed.
            SealRejectedError: (3) fails.
        """
        answered, self._answered = self._answered, None
        if answered is None:
            raise ConfigurationError("join: expected one reply to one answer")
        try:
            return self._open(answered, reply, now=now, now_s=now_s, cache=cache)
        finally:
            answered.asked.key.wipe()

    def _check_offer(self, hello: JoinHello, offer: JoinOffer, reading: Reading, now_s: float) -> None:
        self._check_time(now_s)
        if offer.log_size > reading.size:  # (1)
            raise ConflictError(
                f"join: the source has {offer.log_size} entries, this reading {reading.size}: read on first"
            )
        failed = [*_compare_terms(hello, offer, reading), *_compare_heads(offer, reading)]  # (2), (3)
        if failed:
            raise RefusedError("join", failed)
        _check_committed(offer, reading)  # (4)

    def _open(
        self, answered: _Answered, reply: JoinReply, *, now: datetime, now_s: float, cache: VerdictCache
    ) -> OpenedJoin:
        hello, offer, request = answered.asked.hello, answered.offer, answered.request
        self._check_time(now_s)  # (1)
        source = verify_evidence(  # (2)
            parse_evidence(reply.evidence),
            answered.reading.policy,
            report_data=source_binding(hello, offer, request, reply.sealed).report_data(),
            now=now,
            cache=cache,
        )
        info = join_info(request_digest(hello, offer, request))
        opened = open_once(HYBRID_AES256, answered.asked.key, reply.sealed, info=info)  # (3)
        return OpenedJoin(secrets=SecretBytes(opened), source=source, offer=offer)

    def _check_time(self, now_s: float) -> None:
        if now_s >= self._expires_at_s:
            late_s = now_s - self._expires_at_s + self._lifetime_s
            expected = f"at most {self._lifetime_s:.0f} s from hello to reply"
            raise RefusedError("join", [mismatch("time", expected=expected, got=f"{late_s:.0f} s")])


def _compare_terms(hello: JoinHello, offer: JoinOffer, reading: Reading) -> list[Mismatch]:
    claims = (
        ("reading", hello.deployment, reading.deployment),
        ("deployment", hello.deployment, offer.deployment),
        ("policy", reading.policy_sha256, offer.policy_sha256),
    )
    return [mismatch(claim, expected=a, got=b) for claim, a, b in claims if a != b]


def _compare_heads(offer: JoinOffer, reading: Reading) -> list[Mismatch]:
    failed = []
    if offer.log_size < reading.committed_size:
        expected = f"at least {reading.committed_size} entries, which are committed"
        failed.append(mismatch("log_size", expected=expected, got=offer.log_size))
    root = reading.root_of(offer.log_size)
    if offer.log_root != root:
        failed.append(mismatch("log_root", expected=root.hex(), got=offer.log_root.hex()))
    return failed


def _check_committed(offer: JoinOffer, reading: Reading) -> None:
    expected = Checkpoint(origin=origin(offer.deployment), size=offer.log_size, root=offer.log_root)
    signed = reading.open_checkpoint(offer.checkpoint)
    if signed != expected:
        raise RefusedError("join", [mismatch("checkpoint", expected=expected.text(), got=signed.text())])
