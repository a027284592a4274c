"""Signals that end a cluster: one exception, and never in the middle of starting a process.

An exception between the fork of a child and the moment its parent knows of it would leave the child behind.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """Somebody asked this process to end."""


class Interruption:
    """Raises `Stopped` in the main thread on the first signal; later ones change nothing.

    Make it in the main thread, once in the life of a process.
    """

    def __init__(self) -> None:
        self._is_held = False
        self._is_due = False
        self.asked = threading.Event()
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        _ = number, frame
        if self.asked.is_set():
            return
        self.asked.set()
        if self._is_held:
            self._is_due = True
        else:
            raise Stopped

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put a signal off until the end of the block."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            if self._is_due:
                self._is_due = False
                raise Stopped
