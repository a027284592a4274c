"""The simulated platform: CPU vendor and quoting enclave in one daemon. SIMULATED: it protects nothing.

It copies, measures and launches enclave processes, and says what it measured in quotes of its own. It
answers on ``quote.sock`` only children that it launched itself, and never believes what anybody claims to be.
``admin.sock`` is the host's: it chooses what is launched.

Source: docs/spec/simulated-platform.md.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from s3ml.attestation.evidence import Technology, encode_evidence
from s3ml.attestation.simulated.image import Image
from s3ml.attestation.simulated.instances import Instance, Instances
from s3ml.attestation.simulated.launch import Role
from s3ml.attestation.simulated.listener import Listener
from s3ml.attestation.simulated.protocol import (
    LENGTH_BYTES,
    REQUEST_LIMIT_BYTES,
    InstanceEntry,
    LaunchReply,
    LaunchRequest,
    ListReply,
    PlatformRefusedError,
    QuoteReply,
    QuoteRequest,
    Reply,
    SealingKeyReply,
    StopReply,
    StopRequest,
    body_length,
    error_reply,
    frame,
    parse_enclave_request,
    parse_host_request,
)
from s3ml.attestation.simulated.quoter import DEFAULT_TCB_STATE, Quoter
from s3ml.attestation.simulated.store import ImageStore, PlatformKeys, open_folder, open_keys
from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import ConfigurationError, S3MLError

ADMIN_SOCKET: Final = "admin.sock"
QUOTE_SOCKET: Final = "quote.sock"
SOCKET_SETTING: Final = "S3ML_SIMULATED_PLATFORM"

_CONNECTIONS_LIMIT = 128
_INSTANCES_LIMIT = 256
_PEER_DEADLINE_S = 10.0
_STOP_GRACE_S = 5.0
_LOG = logging.getLogger("s3ml.platform")

Answer = Callable[[bytes], Awaitable[Reply]]


class Images(Protocol):
    """Where images come from; an `ImageStore`."""

    def obtain(self, role: Role, package: Path | None) -> Image:
        """Return the image of `role`, built if need be; blocks.

        Raises:
            ConfigurationError: It cannot be built.
        """
        ...


class Platform:
    """What the daemon does; lives within one running event loop.

    Args:
        keys: Derive sealing keys.
        quoter: Makes evidence.
        images: What enclaves are launched from.
        state: Where the sockets are.
        clock: Dates collateral.
    """

    def __init__(
        self, *, keys: PlatformKeys, quoter: Quoter, images: Images, state: Path, clock: Clock
    ) -> None:
        self._keys = keys
        self._quoter = quoter
        self._images = images
        self._state = state
        self._clock = clock
        self._instances = Instances(limit=_INSTANCES_LIMIT)
        self._building = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Serve until `stop` is set, then end every instance.

        Args:
            stop: Ends the platform.
            ready: Called when both sockets accept.

        Raises:
            ConfigurationError: A socket cannot be made.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        try:
            async with asyncio.TaskGroup() as group:
                with self._listeners(group):
                    ready()
                    await stop.wait()
                for task in self._tasks:
                    task.cancel()
                await self._instances.stop_all(grace_s=_STOP_GRACE_S)
        finally:
            loop.remove_signal_handler(signal.SIGCHLD)

    @contextlib.contextmanager
    def _listeners(self, group: asyncio.TaskGroup) -> Iterator[None]:
        def take(connection: socket.socket, answer: Answer) -> None:
            if len(self._tasks) >= _CONNECTIONS_LIMIT:
                connection.close()
                return
            task = group.create_task(self._serve(connection, answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        def take_enclave(connection: socket.socket, pid: int) -> None:
            instance = self._instances.alive(pid)
            take(connection, lambda body: self._answer_enclave(instance, pid, body))

        def take_host(connection: socket.socket, _: int) -> None:
            take(connection, self._answer_host)

        with contextlib.ExitStack() as listeners:
            self._quotes = Listener(self._state / QUOTE_SOCKET, take_enclave)
            listeners.callback(self._quotes.close)
            listeners.callback(Listener(self._state / ADMIN_SOCKET, take_host).close)
            yield

    async def _serve(self, connection: socket.socket, answer: Answer) -> None:
        """Answer the one request of a connection."""
        with connection, contextlib.suppress(OSError):
            try:
                async with asyncio.timeout(_PEER_DEADLINE_S):
                    head = await _receive(connection, LENGTH_BYTES)
                    length = body_length(head, limit_bytes=REQUEST_LIMIT_BYTES)
                    body = await _receive(connection, length)
                reply = await answer(body)
            except S3MLError as error:
                _LOG.warning("event=refused error=%r", str(error))
                reply = error_reply(error)
            async with asyncio.timeout(_PEER_DEADLINE_S):
                await asyncio.get_running_loop().sock_sendall(connection, frame(reply))

    async def _answer_enclave(self, instance: Instance | None, pid: int, body: bytes) -> Reply:
        """Answer a process that was recognised, as `instance`, when its connection was taken."""
        if instance is None or instance.exit_status is not None:
            raise PlatformRefusedError(f"process {pid}: expected one that this SIMULATED platform launched")
        request = parse_enclave_request(body)
        if isinstance(request, QuoteRequest):
            evidence = self._quoter.evidence(
                instance.measurement, instance.role, request.report_data, now=self._clock.now()
            )
            return QuoteReply(evidence=encode_evidence(evidence))
        return SealingKeyReply(key=self._keys.sealing_key(instance.measurement))

    async def _answer_host(self, body: bytes) -> Reply:
        request = parse_host_request(body)
        if isinstance(request, LaunchRequest):
            return await self._launch(request)
        if isinstance(request, StopRequest):
            instance = self._instances.named(request.instance)
            return StopReply(exit_status=await self._instances.stop(instance, grace_s=request.grace_s))
        return ListReply(instances=tuple(_entry(instance) for instance in self._instances.all()))

    async def _launch(self, request: LaunchRequest) -> Reply:
        if SOCKET_SETTING in request.settings:
            raise ConfigurationError(
                f"launch: expected no {SOCKET_SETTING}: where its TEE is, the host does not say"
            )
        package = None if request.package is None else Path(request.package)
        async with self._building:
            image = await asyncio.to_thread(self._images.obtain, request.role, package)
        instance = self._instances.start(
            image,
            request.role,
            {**request.settings, SOCKET_SETTING: str(self._state / QUOTE_SOCKET)},
            Path(request.log_path),
            before_it_runs=self._quotes.drain,
            memory_group=None if request.memory_group is None else Path(request.memory_group),
        )
        _LOG.info("event=launched %s", _describe(instance))
        return LaunchReply(instance=instance.name, pid=instance.pid, measurement=instance.measurement)

    def _reap(self) -> None:
        for instance in self._instances.reap():
            _LOG.info("event=ended %s exit_status=%s", _describe(instance), instance.exit_status)


def run_platform(
    state: Path,
    *,
    clock: Clock,
    ready: Callable[[], None],
    simulates: Technology = Technology.SGX,
    tcb: str = DEFAULT_TCB_STATE,
) -> None:
    """Be the platform of the folder `state` until SIGTERM or SIGINT; blocks, in the main thread.

    Args:
        state: Its folder; keys in it are kept from one run to the next.
        clock: Dates certificates and collateral.
        ready: Called when both sockets accept.
        simulates: Whose formats its evidence has; a folder's platform keeps to one.
        tcb: The name of the state that the vendor says it is in, one of `TCB_STATES`.

    Raises:
        ConfigurationError: `state` is damaged, in use by another platform, of one that simulates something
            else, or cannot be written; or there is no such state.
    """
    state = state.absolute()
    open_folder(state)
    with _sole_owner(state):
        keys = open_keys(state, now=clock.now(), simulates=simulates)
        quoter = keys.quoter(tcb)
        images = ImageStore(state / "images")
        platform = partial(Platform, keys=keys, quoter=quoter, images=images, state=state, clock=clock)
        try:
            asyncio.run(_run(platform, ready))
        finally:
            images.remove()


async def _run(make: Callable[[], Platform], ready: Callable[[], None]) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await make().run(stop, ready)


@contextlib.contextmanager
def _sole_owner(state: Path) -> Iterator[None]:
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "rb"):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"{state}: another simulated platform runs here; stop it first"
            ) from error
        yield


async def _receive(connection: socket.socket, length: int) -> bytes:
    loop, data = asyncio.get_running_loop(), bytearray()
    while len(data) < length:
        piece = await loop.sock_recv(connection, length - len(data))
        if not piece:
            raise ConnectionResetError("the connection ended within a message")
        data += piece
    return bytes(data)


def _entry(instance: Instance) -> InstanceEntry:
    return InstanceEntry(
        instance=instance.name,
        pid=instance.pid,
        role=instance.role,
        measurement=instance.measurement,
        exit_status=instance.exit_status,
    )


def _describe(instance: Instance) -> str:
    return f"instance={instance.name} pid={instance.pid} measurement={instance.measurement}"
