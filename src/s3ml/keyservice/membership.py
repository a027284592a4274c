"""How a process becomes a serving replica, and stays one: start, join, renew, and what time makes due.

Each step is tried again until it succeeds; each failure is told once, and whenever it changes.

Source: docs/spec/log.md, section "Replicas".
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from s3ml.attestation import Attester
from s3ml.attestation.generate import SealingAbsentError
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.replica import Phase, Replica
from s3ml.keyservice.upkeep import (
    PRESENCE_S,
    lost_generations,
    names_released,
    needed_generations,
    plan_upkeep,
)
from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import S3MLError

PERIOD_S = 1.0


class Peers(Protocol):
    """The other replicas, as far as the host says where they are."""

    @property
    def is_empty(self) -> bool:
        """Whether the host names none."""
        ...

    async def join(self, replica: Replica) -> None:
        """Have a live peer let `replica` in.

        Raises:
            UnavailableError: none serves.
            UntrustedPeerError: none that answers can be trusted.
        """
        ...


class Membership:
    """Keeps one replica in its deployment.

    Args:
        replica: This process.
        attester: The TEE that it runs in.
        peers: Who may let it in.
        clock: Held in check by the log.
        events: Where structured events go.
        sleep: Waits; ends early with the process only.
    """

    def __init__(
        self,
        replica: Replica,
        attester: Attester,
        peers: Peers,
        clock: Clock,
        events: EventLog,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._replica = replica
        self._attester = attester
        self._peers = peers
        self._clock = clock
        self._events = events
        self._sleep = sleep
        self._said = ""
        self._present_at_s = float("-inf")

    async def run(self) -> None:
        """Step after step, until cancelled."""
        while True:
            await self.step()
            await self._sleep(PERIOD_S)

    async def step(self) -> None:
        """Do what is to be done now; a failure, even a bug's, is told and tried again at the next step."""
        try:
            await self._step()
        except S3MLError as error:
            self._tell("waiting", str(error))
        except Exception as error:  # noqa: BLE001 - what a peer or a store says must not end this for good
            self._tell("failure", type(error).__name__)
        else:
            self._tell(str(self._replica.phase), "")

    async def _step(self) -> None:
        replica = self._replica
        await replica.ledger.refresh()
        replica.succeed()
        if replica.phase is Phase.SEALED:  # before the head is settled, which may have to wait for witnesses
            await self._open()
        if not replica.ledger.is_settled:
            await replica.ledger.settle()
        replica.succeed()
        if replica.phase is Phase.UNINITIALISED:
            return
        if replica.phase is not Phase.SERVING:
            await self._enter()
        await self._keep()

    async def _open(self) -> None:
        """Open what an earlier process of this platform and code left, where there is such."""
        try:
            sealing_key = await asyncio.to_thread(self._attester.sealing_key)
        except SealingAbsentError:
            return
        await asyncio.to_thread(self._replica.open_sealed, sealing_key)

    async def _enter(self) -> None:
        """Become a serving replica: by a live peer, or else by proving that what is stored is the newest."""
        replica = self._replica
        failure: S3MLError | None = None
        if not self._peers.is_empty:
            try:
                await self._peers.join(replica)
            except S3MLError as error:
                failure = error
            else:
                await self._announce()
                self._events.emit("joined", detail=replica.id)
                return
        if replica.phase is Phase.RECOVERING:
            await replica.restart()
            self._present_at_s = self._clock.monotonic_s()
            self._events.emit("restarted", detail=replica.id)
        elif failure is not None:
            raise failure
        else:
            _ = replica.serving()

    async def _keep(self) -> None:
        """Renew the lease, take over generations, and carry out what time makes due."""
        replica = self._replica
        keyring, now = replica.serving_keyring(), self._clock.now()
        state = replica.ledger.view.state
        missing = needed_generations(state) - keyring.generations.ids
        if missing - lost_generations(state, keyring.generations.ids, now) and not self._peers.is_empty:
            await self._synchronise()
            keyring = replica.serving_keyring()
        await replica.ledger.commit(lambda view: plan_upkeep(view, keyring, now, replica=replica.id))
        state = replica.ledger.view.state
        keyring.generations.retain(needed_generations(state), now)
        keyring.retain(names_released(state))
        is_due = self._clock.monotonic_s() - self._present_at_s >= PRESENCE_S
        if is_due and (replica.ledger.view.authority.quorum or not self._peers.is_empty):
            await self._announce()

    async def _synchronise(self) -> None:
        """Take over the generation keys that other replicas made since."""
        await self._peers.join(self._replica)

    async def _announce(self) -> None:
        began_s = self._clock.monotonic_s()
        await self._replica.be_present()
        self._present_at_s = began_s

    def _tell(self, phase: str, error: str) -> None:
        said = f"{phase} {error}"
        if said != self._said:
            self._said = said
            self._events.emit("replica", detail=phase, error=error)
