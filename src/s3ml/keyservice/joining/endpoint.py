"""Both questions of a join, ready for a server's routes: what a serving replica answers, and in which order.

Source: docs/spec/join.md, "Over HTTP".
"""

import asyncio
from collections.abc import Awaitable, Callable

from s3ml.attestation import Evidence, VerdictCache
from s3ml.keyservice.documents.joining import JoinHello, JoinOffer, JoinReply, JoinRequest
from s3ml.keyservice.joining.source import JoinSource, VerifiedJoiner, seal, verify_joiner
from s3ml.keyservice.joining.standing import ServingStanding
from s3ml.primitives.clock import Clock
from s3ml.primitives.secret import SecretBytes


class JoinEndpoint:
    """Answers joiners; for one event loop.

    Args:
        source: What keeps count of offers.
        standing: Where this replica stands, asked anew for every decision; raises an `UnavailableError` where
            it does not serve.
        secrets: What a joiner gets, asked after it was verified.
        quote: Has this replica's TEE vouch for 64 bytes, within a deadline.
        clock: Held in check.
        cache: What earlier verifications proved.
        record: Told who joins, before the secrets are sealed; what it raises keeps them here.
    """

    def __init__(
        self,
        source: JoinSource,
        *,
        standing: Callable[[], ServingStanding],
        secrets: Callable[[], SecretBytes],
        quote: Callable[[bytes], Awaitable[Evidence]],
        clock: Clock,
        cache: VerdictCache,
        record: Callable[[VerifiedJoiner], Awaitable[None]],
    ) -> None:
        self._source = source
        self._standing = standing
        self._secrets = secrets
        self._quote = quote
        self._clock = clock
        self._cache = cache
        self._record = record

    async def offer(self, hello: JoinHello) -> JoinOffer:
        """Answer a hello; raises what `standing` and `JoinSource.offer` raise."""
        return self._source.offer(hello, standing=self._standing(), now_s=self._clock.monotonic_s())

    async def join(self, request: JoinRequest) -> JoinReply:
        """Answer a request.

        1. The offer is forgotten, whatever follows.
        2. This replica serves, and the evidence satisfies the policy in force.
        3. Joins are not too many: this one is recorded.
        4. It serves still, under that policy: the secrets are sealed, and leave with the TEE's word for what
           was sealed.

        Raises:
            RefusedError: (1) fails.
            EvidenceMalformedError: the evidence cannot be read.
            EvidenceRejectedError: it does not satisfy the policy.
            ConflictError: the policy changed since the offer.
            ConfigurationError: the joiner's key is malformed.
            UnavailableError: this replica does not serve, too many join, or the TEE does not answer.
        """
        join = self._source.take(request, now_s=self._clock.monotonic_s())  # (1)
        joiner = await asyncio.to_thread(  # (2)
            verify_joiner, join, standing=self._standing(), now=self._clock.now(), cache=self._cache
        )
        admitted = self._source.admit(joiner, now_s=self._clock.monotonic_s())  # (3)
        await self._record(joiner)
        sealed = seal(admitted, self._secrets(), standing=self._standing())  # (4)
        return sealed.reply(await self._quote(sealed.report_data))
