"""A relay between node agents and a balancer that delays, loses or forges what the agents say.

A reading that is passed on late says its true age. A forged one says that it is fresh: ``zero`` claims that
nothing is paged anywhere, ``inverted`` that a node which pages does not, and that one which does not does.

Reads the agents' addresses (JSON: URL by node, one line) from standard input, says where it listens (JSON:
``{"port"}``), then takes a line for each change: a `Fault` as JSON, answered by itself.
Serves ``/NODE/v1/readings``.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable

import aiohttp
import msgspec
import uvloop
from aiohttp import web

from s3ml.primitives.errors import S3MLError
from s3ml.tee_memory.readings import READINGS_LIMIT_BYTES, READINGS_PATH, AgedReading, NodeReadings, decode

POLL_S = 0.1
KEPT_S = 30.0
ZERO, INVERTED = "zero", "inverted"
# What an inverted reading claims of a node that does not page, and from where on a node counts as paging.
CLAIMED_PER_S, PAGING_PER_S = 20_000.0, 500.0
_TIMEOUT = aiohttp.ClientTimeout(total=2.0)
_OK = 200


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to readings on their way.

    Args:
        delay_s: How much older than the newest a passed one is.
        is_lost: Whether none is passed at all.
        forgery: ``zero``, ``inverted``, or nothing.
    """

    delay_s: float = 0.0
    is_lost: bool = False
    forgery: str = ""

    @property
    def name(self) -> str:
        """In a word or two, for results."""
        if self.is_lost:
            return "lost"
        return self.forgery or (f"{self.delay_s:g} s late" if self.delay_s else "prompt")


class History:
    """What one agent said lately."""

    def __init__(self) -> None:
        self._said: deque[tuple[float, NodeReadings]] = deque()

    def add(self, now_s: float, said: NodeReadings) -> None:
        """Take in what was said at a monotonic instant."""
        self._said.append((now_s, said))
        while now_s - self._said[0][0] > KEPT_S:
            self._said.popleft()

    def at(self, now_s: float, fault: Fault) -> NodeReadings | None:
        """Return what is passed on at an instant; None for nothing."""
        if fault.is_lost:
            return None
        for heard_s, said in reversed(self._said):
            late_s = now_s - heard_s
            if late_s >= fault.delay_s:
                return forged(said, fault.forgery) if fault.forgery else _aged(said, late_s)
        return None


def forged(said: NodeReadings, forgery: str) -> NodeReadings:
    """Return what a lying host says instead of `said`."""
    pages_per_s = 0.0 if said.reading is None else said.reading.page_ins_per_s or 0.0
    is_claiming = forgery == INVERTED and pages_per_s < PAGING_PER_S
    claimed_per_s = CLAIMED_PER_S if is_claiming else 0.0
    return _changed(
        said,
        lambda reading: msgspec.structs.replace(
            reading, age_s=0.0, page_ins_per_s=claimed_per_s, page_outs_per_s=claimed_per_s
        ),
    )


def _aged(said: NodeReadings, more_s: float) -> NodeReadings:
    return _changed(said, lambda reading: msgspec.structs.replace(reading, age_s=reading.age_s + more_s))


def _changed(said: NodeReadings, change: Callable[[AgedReading], AgedReading]) -> NodeReadings:
    servers = tuple(
        server if server.reading is None else msgspec.structs.replace(server, reading=change(server.reading))
        for server in said.servers
    )
    reading = None if said.reading is None else change(said.reading)
    return msgspec.structs.replace(said, reading=reading, servers=servers)


class Relay:
    """Polls agents and serves what it passes on.

    Args:
        agents: The URL of each node's agent.
    """

    def __init__(self, agents: dict[str, str]) -> None:
        self._agents = agents
        self._histories = {node: History() for node in agents}
        self.fault = Fault()

    async def poll(self, session: aiohttp.ClientSession) -> None:
        """Ask every agent, again and again; one that does not answer is asked again."""
        loop = asyncio.get_running_loop()
        while True:
            for node, url in self._agents.items():
                try:
                    async with session.get(url + READINGS_PATH, timeout=_TIMEOUT) as reply:
                        data = await reply.content.read(READINGS_LIMIT_BYTES)
                    self._histories[node].add(loop.time(), decode(data))
                except (aiohttp.ClientError, TimeoutError, S3MLError) as error:
                    sys.stderr.write(f"relay: {node}: {type(error).__name__}\n")
            await asyncio.sleep(POLL_S)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer with a node's readings as the fault has them."""
        history = self._histories.get(request.match_info["node"])
        said = None if history is None else history.at(asyncio.get_running_loop().time(), self.fault)
        if said is None:
            return web.Response(status=503)
        return web.Response(body=said.encode(), content_type="application/json")


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    relay = Relay(msgspec.json.decode(await loop.run_in_executor(None, sys.stdin.readline)))
    application = web.Application()
    application.router.add_get("/{node}" + READINGS_PATH, relay.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    _say(msgspec.json.encode({"port": runner.addresses[0][1]}).decode())
    async with aiohttp.ClientSession() as session:
        polling = loop.create_task(relay.poll(session))
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            relay.fault = msgspec.json.decode(line, type=Fault)
            _say(line.strip())
        polling.cancel()
    await runner.cleanup()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_serve())
