"""Asking node agents over HTTP: within a deadline, up to a limit of bytes; an untrusted host's word."""

import aiohttp

from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import UnavailableError
from s3ml.scheduling.balancer.ports import NodeReport
from s3ml.tee_memory.readings import READINGS_LIMIT_BYTES, READINGS_PATH, decode

DEADLINE_S = 0.5
_OK = 200


class HttpAgents:
    """Asks agents by their URLs.

    Args:
        session: Kept by the caller; its connections are used again.
        clock: The one on which readings are dated.
        deadline_s: How long an agent may take.
    """

    def __init__(
        self, session: aiohttp.ClientSession, clock: Clock, *, deadline_s: float = DEADLINE_S
    ) -> None:
        self._session = session
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=deadline_s)

    async def read(self, url: str) -> NodeReport:
        """Return what the agent at `url` says, dated on this clock.

        Raises:
            UnavailableError: it does not answer in time, or could not read anything itself.
            ReadingsMalformedError: it answered with something else.
        """
        asked_at_s = self._clock.monotonic_s()
        try:
            async with self._session.get(
                url + READINGS_PATH, timeout=self._timeout, allow_redirects=False
            ) as response:
                status = response.status
                # One byte more than may be, so that what is too long is seen to be.
                data = await _read_limited(response.content, READINGS_LIMIT_BYTES + 1)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UnavailableError(f"node agent: no answer: {type(error).__name__}") from error
        if status != _OK:
            raise UnavailableError(f"node agent: expected status 200, got {status}")
        found = decode(data)
        reading = found.received(asked_at_s)
        if reading is None:
            raise UnavailableError(f"node agent: has no reading: {found.error or 'it says not why'}")
        return NodeReport(reading=reading, servers=found.servers_received(asked_at_s))


async def _read_limited(content: aiohttp.StreamReader, limit: int) -> bytes:
    data = bytearray()
    while len(data) < limit and (chunk := await content.read(limit - len(data))):
        data += chunk
    return bytes(data)
