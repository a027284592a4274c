"""A running deployment of the demonstration, for measurements of its real processes. SIMULATED.

The roles are the demonstration's own: owners sign, the model owner packs, replicas attest.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks import machine
from benchmarks.summaries import RESULTS, write
from s3ml.apps.cluster import ClusterFolder, ClusterOptions, LocalCluster
from s3ml.apps.cluster.process import free_port
from s3ml.apps.demo.roles import SERVICE, ModelOwner, Owners
from s3ml.apps.demo.tumours import Tumours, train

READY_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What measurements need of a deployment.

    Args:
        cluster: With one replica that is ready.
        trust: The trust file that the owners give out.
        tumours: The model that is served, and rows to ask it about.
        model: Its plaintext file.
    """

    cluster: LocalCluster
    trust: Path
    tumours: Tumours
    model: Path


class Measure(Protocol):
    """Something that measures a deployment and returns what it found."""

    def __call__(self, world: Deployed, *, is_quick: bool) -> dict[str, Any]:
        """Measure; with tiny counts only where `is_quick`."""
        ...


@contextmanager
def deployed() -> Iterator[Deployed]:
    """Start a cluster with one replica, begin a deployment and serve the demonstration's model."""
    tumours = train()
    with tempfile.TemporaryDirectory(prefix="s3ml-bench-") as work:
        options = ClusterOptions(services=(SERVICE,), replicas=1, port=free_port())
        with LocalCluster(options, ClusterFolder.create(None), report=lambda _line: None) as cluster:
            yield _govern(cluster, Path(work), tumours)


def run(measures: Mapping[str, Measure], description: str | None) -> None:
    """Take the arguments, start one deployment, and write what each of `measures` finds there."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny counts: does it still run?")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    described = machine.describe()
    print(f"{', '.join(measures)}: starting a deployment (SIMULATED)", flush=True)
    with deployed() as world:
        for name, measure in measures.items():
            found = measure(world, is_quick=options.quick)
            document = {"machine": described, "is_quick": options.quick, **found}
            print(f"{name}: wrote {write(options.output, name, document)}", flush=True)


def _govern(cluster: LocalCluster, work: Path, tumours: Tumours) -> Deployed:
    endpoints = cluster.endpoints
    owners = Owners(
        folder=work / "owners", gateway=endpoints.gateway, simulation_root=endpoints.simulation_root
    )
    model_owner = ModelOwner(folder=work / "model-owner")
    owners.make_keys()
    trust = owners.begin_deployment()
    owners.sign_policy()
    public = model_owner.make_key()
    model = tumours.write(model_owner.folder)
    grant = model_owner.pack(
        model,
        store=endpoints.store,
        trust=trust,
        gateway=endpoints.gateway,
        progress=lambda _done, _total: None,
    )
    owners.sign_service(grant, public)
    for replica in cluster.replicas:
        cluster.wait_until_ready(replica, deadline_s=READY_DEADLINE_S)
    return Deployed(cluster=cluster, trust=trust, tumours=tumours, model=model)
