"""What a client pins, and what it gets for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from s3ml.attestation import AppraisalPolicy, VerifiedEnclave
from s3ml.keyservice.documents import CallerRule, Mismatch, ModelSummary
from s3ml.primitives.errors import UntrustedPeerError

DEFAULT_MAX_AGE_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustAnchor:
    """What a client decided out of band; everything else is verified against it.

    Args:
        deployment: The deployment's id, 64 hexadecimal digits.
        key_service_policy: Which enclaves may be its key service.
        follow_key_service: Whether instead whatever the deployment's owners signed for it is accepted.
        allow_simulated: Whether anything simulated is accepted at all.
        service_policies: For each service the widest policy that is accepted for it.
        follow_owners: Whether a service without an entry there is accepted under whatever policy the
            deployment's owners signed.
        max_age_s: How long a verification holds at most, from the client's own nonce on, in seconds.
        known: Size and root of the newest log that this client has verified.
    """

    deployment: str
    key_service_policy: AppraisalPolicy
    allow_simulated: bool
    service_policies: Mapping[str, AppraisalPolicy]
    follow_owners: bool
    follow_key_service: bool = False
    max_age_s: float = DEFAULT_MAX_AGE_S
    known: tuple[int, bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A verification step that held, for display."""

    number: int
    title: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedService:
    """A service that a trust bundle has proven; made by `verify_trust_bundle` alone.

    Args:
        service: Its name.
        deployment: The pinned deployment.
        models: The model versions that it may answer with.
        callers: Who may call it; rules that its owners signed.
        key_configs: What to seal to, as ``application/ohttp-keys``; the hybrid first.
        expires_at: When to stop sealing to it.
        is_simulated: Whether anything in the chain is simulated, and so protects nothing.
        is_fork_protected: Whether witnesses vouch for the log.
        policy: What its replicas satisfy.
        enclave: The key service's, as its evidence proved it.
        log_size: The size of the verified log.
        log_root: The root of the verified log.
        steps: What was verified, in order.
    """

    service: str
    deployment: str
    models: tuple[ModelSummary, ...]
    callers: tuple[CallerRule, ...]
    key_configs: bytes
    expires_at: datetime
    is_simulated: bool
    is_fork_protected: bool
    policy: AppraisalPolicy
    enclave: VerifiedEnclave
    log_size: int
    log_root: bytes
    steps: tuple[Step, ...]


class TrustBundleRejectedError(UntrustedPeerError):
    """A trust bundle failed a step.

    Args:
        number: The step that failed.
        title: Its name.
        reason: What was expected and got.
        mismatches: All failed checks of the step, where it has several.
        passed: The steps that held before.
    """

    def __init__(
        self,
        *,
        number: int,
        title: str,
        reason: str,
        mismatches: tuple[Mismatch, ...] = (),
        passed: tuple[Step, ...] = (),
    ) -> None:
        super().__init__(f"trust bundle: step {number} ({title}): {reason}")
        self.number = number
        self.title = title
        self.mismatches = mismatches
        self.passed = passed
