"""The key service's process: what is measured, and what the operator starts.

Takes no arguments. Settings come from an allow-list of ``S3ML_*`` variables, none of which any trust decision
depends on. Logs are JSON lines on standard error.

SIGTERM ends it in order: readiness goes first, requests are still answered while gateways notice, then the
listener closes, what is under way is finished, and the audit stream is committed. A second one ends it
at once.
"""

import sys
from contextlib import closing

from s3ml.apps.processes.attester import find_attester
from s3ml.attestation.generate import Attester
from s3ml.keyservice.cosigning import Cosigner
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.server import create_app
from s3ml.keyservice.service import KeyService
from s3ml.keyservice.settings import Settings, parse_settings
from s3ml.keyservice.storage import open_storage
from s3ml.listening import DrainingServer, http_config, listen
from s3ml.primitives.clock import SystemClock
from s3ml.primitives.errors import ConfigurationError, S3MLError

EXIT_CONFIGURATION = 2
EXIT_FAILURE = 1
GRACE_S = 5
CONNECTIONS_LIMIT = 8192
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
    config = http_config(connections=CONNECTIONS_LIMIT, grace_s=GRACE_S)
    with closing(open_storage(settings.database)) as storage:
        cosigner = Cosigner(settings.witnesses, timeout_s=WITNESS_TIMEOUT_S)
        service = KeyService(storage, attester, clock, events, cosigner=cosigner, peers=settings.peers)
        config.app = create_app(service, events)
        with listen(settings.host, settings.port, setting="S3ML_LISTEN") as listener:
            host, port = listener.getsockname()[:2]
            events.emit("listening", listen=f"{host}:{port}", tee=attester.tee)
            DrainingServer(config, announce=service.drain).run(sockets=[listener])


def _write_line(line: str) -> None:
    sys.stderr.write(line)
    sys.stderr.flush()
