"""What a quote's report data binds: who asks whom for what, with which fresh key, under which rules.

The 64 bytes are ``SHA-512(tagged("S3ML report data v1", …))``; every field is in there, always, in one order.
A quote made for one purpose, role, service or peer is worth nothing for another: it can be neither relayed
nor reflected.

Source: docs/spec/report-data.md.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

from s3ml.primitives.encoding import SHA256_BYTES, tagged
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.names import check_name

REPORT_DATA_TAG = "S3ML report data v1"
NONCE_BYTES = 32
PUBLIC_KEY_LIMIT_BYTES = 4096

Purpose = Literal["genesis", "statement", "release", "join", "recovery"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """The fields that one quote is bound to.

    Args:
        purpose: Which exchange the quote belongs to.
        deployment: The deployment id, 32 bytes.
        role: What the attester is, such as ``key-service``: an RFC 1123 label.
        verifier_nonce: 32 bytes that the verifier chose, or the Merkle root of those of a batch.
        attester_nonce: 32 fresh random bytes of the attester.
        public_key: The attester's key that the exchange relies on, such as the fresh HPKE key that secrets
            are sealed to; at most 4096 bytes, empty where there is none.
        service: The service that is asked for, an RFC 1123 label; empty where there is none.
        policy_digest: The SHA-256 of the policy as it was delivered, 32 bytes; empty where there is none.
        log_head: The root hash of the log, 32 bytes; empty where there is none.

    Raises:
        ConfigurationError: a field has another length or form.
    """

    purpose: Purpose
    deployment: bytes
    role: str
    verifier_nonce: bytes
    attester_nonce: bytes
    public_key: bytes
    service: str
    policy_digest: bytes
    log_head: bytes

    def __post_init__(self) -> None:
        if self.purpose not in get_args(Purpose):
            raise ConfigurationError(
                f"binding: purpose: expected one of {', '.join(get_args(Purpose))}, got {self.purpose!r}"
            )
        check_name(self.role, what="binding: role")
        if self.service:
            check_name(self.service, what="binding: service")
        for what, value in (("verifier_nonce", self.verifier_nonce), ("attester_nonce", self.attester_nonce)):
            if len(value) != NONCE_BYTES:
                raise ConfigurationError(f"binding: {what}: expected {NONCE_BYTES} bytes, got {len(value)}")
        if len(self.deployment) != SHA256_BYTES:
            raise ConfigurationError(
                f"binding: deployment: expected {SHA256_BYTES} bytes, got {len(self.deployment)}"
            )
        for what, value in (("policy_digest", self.policy_digest), ("log_head", self.log_head)):
            if len(value) not in (0, SHA256_BYTES):
                raise ConfigurationError(f"binding: {what}: expected 0 or 32 bytes, got {len(value)}")
        if len(self.public_key) > PUBLIC_KEY_LIMIT_BYTES:
            raise ConfigurationError(
                f"binding: public_key: expected at most {PUBLIC_KEY_LIMIT_BYTES} bytes, "
                f"got {len(self.public_key)}"
            )

    def encode(self) -> bytes:
        """Return the bytes that are hashed."""
        return tagged(
            REPORT_DATA_TAG,
            self.purpose.encode("ascii"),
            self.deployment,
            self.role.encode("ascii"),
            self.verifier_nonce,
            self.attester_nonce,
            self.public_key,
            self.service.encode("ascii"),
            self.policy_digest,
            self.log_head,
        )

    def report_data(self) -> bytes:
        """Return the 64 bytes that a quote must carry."""
        return hashlib.sha512(self.encode()).digest()
