"""Getting keys and keeping them: attest, receive, load, renew, and let go when the lease ends.

The key service is asked on a thread; when to ask is decided in `lease`; state changes on the event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from s3ml.keyservice.documents import Release
from s3ml.modelserver.callers import Gate, rated
from s3ml.modelserver.events import EventLog, Field
from s3ml.modelserver.execution import run_detached
from s3ml.modelserver.keys import build_ring
from s3ml.modelserver.lease import Lease, Outcome, delay_s
from s3ml.modelserver.repository import Repository
from s3ml.modelserver.serving import WAITING, Serving
from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import S3MLError, UnavailableError, UntrustedPeerError
from s3ml.wire.sealed import KeyRing

UNREACHABLE = "waiting for the key service"
LEASE_ENDED = "the lease on the keys ended; waiting for the key service"
EARLY_RENEWAL_S = 5.0
_PHASE_LIMIT = 600


class ServiceAbsentError(UnavailableError):
    """The key service answers, and knows nothing of this service yet."""


class ReleaseSource(Protocol):
    """Where releases come from."""

    def fetch(self) -> Release:
        """Attest, and return a fresh and verified release; blocking.

        Raises:
            UnavailableError: the key service does not answer, or not now.
            ServiceAbsentError: there is no such deployment or service yet.
            UntrustedPeerError: the key service refused, or is not the one it was.
        """
        ...


class Enrolment:
    """The loop that keeps `serving` in step with the key service.

    Args:
        source: Where releases come from.
        repository: What turns them into loaded models.
        serving: What the event loop's other parts read.
        clock: Monotonic time, for leases.
        log: For grants, refusals and losses.
        draw: Returns a fresh number from 0 to 1, for jitter.
        sleep: Waits; ends early with the process only.
    """

    __slots__ = (
        "_attempt",
        "_clock",
        "_draw",
        "_last",
        "_lease",
        "_log",
        "_repository",
        "_serving",
        "_sleep",
        "_source",
        "_timer",
        "_wanted",
    )

    def __init__(
        self,
        source: ReleaseSource,
        *,
        repository: Repository,
        serving: Serving,
        clock: Clock,
        log: EventLog,
        draw: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._source = source
        self._repository = repository
        self._serving = serving
        self._clock = clock
        self._log = log
        self._draw = draw
        self._sleep = sleep
        self._attempt = 0
        self._lease: Lease | None = None
        self._last = ""
        self._timer: asyncio.TimerHandle | None = None
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Enrol, and renew until cancelled."""
        try:
            while True:
                outcome = await self.attempt()
                now_s, jitter = self._clock.monotonic_s(), self._draw()
                await self._pause(
                    delay_s(outcome, attempt=self._attempt, lease=self._lease, now_s=now_s, jitter=jitter)
                )
        finally:
            self._set_timer(None)

    def want_renewal(self) -> None:
        """Renew soon: somebody uses a key or a model that is not here, perhaps one that is new.

        Anybody can cause this, so it happens no more often than every 5 s.
        """
        self._wanted.set()

    async def _pause(self, pause_s: float) -> None:
        """Wait, and end early when a renewal is wanted, but never at once."""
        least_s = min(pause_s, EARLY_RENEWAL_S)
        await self._sleep(least_s)
        if pause_s <= least_s:
            return
        waits = {asyncio.ensure_future(w) for w in (self._sleep(pause_s - least_s), self._wanted.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def attempt(self) -> Outcome:
        """Ask once for keys and models, and take over what comes."""
        begins_at_s = self._clock.monotonic_s()
        self._wanted.clear()
        try:
            release, ring, gate = await run_detached(self._obtain)
            self._serving.replace_models(self._repository.retain(release))
            synchronised = await run_detached(partial(self._repository.synchronise, release))
        except S3MLError as error:
            self._attempt += 1
            return self._explain(error)
        except Exception as error:  # noqa: BLE001 - a fault must not end a process that still serves
            self._attempt += 1
            return self._explain(S3MLError(f"internal error: {type(error).__name__}"))
        lease = Lease(begins_at_s=begins_at_s, lease_s=release.lease_s)
        self._attempt, self._lease = 0, lease
        self._set_timer(lease.ends_at_s - self._clock.monotonic_s())
        self._serving.rates.follow(rated(release.callers))
        self._serving.grant(
            ring, synchronised.models, gate=gate, ends_at_s=lease.ends_at_s, failures=synchronised.failures
        )
        self._note(
            "granted",
            epochs=[epoch.epoch for epoch in release.epochs],
            lease_s=release.lease_s,
            deployment=release.deployment,
        )
        return Outcome.INCOMPLETE if synchronised.failures else Outcome.GRANTED

    def _obtain(self) -> tuple[Release, KeyRing, Gate]:
        release = self._source.fetch()
        return release, build_ring(release), Gate.of(release)

    def _explain(self, error: S3MLError) -> Outcome:
        """Say in log and phase why there are no keys; of a refusal, everything that was expected and got."""
        outcome, event = Outcome.UNAVAILABLE, "waiting"
        if isinstance(error, ServiceAbsentError):
            phase = WAITING
        elif isinstance(error, UnavailableError):
            phase = UNREACHABLE
        elif isinstance(error, UntrustedPeerError):
            outcome, event, phase = Outcome.REFUSED, "refused", f"refused by the key service: {error}"
        else:
            outcome, event, phase = Outcome.REFUSED, "release-unusable", f"unusable release: {error}"
        if self._serving.keys(self._clock.monotonic_s()) is None:
            self._serving.phase = phase[:_PHASE_LIMIT]
        claims = [
            {"claim": str(m.claim), "expected": str(m.expected), "got": str(m.got)}
            for m in getattr(error, "mismatches", ())
        ]
        self._note(event, error=str(error), claims=claims, attempt=self._attempt)
        return outcome

    def _set_timer(self, delay_s: float | None) -> None:
        """Replace the timer that ends the lease, however long an attempt to renew it takes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay_s is not None:
            self._timer = asyncio.get_running_loop().call_later(max(delay_s, 0.0), self._end_lease)

    def _end_lease(self) -> None:
        """Wipe keys and models once their time is over."""
        now_s = self._clock.monotonic_s()
        if self._serving.keys(now_s) is not None and self._lease is not None:
            self._set_timer(self._lease.ends_at_s - now_s)
            return
        self._serving.wipe()
        self._serving.phase = LEASE_ENDED
        self._repository.clear()
        self._note("lease-ended")

    def _note(self, event: str, **fields: Field) -> None:
        """Log what differs from the last time, so that waiting does not fill a disk."""
        said = f"{event} {fields.get('error', '')} {fields.get('epochs', '')}"
        if said != self._last:
            self._last = said
            self._log.write(event, **fields)
