"""A cluster on one machine, as its operator runs it: starts, stops, heals, and knows no secret.

Every process is its own; all die with this one. The methods block; one thread drives a cluster.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from s3ml.apps.cluster.balancing import Balancing
from s3ml.apps.cluster.layout import ClusterFolder
from s3ml.apps.cluster.nodes import Nodes
from s3ml.apps.cluster.options import ClusterOptions
from s3ml.apps.cluster.process import (
    LOOPBACK,
    PlatformProcess,
    Readiness,
    Replica,
    free_port,
    free_ports,
    is_port_free,
    last_line,
    readiness,
)
from s3ml.attestation.simulated.admin import PlatformAdmin
from s3ml.attestation.simulated.launch import Role
from s3ml.gateway import EnvoyGateway, GatewayConfig, GatewayStatistics, Picker, Upstream
from s3ml.primitives.errors import ConfigurationError, UnavailableError

PREFERRED_PORT = 8080
_PLATFORM_DEADLINE_S = 60.0
_KEY_SERVICE_DEADLINE_S = 60.0
_GRACE_S = 5.0
# All processes share the cores of one machine: a live one may answer late, and a dead one refuses at once.
_HEALTH_TIMEOUT_S = 2.0
_POLL_S = 0.05
_KEY_SERVICE_LIVE = "/livez"
_REPLICA_READY = "/v2/health/ready"
_RESTART_LIMIT_PER_MINUTE = 10
_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where a cluster answers. Addresses, never trust."""

    gateway: str
    simulation_root: Path
    store: Path


@dataclass(slots=True)
class _Fleet:
    """The enclave processes that run."""

    key_services: list[Replica] = field(default_factory=list)
    replicas: list[Replica] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)


class LocalCluster:
    """A simulated platform, a key service, replicas, and Envoy before them; a context manager.

    Args:
        options: What the operator chooses.
        folder: Where the cluster's files lie.
        report: Told one line about each step.
        key_service_port_for_replicas: Maps the key service's port to the one that replicas are told; the
            demonstration puts a wiretap between them.
        held: Puts signals off while a child of this process is started.
    """

    def __init__(
        self,
        options: ClusterOptions,
        folder: ClusterFolder,
        *,
        report: Callable[[str], None],
        key_service_port_for_replicas: Callable[[int], int] = lambda port: port,
        held: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._options = options
        self._folder = folder
        self._report = report
        self._route = key_service_port_for_replicas
        self._held = held
        self._platform = PlatformProcess(
            folder.platform, folder.logs / "platform.log", simulates=options.simulates, tcb=options.tcb
        )
        self._admin = PlatformAdmin(folder.platform / "admin.sock")
        self._gateway: EnvoyGateway | None = None
        self._fleet = _Fleet()
        self._nodes = Nodes(options.nodes, epc_bytes=options.epc_bytes)
        self._balancing = Balancing(options, folder, self._nodes, held)
        self._numbers: Iterator[int] = itertools.count(1)
        self._key_service_ports: tuple[int, ...] = ()

    @property
    def endpoints(self) -> Endpoints:
        """Where the cluster answers."""
        return Endpoints(
            gateway=self._running_gateway().url,
            simulation_root=self._folder.simulation_root,
            store=self._folder.store,
        )

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """The model servers that were started and not taken out again."""
        return tuple(self._fleet.replicas)

    @property
    def balancing(self) -> Balancing:
        """The nodes' agents and the balancer, where there are any."""
        return self._balancing

    @property
    def nodes(self) -> Nodes:
        """The nodes that replicas are spread over."""
        return self._nodes

    @property
    def key_services(self) -> tuple[Replica, ...]:
        """The key service's processes."""
        return tuple(self._fleet.key_services)

    def start(self) -> None:
        """Start everything; return when the gateway listens and the key service answers.

        Raises:
            ConfigurationError: a port is in use, or a folder cannot be written.
            UnavailableError: a process did not start in time.
        """
        self._check_port()
        self._nodes.up()
        self._balancing.prepare()
        self._report("starting the simulated platform")
        with self._held():
            self._platform.spawn()
        self._platform.wait_until_ready(deadline_s=_PLATFORM_DEADLINE_S)
        self._key_service_ports = free_ports(self._options.key_services)
        self._report("measuring and starting the key service")
        for number in range(self._options.key_services):
            self._start_key_service(number)
        self._report("starting the gateway")
        with self._held():
            self._gateway = self._start_gateway()
        self._gateway.set_key_service([f"{LOOPBACK}:{port}" for port in self._key_service_ports])
        for service in self._options.services:
            for _ in range(self._options.replicas):
                replica = self.start_replica(service)
                self._report(f"started replica {replica.name}, unready until there is something to serve")
        self._balancing.start()

    def start_replica(self, service: str, *, package: Path | None = None) -> Replica:
        """Start one more model server.

        Args:
            service: What it is to serve.
            package: Another folder of the package `s3ml` to run, or nothing for the installed one.
        """
        node = self._emptiest_node(service)
        number = next(self._numbers)
        name = f"{service}-{node}-{number}" if self._options.has_agents else f"{service}-{number}"
        port = free_port()
        settings = {
            "S3ML_LISTEN": f"{LOOPBACK}:{port}",
            "S3ML_KEY_SERVICE": ",".join(
                f"http://{LOOPBACK}:{self._route(port)}" for port in self._key_service_ports
            ),
            "S3ML_SERVICE": service,
            "S3ML_BUNDLES": self._folder.store.as_uri(),
            "S3ML_REPLICA": name,
            "S3ML_MAX_REQUEST_BYTES": str(self._options.max_request_bytes),
            "S3ML_INFERENCE_THREADS": str(self._options.inference_threads),
            "S3ML_MODEL_MEMORY_BYTES": str(self._options.model_memory_bytes),
        }
        replica = self._launch(
            "model-server", name, service=service, port=port, settings=settings, package=package, node=node
        )
        self._fleet.replicas.append(replica)
        self._tell_gateway(service)
        return replica

    def remove(self, replica: Replica) -> None:
        """Take a replica out of the gateway and stop it."""
        self._fleet.replicas.remove(replica)
        self._tell_gateway(replica.service)
        self._admin.stop(replica.instance, grace_s=_GRACE_S)

    def readiness(self, replica: Replica) -> Readiness:
        """Ask a replica whether it is ready."""
        return readiness(replica.port, _REPLICA_READY)

    def wait_until_ready(self, replica: Replica, *, deadline_s: float) -> float:
        """Wait until a replica is ready; return how many seconds it took.

        Raises:
            UnavailableError: it ended, or was not ready in time; the message says its phase.
        """
        began = time.monotonic()
        while not (state := self.readiness(replica)).is_ready:
            if time.monotonic() - began > deadline_s:
                raise UnavailableError(f"replica {replica.name}: not ready: {state.detail}")
            if replica.instance not in self._living():
                raise UnavailableError(f"replica {replica.name}: ended by itself: see {replica.log}")
            time.sleep(_POLL_S)
        return time.monotonic() - began

    def is_alive(self, replica: Replica) -> bool:
        """Tell whether a replica's process still runs."""
        return replica.instance in self._living()

    def heal(self) -> tuple[str, ...]:
        """Start again what ended by itself; return one line about each.

        Raises:
            UnavailableError: the platform or the gateway ended, or processes end faster than they should.
        """
        if self._platform.exit_status is not None:
            raise UnavailableError(f"simulated platform: ended: see {self._folder.logs / 'platform.log'}")
        if (status := self._running_gateway().exit_status) is not None:
            raise UnavailableError(
                f"gateway: Envoy ended with status {status}: see {self._running_gateway().log_path}"
            )
        living = self._living()
        healed = []
        for number, process in enumerate(self.key_services):
            if process.instance not in living:
                self._count_restart(process.name)
                self._start_key_service(number)
                healed.append(f"{process.name} of the key service ended by itself; started another")
        for replica in self.replicas:
            if replica.instance not in living:
                self._count_restart(f"replica {replica.name}")
                self._fleet.replicas.remove(replica)
                successor = self.start_replica(replica.service)
                healed.append(f"replica {replica.name} ended by itself; started {successor.name}")
        for line in self._balancing.heal():
            self._count_restart(line)
            healed.append(line)
        return tuple(healed)

    def upstreams(self, service: str) -> tuple[Upstream, ...]:
        """Return the replicas of `service` as the gateway sees them."""
        return self._running_gateway().replicas(service)

    def statistics(self) -> GatewayStatistics:
        """Return what the gateway counted."""
        return self._running_gateway().statistics()

    def stop(self) -> None:
        """Stop everything, balancer and gateway first, and remove a temporary folder."""
        self._balancing.stop()
        if self._gateway is not None:
            self._gateway.stop(grace_s=_GRACE_S)
            self._gateway = None
        self._platform.stop(grace_s=2 * _GRACE_S)
        try:
            self._nodes.down()
        finally:
            self._folder.remove()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _running_gateway(self) -> EnvoyGateway:
        if self._gateway is None:
            raise UnavailableError("gateway: is not running")
        return self._gateway

    def _check_port(self) -> None:
        """Find out before anything starts that a chosen port is taken."""
        if self._options.port is not None and not is_port_free(self._options.port):
            raise ConfigurationError(
                f"port {self._options.port}: is in use: choose another port, or stop what listens there"
            )

    def _start_gateway(self) -> EnvoyGateway:
        """Start Envoy on the chosen port; without one on 8080, or on any free one where that is taken."""
        config = GatewayConfig(
            folder=self._folder.gateway,
            services=self._options.services,
            listen_port=self._options.port or PREFERRED_PORT,
            max_request_bytes=self._options.max_request_bytes,
            health_timeout_s=_HEALTH_TIMEOUT_S,
            picker=None if self._balancing.picker is None else Picker(address=self._balancing.picker),
        )
        gateway = EnvoyGateway(config)
        try:
            gateway.start()
        except ConfigurationError:
            if self._options.port is not None:
                raise
            gateway = EnvoyGateway(replace(config, listen_port=0))
            gateway.start()
        return gateway

    def _start_key_service(self, number: int) -> None:
        """Start the key service's replica `number`, in the place of one that has ended."""
        port = self._key_service_ports[number]
        peers = (f"http://{LOOPBACK}:{other}" for other in self._key_service_ports if other != port)
        settings = {
            "S3ML_LISTEN": f"{LOOPBACK}:{port}",
            "S3ML_DATABASE": self._options.database or str(self._folder.key_service / "log.sqlite"),
            "S3ML_PEERS": ",".join(peers),
            "S3ML_WITNESSES": ",".join(self._options.witnesses),
        }
        name = "key-service" if len(self._key_service_ports) == 1 else f"key-service-{number + 1}"
        process = self._launch("key-service", name, service="", port=port, settings=settings, package=None)
        self._fleet.key_services[number : number + 1] = [process]
        deadline = time.monotonic() + _KEY_SERVICE_DEADLINE_S
        while not (state := readiness(port, _KEY_SERVICE_LIVE)).is_ready:
            if process.instance not in self._living():
                raise UnavailableError(f"{name}: ended at its start: {last_line(process.log)}")
            if time.monotonic() > deadline:
                raise UnavailableError(f"{name}: did not start: {state.detail}: see {process.log}")
            time.sleep(_POLL_S)

    def _launch(
        self,
        role: Role,
        name: str,
        *,
        service: str,
        port: int,
        settings: dict[str, str],
        package: Path | None,
        node: str = "",
    ) -> Replica:
        log = self._folder.logs / f"{name}.log"
        memory_group = self._nodes.memory_group(node, name)
        launched = self._admin.launch(role, settings, log, package, memory_group)
        return Replica(
            name=name,
            service=service,
            instance=launched.instance,
            pid=launched.pid,
            port=port,
            measurement=launched.measurement,
            log=log,
            is_honest=package is None,
            node=node,
        )

    def _living(self) -> frozenset[str]:
        return frozenset(status.instance for status in self._admin.list() if status.exit_status is None)

    def _tell_gateway(self, service: str) -> None:
        """Say who serves `service`: to the balancer first, which else would put the old list back."""
        replicas = [replica for replica in self._fleet.replicas if replica.service == service]
        self._balancing.tell(service, replicas)
        self._running_gateway().set_replicas(service, [replica.address for replica in replicas])

    def _emptiest_node(self, service: str) -> str:
        taken = [replica.node for replica in self._fleet.replicas if replica.service == service]
        return min(self._nodes.names, key=taken.count)

    def _count_restart(self, what: str) -> None:
        now = time.monotonic()
        self._fleet.restarts = [at for at in self._fleet.restarts if now - at < _MINUTE_S] + [now]
        if len(self._fleet.restarts) > _RESTART_LIMIT_PER_MINUTE:
            raise UnavailableError(
                f"{what}: ended again; {_RESTART_LIMIT_PER_MINUTE} restarts in a minute are enough: "
                f"see the logs in {self._folder.logs}"
            )
