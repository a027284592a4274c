"""Challenges: single-use nonces, each with what the evidence must bind.

Pure, given the time. The table is bounded: a new challenge takes the place of the oldest, so that nobody can
close it to others by filling it.
"""

import secrets
from dataclasses import dataclass

from s3ml.keyservice.errors import RefusedError, mismatch

NONCE_BYTES = 32
LIFETIME_S = 60.0
CAPACITY = 16384  # of about 500 bytes each; a quote and its way take a small part of the time to fill it


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What one piece of evidence must answer.

    Args:
        nonce: 32 fresh random bytes.
        service: The service that was asked for.
        policy_sha256: The digest of its policy at that time.
        log_head: The root of the log at that time.
        expires_at_s: Monotonic.
    """

    nonce: bytes
    service: str
    policy_sha256: str
    log_head: bytes
    expires_at_s: float


class Challenges:
    """The table of open challenges.

    Args:
        lifetime_s: How long a challenge may be answered; the TEE's quote takes milliseconds.
        capacity: The most that are open at once.
    """

    def __init__(self, lifetime_s: float = LIFETIME_S, capacity: int = CAPACITY) -> None:
        self.lifetime_s = lifetime_s
        self._capacity = capacity
        self._open: dict[bytes, Challenge] = {}

    def issue(self, *, service: str, policy_sha256: str, log_head: bytes, now_s: float) -> Challenge:
        """Make a challenge; where too many are open, the oldest can no longer be answered."""
        self._expire(now_s)
        if len(self._open) >= self._capacity:
            del self._open[next(iter(self._open))]
        challenge = Challenge(
            nonce=secrets.token_bytes(NONCE_BYTES),
            service=service,
            policy_sha256=policy_sha256,
            log_head=log_head,
            expires_at_s=now_s + self.lifetime_s,
        )
        self._open[challenge.nonce] = challenge
        return challenge

    def take(self, nonce: bytes, *, now_s: float) -> Challenge:
        """Return the challenge of `nonce` and forget it, whatever becomes of its answer.

        Raises:
            RefusedError: it was never issued, was answered before, or has expired.
        """
        challenge = self._open.pop(nonce, None)
        if challenge is None or challenge.expires_at_s <= now_s:
            expected = f"an unanswered challenge of the last {self.lifetime_s:.0f} s"
            raise RefusedError("release", [mismatch("nonce", expected=expected, got=nonce.hex())])
        return challenge

    def _expire(self, now_s: float) -> None:
        """Forget from the oldest on; insertion order is expiry order."""
        while self._open:
            oldest = next(iter(self._open.values()))
            if oldest.expires_at_s > now_s:
                return
            del self._open[oldest.nonce]
