"""Keys are replaced while requests flow, and no request fails.

`S3ML_SOAK_S` says for how many seconds requests flow; `make soak-keyservice` lets scheduled rotations happen.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from s3ml.apps.cli.connection import key_service_at
from s3ml.apps.cluster import ClusterFolder, ClusterOptions, LocalCluster
from s3ml.apps.demo.load import Answer, Outcomes, flow
from s3ml.apps.demo.roles import OWNERS, POLICY, SERVICE, THRESHOLD, ModelOwner, Owners
from s3ml.apps.demo.tumours import Tumours, train
from s3ml.apps.governance.changes import Deployment
from s3ml.apps.governance.keys import read_signing_key, read_verify_key
from s3ml.apps.governance.models import read_grant, service_document
from s3ml.client import AsyncClient
from s3ml.client.trust import Trust
from s3ml.keyservice.documents import RotationDocument, ServiceTimes
from s3ml.keyservice.parsing import encode_document

pytestmark = pytest.mark.integration
SOAK_S = float(os.environ.get("S3ML_SOAK_S", "12"))
TIMES = ServiceTimes(epoch_s=60, lease_s=2, bundle_s=5)
ROTATE_EVERY_S = 4.0
READY_S = 60.0


@dataclass(frozen=True, slots=True)
class Served:
    """A cluster that serves the demonstration's model, and its owners."""

    cluster: LocalCluster
    owners: Owners
    tumours: Tumours
    expected: Answer

    def change(self, resource: str, body: bytes, attachments: tuple[bytes, ...] = ()) -> None:
        """Change a resource, as two owners do."""
        deployment = self.deployment()
        message = deployment.draft(resource, body, attachments=attachments, now=datetime.now(UTC))
        for name in OWNERS[:THRESHOLD]:
            key = read_signing_key(self.owners.folder / name / f"{name}.key")
            message = deployment.sign(message, key)
        deployment.submit(message)

    def deployment(self) -> Deployment:
        """Follow the deployment."""
        client = key_service_at(self.cluster.endpoints.gateway)
        return Deployment.connect(client, deployment=Trust.read(self.owners.trust_path).deployment)

    def epoch(self) -> int:
        """Return the number of the newest active epoch."""
        epochs = key_service_at(self.cluster.endpoints.gateway).status().epochs
        return max(epoch.epoch for epoch in epochs if epoch.state == "active")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two model servers of one service whose keys are replaced often."""
    tumours, work = train(), tmp_path_factory.mktemp("roles")
    folder = ClusterFolder.create(None)
    options = ClusterOptions(services=(SERVICE,), replicas=2)
    with LocalCluster(options, folder, report=lambda _: None) as cluster:
        owners = Owners(
            folder=work / "owners",
            gateway=cluster.endpoints.gateway,
            simulation_root=cluster.endpoints.simulation_root,
        )
        owners.make_keys()
        trust = owners.begin_deployment()
        owners.sign_policy()
        model_owner = ModelOwner(folder=work / "model-owner")
        public = model_owner.make_key()
        grant_path = model_owner.pack(
            tumours.write(model_owner.folder),
            store=cluster.endpoints.store,
            trust=trust,
            gateway=cluster.endpoints.gateway,
            progress=lambda _done, _all: None,
        )
        found = Served(cluster, owners, tumours, plaintext(tumours, work))
        grant = read_grant(grant_path)
        document = service_document(
            SERVICE, policy=POLICY, grants=[grant], model_owners=[read_verify_key(public)]
        )
        body = encode_document(msgspec.structs.replace(document, times=TIMES))
        found.change(f"services/{SERVICE}", body, (grant.sealed_identity,))
        for replica in cluster.replicas:
            cluster.wait_until_ready(replica, deadline_s=READY_S)
        yield found


def plaintext(tumours: Tumours, folder: Path) -> Answer:
    """Return what the model answers to whoever holds it."""
    import onnxruntime

    path = tumours.write(folder / "plain")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(["label", "probabilities"], {"x": tumours.rows})
    return labels, probabilities


def rotation() -> bytes:
    """Return the body of a rotation on demand, which lets what was sealed to the old keys be answered."""
    return encode_document(RotationDocument(service=SERVICE, retire="drain"))


async def load(served: Served, meanwhile: Callable[[], None], *, seconds: float) -> Outcomes:
    """Have requests flow for so long, and do something every few seconds."""
    outcomes, over = Outcomes(), asyncio.Event()
    trust = served.owners.trust_path
    async with AsyncClient(served.cluster.endpoints.gateway, trust=trust) as client:
        await client.verify(SERVICE)
        flowing = asyncio.create_task(
            flow(
                client,
                service=SERVICE,
                rows=served.tumours.rows,
                expected=served.expected,
                is_over=over.is_set,
                outcomes=outcomes,
                concurrency=2,
            )
        )
        try:
            until = asyncio.get_running_loop().time() + seconds
            while asyncio.get_running_loop().time() < until:
                await asyncio.to_thread(meanwhile)
                await asyncio.sleep(ROTATE_EVERY_S)
        finally:
            over.set()
            await flowing
    return outcomes


class TestRotation:
    """Requests flow while epochs follow each other: pending, active, draining, retired."""

    @pytest.mark.timeout(SOAK_S + 600)
    async def test_no_request_fails(self, served: Served) -> None:
        before = served.epoch()
        outcomes = await load(
            served, lambda: served.change(f"rotations/{SERVICE}", rotation()), seconds=SOAK_S
        )
        rotations = served.epoch() - before
        print(f"{outcomes.requests} requests over {rotations} rotations")  # noqa: T201 - a figure
        assert outcomes.failures == []
        assert outcomes.agreeing == outcomes.requests > 0
        assert rotations >= SOAK_S // (2 * ROTATE_EVERY_S)

    @pytest.mark.skipif(
        2 * TIMES.epoch_s > SOAK_S, reason="scheduled rotations take minutes: make soak-keyservice"
    )
    @pytest.mark.timeout(SOAK_S + 600)
    async def test_no_request_fails_on_schedule(self, served: Served) -> None:
        before = served.epoch()
        outcomes = await load(served, lambda: None, seconds=SOAK_S)
        assert outcomes.failures == []
        assert outcomes.agreeing == outcomes.requests > 0
        assert served.epoch() - before >= SOAK_S // TIMES.epoch_s - 1
