"""What was verified of each service, for how long it holds, and how it is renewed.

A verification holds until the statement's end, or for the pinned age since the client's own nonce, whichever
is earlier, by the wall clock and by the monotonic one: neither a suspended machine nor a clock that was
turned back extends it. It is renewed ahead of its end by whoever comes first; the others do not wait.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import msgspec

# Verifiers load when they are needed; a client needs them, and not in the middle of its first verification.
import s3ml.attestation.verify.intel.sgx  # noqa: F401
from s3ml.client.budget import Budget
from s3ml.client.errors import TransientError, UnknownServiceError
from s3ml.client.log_state import LogState
from s3ml.client.replies import retry_after_s, told_line
from s3ml.client.statistics import Counters
from s3ml.client.steps import Alone, HTTPReply, HTTPRequest, Program, Send
from s3ml.client.trust import Trust
from s3ml.keyservice.client import VerifiedService, verify_trust_bundle
from s3ml.keyservice.documents import TrustBundleRequest
from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.primitives.units import MIB
from s3ml.wire.ohttp import KeyConfig, parse_key_configs
from s3ml.wire.sealed import choose_config

TRUST_BUNDLE_PATH = "/keyservice/v1/trust-bundle"
NONCE_BYTES = 32
BUNDLE_LIMIT_BYTES = 4 * MIB
# Renewal begins when a fifth of the time is left, and a failed one is not repeated at once.
RENEW_AT_FRACTION = 0.8
EARLY_RENEWAL_TIMEOUT_S = 2.0
EARLY_RENEWAL_PAUSE_S = 5.0

logger = logging.getLogger("s3ml.client")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """A verified service, the key to seal to, and until when both may be used.

    `generation` differs for every verification; times in seconds are monotonic.
    """

    verified: VerifiedService
    config: KeyConfig
    generation: int
    renew_at_s: float
    expires_at_s: float
    expires_at: datetime


class Trusting:
    """The verified services of one client.

    Args:
        trust: What the client pins.
        log_state: The newest log that it has seen.
        clock: Its own clock.
        random_bytes: Returns so many fresh random bytes.
        counters: Where verifications are counted.
    """

    def __init__(
        self,
        trust: Trust,
        log_state: LogState,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        counters: Counters,
    ) -> None:
        self._trust = trust
        self._log_state = log_state
        self._clock = clock
        self._random_bytes = random_bytes
        self._held: dict[str, Trusted] = {}
        self._renew_not_before_s: dict[str, float] = {}
        self._counters = counters

    def current(self, service: str) -> Trusted | None:
        """Return what holds of `service` now, if anything does."""
        held = self._held.get(service)
        if held is None:
            return None
        is_over = self._clock.monotonic_s() >= held.expires_at_s or self._clock.now() >= held.expires_at
        return None if is_over else held

    def obtain(self, service: str, budget: Budget, *, rejected: int | None = None) -> Program[Trusted]:
        """Return a verified `service`, verifying it where that is due.

        Args:
            service: The service to trust.
            budget: The caller's time.
            rejected: A generation whose key a replica did not know.

        Raises:
            ConfigurationError: the trust file says nothing of the service, or the deployment has none such.
            UntrustedPeerError: a check failed.
            UnavailableError: the key service does not state it now.
            TransientError: it did not answer.
        """
        held = self.current(service)
        if held is not None and held.generation != rejected:
            if not self._is_renewal_due(held):
                return held
            program = partial(self._renew_early, service, held, budget)
            yield Alone(name=service, program=program, timeout_s=0.0)
            held = self.current(service)
            if held is not None:
                return held
        timeout_s = budget.left_for("verifying the service")
        trusted: Trusted = yield Alone(
            name=service, program=partial(self._renew, service, budget, rejected), timeout_s=timeout_s
        )
        return trusted

    def renew(self, service: str, budget: Budget) -> Program[Trusted]:
        """Verify `service` now, whatever is held.

        Raises:
            ConfigurationError: the trust file says nothing of the service, or the deployment has none such.
            UntrustedPeerError: a check failed.
            UnavailableError: the key service does not state it now.
            TransientError: it did not answer.
        """
        timeout_s = budget.left_for("verifying the service")
        trusted: Trusted = yield Alone(
            name=service,
            program=lambda: self._verify(service, budget.left_for("verifying the service")),
            timeout_s=timeout_s,
        )
        return trusted

    def _is_renewal_due(self, held: Trusted) -> bool:
        now_s = self._clock.monotonic_s()
        not_before_s = self._renew_not_before_s.get(held.verified.service, now_s)
        return now_s >= held.renew_at_s and now_s >= not_before_s

    def _renew_early(self, service: str, held: Trusted, budget: Budget) -> Program[None]:
        """Renew what still holds; an absent key service is no harm yet, a failed check is."""
        if self._held.get(service) is not held:
            return
        timeout_s = min(EARLY_RENEWAL_TIMEOUT_S, budget.left_for("verifying the service"))
        try:
            yield from self._verify(service, timeout_s)
        except UnavailableError as failure:
            self._renew_not_before_s[service] = self._clock.monotonic_s() + EARLY_RENEWAL_PAUSE_S
            logger.warning("service %s: not verified anew, what is known still holds: %s", service, failure)

    def _renew(self, service: str, budget: Budget, rejected: int | None) -> Program[Trusted]:
        held = self.current(service)
        if held is not None and held.generation != rejected:  # Somebody else was first.
            return held
        return (yield from self._verify(service, budget.left_for("verifying the service")))

    def _verify(self, service: str, timeout_s: float) -> Program[Trusted]:
        known = self._log_state.known
        anchor = self._trust.anchor(service, known=known)
        nonce = self._random_bytes(NONCE_BYTES)
        requested_at, requested_at_s = self._clock.now(), self._clock.monotonic_s()
        asked = TrustBundleRequest(service=service, nonce=nonce, known_size=known[0] if known else None)
        reply: HTTPReply = yield Send(
            request=HTTPRequest(
                method="POST",
                path=TRUST_BUNDLE_PATH,
                content_type="application/json",
                body=msgspec.json.encode(asked),
                timeout_s=timeout_s,
                limit_bytes=BUNDLE_LIMIT_BYTES,
            )
        )
        _check_reply(reply, service)
        verified = verify_trust_bundle(
            reply.body,
            anchor=anchor,
            service=service,
            nonce=nonce,
            requested_at=requested_at,
            now=self._clock.now(),
        )
        if not self._log_state.remember(verified.log_size, verified.log_root, since=known):
            raise TransientError("log: another service's verification moved it on meanwhile")
        lifetime_s = (verified.expires_at - requested_at).total_seconds()
        trusted = Trusted(
            verified=verified,
            config=choose_config(parse_key_configs(verified.key_configs)),
            generation=self._counters.add(refreshes=1).refreshes,
            renew_at_s=requested_at_s + RENEW_AT_FRACTION * lifetime_s,
            expires_at_s=requested_at_s + lifetime_s,
            expires_at=verified.expires_at,
        )
        if service not in self._held:
            _warn(verified)
        self._held[service] = trusted
        return trusted


def _check_reply(reply: HTTPReply, service: str) -> None:
    """Sort the key service's answers: anything but 200 is wrong input, or a matter of time."""
    if reply.status == 200:  # noqa: PLR2004 - OK
        return
    line = told_line(reply)
    if reply.status == 404:  # noqa: PLR2004 - Not Found
        raise UnknownServiceError(f"service {service!r}: the key service does not know it: {line}")
    if reply.status == 409:  # noqa: PLR2004 - Conflict
        raise UnavailableError(f"service {service!r}: the key service does not state it now: {line}")
    if reply.status in (400, 403, 405, 413):
        raise ConfigurationError(f"service {service!r}: the key service refused the question: {line}")
    raise TransientError(
        f"key service: answered {reply.status}: {line}", retry_after_s=retry_after_s(reply.headers)
    )


def _warn(verified: VerifiedService) -> None:
    """Say loudly, once for each service, what the verification does not give."""
    if verified.is_simulated:
        logger.warning(
            "SIMULATED: service %s runs on a simulated TEE, which protects nothing", verified.service
        )
    if not verified.is_fork_protected:
        logger.warning("NOT FORK-PROTECTED: the log of %s has no witnesses", verified.service)
