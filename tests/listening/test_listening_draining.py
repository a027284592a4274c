"""An orderly end, in this process: what the real processes of other tests cannot show."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import MutableMapping
from typing import Any

import pytest

from s3ml.listening import DrainingServer, http_config, listen
from s3ml.primitives.errors import ConfigurationError

PATIENCE_S = 120


async def application(_scope: Any, _receive: Any, _send: Any) -> None:
    """Nothing is ever asked of it here."""


def server(notices: list[str], *, notice_s: float) -> DrainingServer:
    config = http_config(app=application, grace_s=1, lifespan="off")
    return DrainingServer(config, announce=lambda: notices.append("announced"), notice_s=notice_s)


async def until_started(running: DrainingServer) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not running.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.001)


class TestStart:
    """Whoever wants to is told, once."""

    async def test_it_tells_when_requests_and_signals_are_taken(self) -> None:
        told: list[bool] = []
        config = http_config(app=application, grace_s=1, lifespan="off")
        running = DrainingServer(
            config, announce=lambda: None, notice_s=0.0, on_started=lambda: told.append(running.started)
        )
        with listen("127.0.0.1", 0, setting="--listen") as listener:
            async with asyncio.TaskGroup() as group:
                group.create_task(running.serve(sockets=[listener]))
                await until_started(running)
                os.kill(os.getpid(), signal.SIGTERM)

        assert told == [True]


class TestSignals:
    """The first begins the end, the second completes it; afterwards they are whose they were."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_the_first_is_announced_before_the_end(self, number: signal.Signals) -> None:
        notices: list[str] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            running = server(notices, notice_s=0.01)
            task = asyncio.ensure_future(running.serve(sockets=[listener]))
            await until_started(running)
            os.kill(os.getpid(), number)
            await asyncio.wait_for(task, PATIENCE_S)
        assert notices == ["announced"]
        assert not running.force_exit

    async def test_the_second_does_not_wait_for_the_notice_to_pass(self) -> None:
        notices: list[str] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            running = server(notices, notice_s=3600)
            task = asyncio.ensure_future(running.serve(sockets=[listener]))
            await until_started(running)
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_S):
                while not notices:  # noqa: ASYNC110 - a signal changes it
                    await asyncio.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.wait_for(task, PATIENCE_S)
        assert notices == ["announced"]

    async def test_handlers_are_put_back(self) -> None:
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        with socket.create_server(("127.0.0.1", 0)) as listener:
            running = server([], notice_s=0)
            task = asyncio.ensure_future(running.serve(sockets=[listener]))
            await until_started(running)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(task, PATIENCE_S)
        assert {number: signal.getsignal(number) for number in before} == before


class TestEndOfProcess:
    """No thread holds it."""

    def test_a_thread_that_never_ends_does_not_hold_it(self) -> None:
        code = (
            "import threading\n"
            "from s3ml.listening import end_process\n"
            "threading.Thread(target=threading.Event().wait).start()\n"
            "print('said')\n"
            "end_process(3)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert (done.returncode, done.stdout) == (3, "said\n")


class TestListen:
    """An address that cannot be listened on is one line."""

    def test_a_taken_port_names_the_setting(self) -> None:
        with listen("127.0.0.1", 0, setting="--listen") as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigurationError, match=f"^--listen: cannot listen on 127.0.0.1:{port}"):
                listen("127.0.0.1", port, setting="--listen")

    def test_version_six_is_recognised(self) -> None:
        with listen("::1", 0, setting="--listen") as listener:
            assert listener.family is socket.AF_INET6


class TestSettings:
    """Nothing of a request is logged or told."""

    def test_the_engine_keeps_to_itself(self) -> None:
        config = http_config(app=application, grace_s=7, connections=9)
        told: MutableMapping[str, object] = vars(config)
        for name in ("access_log", "server_header", "date_header", "proxy_headers"):
            assert told[name] is False, name
        assert (config.timeout_graceful_shutdown, config.limit_concurrency, config.lifespan) == (7, 9, "on")
