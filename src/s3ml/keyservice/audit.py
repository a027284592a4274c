"""The audit stream: every release, gathered and committed to the log by hash.

A release is recorded before its reply leaves. Records wait in memory until their batch is committed: 256 of
them, or a minute, or the end of the process; a host that kills the process loses the batch that waited. When
storage does not serve, records pile up to a limit, and then nothing more is released.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from s3ml.keyservice.documents import AuditRecord
from s3ml.keyservice.errors import BusyError
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.errors import UnavailableError
from s3ml.primitives.units import MINUTE_S

BATCH = 256
CAPACITY = 4096
PERIOD_S = float(MINUTE_S)


class AuditStream:
    """The records that are not committed yet.

    Args:
        commit: Commits a batch, all or nothing.
        period_s: How long a record waits at most, in seconds.
        failed: Told why a batch could not be committed; it is tried again.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[bytes]], Awaitable[None]],
        *,
        failed: Callable[[UnavailableError], None],
        period_s: float = PERIOD_S,
    ) -> None:
        self._commit = commit
        self._failed = failed
        self._period_s = period_s
        self._waiting: list[bytes] = []
        self._is_due = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, record: AuditRecord) -> None:
        """Record a release.

        Raises:
            BusyError: too many records wait for storage; the release must not happen.
        """
        if len(self._waiting) >= CAPACITY:
            raise BusyError("key service: its audit stream cannot be stored", retry_after_s=self._period_s)
        self._waiting.append(encode_document(record))
        if len(self._waiting) >= BATCH:
            self._is_due.set()

    async def flush(self) -> None:
        """Commit what waits, batch by batch.

        Raises:
            UnavailableError: storage does not serve; what is not committed still waits.
        """
        self._is_due.clear()
        while self._waiting:
            batch = self._waiting[:BATCH]
            await self._commit(batch)
            del self._waiting[: len(batch)]

    async def run(self) -> None:
        """Flush when a batch is full, and every period; and once more when cancelled."""
        try:
            while True:
                try:
                    async with asyncio.timeout(self._period_s):
                        await self._is_due.wait()
                except TimeoutError:
                    pass
                await self._try()
        finally:
            await self._try()

    async def _try(self) -> None:
        try:
            await self.flush()
        except UnavailableError as error:
            self._failed(error)
