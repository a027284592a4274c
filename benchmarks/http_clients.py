"""Which HTTP library the client should use: POSTs to a local server, import time, memory, processor time.

Each library runs in a process of its own against one uvicorn server (bare ASGI, uvloop, httptools) that reads
the body and answers 4 KB. Libraries that are not installed are left out and said so. ``niquests`` replaces
``urllib3`` by a fork of the same import name: each row records the version that really ran.

Usage: ``python benchmarks/http_clients.py [--seconds 2] [--output benchmarks/results/http_clients.json]``.
"""

import argparse
import asyncio
import importlib
import importlib.metadata
import json
import platform
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from s3ml.primitives.units import KIB

BODIES_BYTES = (4 * KIB, 600 * KIB)
CONCURRENCY = (1, 16)
ANSWER = bytes(4 * KIB)
LIBRARIES = {
    "urllib3": "sync",
    "httpx": "sync",
    "niquests": "sync",
    "aiohttp": "async",
    "httpx-async": "async",
    "niquests-async": "async",
}
_OK = 200

type_of_call = Callable[[bytes], Any]


async def answer(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
    """Serve every request: read the body, answer 4 KB."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        continue
    head = {"type": "http.response.start", "status": _OK, "headers": [(b"content-length", b"4096")]}
    await send(head)
    await send({"type": "http.response.body", "body": ANSWER})


def serve(port: int) -> None:
    """Run the server on `port` until it is terminated."""
    uvicorn = importlib.import_module("uvicorn")
    uvicorn.run(answer, host="127.0.0.1", port=port, log_level="error", access_log=False, lifespan="off")


def sync_call(library: str, url: str) -> type_of_call:
    """Return a thread-safe function that posts a body and reads the answer."""
    module = importlib.import_module(library)
    if library == "urllib3":
        pool = module.PoolManager(maxsize=16, retries=False)
        return lambda body: (r := pool.request("POST", url, body=body)).status == _OK and r.data
    session = module.Client(timeout=30) if library == "httpx" else module.Session()
    key = "content" if library == "httpx" else "data"
    return lambda body: (r := session.post(url, **{key: body})).status_code == _OK and r.content


async def async_call(library: str, url: str) -> Callable[[bytes], Awaitable[Any]]:
    """Return a coroutine function that posts a body and reads the answer."""
    name = library.removesuffix("-async")
    module = importlib.import_module(name)
    if name == "aiohttp":
        session = module.ClientSession()

        async def post(body: bytes) -> Any:
            async with session.post(url, data=body) as reply:
                return reply.status == _OK and await reply.read()

        return post
    client = module.AsyncClient(timeout=30) if name == "httpx" else module.AsyncSession()
    key = "content" if name == "httpx" else "data"

    async def other(body: bytes) -> Any:
        reply = await client.post(url, **{key: body})
        return reply.status_code == _OK and reply.content

    return other


def run_sync(call: type_of_call, body: bytes, concurrency: int, seconds: float) -> list[float]:
    """Post from `concurrency` threads for `seconds`; return each latency in seconds."""
    call(body)
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    def work() -> None:
        while (start := time.perf_counter()) < end:
            if call(body) != ANSWER:
                raise SystemExit("a request failed")
            latencies.append(time.perf_counter() - start)

    threads = [threading.Thread(target=work) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies


async def run_async(
    call: Callable[[bytes], Awaitable[Any]], body: bytes, concurrency: int, seconds: float
) -> list[float]:
    """Post from `concurrency` tasks for `seconds`; return each latency in seconds."""
    await call(body)
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def work() -> None:
        while (start := time.perf_counter()) < end:
            if await call(body) != ANSWER:
                raise SystemExit("a request failed")
            latencies.append(time.perf_counter() - start)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())
    return latencies


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def cpu_s() -> float:
    """Return the processor time that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def row(
    body: bytes, concurrency: int, seconds: float, latencies: list[float], used_s: float
) -> dict[str, Any]:
    """Describe one measurement."""
    percentiles = statistics.quantiles(latencies, n=100, method="inclusive")
    return {
        "body_bytes": len(body),
        "concurrency": concurrency,
        "requests_per_s": round(len(latencies) / seconds),
        "p50_ms": round(percentiles[49] * 1e3, 3),
        "p99_ms": round(percentiles[98] * 1e3, 3),
        "cpu_us_per_request": round(used_s / len(latencies) * 1e6),
    }


async def measure_all(library: str, url: str, seconds: float) -> list[dict[str, Any]]:
    """Measure every combination of body and concurrency."""
    rows = []
    blocking = sync_call(library, url) if LIBRARIES[library] == "sync" else None
    awaited = None if blocking else await async_call(library, url)
    for body in map(bytes, BODIES_BYTES):
        for concurrency in CONCURRENCY:
            before = cpu_s()
            if blocking:
                latencies = run_sync(blocking, body, concurrency, seconds)
            else:
                assert awaited is not None
                latencies = await run_async(awaited, body, concurrency, seconds)
            rows.append(row(body, concurrency, seconds, latencies, cpu_s() - before))
    return rows


def worker(library: str, url: str, seconds: float) -> None:
    """Measure `library` in this process and print the result as JSON."""
    name = library.removesuffix("-async")
    before_bytes, start = resident_bytes(), time.perf_counter()
    try:
        module = importlib.import_module(name)
    except ImportError:
        print(json.dumps({"library": library, "installed": False}))
        return
    import_ms = (time.perf_counter() - start) * 1e3
    imported_bytes = resident_bytes()
    rows = asyncio.run(measure_all(library, url, seconds))
    result = {
        "library": library,
        "installed": True,
        "kind": LIBRARIES[library],
        "version_that_ran": module.__version__,
        "version_of_the_package": importlib.metadata.version(name),
        "import_ms": round(import_ms, 1),
        "import_mb": round((imported_bytes - before_bytes) / 1e6, 1),
        "resident_mb_after": round(resident_bytes() / 1e6, 1),
        "rows": rows,
    }
    print(json.dumps(result))


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, deadline_s: float = 10.0) -> None:
    """Return once `port` accepts connections."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the server did not start")


def main() -> None:
    """Run the server and one worker per library, and write what they measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "http_clients.json"
    )
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--worker", choices=LIBRARIES, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve)
    if options.worker:
        return worker(options.worker, options.url, options.seconds)
    port = free_port()
    server = subprocess.Popen([sys.executable, __file__, "--serve", str(port)])
    try:
        wait_for(port)
        results = []
        for library in LIBRARIES:
            arguments = ["--worker", library, "--url", f"http://127.0.0.1:{port}/", "--seconds"]
            command = [sys.executable, __file__, *arguments, str(options.seconds)]
            results.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
            print(json.dumps(results[-1]))
    finally:
        server.terminate()
        server.wait()
    machine = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
    }
    document = {"machine": machine, "seconds_per_row": options.seconds, "results": results}
    options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return None


if __name__ == "__main__":
    main()
