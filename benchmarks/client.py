"""What the SDK costs a program before its first call, and what kept connections save it afterwards.

Imports run in fresh interpreters with compiled bytecode, interleaved; what is timed is the import, not the
start of Python. An import waits for nothing, so that its processor time is what it takes on an idle machine.
Libraries to compare with come from the interpreter of ``--peers``, where one is given. Connections go to a
local echo of 4 KB, through the transports of the SDK, kept or opened for each request.

Usage: ``python -m benchmarks.client [--quick] [--output DIR] [--peers PYTHON]``.
"""

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.summaries import RESULTS, summary, write
from s3ml.attestation.evidence import Tee
from s3ml.attestation.policy import Alternative, AppraisalPolicy
from s3ml.client.aiohttp_transport import AiohttpTransport
from s3ml.client.steps import HTTPRequest
from s3ml.client.trust import Trust
from s3ml.client.urllib3_transport import Urllib3Transport
from s3ml.primitives.errors import UnavailableError
from s3ml.primitives.units import KIB

AIM_MS = 300.0
ROUNDS = 15
SECONDS = 2.0
READY_DEADLINE_S = 20.0
OURS = {
    "numpy": "import numpy",
    "s3ml.client": "import s3ml.client",
    "s3ml.client and a Client": "from s3ml.client import Client; Client('http://127.0.0.1:9', TRUST)",
    "s3ml.client and an AsyncClient": (
        "from s3ml.client import AsyncClient; AsyncClient('http://127.0.0.1:9', TRUST)"
    ),
}
PEERS = {
    "requests": "import requests",
    "httpx": "import httpx",
    "tritonclient.http": "import tritonclient.http",
    "tritonclient.grpc": "import tritonclient.grpc",
}
_TIMED = """
import json, sys, time
TRUST = sys.argv[1]
wall, cpu = time.perf_counter(), time.process_time()
{statement}
print(json.dumps([1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu), len(sys.modules)]))
"""


def timed(python: str, statement: str, trust: Path) -> list[float]:
    """Return wall and processor milliseconds of `statement` in a fresh interpreter, and its modules."""
    command = [python, "-I", "-c", _TIMED.format(statement=statement), str(trust)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: list[float] = json.loads(done.stdout)
    return told


def imports(rounds: int, peers: str | None) -> dict[str, dict[str, Any]]:
    """Return what each import takes, one of each in turn, after one of each that is not counted."""
    chosen = {name: (sys.executable, statement) for name, statement in OURS.items()}
    if peers is not None:
        chosen |= {name: (peers, statement) for name, statement in PEERS.items()}
    taken: dict[str, list[list[float]]] = {name: [] for name in chosen}
    with tempfile.TemporaryDirectory() as folder:
        trust = Path(folder) / "trust.toml"
        policy = AppraisalPolicy(accept=(Alternative(tee=Tee.SGX, measurements=("a1" * 32,)),))
        Trust(deployment="d0" * 32, key_service_policy=policy, follow="owners").write(trust)
        for turn in range(rounds + 1):
            for name, (python, statement) in chosen.items():
                took = timed(python, statement, trust)
                if turn:
                    taken[name].append(took)
    numpy_ms = summary([took[1] for took in taken["numpy"]])["median"]
    return {
        name: {
            "wall_ms": summary([took[0] for took in tooks]),
            "cpu_ms": summary([took[1] for took in tooks]),
            "modules": int(tooks[0][2]),
            "to_numpy": round(summary([took[1] for took in tooks])["median"] / numpy_ms, 2),
        }
        for name, tooks in taken.items()
    }


def request(body: bytes) -> HTTPRequest:
    """Return a request as the core makes them."""
    return HTTPRequest(
        method="POST",
        path="/",
        content_type="application/octet-stream",
        body=body,
        timeout_s=30.0,
        limit_bytes=KIB * KIB,
    )


def blocking_rate(url: str, *, is_kept: bool, seconds: float) -> float:
    """Return the requests per second of one thread."""
    transport = Urllib3Transport(url)
    asked, count, began = request(bytes(4 * KIB)), 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        transport.send(asked)
        count += 1
        if not is_kept:
            transport.close()
    rate = count / (time.perf_counter() - began)
    transport.close()
    return rate


async def awaited_rate(url: str, *, is_kept: bool, seconds: float) -> float:
    """Return the requests per second of one task."""
    transport = AiohttpTransport(url)
    asked, count, began = request(bytes(4 * KIB)), 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        await transport.send(asked)
        count += 1
        if not is_kept:
            await transport.close()
    rate = count / (time.perf_counter() - began)
    await transport.close()
    return rate


def connections(rounds: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Return requests per second with kept connections and with one for each request, in turns."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"from benchmarks.http_clients import serve; serve({port})"
    server = subprocess.Popen([sys.executable, "-c", code])
    url = f"http://127.0.0.1:{port}"
    measures: dict[str, Callable[[bool], float]] = {
        "Client": lambda is_kept: blocking_rate(url, is_kept=is_kept, seconds=seconds),
        "AsyncClient": lambda is_kept: asyncio.run(awaited_rate(url, is_kept=is_kept, seconds=seconds)),
    }
    rates: dict[str, dict[bool, list[float]]] = {name: {True: [], False: []} for name in measures}
    try:
        await_server(url)
        for _ in range(rounds):
            for name, measure in measures.items():
                for is_kept in (True, False):
                    rates[name][is_kept].append(measure(is_kept))
    finally:
        server.terminate()
        server.wait()
    return {
        name: {
            "kept_per_s": summary(both[True], 0),
            "opened_per_s": summary(both[False], 0),
            "ratio": round(summary(both[True])["median"] / summary(both[False])["median"], 2),
        }
        for name, both in rates.items()
    }


def await_server(url: str) -> None:
    """Return when the echo answers."""
    transport, deadline_s = Urllib3Transport(url), time.monotonic() + READY_DEADLINE_S
    while True:
        try:
            transport.send(request(b""))
        except UnavailableError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)
        else:
            transport.close()
            return


def main() -> None:
    """Take the arguments, measure, and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny counts: does it still run?")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--peers", help="an interpreter that has requests, httpx and tritonclient[all]")
    options = parser.parse_args()
    described = machine.describe()
    print("client: imports", flush=True)
    imported = imports(1 if options.quick else ROUNDS, options.peers)
    print("client: connections", flush=True)
    connected = connections(1 if options.quick else 5, 0.1 if options.quick else SECONDS)
    import_ms = imported["s3ml.client"]["cpu_ms"]["median"]
    document = {
        "is_quick": options.quick,
        "machine": described,
        "imports": imported,
        "connections": connected,
        "aims": [
            {
                "aim": "import s3ml.client, processor time",
                "unit": "ms",
                "below": AIM_MS,
                "got": import_ms,
                "is_met": import_ms < AIM_MS,
            }
        ],
    }
    print(write(options.output, "client", document))


if __name__ == "__main__":
    main()
