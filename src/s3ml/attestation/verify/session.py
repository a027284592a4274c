"""A verifier that lives: it remembers what was proved, and never turns back the time.

The host owns the clock of a TEE. Signed instants that were verified are a floor, before which no later
verification runs: collateral that had expired by then stays expired, wherever the host turns its clock.

Source: docs/spec/evidence.md, "Time".
"""

import threading
from datetime import datetime

from s3ml.attestation.evidence import Evidence
from s3ml.attestation.policy import AppraisalPolicy
from s3ml.attestation.verify.cache import VerdictCache
from s3ml.attestation.verify.result import VerifiedEnclave
from s3ml.attestation.verify.verifier import verify_evidence
from s3ml.primitives.clock import Clock, RatchetClock, SystemClock
from s3ml.primitives.errors import ConfigurationError


class Verifier:
    """Verifies evidence, one after the other or from several threads.

    Its outcomes are those of `verify_evidence` at its own time. Only what was accepted moves that time, and
    never past the clock at which it was accepted.

    Args:
        clock: The host's by default; its `now` is held in check.
        floor: Of an earlier verifier (see `floor`), aware; None where there was none.
        cache: What it remembers; one of its own by default. One cache may serve several verifiers.

    Raises:
        ConfigurationError: `floor` has no time zone.
    """

    __slots__ = ("_cache", "_clock", "_floor", "_lock")

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        floor: datetime | None = None,
        cache: VerdictCache | None = None,
    ) -> None:
        self._clock = RatchetClock(clock or SystemClock())
        self._cache = cache or VerdictCache()
        self._lock = threading.Lock()
        self._floor: datetime | None = None
        if floor is not None:
            if floor.tzinfo is None:
                raise ConfigurationError("floor: expected a time with its zone, got none")
            self._observe(floor)

    @property
    def floor(self) -> datetime | None:
        """The newest signed instant that was verified: keep it, and give it to the next verifier."""
        return self._floor

    def verify(self, evidence: Evidence, policy: AppraisalPolicy, *, report_data: bytes) -> VerifiedEnclave:
        """Appraise `evidence` against `policy` now, and return what it proves.

        Args:
            evidence: From an untrusted peer, at most 128 KiB.
            policy: What this caller accepts. An empty policy accepts nothing.
            report_data: The 64 bytes that the quote must carry, from `Binding.report_data`.

        Returns:
            Only claims that were checked.

        Raises:
            EvidenceMalformedError: A part of `evidence` cannot be read.
            EvidenceRejectedError: A check failed; `.mismatches` lists all of them, `.steps` every step.
            ConfigurationError: `report_data` is not 64 bytes.
        """
        enclave = verify_evidence(
            evidence, policy, report_data=report_data, now=self._clock.now(), cache=self._cache
        )
        self._observe(enclave.signed_at)
        return enclave

    def _observe(self, signed_at: datetime) -> None:
        with self._lock:
            if self._floor is None or signed_at > self._floor:
                self._floor = signed_at
                self._clock.observe(signed_at)
