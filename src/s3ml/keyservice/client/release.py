"""A model server's side of a release: a challenge, evidence over a fresh key, and what is sealed to it.

A model server has nobody to tell it which deployment is its own. It keeps to the first one whose release it
opens; keys of a false key service decrypt nothing that a client of the true one sends.

Source: docs/spec/release.md.
"""

import secrets
from dataclasses import dataclass

from s3ml.attestation import Attester, encode_evidence
from s3ml.keyservice.authority import Authority
from s3ml.keyservice.bindings import release_binding, release_info
from s3ml.keyservice.documents import (
    RELEASE_TYPE,
    ChallengeReply,
    ChallengeRequest,
    Release,
    ReleaseReply,
    ReleaseRequest,
)
from s3ml.keyservice.errors import RefusedError, mismatch
from s3ml.keyservice.fields import REPLY_LIMIT_BYTES
from s3ml.keyservice.following import follow
from s3ml.keyservice.genesis import identify_genesis
from s3ml.keyservice.parsing import parse_document
from s3ml.primitives.envelope import parse_envelope
from s3ml.primitives.errors import ConfigurationError
from s3ml.transparency.checkpoint import open_checkpoint
from s3ml.transparency.cosignature import require_quorum
from s3ml.transparency.merkle import verify_consistency
from s3ml.wire.hpke import HYBRID_AES256, Kem, PrivateKey, open_once

NONCE_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OpenedRelease:
    """A release that the deployment's statement key signed in answer to our own evidence.

    Args:
        deployment: The deployment's id.
        authority: What governs it.
        release: Keys and permissions; secret.
    """

    deployment: str
    authority: Authority
    release: Release


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Pending:
    authority: Authority
    policy_sha256: str
    attester_nonce: bytes
    key: PrivateKey
    info: bytes


class ReleaseSession:
    """Obtain releases for one service, again and again, from one deployment.

    Not for concurrent use: a later `answer` takes the place of the one before it.

    Args:
        service: The service that this process serves.
        attester: The TEE that this process runs in.
    """

    def __init__(self, service: str, attester: Attester) -> None:
        self._service = service
        self._attester = attester
        self._pinned: str | None = None
        self._known: tuple[int, bytes] | None = None
        self._pending: _Pending | None = None

    @property
    def deployment(self) -> str | None:
        """The deployment that the first opened release came from."""
        return self._pinned

    def challenge_request(self) -> ChallengeRequest:
        """Ask what the evidence must answer."""
        return ChallengeRequest(role="model-server", service=self._service)

    def answer(self, challenge: ChallengeReply) -> ReleaseRequest:
        """Answer `challenge` with evidence over a fresh key; blocks while the TEE makes the quote.

        Args:
            challenge: From an untrusted peer.

        Raises:
            ConfigurationError: the challenge carries no genesis, or a malformed chain of owners.
            UntrustedPeerError: it is of another deployment than its genesis defines, or than the pinned one;
                or owners did not sign what governs.
            UnavailableError: the TEE does not answer.
        """
        genesis = identify_genesis(challenge.genesis)
        self._check_deployment(genesis.deployment, challenge.deployment)
        authority = follow(genesis, challenge.authority)
        key = PrivateKey.generate(Kem.MLKEM768_X25519)
        attester_nonce = secrets.token_bytes(NONCE_BYTES)
        report_data = release_binding(
            deployment=genesis.deployment,
            nonce=challenge.nonce,
            attester_nonce=attester_nonce,
            public_key=key.public,
            service=self._service,
            policy_sha256=challenge.policy_sha256,
            log_head=challenge.log_head,
        ).report_data()
        evidence = self._attester.quote(report_data)
        self._pending = _Pending(
            authority=authority,
            policy_sha256=challenge.policy_sha256,
            attester_nonce=attester_nonce,
            key=key,
            info=release_info(report_data),
        )
        return ReleaseRequest(
            nonce=challenge.nonce,
            attester_nonce=attester_nonce,
            public_key=key.public,
            evidence=encode_evidence(evidence),
            known_size=None if self._known is None else self._known[0],
        )

    def open(self, reply: ReleaseReply) -> OpenedRelease:
        """Open the release that answers the latest `answer`; its key serves once.

        1. It is sealed to our fresh key, under our own report data.
        2. The deployment's statement key signed it.
        3. It is for this deployment, service and policy, and answers our nonce.
        4. It follows from a head of the log that the checkpoint key signed and a quorum of witnesses
           cosigned, and that extends the newest one that this session has seen: a key service that was
           rolled back, or shown a fork, is refused.

        Args:
            reply: From an untrusted peer.

        Raises:
            ConfigurationError: nothing was asked for, or what was sealed is no release.
            UntrustedPeerError: a check failed.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            raise ConfigurationError("release: expected an answer to a challenge first")
        opened = open_once(HYBRID_AES256, pending.key, reply.sealed, info=pending.info)  # (1)
        payload = parse_envelope(opened).verify(  # (2)
            [pending.authority.statement_key], threshold=1, payload_type=RELEASE_TYPE
        )
        release = parse_document(payload, Release, what="release", limit_bytes=REPLY_LIMIT_BYTES)
        claims = (  # (3)
            ("deployment", pending.authority.deployment, release.deployment),
            ("service", self._service, release.service),
            ("policy", pending.policy_sha256, release.policy_sha256),
            ("attester_nonce", pending.attester_nonce.hex(), release.attester_nonce.hex()),
        )
        failed = [mismatch(claim, expected=a, got=b) for claim, a, b in claims if a != b]
        if failed:
            raise RefusedError("release", failed)
        self._check_log(pending.authority, release)  # (4)
        self._pinned, self._known = release.deployment, (release.log_size, release.log_root)
        return OpenedRelease(deployment=release.deployment, authority=pending.authority, release=release)

    def _check_log(self, authority: Authority, release: Release) -> None:
        checkpoint = open_checkpoint(
            release.checkpoint, origin=authority.genesis.origin, key=authority.checkpoint_key
        )
        require_quorum(release.checkpoint, authority.witnesses, authority.quorum)
        if (checkpoint.size, checkpoint.root) != (release.log_size, release.log_root):
            raise RefusedError(
                "release",
                [mismatch("log size and root", expected=checkpoint.text(), got=f"size {release.log_size}")],
            )
        if self._known is not None:
            verify_consistency(*self._known, release.log_size, release.log_root, release.consistency)

    def _check_deployment(self, defined: str, claimed: str) -> None:
        failed = []
        if claimed != defined:
            failed.append(mismatch("deployment", expected=defined, got=claimed))
        if self._pinned not in (None, defined):
            failed.append(mismatch("pinned deployment", expected=self._pinned, got=defined))
        if failed:
            raise RefusedError("challenge", failed)
