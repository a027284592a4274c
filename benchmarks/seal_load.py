"""The load for `seal.py`: closed loops of sealed and unsealed requests, timed on the caller's side.

Reads a plan (JSON) from standard input and prints one JSON line per cell of it, in the plan's order. Every
sealed request is sealed afresh and every reply is opened; both ends of the comparison start from the same
encoded request and end with the encoded reply.
"""

import asyncio
import base64
import json
import resource
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import uvloop

from benchmarks.loopback import Connection, head_of
from benchmarks.machine import pin
from benchmarks.seal_server import SERVICE
from s3ml.wire.ohttp import REQUEST_MEDIA_TYPE, KeyConfig, parse_key_configs
from s3ml.wire.oip import InferRequest, Tensor, encode_infer_request, infer_path
from s3ml.wire.sealed import InnerRequest, seal_request

UNSEALED = "unsealed"
_INPUTS = 16
_OK = 200
_SEALED_PATH = f"/services/{SERVICE}/ohttp"
_SEALED_FIELDS = (("content-type", REQUEST_MEDIA_TYPE),)


@dataclass(frozen=True, slots=True)
class Requests:
    """A few encoded requests to one model, and how they go out unsealed."""

    inner: tuple[InnerRequest, ...]
    heads: tuple[bytes, ...]

    @classmethod
    def make(cls, model: str, name: str, shape: list[int], seed: int) -> "Requests":
        """Encode standard-normal inputs, drawn with `seed`."""
        draw = np.random.default_rng(seed)
        inner, heads = [], []
        for _ in range(_INPUTS):
            tensor = Tensor.from_array(name, draw.standard_normal(shape, dtype=np.float32))
            content, fields = encode_infer_request(InferRequest(model=model, inputs=(tensor,)))
            path = infer_path(model)
            inner.append(InnerRequest(method="POST", path=path, fields=fields, content=content))
            heads.append(head_of(path, fields, len(content)))
        return cls(tuple(inner), tuple(heads))


@dataclass(slots=True)
class Timings:
    """What one cell took, in seconds per request."""

    caller: list[float]
    wire: list[float]
    seal: list[float]
    open: list[float]


async def ask_plain(connection: Connection, requests: Requests, number: int, timings: Timings) -> bytes:
    """Send one request without a seal; return the encoded reply."""
    index = number % _INPUTS
    began = time.perf_counter()
    status, body = await connection.post(requests.heads[index], bytes(requests.inner[index].content))
    took = time.perf_counter() - began
    assert status == _OK, body
    timings.caller.append(took)
    timings.wire.append(took)
    return body


async def ask_sealed(
    connection: Connection, requests: Requests, number: int, timings: Timings, config: KeyConfig
) -> bytes:
    """Seal one request, send it and open its reply; return the encoded reply."""
    inner = requests.inner[number % _INPUTS]
    began = time.perf_counter()
    sealed = seal_request(config, inner, date=datetime.now(UTC))
    sent = time.perf_counter()
    status, body = await connection.post(head_of(_SEALED_PATH, _SEALED_FIELDS, len(sealed.body)), sealed.body)
    received = time.perf_counter()
    assert status == _OK, body
    response = sealed.open_response(body)
    ended = time.perf_counter()
    assert response.status == _OK, bytes(response.content)
    timings.caller.append(ended - began)
    timings.wire.append(received - sent)
    timings.seal.append(sent - began)
    timings.open.append(ended - received)
    return bytes(response.content)


async def run_cell(
    connections: list[Connection], requests: Requests, count: int, config: KeyConfig | None
) -> tuple[Timings, float, float]:
    """Send `count` requests, one at a time per connection; return timings, duration and processor time."""
    timings = Timings([], [], [], [])
    numbers = iter(range(count))

    async def caller(connection: Connection) -> None:
        for number in numbers:
            if config is None:
                await ask_plain(connection, requests, number, timings)
            else:
                await ask_sealed(connection, requests, number, timings, config)

    used, began = _cpu_s(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(caller(connection))
    return timings, time.perf_counter() - began, _cpu_s() - used


async def check_equal(connection: Connection, requests: Requests, configs: dict[str, KeyConfig]) -> None:
    """Hold that every way gives the same reply, byte for byte."""
    ignored = Timings([], [], [], [])
    expected = await ask_plain(connection, requests, 0, ignored)
    for config in configs.values():
        assert await ask_sealed(connection, requests, 0, ignored, config) == expected


async def run(plan: dict[str, Any]) -> None:
    """Run the plan's cells in order and print each."""
    configs = {
        name: parse_key_configs(base64.b64decode(text))[0] for name, text in plan["key_configs"].items()
    }
    requests = Requests.make(plan["model"], plan["input"], plan["shape"], plan["seed"])
    most = max(cell["concurrency"] for cell in plan["cells"])
    connections = [await Connection.connect(plan["port"]) for _ in range(most)]
    await check_equal(connections[0], requests, configs)
    for cell in plan["cells"]:
        chosen = connections[: cell["concurrency"]]
        config = None if cell["mode"] == UNSEALED else configs[cell["mode"]]
        timings, elapsed_s, cpu_s = await run_cell(chosen, requests, cell["requests"], config)
        line = {
            "elapsed_s": elapsed_s,
            "client_cpu_s": cpu_s,
            **{name: _microseconds(getattr(timings, name)) for name in Timings.__slots__},
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    for connection in connections:
        connection.close()


def _microseconds(values_s: list[float]) -> list[int]:
    return [round(value * 1e6) for value in values_s]


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run the plan on standard input."""
    plan = json.load(sys.stdin)
    pin(plan["core"])
    uvloop.run(run(plan))


if __name__ == "__main__":
    main()
