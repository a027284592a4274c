"""The simulated platform, seen from the host: launch, stop and list enclave processes; blocking.

The host is not trusted with anything here: it chooses what is launched, never what is said of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from s3ml.attestation.simulated.launch import Role
from s3ml.attestation.simulated.protocol import (
    InstanceEntry,
    LaunchReply,
    LaunchRequest,
    ListReply,
    ListRequest,
    StopReply,
    StopRequest,
    exchange,
)
from s3ml.primitives.errors import ConfigurationError

_LAUNCH_TIMEOUT_S = 180.0
_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A process that was started, and what the platform measured of its image."""

    instance: str
    pid: int
    measurement: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceStatus:
    """One line of the platform's account; `exit_status` is None while the process runs."""

    instance: str
    pid: int
    role: Role
    measurement: str
    exit_status: int | None


class PlatformAdmin:
    """The host's side of a simulated platform.

    Args:
        socket_path: The platform's ``admin.sock``.
    """

    __slots__ = ("_socket_path",)

    def __init__(self, socket_path: Path | str) -> None:
        self._socket_path = str(socket_path)

    def launch(
        self,
        role: Role,
        settings: Mapping[str, str],
        log_path: Path,
        package: Path | None = None,
        memory_group: Path | None = None,
    ) -> Launched:
        """Start an enclave process; the first of a kind takes seconds, while its image is built.

        Args:
            role: ``key-service`` or ``model-server``.
            settings: The whole environment: names ``S3ML_…`` of capital letters and underscores.
            log_path: Where its output is appended.
            package: A folder in place of the installed package ``s3ml``: a changed build.
            memory_group: The folder of a memory control group (version 1) that all of its memory is charged
                to; its pages are small ones, as an enclave's are.

        Raises:
            ConfigurationError: An unknown role or a bad setting, or the image cannot be built or started.
            UnavailableError: The platform does not answer.
        """
        try:
            request = msgspec.convert(
                {
                    "ask": "launch",
                    "role": role,
                    "settings": dict(settings),
                    "log_path": str(log_path.absolute()),
                    "package": None if package is None else str(package.absolute()),
                    "memory_group": None if memory_group is None else str(memory_group.absolute()),
                },
                LaunchRequest,
            )
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"launch: {error}") from error
        reply = exchange(self._socket_path, request, LaunchReply, timeout_s=_LAUNCH_TIMEOUT_S)
        return Launched(instance=reply.instance, pid=reply.pid, measurement=reply.measurement)

    def stop(self, instance: str, grace_s: float) -> int:
        """End an instance: SIGTERM, and SIGKILL after `grace_s` (0 to 600).

        Returns:
            Its exit status, negative for a signal.

        Raises:
            ConfigurationError: No such instance, or `grace_s` is out of bounds.
            UnavailableError: The platform does not answer.
        """
        request = StopRequest(instance=instance, grace_s=grace_s)
        return exchange(self._socket_path, request, StopReply, timeout_s=_TIMEOUT_S + grace_s).exit_status

    def list(self) -> tuple[InstanceStatus, ...]:
        """Return the platform's account of all instances, in the order of their start.

        Raises:
            UnavailableError: The platform does not answer.
        """
        reply = exchange(self._socket_path, ListRequest(), ListReply, timeout_s=_TIMEOUT_S)
        return tuple(_status(entry) for entry in reply.instances)


def _status(entry: InstanceEntry) -> InstanceStatus:
    return InstanceStatus(
        instance=entry.instance,
        pid=entry.pid,
        role=entry.role,
        measurement=entry.measurement,
        exit_status=entry.exit_status,
    )
