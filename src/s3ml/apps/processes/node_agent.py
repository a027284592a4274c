"""A node agent's process: it samples the node's TEE memory and serves what it read.

SIGTERM and SIGINT end it in order: what was set up in the kernel for counting is undone last.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from s3ml.listening import DrainingServer, http_config, listen
from s3ml.primitives.clock import SystemClock
from s3ml.primitives.errors import UnavailableError
from s3ml.tee_memory.application import create_app
from s3ml.tee_memory.finding import Wishes, find
from s3ml.tee_memory.sampler import Sampler

GRACE_S = 5
CONNECTIONS_LIMIT = 128
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(
    wishes: Wishes,
    *,
    node: str,
    host: str,
    port: int,
    interval_s: float,
    announce: Callable[[str, Sampler, str | None], None],
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        wishes: What is to be read.
        node: The node's name.
        host: The address to listen on.
        port: The port to listen on; 0 lets the system choose.
        interval_s: Between two samples.
        announce: Told once, when requests are taken: the URL, what is read, and what of it cannot be counted.

    Raises:
        ConfigurationError: the address cannot be listened on, or the source's name is wrong.
        UnavailableError: this machine has no such memory, or it cannot be read.
    """
    with _ending_by_signals():
        found = find(wishes, clock := SystemClock())
        sampler = Sampler(node, found.source, clock, interval_s=interval_s, servers=found.servers)
        try:
            sampler.sample()
            if sampler.newest.reading is None:
                raise UnavailableError(sampler.error or "nothing could be read")
            with listen(host, port, setting="--listen") as listener:
                taken_host, taken_port = listener.getsockname()[:2]
                shown = f"[{taken_host}]" if ":" in taken_host else taken_host
                config = http_config(app=create_app(sampler), connections=CONNECTIONS_LIMIT, grace_s=GRACE_S)
                server = DrainingServer(
                    config,
                    announce=lambda: None,
                    notice_s=0.0,  # Nobody spreads load over agents.
                    on_started=lambda: announce(f"http://{shown}:{taken_port}", sampler, found.warning),
                )
                server.run(sockets=[listener])
        finally:
            for number in _SIGNALS:  # the end is under way
                signal.signal(number, signal.SIG_IGN)
            sampler.close()


@contextmanager
def _ending_by_signals() -> Iterator[None]:
    """Unwind on a signal, also before the server takes them and after it has."""
    before = {number: signal.signal(number, _end) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(_number: int, _frame: object) -> None:
    sys.exit(0)
