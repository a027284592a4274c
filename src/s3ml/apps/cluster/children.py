"""Children of the cluster's process that no platform measures: node agents and the balancer.

Each is the command line itself, dies with this process, and is started again where it ended.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from s3ml.gateway import exec_with_parent

_GRACE_S = 5.0


class Child:
    """One command of `s3ml` as a child of this process.

    Args:
        words: The command's.
        log: The file for what it prints.
    """

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self._words = tuple(words)
        self._process: subprocess.Popen[bytes] | None = None
        self.log = log

    @property
    def pid(self) -> int | None:
        """Its process id while it was started."""
        return None if self._process is None else self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it was started and ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def start(self) -> None:
        """Start it; one that ended before is forgotten."""
        launcher = [sys.executable, "-I", "-S", "-B", exec_with_parent.__file__, str(os.getpid())]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own argument list, no shell
                [*launcher, sys.executable, "-m", "s3ml.apps.cli", *self._words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ask_to_stop(self) -> None:
        """Ask it to end, and go on; does nothing when it does not run."""
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        """Stop it, by force once five seconds have passed; does nothing when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
