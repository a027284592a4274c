"""A replica of the key service as a process of its own, on one core; or a bare echo of the same bodies.

The replica is the product's own process (`s3ml.apps.processes.key_service.run`: uvicorn with uvloop and
httptools, storage, witnesses, peers). Only its enclave is played: its quotes are signed in this process, and
take as much longer as is asked for.

Usage: ``python -m benchmarks.keyservice_process --vendor FILE --database URL --port N [...]``.
"""

import argparse
from pathlib import Path
from typing import Any

import uvicorn

from benchmarks import machine
from benchmarks.enclaves import KEY_SERVICE, PlayedEnclave
from s3ml.apps.processes import key_service
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.keyservice.settings import Settings

HOST = "127.0.0.1"


class Echo:
    """Read a request, answer with what lies in `folder` for its path; nothing else.

    Args:
        folder: One file for each path, its name the path's last part.
    """

    def __init__(self, folder: Path) -> None:
        self._replies = {f"/v1/{path.name}": path.read_bytes() for path in folder.iterdir()}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        reply = self._replies[scope["path"]]
        length = str(len(reply)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})


def echo(folder: Path, port: int) -> None:
    """Serve the echo until SIGTERM."""
    config = uvicorn.Config(
        Echo(folder),
        host=HOST,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
    )
    uvicorn.Server(config).run()


def main() -> None:
    """Take the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--echo", type=Path, help="the folder of replies; serve them and nothing else")
    parser.add_argument("--vendor", type=Path, help="the simulated vendor's keys")
    parser.add_argument("--database")
    parser.add_argument("--quote-ms", type=float, default=0.0)
    parser.add_argument("--peer", action="append", default=[])
    parser.add_argument("--witness", action="append", default=[])
    options = parser.parse_args()
    if options.core >= 0:
        machine.pin(options.core)
    if options.echo:
        echo(options.echo, options.port)
        return
    pki = SimulatedPKI.from_bytes(options.vendor.read_bytes())
    settings = Settings(
        host=HOST,
        port=options.port,
        database=options.database,
        peers=tuple(options.peer),
        witnesses=tuple(options.witness),
    )
    key_service.run(settings, PlayedEnclave(pki, KEY_SERVICE, quote_s=options.quote_ms / 1e3))


if __name__ == "__main__":
    main()
