"""A deployment's wrapping key in shares, its holders, and enclaves of any code that ask for them.

It needs no running key service: what the log and the store say is a `Standing`.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import pyrage

from s3ml.attestation import AppraisalPolicy, Evidence
from s3ml.keyservice.documents import (
    SHARE_SET_TYPE,
    ContributionRequest,
    EncryptedShare,
    RecoveryAsk,
    RecoveryDocument,
    RecoveryKey,
    RecoveryRequestReply,
    RecoverySharesReply,
    Share,
    ShareSet,
)
from s3ml.keyservice.documents.recovery import Purpose
from s3ml.keyservice.escrow import (
    Findings,
    RecoveryIntake,
    RecoveryTerms,
    Standing,
    judge_recovery,
    make_shares,
    try_wrapping_key,
)
from s3ml.keyservice.escrow.holder import VerifiedRequest, contribute, verify_request
from s3ml.keyservice.escrow.shares import open_shares, share_context
from s3ml.keyservice.escrow.splitting import Piece
from s3ml.keyservice.escrow.splitting import _digest as digest
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.storage import SecretName, WrappedSecret
from s3ml.keyservice.vault import Vault
from s3ml.primitives.encoding import sha256
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.signing import SigningKey
from tests.clocks import FakeClock
from tests.keyservice.keyservice_world import KEY_SERVICE_CODE, InProcessAttester
from tests.keyservice.keyservice_world import policy_of as policy_for

CODE = KEY_SERVICE_CODE
OTHER_CODE = hashlib.sha256(b"a byte changed").digest()
DEPLOYMENT = hashlib.sha256(b"deployment").hexdigest()
OTHER_DEPLOYMENT = hashlib.sha256(b"another deployment").hexdigest()
STATEMENT = SigningKey.from_raw(bytes([7]) * 32)
NAMES = ("ada", "bo", "cy", "dee", "eve")
IDENTITIES = tuple(pyrage.x25519.Identity.generate() for _ in NAMES)
HOLDERS = tuple(
    RecoveryKey(name=name, recipient=str(identity.to_public()))
    for name, identity in zip(NAMES, IDENTITIES, strict=True)
)
STORED = tuple(
    SecretName(kind=kind, name="", version="1") for kind in ("checkpoint-key", "statement-key", "intake-key")
)


def quote(report_data: bytes, measurement: bytes = CODE) -> Evidence:
    return InProcessAttester(measurement).quote(report_data)


def policy_of(measurement: bytes = CODE, **fields: Any) -> AppraisalPolicy:
    return policy_for(measurement, **fields)


def recovery_body(threshold: int, holders: tuple[RecoveryKey, ...]) -> bytes:
    return encode_document(RecoveryDocument(threshold=threshold, recipients=holders))


def terms(threshold: int = 2, holders: tuple[RecoveryKey, ...] = HOLDERS[:3]) -> RecoveryTerms:
    return judge_recovery(recovery_body(threshold, holders))


@dataclass
class Escrow:
    """One deployment: its wrapping key, what lies under it, and the replica that asks for shares."""

    deployment: str = DEPLOYMENT
    terms: RecoveryTerms = field(default_factory=terms)
    wrapping_key: SecretBytes = field(default_factory=lambda: SecretBytes(bytes(range(32))))
    statement_key: SigningKey = STATEMENT
    measurement: bytes = CODE
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.stored: dict[SecretName, bytes] = {}
        for name in STORED:
            self.store(
                Vault(self.wrapping_key, self.deployment).wrap(name, b"secret of " + name.kind.encode())
            )
        self.shares = self.make()
        self.lose_everything()

    def store(self, secret: WrappedSecret) -> None:
        self.stored[secret.name] = secret.ciphertext

    def make(self, **changes: Any) -> RecoverySharesReply:
        given: dict[str, Any] = {"deployment": self.deployment, "statement_key": self.statement_key}
        wrapping_key = changes.pop("wrapping_key", self.wrapping_key)
        made_terms = changes.pop("terms", self.terms)
        return make_shares(wrapping_key, made_terms, **{**given, **changes})

    def lose_everything(self) -> None:
        """Start a replica on another platform: it has the database alone."""
        self.intake = RecoveryIntake(lambda data: quote(data, self.measurement), self.clock, self.check)

    def recovered(self) -> SecretBytes | None:
        """Take the wrapping key, where shares are enough."""
        taken: list[SecretBytes] = []
        assert self.intake.recover(taken.append) == bool(taken)
        return taken[0] if taken else None

    def check(self, wrapping_key: SecretBytes) -> Findings:
        return try_wrapping_key(wrapping_key, deployment=self.deployment, names=STORED, read=self.stored.get)

    def standing(self, **changes: Any) -> Standing:
        fields: dict[str, Any] = {
            "deployment": self.deployment,
            "policy_sha256": "ab" * 32,
            "statement_key": self.statement_key.public,
            "log_size": 9,
            "log_root": bytes(range(32)),
            "shares": self.shares,
        }
        return Standing(**{**fields, **changes})

    def ask(self, purpose: Purpose = "recovery", nonce: bytes = bytes(32)) -> RecoveryRequestReply:
        return self.intake.ask(RecoveryAsk(purpose=purpose, nonce=nonce), self.standing())

    def verify(self, reply: RecoveryRequestReply, **changes: Any) -> VerifiedRequest:
        given: dict[str, Any] = {
            "deployment": self.deployment,
            "policy": policy_of(),
            "now": self.clock.now(),
        }
        return verify_request(reply, **{**given, **changes})

    def share(self, *holders: int, shares: RecoverySharesReply | None = None) -> tuple[Share, ...]:
        return open_shares(shares or self.shares, [IDENTITIES[holder] for holder in holders])

    def contribution(self, reply: RecoveryRequestReply, *holders: int) -> ContributionRequest:
        return contribute(self.verify(reply), self.share(*holders))


def without_a_key(escrow: Escrow) -> None:
    """Put a signed set in place whose shares do not give what it commits to."""
    context, commitment = share_context(DEPLOYMENT), bytes(32)
    pieces = [Piece(index=index, value=SecretBytes(bytes([index]) * 64)) for index in (1, 2)]
    document = ShareSet(
        deployment=DEPLOYMENT,
        threshold=2,
        recipients=HOLDERS[:2],
        commitment=commitment,
        digests=tuple(digest(context, commitment, piece) for piece in pieces),
    )
    payload = encode_document(document)
    shares = []
    for piece, holder in zip(pieces, HOLDERS[:2], strict=True):
        share = Share(
            deployment=DEPLOYMENT,
            share_set=sha256(payload).hex(),
            threshold=2,
            index=piece.index,
            value=piece.value.reveal(),
        )
        recipient = pyrage.x25519.Recipient.from_str(holder.recipient)
        ciphertext = pyrage.encrypt(encode_document(share), [recipient])
        shares.append(EncryptedShare(index=piece.index, name=holder.name, ciphertext=ciphertext))
    envelope = Envelope(payload_type=SHARE_SET_TYPE, payload=payload).with_signature(STATEMENT)
    escrow.shares = RecoverySharesReply(share_set=envelope, shares=tuple(shares))
