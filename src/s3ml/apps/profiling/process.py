"""A measuring process as its starter sees it: asked, waited for, and ended whatever happens."""

import os
import selectors
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from s3ml.apps.profiling.messages import (
    LINE_LIMIT_BYTES,
    Answer,
    Failed,
    Load,
    Loaded,
    Measure,
    Measured,
    Question,
    Repeat,
    Repeated,
    encode_line,
    parse_answer,
)
from s3ml.primitives.errors import ConfigurationError

CHILD = ("-I", "-B", "-m", "s3ml.apps.profiling.child")
_READ_BYTES = 1 << 16
_TAIL_BYTES = 2000
_END_S = 5.0


class MeasurementError(ConfigurationError):
    """A measurement could not be made: the model or the machine does not allow it."""


class MeasuringProcess:
    """A process of its own for one measurement; a context manager that leaves nothing behind.

    It is a session of its own, so that an interrupt from the terminal reaches its starter alone, and it dies
    with the thread that started it.

    Args:
        command: What to run; the arguments of this interpreter.
    """

    def __init__(self, command: tuple[str, ...] = CHILD) -> None:
        self._command = command
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, no shell
            [sys.executable, *self._command, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
            env={},
            bufsize=0,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=_END_S)
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
        self._errors.close()

    @property
    def pid(self) -> int:
        """Its process id, while it is entered."""
        return self._entered().pid

    def load(self, path: Path, *, threads: int, deadline_s: float) -> Loaded:
        """Have the model opened.

        Raises:
            MeasurementError: it cannot be, or not in time, or the process died over it.
        """
        answer = self._ask(Load(path=str(path.absolute()), threads=threads), deadline_s)
        if not isinstance(answer, Loaded):
            raise MeasurementError(f"profile: expected a loaded model, got {type(answer).__name__}")
        return answer

    def measure(self, question: Measure, *, deadline_s: float) -> Measured:
        """Have a point measured.

        Raises:
            MeasurementError: it cannot be, or not in time, or the process died over it.
        """
        answer = self._ask(question, deadline_s)
        if not isinstance(answer, Measured):
            raise MeasurementError(f"profile: expected a measured point, got {type(answer).__name__}")
        return answer

    def repeat(self, question: Repeat, *, deadline_s: float) -> Repeated:
        """Have one row computed again and again.

        Raises:
            MeasurementError: it cannot be, or not in time, or the process died over it.
        """
        answer = self._ask(question, deadline_s)
        if not isinstance(answer, Repeated):
            raise MeasurementError(f"profile: expected repeated runs, got {type(answer).__name__}")
        return answer

    def _ask(self, question: Question, deadline_s: float) -> Answer:
        process = self._entered()
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a measuring process has pipes")
        try:
            process.stdin.write(encode_line(question))
        except BrokenPipeError:
            raise self._ended(process) from None
        line = self._read_line(process, process.stdout, deadline_s)
        try:
            answer = parse_answer(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MeasurementError(
                f"profile: the measuring process answered something else: {error}"
            ) from error
        if isinstance(answer, Failed):
            raise MeasurementError(answer.reason)
        return answer

    def _entered(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("a measuring process is entered before it is used")
        return self._process

    def _read_line(self, process: subprocess.Popen[bytes], stream: IO[bytes], deadline_s: float) -> bytes:
        end = time.monotonic() + deadline_s
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise MeasurementError(f"it took longer than {deadline_s:.0f} s")
                chunk = os.read(stream.fileno(), _READ_BYTES)
                if not chunk:
                    raise self._ended(process)
                self._unread += chunk
                if len(self._unread) > LINE_LIMIT_BYTES:
                    raise MeasurementError("profile: the measuring process does not stop talking")
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _ended(self, process: subprocess.Popen[bytes]) -> MeasurementError:
        """Describe a process that ended before it answered."""
        status = process.wait(timeout=_END_S)
        if status < 0:
            return MeasurementError(
                f"the measuring process was killed (signal {-status}): too little memory?"
            )
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _TAIL_BYTES))
        lines = self._errors.read().decode(errors="replace").strip().splitlines() or ["no word"]
        return MeasurementError(f"the measuring process ended with status {status}: {lines[-1][:300]}")
