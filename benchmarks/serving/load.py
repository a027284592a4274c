"""The load: closed loops on the other core, the same for every server, and every reply looked at afterwards.

Requests are encoded before the clock starts, and where a server wants them sealed, they are sealed before it
starts too, each of them once: replays are refused, and in production the sealing is spread over the callers,
not done by the one process that makes all the load (what it costs them is in `seal.json`). Replies are opened
and checked after the clock has stopped.

Reads a plan (JSON, one line) from standard input, then cells, a line each; prints a line about each cell.
"""

import asyncio
import gc
import json
import resource
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.loopback import Connection, head_of
from benchmarks.machine import pin
from benchmarks.serving.workloads import ABSOLUTE, INPUTS, RELATIVE, Array, Workload
from s3ml.wire.ohttp import REQUEST_MEDIA_TYPE, KeyConfig, parse_key_configs
from s3ml.wire.oip import HEADER_LENGTH_FIELD, decode_infer_response, parse_header_length
from s3ml.wire.sealed import InnerRequest, SealedRequest, seal_request

_OK = 200
_SHOWN_BYTES = 200
# One reply in so many is decoded and compared with what ONNX Runtime gave; the status of all is looked at.
_CHECKED = 8
_SEALED_FIELDS = (("content-type", REQUEST_MEDIA_TYPE),)


@dataclass(frozen=True, slots=True)
class Pool:
    """Requests that are ready to be sent.

    Attributes:
        messages: Head and body of each.
        sealed: What opens the reply to each; empty where they are not sealed.
    """

    messages: list[tuple[bytes, bytes]]
    sealed: list[SealedRequest]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, and to which input."""

    number: int
    body: bytes
    took_s: float
    head: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """What a cell gathers.

    Attributes:
        replies: Those with the outer status 200.
        failures: The beginnings of all others.
    """

    replies: list[Reply]
    failures: list[bytes]


class Load:
    """The load of one workload; see the module."""

    def __init__(self, plan: dict[str, Any]) -> None:
        described = plan["workload"] | {"path": Path(plan["workload"]["path"])}
        described |= {name: tuple(described[name]) for name in ("shape", "output_shape")}
        self._workload = Workload(**described)
        self._answers: list[Array] = self._workload.answers()
        self._servers = plan["servers"]
        self._inner_path = plan["inner_path"]

    def pool(self, cell: dict[str, Any]) -> Pool:
        """Make the requests of one cell; sealed ones as many as it may need."""
        server = self._servers[cell["server"]]
        encoded = self._workload.encoded(cell["encoding"])
        if server["key_configs"] is None:
            messages = [
                (head_of(server["path"], fields, len(content)), content) for content, fields in encoded
            ]
            return Pool(messages, [])
        config: KeyConfig = parse_key_configs(b64decode(server["key_configs"]))[0]
        inner = [
            InnerRequest(method="POST", path=self._inner_path, fields=fields, content=content)
            for content, fields in encoded
        ]
        now = datetime.now(UTC)
        sealed = [seal_request(config, inner[n % INPUTS], date=now) for n in range(cell["most"])]
        messages = [(head_of(server["path"], _SEALED_FIELDS, len(one.body)), one.body) for one in sealed]
        return Pool(messages, sealed)

    async def run(self, cell: dict[str, Any]) -> dict[str, Any]:
        """Run one cell and return what it took."""
        started = _cpu_s()
        pool = self.pool(cell)
        connections = [await Connection.connect(cell["port"]) for _ in range(cell["concurrency"])]
        taken = Taken([], [])
        gc.collect()
        gc.disable()
        used, began = _cpu_s(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            numbers = iter(range(cell["most"]))
            for connection in connections:
                group.create_task(_caller(connection, pool, numbers, began + cell["seconds"], taken))
        elapsed_s, used = time.perf_counter() - began, _cpu_s() - used
        gc.enable()
        for connection in connections:
            connection.close()
        self._check(cell, pool, taken.replies)
        failures = taken.failures
        return {
            "elapsed_s": elapsed_s,
            "client_cpu_s": used,
            "all_cpu_s": _cpu_s() - started,
            "failures": len(failures),
            "failure": failures[0].decode(errors="replace") if failures else "",
            "took_us": [round(reply.took_s * 1e6) for reply in taken.replies],
        }

    def _check(self, cell: dict[str, Any], pool: Pool, replies: list[Reply]) -> None:
        """Hold that every reply is a success, and that those which are decoded are right."""
        for place, reply in enumerate(replies):
            content: bytes | memoryview = reply.body
            header_length = _header_length(reply.head)
            if pool.sealed:
                response = pool.sealed[reply.number].open_response(reply.body)
                assert response.status == _OK, (cell, response.status, bytes(response.content)[:_SHOWN_BYTES])
                content = response.content
                header_length = parse_header_length(response.field(HEADER_LENGTH_FIELD))
            if place % _CHECKED:
                continue
            outputs = decode_infer_response(content, header_length).outputs
            assert [output.name for output in outputs] == [self._workload.output], cell
            expected = self._answers[reply.number % INPUTS]
            got = np.asarray(outputs[0].array, np.float32).reshape(expected.shape)
            np.testing.assert_allclose(got, expected, rtol=RELATIVE, atol=ABSOLUTE, err_msg=str(cell))


async def _caller(
    connection: Connection, pool: Pool, numbers: Iterator[int], until: float, taken: Taken
) -> None:
    """Send one request after the other until the time is up or no number is left."""
    count = len(pool.messages)
    for number in numbers:
        head, body = pool.messages[number % count]
        began = time.perf_counter()
        status, content = await connection.post(head, body)
        ended = time.perf_counter()
        if status == _OK:
            taken.replies.append(Reply(number, content, ended - began, connection.head))
        else:
            taken.failures.append(content[:_SHOWN_BYTES])
        if ended > until:
            return


def _header_length(head: bytes) -> int | None:
    """Return the length of the JSON before the tensors, where a plain reply says it."""
    _, is_there, rest = head.partition(b"\r\n" + HEADER_LENGTH_FIELD.encode() + b":")
    return int(rest.partition(b"\r\n")[0]) if is_there else None


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Read the plan, then run a cell for each line."""
    plan = json.loads(sys.stdin.readline())
    load = Load(plan)
    pin(plan["core"])
    for line in sys.stdin:
        found = uvloop.run(load.run(json.loads(line)))
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
