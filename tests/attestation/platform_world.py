"""A platform in the test's own event loop, with real enclave processes from images of a few files.

An agent is what runs in such a process: it takes orders over a Unix socket, and speaks the platform's
protocol by itself, as the specification has it.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from s3ml.attestation import Technology
from s3ml.attestation.simulated import installed
from s3ml.attestation.simulated.admin import Launched, PlatformAdmin
from s3ml.attestation.simulated.image import Image, ImageSource, LaunchConfiguration, build
from s3ml.attestation.simulated.launch import Role
from s3ml.attestation.simulated.platform import Platform
from s3ml.attestation.simulated.quoter import DEFAULT_TCB_STATE
from s3ml.attestation.simulated.store import open_keys
from s3ml.primitives.clock import Clock

DEADLINE_S = 300.0
AGENT = b"""\
import base64, json, os, signal, socket, sys

os.read(0, 1)

def ask(message):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["S3ML_SIMULATED_PLATFORM"])
        body = json.dumps(message).encode()
        connection.sendall(len(body).to_bytes(4, "big") + body)
        data = b""
        while piece := connection.recv(65536):
            data += piece
    return json.loads(data[4:])

def ask_from_child(message):
    readable, writable = os.pipe()
    if os.fork() == 0:
        os.write(writable, json.dumps(ask(message)).encode())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as pipe:
        return json.load(pipe)

def leave_child():
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        signal.pause()
    return child

ORDERS = {
    "ask": ask,
    "ask-from-child": ask_from_child,
    "leave-child": lambda _: leave_child(),
    "environment": lambda _: dict(os.environ),
    "ignore-sigterm": lambda _: str(signal.signal(signal.SIGTERM, signal.SIG_IGN)),
    "say": lambda text: print(text, flush=True),
    "exit": sys.exit,
    "session": lambda _: [os.getpid(), os.getsid(0), os.getppid()],
}
with socket.socket(socket.AF_UNIX) as control:
    control.connect(os.environ["S3ML_CONTROL"])
    with control.makefile("rw") as orders:
        for line in orders:
            name, argument = json.loads(line)
            orders.write(json.dumps(ORDERS[name](argument)) + "\\n")
            orders.flush()
"""
T = TypeVar("T")


class AgentImages:
    """Images with an interpreter, its library and an agent; `package` holds another script."""

    def __init__(self, folder: Path, base: Image | None = None) -> None:
        self._folder = folder
        self._built = [] if base is None else [base]

    def obtain(self, role: Role, package: Path | None) -> Image:
        files: dict[str, Path | bytes] = {**installed._interpreter(), **dict(installed._standard_library())}
        files["launch.py"] = AGENT if package is None else package / "launch.py"
        library = installed.preloaded(files)
        launch = LaunchConfiguration(
            argv=("{image}/bin/python3", "-I", "-S", "-B", "{image}/launch.py"),
            environment=() if library is None else (("LD_PRELOAD", "{image}/" + library),),
        )
        source = ImageSource(files=files, launch=launch)
        image = build(source, self._folder / f"{role}-{len(self._built)}", reuse=self._built)
        self._built.append(image)
        return image


async def blocking(function: Callable[..., T], *arguments: Any) -> T:
    async with asyncio.timeout(DEADLINE_S):
        return await asyncio.to_thread(function, *arguments)


@dataclass(slots=True, kw_only=True)
class Agent:
    """The process that the platform launched, at the other end of a socket."""

    launched: Launched
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def order(self, name: str, argument: object = None) -> Any:
        async with asyncio.timeout(DEADLINE_S):
            self.writer.write(json.dumps([name, argument]).encode() + b"\n")
            return json.loads(await self.reader.readline())

    async def ended(self) -> None:
        """Wait for the end of the process, which closes its socket."""
        async with asyncio.timeout(DEADLINE_S):
            assert await self.reader.read() == b""


@dataclass(slots=True, kw_only=True)
class PlatformWorld:
    """A running platform and its host."""

    platform: Platform
    state: Path
    admin: PlatformAdmin
    stop: asyncio.Event
    connected: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    finished: "asyncio.Task[None]"
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.state / "log"

    async def launch(
        self,
        role: Role = "model-server",
        settings: Mapping[str, str] | None = None,
        package: Path | None = None,
        memory_group: Path | None = None,
    ) -> Agent:
        control = {"S3ML_CONTROL": str(self.state / "control.sock"), **(settings or {})}
        launched = await blocking(self.admin.launch, role, control, self.log, package, memory_group)
        async with asyncio.timeout(DEADLINE_S):
            reader, writer = await self.connected.get()
        self.writers.append(writer)
        return Agent(launched=launched, reader=reader, writer=writer)


@contextlib.asynccontextmanager
async def running_platform(
    state: Path, clock: Clock, base: Image, simulates: Technology = Technology.SGX
) -> AsyncIterator[PlatformWorld]:
    """Run a platform of `state` as long as the block; its images share files with `base`."""
    connected: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    stop, ready = asyncio.Event(), asyncio.Event()
    images = state / "images"
    images.mkdir()
    keys = open_keys(state, now=clock.now(), simulates=simulates)
    platform = Platform(
        keys=keys,
        quoter=keys.quoter(DEFAULT_TCB_STATE),
        images=AgentImages(images, base),
        state=state,
        clock=clock,
    )
    control = await asyncio.start_unix_server(
        lambda reader, writer: connected.put_nowait((reader, writer)), state / "control.sock"
    )
    async with control, asyncio.TaskGroup() as group:
        finished = group.create_task(platform.run(stop, ready.set))
        await ready.wait()
        world = PlatformWorld(
            platform=platform,
            state=state,
            admin=PlatformAdmin(state / "admin.sock"),
            stop=stop,
            connected=connected,
            finished=finished,
        )
        try:
            yield world
        finally:
            stop.set()
            await asyncio.wait([finished])
            for writer in world.writers:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
