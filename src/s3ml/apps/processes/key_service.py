"""The key service's process: what is measured, and what the operator starts.

Takes no arguments. Settings come from an allow-list of ``S3ML_*`` variables, none of which any trust decision
depends on. Logs are JSON lines on standard error.

SIGTERM ends it in order: readiness goes first, requests are still answered while gateways notice, then the
listener closes, what is under way is finished, and the audit stream is committed. A second one ends it
at once.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import uvicorn

from s3ml.apps.processes.attester import find_attester
from s3ml.apps.processes.listening import http_config, listen
from s3ml.attestation.generate import Attester
from s3ml.keyservice.cosigning import Cosigner
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.server import create_app
from s3ml.keyservice.service import KeyService
from s3ml.keyservice.settings import Settings, parse_settings
from s3ml.keyservice.storage import open_storage
from s3ml.primitives.clock import SystemClock
from s3ml.primitives.errors import ConfigurationError, S3MLError

EXIT_CONFIGURATION = 2
EXIT_FAILURE = 1
GRACE_S = 5
# Longer than a gateway takes between two checks of readiness.
DRAIN_S = 1.0
CONNECTIONS_LIMIT = 8192
KEEP_ALIVE_S = 75
WITNESS_TIMEOUT_S = 5.0


def main() -> None:
    """Serve until SIGTERM; end with status 0, or with one clear line and another status."""
    try:
        settings = parse_settings()
        run(settings, find_attester(settings))
    except S3MLError as error:
        sys.stderr.write(f"key service: {error}\n")
        sys.exit(EXIT_CONFIGURATION if isinstance(error, ConfigurationError) else EXIT_FAILURE)


def run(settings: Settings, attester: Attester) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: the address cannot be listened on.
        UntrustedPeerError: what is stored is not what this key service wrote.
        UnavailableError: storage or the TEE does not answer.
    """
    clock = SystemClock()
    events = EventLog(_write_line, clock)
    config = http_config(connections=CONNECTIONS_LIMIT, keep_alive_s=KEEP_ALIVE_S, grace_s=GRACE_S)
    with closing(open_storage(settings.database)) as storage:
        cosigner = Cosigner(settings.witnesses, timeout_s=WITNESS_TIMEOUT_S)
        service = KeyService(storage, attester, clock, events, cosigner=cosigner, peers=settings.peers)
        config.app = create_app(service, events)
        with listen(settings.host, settings.port, setting="S3ML_LISTEN") as listener:
            host, port = listener.getsockname()[:2]
            events.emit("listening", listen=f"{host}:{port}", tee=attester.tee)
            server = _DrainingServer(config, service.drain)
            server.run(sockets=[listener])


class _DrainingServer(uvicorn.Server):
    """A server that says for a while that it will end, before it does.

    Args:
        config: uvicorn's.
        drain: Told once, when the end is asked for.
    """

    def __init__(self, config: uvicorn.Config, drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain = drain
        self._is_asked = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals that ask for the end; uvicorn's own would raise them again once it has ended."""
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, _number: int, _frame: object) -> None:
        if self._is_asked:
            self.should_exit = self.force_exit = True
            return
        self._is_asked = True
        self._drain()
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.call_later, DRAIN_S, self._stop)

    def _stop(self) -> None:
        self.should_exit = True


def _write_line(line: str) -> None:
    sys.stderr.write(line)
    sys.stderr.flush()
