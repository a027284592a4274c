"""Recovery at the edge: shares for whoever asks, requests for shares, and what holders contribute.

A sealed replica that is given enough of them holds the wrapping key, and is recovering then; it still has to
prove that what is stored is the newest. a rehearsal ends in an outcome and changes nothing.

Source: docs/spec/recovery.md.
"""

import asyncio

from s3ml.attestation import Attester
from s3ml.keyservice.documents import (
    ContributionRequest,
    RecoveryAsk,
    RecoveryRequestReply,
    RecoverySharesReply,
    RecoveryStatusReply,
    RequestStatus,
)
from s3ml.keyservice.errors import ConflictError, NotFoundError
from s3ml.keyservice.escrow import (
    SHARES_NAME,
    Findings,
    RecoveryIntake,
    Standing,
    read_shares,
    try_wrapping_key,
)
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.governing import stored_names
from s3ml.keyservice.keys import deployment_key_names
from s3ml.keyservice.replaying import View
from s3ml.keyservice.replica import Phase, Replica
from s3ml.primitives.clock import Clock
from s3ml.primitives.secret import SecretBytes


class Restorer:
    """Answers owners and holders of shares.

    Args:
        replica: This process.
        attester: The TEE that it runs in.
        clock: Held in check by the log.
        events: Where structured events go.
    """

    def __init__(self, replica: Replica, attester: Attester, clock: Clock, events: EventLog) -> None:
        self._replica = replica
        self._events = events
        self._intake = RecoveryIntake(attester.quote, clock, self._try)
        self._lock = asyncio.Lock()

    async def shares(self) -> RecoverySharesReply:
        """Return the newest shares of the wrapping key, each encrypted to its holder.

        Raises:
            NotFoundError: owners named no holders.
            UnavailableError: storage does not answer.
        """
        stored = await asyncio.to_thread(self._replica.ledger.storage.secret, SHARES_NAME)
        if stored is None:
            raise NotFoundError(
                "recovery: expected shares, got none: its owners name holders: s3ml recovery sign"
            )
        return read_shares(stored)

    async def request(self, ask: RecoveryAsk) -> RecoveryRequestReply:
        """Return a request for shares, with evidence of this TEE.

        Raises:
            NotFoundError: there is no deployment, or owners named no holders.
            ConflictError: a recovery, of a replica that has its keys.
            SignatureError: the stored shares are not signed by the deployment.
            UnavailableError: too many rehearsals are open, or the TEE or storage does not answer.
        """
        shares = await self.shares()
        view = await self._replica.ledger.refresh()
        _ = view.authority
        if ask.purpose == "recovery" and self._replica.phase is not Phase.SEALED:
            raise ConflictError(
                f"recovery: expected a sealed replica, got one that is {self._replica.phase}: it has its "
                "keys; to try shares out, ask for a rehearsal"
            )
        async with self._lock:
            return await asyncio.to_thread(self._intake.ask, ask, _standing(view, shares))

    async def contribute(self, contribution: ContributionRequest) -> RequestStatus:
        """Take what a holder gave; the last one that is needed gives this replica its keys.

        Raises:
            ConflictError: no such request is open here.
            RefusedError: it is not sealed to the request, or a share is not of its set.
            StorageTamperedError: the recovered key does not open what is stored.
            UnavailableError: storage or the TEE does not answer.
        """
        async with self._lock:
            status = await asyncio.to_thread(self._intake.contribute, contribution)
            if await asyncio.to_thread(self._intake.recover, self._replica.take):
                self._events.emit("recovered", detail=self._replica.id)
        return status

    def status(self) -> RecoveryStatusReply:
        """Say how far every request is."""
        return self._intake.status()

    def _try(self, wrapping_key: SecretBytes) -> Findings:
        view, storage = self._replica.ledger.view, self._replica.ledger.storage
        own = deployment_key_names(view.authority.keys_number)
        return try_wrapping_key(
            wrapping_key,
            deployment=view.authority.deployment,
            names=[*own, *stored_names(view.state)],
            read=storage.secret,
        )


def _standing(view: View, shares: RecoverySharesReply) -> Standing:
    authority = view.authority
    return Standing(
        deployment=authority.deployment,
        policy_sha256=authority.policy_digest.hex(),
        statement_key=authority.statement_key,
        log_size=view.size,
        log_root=view.root,
        shares=shares,
    )
