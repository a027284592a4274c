"""The whole process, over real sockets."""

import asyncio
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

import s3ml.modelserver
from s3ml.apps.processes import model_server
from s3ml.modelserver import Settings, create_app, run
from s3ml.modelserver import server as module
from s3ml.modelserver.events import EventLog
from s3ml.modelserver.runtimes.onnx import OnnxRuntime
from s3ml.primitives.clock import SystemClock
from s3ml.primitives.errors import ConfigurationError
from s3ml.wire.ohttp import KeyConfig
from s3ml.wire.sealed import InnerRequest, seal_request
from tests.modelserver.conftest import World, linear

DEADLINE_S = 300.0
CHILD = Path(__file__).with_name("child_server.py")
ROWS = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]}]}


@dataclass
class Process:
    """A running model server."""

    process: subprocess.Popen[str]
    port: int
    config: KeyConfig
    home: Path

    def get(self, path: str) -> tuple[int, Any]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)) as connection:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if self.get("/v2/health/ready")[0] == 200:
                return
            threading.Event().wait(0.02)
        raise AssertionError

    def infer(self) -> Any:
        content = json.dumps(ROWS).encode()
        request = InnerRequest(method="POST", path="/v2/models/tumours/infer", content=content)
        sealed = seal_request(self.config, request, date=datetime.now(UTC))
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)) as connection:
            headers = {"content-type": "message/ohttp-req"}
            connection.request("POST", "/services/tumours/ohttp", sealed.body, headers)
            answer = sealed.open_response(connection.getresponse().read())
        return json.loads(bytes(answer.content))

    def events(self) -> list[dict[str, Any]]:
        assert self.process.stderr is not None
        return [json.loads(line) for line in self.process.stderr.read().splitlines()]


@pytest.fixture
def started(world: World, tmp_path: Path) -> Iterator[Process]:
    with running(world, tmp_path) as process:
        yield process


@contextmanager
def running(world: World, folder: Path) -> Iterator[Process]:
    """Serve a model in a process of its own as long as the block."""
    world.publish(linear())
    config = world.begin_epoch()
    release = folder / "release.json"
    release.write_bytes(msgspec.json.encode(world.release()))
    home = folder / "home"
    home.mkdir()
    command = [sys.executable, str(CHILD), "0", str(world.store), str(release)]
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(home / "cache")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder) as process:
        assert process.stderr is not None
        first = json.loads(process.stderr.readline())
        try:
            yield Process(process, int(first["address"].rpartition(":")[2]), config, home)
        finally:
            process.kill()


@pytest.mark.integration
class TestProcess:
    """It is live, gets ready, answers, keeps to itself, and ends in order."""

    def test_it_serves_and_ends_with_status_zero(self, started: Process) -> None:
        started.wait_until_ready()
        assert started.infer()["outputs"][0]["data"] == [6, 9]
        assert started.get("/v2/health/live") == (200, b'{"live":true}')

        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(timeout=DEADLINE_S) == 0
        events = [event["event"] for event in started.events()]
        assert events == ["model-loaded", "granted", "draining"]

    def test_it_connects_nowhere_and_writes_nothing(self, started: Process) -> None:
        started.wait_until_ready()
        started.infer()

        assert list(started.home.iterdir()) == []
        assert remote_ends(started.process.pid) == set()


def remote_ends(pid: int) -> set[str]:
    """Return the far ends of a process's sockets, those on loopback left out."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    ends = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            remote, inode = fields[2], fields[9]
            if inode in inodes and not remote.startswith(("0100007F:", "00000000:")):
                ends.add(f"{table} {remote}")
    return ends


_USES_RUNTIME = """
import ctypes, os, sys
sys.exit(77) if ctypes.CDLL(None).unshare(0x10000000 | 0x40000000) else None  # no network at all from here
if sys.argv[1] == "ours":
    from s3ml.modelserver.runtimes import onnx
import onnxruntime
onnxruntime.InferenceSession(open(sys.argv[2], "rb").read(), providers=["CPUExecutionProvider"])
"""


class TestDraining:
    """What was accepted is answered; nothing new is accepted."""

    async def test_a_request_in_flight_is_finished(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.publish(linear())
        config = world.begin_epoch()
        begun, release = threading.Event(), threading.Event()
        run_model = OnnxRuntime.run

        def slow(*arguments: Any) -> Any:
            begun.set()
            release.wait(DEADLINE_S)
            return run_model(*arguments)

        monkeypatch.setattr(OnnxRuntime, "run", slow)
        settings = TestStart().settings(bundles=str(world.store))
        stream = io.StringIO()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            serving = asyncio.ensure_future(
                module.serve(
                    settings,
                    world,
                    listener=listener,
                    clock=SystemClock(),
                    log=EventLog("r", stream),
                )
            )
            client = Process(None, port, config, Path())  # type: ignore[arg-type]
            await asyncio.to_thread(client.wait_until_ready)
            answer = asyncio.ensure_future(asyncio.to_thread(client.infer))
            await asyncio.to_thread(begun.wait, DEADLINE_S)
            os.kill(os.getpid(), signal.SIGTERM)
            await until_refused(port)
            assert not serving.done()
            release.set()

            assert (await answer)["outputs"][0]["data"] == [6, 9]
            await asyncio.wait_for(serving, DEADLINE_S)
        events = [json.loads(line) for line in stream.getvalue().splitlines()]
        (draining,) = [event for event in events if event["event"] == "draining"]
        assert draining["in_flight"] == 1


async def until_refused(port: int) -> None:
    """Return once nobody listens any more."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0.01)


class TestTelemetry:
    """ONNX Runtime reports to its vendor by default; our switch is what stops it."""

    def files_written(self, how: str, tmp_path: Path) -> list[str]:
        model, home = tmp_path / "model.onnx", tmp_path / how
        model.write_bytes(linear())
        home.mkdir()
        environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            [sys.executable, "-c", _USES_RUNTIME, how, str(model)],
            env=environment,
            cwd=tmp_path,
            timeout=DEADLINE_S,
            check=False,
        )
        if done.returncode == 77:
            pytest.skip("needs a network namespace, so that the proof itself reports to nobody")
        assert done.returncode == 0
        return [path.name for path in home.rglob("*") if path.is_file()]

    @pytest.mark.integration
    def test_the_switch_makes_the_difference(self, tmp_path: Path) -> None:
        assert "onnxruntime.db" in self.files_written("theirs", tmp_path)
        assert self.files_written("ours", tmp_path) == []


class TestStart:
    """What cannot work is said in one line."""

    def settings(self, **changes: Any) -> Settings:
        stated: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": 0,
            "key_service": "http://127.0.0.1:1",
            "service": "tumours",
            "bundles": "/absent",
        }
        return Settings(**{**stated, **changes})

    def test_a_port_in_use_is_said_so(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(
                ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}: Address already"
            ):
                run(self.settings(port=port), object())  # type: ignore[arg-type]

    def test_an_address_of_another_machine_is_said_so(self) -> None:
        with pytest.raises(ConfigurationError, match=r"S3ML_LISTEN: cannot listen on 203\.0\.113\.1"):
            run(self.settings(host="203.0.113.1"), object())  # type: ignore[arg-type]

    def test_run_serves_what_it_listens_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Any] = []

        async def serve(settings: Settings, source: Any, **parts: Any) -> None:
            seen.append((settings.service, parts["listener"].getsockname()[0]))

        monkeypatch.setattr(module, "serve", serve)
        monkeypatch.setattr(module, "KeyServiceReleases", lambda *_arguments: None)
        run(self.settings(), type("Attester", (), {"tee": "simulated"})())

        assert seen == [("tumours", "127.0.0.1")]

    def test_the_package_exports_what_it_says(self) -> None:
        assert s3ml.modelserver.__all__ == ["Settings", "create_app", "parse_settings", "run"]
        assert callable(create_app)
        with pytest.raises(AttributeError, match="no attribute 'absent'"):
            _ = s3ml.modelserver.absent


class TestMain:
    """The measured main: settings in, one line out when they are wrong."""

    def test_unknown_settings_end_with_status_two(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("S3ML_DEBUG", "1")
        with pytest.raises(SystemExit) as ended:
            model_server.main()

        assert ended.value.code == 2
        assert capsys.readouterr().err.startswith("model server: settings: unknown: S3ML_DEBUG")

    def test_the_end_does_not_wait_for_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ended: list[int] = []
        monkeypatch.setattr(model_server, "parse_settings", lambda: None)
        monkeypatch.setattr(model_server, "find_attester", lambda _settings: None)
        monkeypatch.setattr(model_server, "run", lambda *_parts: None)
        monkeypatch.setattr(model_server, "end_process", ended.append)
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
        model_server.main()

        assert ended == [0]
