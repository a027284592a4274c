"""Clients that close their connection while they wait, over real sockets."""

import asyncio
import io
import json
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from s3ml.modelserver import Settings
from s3ml.modelserver import server as module
from s3ml.modelserver.events import EventLog
from s3ml.modelserver.runtimes.onnx import OnnxRuntime
from s3ml.primitives.clock import SystemClock
from s3ml.wire.ohttp import KeyConfig
from s3ml.wire.sealed import InnerRequest, seal_request
from tests.modelserver.conftest import World, linear

DEADLINE_S = 300.0


class Held:
    """Lets no inference go on before it is told to, and remembers what was computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.released = threading.Semaphore(0), threading.Event()
        self.seen: list[float] = []
        run = OnnxRuntime.run

        def hold(runtime: Any, inputs: Any, outputs: Any) -> Any:
            self.seen.append(float(inputs["x"][0, 0]))
            self.begun.release()
            assert self.released.wait(DEADLINE_S)
            return run(runtime, inputs, outputs)

        monkeypatch.setattr(OnnxRuntime, "run", hold)


class Client:
    """Sends sealed requests over a connection of its own each."""

    def __init__(self, port: int, config: KeyConfig) -> None:
        self.port, self.config = port, config

    async def send(self, first: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        rows = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [first, 1, 1]}]}
        request = InnerRequest(
            method="POST", path="/v2/models/tumours/infer", content=json.dumps(rows).encode()
        )
        body = seal_request(self.config, request, date=datetime.now(UTC)).body
        head = f"POST /services/tumours/ohttp HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head.encode() + b"content-type: message/ohttp-req\r\n\r\n" + body)
        await writer.drain()
        return reader, writer

    async def get(self, path: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        reply = await reader.read()
        writer.close()
        return reply

    async def wait_until_ready(self) -> None:
        while True:
            if (await self.get("/v2/health/ready")).startswith(b"HTTP/1.1 200"):
                return
            await asyncio.sleep(0.01)

    async def status(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        line = await asyncio.wait_for(reader.readline(), DEADLINE_S)
        writer.close()
        return line


@asynccontextmanager
async def served(world: World) -> AsyncIterator[Client]:
    world.publish(linear())
    config = world.begin_epoch()
    settings = Settings(
        host="127.0.0.1",
        port=0,
        key_service=("http://127.0.0.1:1",),
        service="tumours",
        bundles=str(world.store),
        inference_threads=1,
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Client(listener.getsockname()[1], config)
        log = EventLog("r", io.StringIO())
        serving = asyncio.ensure_future(
            module.serve(settings, world, listener=listener, clock=SystemClock(), log=log)
        )
        await client.wait_until_ready()
        yield client
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, DEADLINE_S)


class TestLeaving:
    """Who leaves while waiting is not computed, and nobody else notices."""

    async def test_a_place_in_the_queue_is_freed(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        held = Held(monkeypatch)
        async with served(world) as client:
            running = await client.send(1)
            await asyncio.to_thread(held.begun.acquire)
            _, leaves = await client.send(2)
            stays = await client.send(3)
            await client.get("/v2/health/live")
            leaves.close()
            await leaves.wait_closed()
            await client.get("/v2/health/live")
            held.released.set()

            assert await client.status(*running) == b"HTTP/1.1 200 OK\r\n"
            assert await client.status(*stays) == b"HTTP/1.1 200 OK\r\n"
        assert held.seen == [1, 3]

    async def test_one_whose_inference_runs_disturbs_nobody(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held = Held(monkeypatch)
        async with served(world) as client:
            _, leaves = await client.send(1)
            await asyncio.to_thread(held.begun.acquire)
            stays = await client.send(2)
            leaves.close()
            held.released.set()

            assert await client.status(*stays) == b"HTTP/1.1 200 OK\r\n"
        assert held.seen == [1, 2]
