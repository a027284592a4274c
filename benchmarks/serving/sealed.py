"""S3ML with a model of the comparison: a deployment, and a replica that attested. SIMULATED."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving import processes
from benchmarks.serving.servers import MAX_BATCH, S3ML, Server
from benchmarks.serving.workloads import Workload
from s3ml.apps.cluster import ClusterFolder, ClusterOptions, LocalCluster
from s3ml.apps.cluster.process import free_port
from s3ml.apps.demo.roles import SERVICE, ModelOwner, Owners
from s3ml.bundle import Batching, Declaration
from s3ml.client import Client
from s3ml.primitives.units import MIB
from s3ml.wire.oip import infer_path

READY_DEADLINE_S = 60.0
# Room for 32 images as JSON at a time: a replica holds four of the largest requests, each byte twice.
MAX_REQUEST_BYTES = 32 * MIB


@contextmanager
def running(workload: Workload, *, core: int) -> Iterator[Server]:
    """Run the product with the model of `workload`; give its only replica, pinned to `core`."""
    options = ClusterOptions(
        services=(SERVICE,),
        replicas=1,
        port=free_port(),
        inference_threads=1,
        max_request_bytes=MAX_REQUEST_BYTES,
    )
    with (
        tempfile.TemporaryDirectory(prefix="s3ml-bench-") as work,
        LocalCluster(options, ClusterFolder.create(None), report=lambda _line: None) as cluster,
    ):
        trust = _govern(cluster, Path(work), workload)
        replica = cluster.replicas[0]
        cluster.wait_until_ready(replica, deadline_s=READY_DEADLINE_S)
        processes.pin(processes.tree(replica.pid), core)
        with Client(cluster.endpoints.gateway, trust=trust) as client:
            verified = client.verify(SERVICE)
        yield Server(
            name=S3ML,
            port=replica.port,
            path=f"/services/{SERVICE}/ohttp",
            root=replica.pid,
            key_configs=verified.key_configs,
        )


def inner_path() -> str:
    """Return the path of an inference inside the seal."""
    return infer_path(SERVICE)


def _govern(cluster: LocalCluster, work: Path, workload: Workload) -> Path:
    """Let owners sign and the model's owner pack; return the trust file."""
    endpoints = cluster.endpoints
    owners = Owners(
        folder=work / "owners", gateway=endpoints.gateway, simulation_root=endpoints.simulation_root
    )
    model_owner = ModelOwner(folder=work / "model-owner")
    owners.make_keys()
    trust = owners.begin_deployment()
    owners.sign_policy()
    public = model_owner.make_key()
    grant = model_owner.pack(
        workload.path,
        store=endpoints.store,
        trust=trust,
        gateway=endpoints.gateway,
        progress=lambda _done, _total: None,
        declaration=Declaration(batching=Batching(max_size=MAX_BATCH)),
    )
    owners.sign_service(grant, public)
    return trust
