"""Performs the core's steps in the thread of the caller; threads may share one shell."""

import threading
import time
from typing import Any

from s3ml.client.errors import TransientError
from s3ml.client.many import StoppedError
from s3ml.client.steps import Alone, Compute, Pause, Program, Result, Send, Step
from s3ml.client.urllib3_transport import Urllib3Transport
from s3ml.primitives.errors import S3MLError

_LOCK_TIMEOUT_LIMIT_S = 3600.0


class BlockingShell:
    """A shell with connections to one gateway.

    Args:
        url: The gateway's, without a trailing slash.
    """

    def __init__(self, url: str) -> None:
        self._transport = Urllib3Transport(url)
        self._locks: dict[str, threading.Lock] = {}

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def run(self, program: Program[Result], stop: threading.Event | None = None) -> Result:
        """Perform the steps of `program`; what a step raises that is ours goes back into it.

        Args:
            program: Of the core.
            stop: Ends it between two steps, and pauses at once.

        Raises:
            StoppedError: `stop` was set.
        """
        try:
            step = next(program)
            while True:
                try:
                    answer = self._perform(step, stop)
                except S3MLError as error:
                    step = program.throw(error)
                else:
                    step = program.send(answer)
        except StopIteration as end:
            result: Result = end.value
            return result
        finally:
            program.close()

    def _perform(self, step: Step, stop: threading.Event | None) -> Any:
        if stop is not None and stop.is_set():
            raise StoppedError
        match step:
            case Send(request=request):
                return self._transport.send(request)
            case Compute(work=work):
                return work()
            case Pause(duration_s=duration_s):
                return time.sleep(duration_s) if stop is None else stop.wait(duration_s)
            case Alone():
                return self._run_alone(step, stop)

    def _run_alone(self, step: Alone, stop: threading.Event | None) -> Any:
        lock = self._locks.setdefault(step.name, threading.Lock())
        if not lock.acquire(timeout=min(step.timeout_s, _LOCK_TIMEOUT_LIMIT_S)):
            if step.timeout_s == 0:
                return None
            raise TransientError(f"service {step.name!r}: another call is still verifying it")
        try:
            return self.run(step.program(), stop)
        finally:
            lock.release()
