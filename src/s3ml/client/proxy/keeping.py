"""The trust of a proxy: verified at the start, renewed ahead of its end, and given up when a check fails.

A request never waits for a renewal that came in time. A key service that is away is asked again, and what
was verified holds until it expires; a check that fails stops the service's requests at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from s3ml.client.credentials import Credentials
from s3ml.client.proxy.namespace import Namespace
from s3ml.keyservice.client import VerifiedService
from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import S3MLError, UntrustedPeerError
from s3ml.wire.sealed import InnerResponse

# Ahead of the client's own renewal, which would make a request wait.
RENEW_AT_FRACTION = 0.6
# After a failure, and between two renewals for models that nobody has.
PAUSE_S = 5.0
# How long a request waits for a renewal that may bring the model that it names.
LOOK_TIMEOUT_S = 3.0

logger = logging.getLogger("s3ml.client.proxy")


class Forwarding(Protocol):
    """What a proxy needs of a client; `AsyncClient` has it."""

    async def verify(self, service: str, *, timeout_s: float | None = None) -> VerifiedService:
        """Verify `service` now."""
        ...

    async def forward(
        self,
        service: str,
        *,
        method: str,
        path: str,
        fields: Sequence[tuple[str, str]] = (),
        content: bytes | memoryview = b"",
        credentials: Credentials | None = None,
        timeout_s: float | None = None,
    ) -> InnerResponse:
        """Send a request as it is; return the verified service's answer, whatever its status."""
        ...


class TrustKeeper:
    """What was verified of each service of a proxy.

    Args:
        client: Verifies.
        services: At least one.
        clock: Of this machine.
        sleep: Waits for so many seconds.

    `services` and `namespace` are the services, and the models that each of them has.
    """

    def __init__(
        self,
        client: Forwarding,
        services: Sequence[str],
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._clock = clock
        self._sleep = sleep
        self.services = tuple(dict.fromkeys(services))
        self.namespace = Namespace.of(())
        self._verified: dict[str, VerifiedService] = {}
        self._failures: dict[str, S3MLError] = {}
        self._asked_at_s: dict[str, float] = {}

    @property
    def verified(self) -> tuple[VerifiedService, ...]:
        """What was verified last of each service."""
        return tuple(self._verified.values())

    def check(self, service: str) -> None:
        """Let requests through unless a check failed when trust was last renewed.

        Raises:
            UntrustedPeerError: one did.
        """
        failure = self._failures.get(service)
        if isinstance(failure, UntrustedPeerError):
            raise failure.with_traceback(None)

    async def start(self) -> None:
        """Verify every service once.

        Raises:
            ConfigurationError: the trust file says nothing of a service, or the deployment has none such.
            UntrustedPeerError: a check failed.
            UnavailableError: no answer within the client's time.
        """
        for service in self.services:
            await self._renew(service)

    async def run(self) -> None:
        """Renew for ever, each service by itself."""
        async with asyncio.TaskGroup() as group:
            for service in self.services:
                group.create_task(self._keep(service))

    async def look_again(self) -> None:
        """Renew what was not renewed a moment ago: owners may have signed a model since."""
        now_s = self._clock.monotonic_s()
        due = [one for one in self.services if now_s - self._asked_at_s.get(one, -PAUSE_S) >= PAUSE_S]
        await asyncio.gather(*(self._try_to_renew(service, LOOK_TIMEOUT_S) for service in due))

    async def _keep(self, service: str) -> None:
        while True:
            await self._sleep(self._pause_s(service))
            await self._try_to_renew(service)

    def _pause_s(self, service: str) -> float:
        if service in self._failures or service not in self._verified:
            return PAUSE_S
        left_s = (self._verified[service].expires_at - self._clock.now()).total_seconds()
        return max(RENEW_AT_FRACTION * left_s, PAUSE_S)

    async def _try_to_renew(self, service: str, timeout_s: float | None = None) -> None:
        try:
            await self._renew(service, timeout_s)
        except S3MLError as error:
            kind = "NOT TRUSTED" if isinstance(error, UntrustedPeerError) else "not verified anew"
            logger.warning("service %s: %s: %s", service, kind, error)

    async def _renew(self, service: str, timeout_s: float | None = None) -> None:
        self._asked_at_s[service] = self._clock.monotonic_s()
        try:
            self._verified[service] = await self._client.verify(service, timeout_s=timeout_s)
        except S3MLError as error:
            self._failures[service] = error
            raise
        self._failures.pop(service, None)
        self.namespace = Namespace.of(self._verified.values())
