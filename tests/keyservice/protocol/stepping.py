"""An event loop that does nothing by itself: what leaves a coroutine waits until a driver lets it happen.

`asyncio.to_thread` and `run_in_executor` are where the key service touches storage and witnesses. Here they
make an `Effect`, which a driver runs, fails, or forgets. One loop serves any number of replicas; whoever is
driven at the moment owns the effects that appear.
"""

import asyncio
import functools
import hashlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from s3ml.primitives.signing import SigningKey


@dataclass(slots=True, kw_only=True)
class Effect:
    """Something that a coroutine waits for.

    Args:
        name: The qualified name of the function that is to run.
        run: Runs it.
        args: Its positional arguments.
        future: What the coroutine waits for.
    """

    name: str
    run: Callable[[], Any]
    args: tuple[Any, ...]
    future: "asyncio.Future[Any]"

    def happen(self) -> None:
        """Let it happen now; whoever stopped waiting for it is told nothing."""
        try:
            result = self.run()
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the coroutine
            self.fail(error)
        else:
            if not self.future.done():
                self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Tell whoever waits that it failed."""
        if not self.future.done():
            self.future.set_exception(error)


class SteppedLoop(asyncio.SelectorEventLoop):
    """Hands effects to `submit`, in order; set it before anything runs."""

    def __init__(self) -> None:
        super().__init__()
        self.submit: Callable[[Effect], None] = _nobody

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        future = self.create_future()
        called, given = func, args
        if isinstance(func, functools.partial):  # `asyncio.to_thread` runs a function in its own context
            called, given = func.args[0], func.args[1:]
        name = getattr(called, "__qualname__", type(called).__qualname__)
        self.submit(Effect(name=name, run=functools.partial(func, *args), args=given, future=future))
        return future

    def settle(self) -> None:
        """Run until everything waits."""
        while self._ready:  # type: ignore[attr-defined]
            self.call_soon(self.stop)
            self.run_forever()


def _nobody(effect: Effect) -> None:
    raise AssertionError(f"{effect.name}: nobody is driven")


@dataclass(slots=True)
class Dice:
    """Random bytes that are the same in every repetition of one process's life.

    Args:
        seed: Of the process.
    """

    seed: bytes
    topic: str = ""
    counts: dict[str, int] = field(default_factory=dict)

    def token_bytes(self, size: int | None = None) -> bytes:
        count = self.counts[self.topic] = self.counts.get(self.topic, 0) + 1
        start = hashlib.sha256(self.seed + f"{self.topic} {count}".encode()).digest()
        return hashlib.shake_256(start).digest(32 if size is None else size)


class Table:
    """Where dice lie; `secrets` draws from the ones of whoever is driven."""

    def __init__(self) -> None:
        self.dice = Dice(b"nobody")

    def token_bytes(self, size: int | None = None) -> bytes:
        return self.dice.token_bytes(size)

    def token_hex(self, size: int | None = None) -> str:
        return self.dice.token_bytes(size).hex()


@contextmanager
def dice_of(table: Table) -> Iterator[None]:
    """Have `secrets`, and fresh signing keys, draw from `table`."""

    def generate() -> SigningKey:
        return SigningKey.from_raw(table.token_bytes(32))

    with (
        mock.patch.object(secrets, "token_bytes", table.token_bytes),
        mock.patch.object(secrets, "token_hex", table.token_hex),
        mock.patch.object(SigningKey, "generate", side_effect=generate),
    ):
        yield
