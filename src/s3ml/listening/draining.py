"""An orderly end: say so first, keep answering while gateways notice, then stop listening and finish.

The first SIGTERM or SIGINT begins it. Whoever balances load sees the process unready, and sends no more; what
comes meanwhile is answered all the same. Then the listener closes, what is under way is finished within
uvicorn's `timeout_graceful_shutdown`, and the server returns. A second signal ends it at once.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import uvicorn

# Longer than a gateway takes between two checks of readiness, with room for a slow one.
NOTICE_S = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class DrainingServer(uvicorn.Server):
    """A server that says for a while that it will end, before it does.

    Args:
        config: uvicorn's.
        announce: Called once, on the event loop, when the end is asked for: from here on readiness is gone.
        notice_s: How long it still listens after that.
        on_started: Called once, on the event loop, when requests and signals are taken.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        announce: Callable[[], None],
        notice_s: float = NOTICE_S,
        on_started: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._announce = announce
        self._on_started = on_started
        self._notice_s = notice_s
        self._notice: asyncio.TimerHandle | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take requests, and tell."""
        await super().startup(sockets=sockets)
        if self._on_started is not None and not self.should_exit:
            self._on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals that ask for the end; uvicorn's own would raise them again once it has ended."""
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._ask)
        try:
            yield
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)
            if self._notice is not None:
                self._notice.cancel()

    def _ask(self) -> None:
        if self._notice is not None:
            self.should_exit = self.force_exit = True
            return
        self._announce()
        self._notice = asyncio.get_running_loop().call_later(self._notice_s, self._stop)

    def _stop(self) -> None:
        self.should_exit = True


def end_process(status: int) -> NoReturn:
    """End this process at once, whatever its threads still compute.

    An interpreter that ends by itself waits for the threads of its pools: a computation that hangs holds it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
