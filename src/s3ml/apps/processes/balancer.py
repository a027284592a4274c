"""The balancer's process: its loops, its picker where requests are picked one by one, and its interface.

Events are JSON lines on standard error. SIGTERM and SIGINT end it; the gateway keeps the last weights.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from aiohttp import ClientSession, web

from s3ml.apps.balancing.envoy import EnvoyFolder, service_of_path
from s3ml.listening import listen
from s3ml.primitives.clock import SystemClock
from s3ml.primitives.errors import ConfigurationError, S3MLError
from s3ml.scheduling.balancer.agents import HttpAgents
from s3ml.scheduling.balancer.control import create_control
from s3ml.scheduling.balancer.events import Event, EventLog
from s3ml.scheduling.balancer.membership import read_membership
from s3ml.scheduling.balancer.service import BalancerService, Policies
from s3ml.scheduling.balancer.settings import BalancerSettings
from s3ml.scheduling.picker.picking import Picker
from s3ml.scheduling.picker.server import PickerServer

_SOCKET_MODE = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancerOptions:
    """What an operator chooses.

    Args:
        policy: The name of the policy to begin with.
        gateway: The gateway's folder, with its admin socket and its endpoint files.
        membership: The file that says who is in the fleets.
        control: The Unix socket of its interface; what a balancer that ended left there is replaced.
        listen: Where status and metrics are told to others, as host and port, or None.
        picker: Where the gateway asks for each request, or None.
        settings: How it runs.
    """

    policy: str
    gateway: Path
    membership: Path
    control: Path
    listen: tuple[str, int] | None
    picker: tuple[str, int] | None
    settings: BalancerSettings


async def serve(options: BalancerOptions, policies: Policies) -> None:
    """Balance until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: an unknown policy, an unusable membership file, or an address that is taken.
    """
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    events = EventLog(_write_line, SystemClock())
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(ClientSession())
        service = BalancerService(
            policy=options.policy,
            policies=policies,
            membership=lambda: read_membership(options.membership),
            gateway=EnvoyFolder(options.gateway),
            agents=HttpAgents(session, SystemClock()),
            clock=SystemClock(),
            events=events,
            settings=options.settings,
        )
        await stack.enter_async_context(_control(service, _sockets(options, stack)))
        events.emit(Event.STARTED, policy=options.policy, steering=str(options.settings.steering))
        try:
            await _until(ending, service, options.picker)
        except BaseExceptionGroup as failed:
            raise _first_of_ours(failed) from failed
        events.emit(Event.STOPPING)


async def _until(ending: asyncio.Event, service: BalancerService, picker: tuple[str, int] | None) -> None:
    """Balance, and pick where requests are picked one by one, until told to end."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(service.run())]
        if picker is not None:
            tasks.append(group.create_task(_pick(service, picker)))
        await ending.wait()
        for task in tasks:
            task.cancel()


def _first_of_ours(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that says what to do; the whole group where none does."""
    found: BaseException = failed
    while isinstance(found, BaseExceptionGroup):
        ours = found.subgroup(S3MLError)
        if ours is None:
            return failed
        found = ours.exceptions[0]
    return found


async def _pick(service: BalancerService, address: tuple[str, int]) -> None:
    """Answer the gateway, once there is something to decide by, until cancelled."""
    host, port = address
    picker = Picker(service, service_of=service_of_path, draw=Random(), clock=SystemClock())  # noqa: S311
    # Until then nobody listens, and the gateway notices at once.
    await service.has_looked.wait()
    server = PickerServer(picker, host=host, port=port)
    await server.start()
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


def _sockets(options: BalancerOptions, stack: AsyncExitStack) -> Sequence[tuple[socket.socket, bool]]:
    """Return what the interface listens on, and whether policies may be switched there."""
    sockets = [(stack.enter_context(_unix_listener(options.control)), True)]
    stack.callback(options.control.unlink, missing_ok=True)
    if options.listen is not None:
        host, port = options.listen
        sockets.append((stack.enter_context(listen(host, port, setting="--listen")), False))
    return sockets


def _unix_listener(path: Path) -> socket.socket:
    """Listen on a Unix socket that only this user may connect to.

    Raises:
        ConfigurationError: it cannot, or another balancer does: two would steer against each other.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if _is_answered(path):
        listener.close()
        raise ConfigurationError(f"--control: another balancer listens on {path}: end it first")
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(_SOCKET_MODE)
        listener.listen()
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"--control: cannot listen on {path}: {error.strerror or error}") from error
    return listener


def _is_answered(path: Path) -> bool:
    """Tell whether somebody listens on a Unix socket; one that was left by a killed process refuses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        try:
            caller.connect(str(path))
        except OSError:
            return False
    return True


@asynccontextmanager
async def _control(
    service: BalancerService, sockets: Sequence[tuple[socket.socket, bool]]
) -> AsyncIterator[None]:
    """Tell of `service` on these sockets."""
    async with AsyncExitStack() as stack:
        for listener, may_switch in sockets:
            runner = web.AppRunner(create_control(service, may_switch=may_switch), access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.SockSite(runner, listener).start()
        yield


def _write_line(line: str) -> None:
    sys.stderr.write(line)
    sys.stderr.flush()
