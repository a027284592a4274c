"""The key service's process, in this process: settings, attester, start and end."""

import contextlib
import http.client
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
import uvicorn

from s3ml.apps.processes.key_service import main, run
from s3ml.keyservice.settings import Settings
from s3ml.listening import DrainingServer
from s3ml.primitives.errors import ConfigurationError
from tests.keyservice.keyservice_world import KEY_SERVICE_CODE, InProcessAttester


def settings(folder: Path, *, port: int = 0) -> Settings:
    return Settings(host="127.0.0.1", port=port, database=str(folder / "log.sqlite"))


class TestProcess:
    @pytest.mark.parametrize(
        ("database", "status", "told"),
        [("", 2, "missing: S3ML_DATABASE"), ("/nowhere/log.sqlite", 1, "unable to open database file")],
    )
    def test_bad_settings_are_one_line(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        database: str,
        status: int,
        told: str,
    ) -> None:
        for name in [name for name in os.environ if name.startswith("S3ML_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("S3ML_LISTEN", "127.0.0.1:0")
        monkeypatch.setenv("S3ML_DATABASE", database)
        monkeypatch.setenv("S3ML_SIMULATED_PLATFORM", "/sock")
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == status
        line = capsys.readouterr().err
        assert told in line
        assert line.count("\n") == 1

    def test_a_port_in_use(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as held:
            port = held.getsockname()[1]
            with pytest.raises(ConfigurationError, match="cannot listen on"):
                run(settings(tmp_path, port=port), InProcessAttester(KEY_SERVICE_CODE))

    def test_it_is_unready_first_and_then_ends(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        told: list[tuple[int, bytes]] = []

        def stop_when_serving(server: uvicorn.Server) -> None:
            while not server.started:
                time.sleep(0.001)
            port = server.servers[0].sockets[0].getsockname()[1]
            os.kill(os.getpid(), signal.SIGTERM)
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as peer:
                peer.request("GET", "/readyz")
                reply = peer.getresponse()
                told.append((reply.status, reply.read()))
            server.should_exit = True  # as at the end of the notice, which is not awaited here

        original = uvicorn.Server.run

        def run_and_stop(server: DrainingServer, sockets: list[socket.socket]) -> None:
            server._notice_s = 3600.0  # however late it is asked
            thread = threading.Thread(target=stop_when_serving, args=(server,))
            thread.start()
            try:
                original(server, sockets=sockets)
            finally:
                thread.join()

        monkeypatch.setattr(uvicorn.Server, "run", run_and_stop)
        run(settings(tmp_path), InProcessAttester(KEY_SERVICE_CODE))
        assert {number: signal.getsignal(number) for number in before} == before
        lines = capsys.readouterr().err
        assert lines.index('"event": "listening"') < lines.index('"event": "draining"')
        assert told == [(503, b"not ready\n")]
