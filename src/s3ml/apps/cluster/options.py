"""What an operator chooses of a local cluster."""

from dataclasses import dataclass, field
from pathlib import Path

from s3ml.attestation import Technology
from s3ml.attestation.simulated.quoter import DEFAULT_TCB_STATE
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.names import check_name
from s3ml.primitives.units import GIB, MIB
from s3ml.scheduling.balancer.settings import Steering

KEY_SERVICES_LIMIT = 9
REPLICAS_LIMIT = 64
NODES_LIMIT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """What an operator chooses.

    Attributes:
        services: The services to run replicas for.
        replicas: How many replicas each service gets, 1 to 64, spread over the nodes.
        port: The gateway's port; nothing means 8080 where it is free, else any free one.
        max_request_bytes: The largest sealed request.
        inference_threads: How many batches a replica computes at the same time.
        model_memory_bytes: What the models of a replica may hold of memory.
        simulates: Whose formats the simulated platform's evidence has.
        tcb: What the simulated vendor says of the platform, by name.
        key_services: How many replicas the key service has, 1 to 9; several need a PostgreSQL database.
        database: The key service's database as ``postgresql://…``; nothing means a file of the cluster's.
        witnesses: Where witnesses take checkpoints.
        nodes: How many nodes the replicas are spread over, 1 to 16; all are this machine, and each has an
            agent of its own where there are several, or a balancer.
        balancer: The policy of the balancer; nothing means none: the gateway balances by itself.
        steering: How the balancer steers the gateway.
        costs: The file of a model's costs that the balancer predicts by; nothing means what replicas show.
        epc_bytes: The EPC of each node, EMULATED; nothing means none: agents read a SIMULATED one.
    """

    services: tuple[str, ...]
    replicas: int = 3
    port: int | None = None
    max_request_bytes: int = 16 * MIB
    inference_threads: int = 1
    model_memory_bytes: int = 4 * GIB
    simulates: Technology = Technology.SGX
    tcb: str = DEFAULT_TCB_STATE
    key_services: int = 1
    database: str | None = field(default=None, repr=False)
    witnesses: tuple[str, ...] = ()
    nodes: int = 1
    balancer: str | None = None
    steering: Steering = Steering.WEIGHTS
    costs: Path | None = None
    epc_bytes: int | None = None

    def __post_init__(self) -> None:
        for service in self.services:
            check_name(service, what="service")
        if not self.services:
            raise ConfigurationError("services: expected at least one name")
        for what, value, limit in (
            ("replicas", self.replicas, REPLICAS_LIMIT),
            ("nodes", self.nodes, NODES_LIMIT),
            ("key services", self.key_services, KEY_SERVICES_LIMIT),
        ):
            if not 1 <= value <= limit:
                raise ConfigurationError(f"{what}: expected 1 to {limit}, got {value}")
        if self.key_services > 1 and self.database is None:
            raise ConfigurationError(
                "key services: several share one PostgreSQL database: expected --database postgresql://…"
            )

    @property
    def has_agents(self) -> bool:
        """Whether somebody reads the nodes' TEE memory."""
        return self.nodes > 1 or self.balancer is not None or self.epc_bytes is not None
