"""Ports of loopback that nobody else takes: some that refuse, and some for processes that start later."""

import atexit
import contextlib
import secrets
import socket
from collections.abc import Iterator

from s3ml.apps.cluster.process import LOOPBACK, is_port_free

# Below what the kernel gives away by itself, and apart from what clusters choose for their processes.
_CLAIMED = range(10_000, 20_000)
_CLAIMS = contextlib.ExitStack()
atexit.register(_CLAIMS.close)


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """Hold a port that refuses connections as long as the block: it is taken, and nobody listens."""
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        yield held.getsockname()[1]


def claim_port() -> int:
    """Return a free port that no other test is given, in whichever process, until this process ends.

    A name that only one process of the machine can hold says so, while nobody listens at the port yet.
    """
    while True:
        port = secrets.choice(_CLAIMED)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0s3ml-tests-port-{port}")
        except OSError:
            claim.close()
            continue
        if is_port_free(port):
            _CLAIMS.enter_context(claim)
            return port
        claim.close()
