"""One model server of the experiments: the product's own, sealed, with keys that it is handed at its start.

Enrolment and the key service are left out: they are no part of a request. All replicas of a run hold one
epoch key, as replicas of a service do, so that a sealed request can go to any of them.

Reads the private key from standard input (hex, one line); prints a line of JSON, its port, once it listens.
"""

import argparse
import ctypes
import json
import signal
import socket
import sys
from pathlib import Path

import uvicorn
import uvloop

from benchmarks.scheduling.ranker import NAME
from benchmarks.seal_server import SERVICE, WithUnsealed, compose
from s3ml.listening import http_config
from s3ml.wire.hpke import X25519_AES128, PrivateKey
from s3ml.wire.ohttp import KeyConfig
from s3ml.wire.sealed import KeyRing, RingKey

_KEY_ID = 1
_GRACE_S = 5
_PR_SET_PDEATHSIG = 1


def ring_of(private_key: PrivateKey) -> KeyRing:
    """Return the keys of an epoch that has this one key."""
    return KeyRing.of(
        [RingKey(config=config_of(private_key), private_key=private_key, service=SERVICE, epoch=1)]
    )


def config_of(private_key: PrivateKey) -> KeyConfig:
    """Return what clients seal to."""
    return KeyConfig(
        key_id=_KEY_ID, kem=private_key.kem, public_key=private_key.public, suites=(X25519_AES128,)
    )


async def _serve(app: WithUnsealed) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        sys.stdout.write(json.dumps({"port": listener.getsockname()[1]}) + "\n")
        sys.stdout.flush()
        server = uvicorn.Server(http_config(app=app, grace_s=_GRACE_S, lifespan="off"))
        await server.serve(sockets=[listener])


def main() -> None:
    """Serve until terminated, or until whoever started this ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--replica", required=True, help="its name in replies")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    private_key = PrivateKey.from_bytes(X25519_AES128.kem, bytes.fromhex(sys.stdin.readline()))
    app, _ = compose({NAME: options.model}, 1, ring=ring_of(private_key), replica=options.replica)
    uvloop.run(_serve(app))


if __name__ == "__main__":
    main()
