"""Processes of an emulated run: started, spoken to line by line, ended by their own process id.

Each dies with the one that started it. Where a run puts a server into a node, it enters before its program
begins, so that all of its memory is the node's.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from s3ml.primitives.errors import UnavailableError

_PR_SET_PDEATHSIG = 1
_GRACE_S = 10.0
_LIBC = ctypes.CDLL(None)


class Child:
    """One process that takes lines and gives lines; a context manager that ends it.

    Args:
        name: For messages.
        command: What to run; ``-m MODULE`` is run by this interpreter.
        log: Where it writes its errors.
        enter: Called in the child before its program begins.
        environment: Added to this process's.
        preferred: Its nice value; below 0 for what measures.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        enter: Callable[[], None] | None = None,
        environment: Mapping[str, str] | None = None,
        preferred: int = 0,
    ) -> None:
        self.name = name
        self._log = log
        words = [sys.executable, *command] if command[0] == "-m" else list(command)

        def prepare() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if preferred:
                os.nice(preferred)
            if enter is not None:
                enter()

        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "ORT_DISABLE_TELEMETRY": "1", **(environment or {})},
                start_new_session=True,
                preexec_fn=prepare,  # noqa: PLW1509 - this process starts children from one thread only
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def say(self, line: str) -> None:
        """Write a line to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def hear(self, *, deadline_s: float) -> str:
        """Return the next line that it writes.

        Raises:
            UnavailableError: it ended, or says nothing in time.
        """
        output = self._process.stdout
        assert output is not None
        if not select.select([output], [], [], deadline_s)[0]:
            raise UnavailableError(f"{self.name}: said nothing within {deadline_s:g} s: {self._last()}")
        line = output.readline()
        if not line:
            raise UnavailableError(f"{self.name}: ended: {self._last()}")
        return line.decode().rstrip("\n")

    def hear_document(self, *, deadline_s: float) -> dict[str, Any]:
        """Return the next line, which is a JSON object; `UnavailableError` as `hear`."""
        found: dict[str, Any] = json.loads(self.hear(deadline_s=deadline_s))
        return found

    def stop(self) -> None:
        """End it: its input first, then by a signal, then by force."""
        with suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _last(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no word"


def wait_until(is_true: Callable[[], bool], *, deadline_s: float, what: str) -> None:
    """Return once `is_true`.

    Raises:
        UnavailableError: it was not within `deadline_s`.
    """
    end = time.monotonic() + deadline_s
    while not is_true():
        if time.monotonic() > end:
            raise UnavailableError(f"{what}: not within {deadline_s:g} s")
        time.sleep(0.02)
