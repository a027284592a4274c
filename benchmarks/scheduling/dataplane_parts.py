"""The processes of the data plane's benchmark: upstreams that answer at once, and a balancer of odd policies.

Usage: ``python -m benchmarks.scheduling.dataplane_parts upstream COUNT`` prints one port a line and serves
until its standard input ends; ``… balancer GATEWAY MEMBERSHIP CONTROL POLICY [PICKER_PORT]`` runs the
product's balancer.
"""

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import cast

import uvloop

from s3ml.apps.processes.balancer import BalancerOptions, serve
from s3ml.scheduling.balancer.policies import POLICIES, policy_named
from s3ml.scheduling.balancer.settings import BalancerSettings, Steering
from s3ml.scheduling.balancer.view import Choice, Policy, Reason, Shares, View

LOOPBACK = "127.0.0.1"
_MOST, _LEAST = 0.999, 0.001


class Upstream(asyncio.Protocol):
    """Answers each request with its name, whatever was asked; a request is whole when it is here at once."""

    def __init__(self, name: bytes) -> None:
        """Answer with `name`."""
        self._reply = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(name), name)
        self._transport: asyncio.Transport | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        """Answer as soon as a request's body is complete."""
        self._data += data
        head, separator, body = self._data.partition(b"\r\n\r\n")
        if not separator:
            return
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if len(body) >= length and self._transport is not None:
            self._data = body[length:]
            self._transport.write(self._reply)


class Pinned:
    """Sends nearly everything to the first replica, or to the last."""

    def __init__(self, name: str, index: int) -> None:
        """Be called `name`, and choose the ready replica of that index."""
        self.name = name
        self._index = index

    def pick(self, view: View, draw: Random) -> Choice:
        """Choose the one."""
        _ = draw
        ready = view.ready
        if not ready:
            return Choice(replica=None, reasons={})
        return Choice(replica=ready[self._index].name, reasons={ready[self._index].name: Reason.CHOSEN})

    def shares(self, view: View) -> Shares:
        """Give nearly all to the one."""
        ready = view.ready
        share = {replica.name: _LEAST for replica in ready}
        if ready:
            share[ready[self._index].name] = _MOST
        return Shares(share=share, reasons={})


class Restless(Pinned):
    """Says something new at each step, so that weights are written each time; picks as power of two."""

    def pick(self, view: View, draw: Random) -> Choice:
        """Choose as power of two does."""
        return policy_named("power-of-two").pick(view, draw)

    def shares(self, view: View) -> Shares:
        """Give the first a little more at every other turn."""
        ready = view.ready
        more = 1.1 if view.turn % 2 else 1.0
        total = len(ready) - 1 + more
        share = {replica.name: (1.0 if number else more) / total for number, replica in enumerate(ready)}
        return Shares(share=share, reasons={replica.name: Reason.CHOSEN for replica in ready})


async def serve_upstreams(count: int) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    for number in range(count):
        server = await loop.create_server(partial(Upstream, b"%d" % number), LOOPBACK, 0)
        print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


def balance(gateway: str, membership: str, control: str, policy: str, picker: str | None = None) -> None:
    """Run the product's balancer."""
    steering = Steering.WEIGHTS if picker is None else Steering.PICKER
    options = BalancerOptions(
        policy=policy,
        gateway=Path(gateway),
        membership=Path(membership),
        control=Path(control),
        listen=None,
        picker=None if picker is None else (LOOPBACK, int(picker)),
        settings=BalancerSettings(steering=steering),
    )
    ours: dict[str, Callable[[], Policy]] = {
        "first": partial(Pinned, "first", 0),
        "last": partial(Pinned, "last", -1),
        "restless": partial(Restless, "restless", 0),
    }
    named = {name: partial(policy_named, name) for name in POLICIES}
    uvloop.run(serve(options, {**named, **ours}))


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "upstream":
        uvloop.run(serve_upstreams(int(rest[0])))
    else:
        balance(*rest)
