"""A deployment that is changed while it is used: its cluster, its owners, and what they have signed."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from s3ml.apps.cli.connection import key_service_at
from s3ml.apps.cluster import ClusterFolder, ClusterOptions, LocalCluster
from s3ml.apps.demo.roles import OWNERS, POLICY, THRESHOLD, Owners
from s3ml.apps.governance.changes import Deployment
from s3ml.apps.governance.keys import read_signing_key
from s3ml.apps.governance.models import Grant, pack, service_document
from s3ml.client.credentials import CallerKey
from s3ml.client.trust import Trust
from s3ml.keyservice.documents import KeyCaller, RotationDocument, ServiceTimes
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.signing import SigningKey
from tests.soak.models import Oracle, dense

SERVICE = "tumours"
ALONE, BATCHED, SPARE = "alone", "batched", "spare"
TIMES = ServiceTimes(epoch_s=120, lease_s=3, bundle_s=6)
READY_S = 300.0
REPLICAS = 3


@dataclass(slots=True, kw_only=True)
class World:
    """Everything of the soak that is not load.

    Args:
        cluster: Real processes.
        owners: Of the deployment.
        folder: For models in the clear.
        model_owner: Signs models.
        caller: May infer.
        operator: May load and unload, too.
    """

    cluster: LocalCluster
    owners: Owners
    folder: Path
    model_owner: SigningKey = field(default_factory=SigningKey.generate)
    caller: CallerKey = field(default_factory=lambda: CallerKey(SigningKey.generate()))
    operator: CallerKey = field(default_factory=lambda: CallerKey(SigningKey.generate()))
    oracles: dict[tuple[str, str], Oracle] = field(default_factory=dict)
    _granted: dict[tuple[str, str], Grant] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def deployment(self) -> Deployment:
        """Follow the deployment."""
        client = key_service_at(self.cluster.endpoints.gateway)
        return Deployment.connect(client, deployment=Trust.read(self.owners.trust_path).deployment)

    def publish(self, name: str, version: str) -> None:
        """Pack a model version, as its owner does; it is served from the next `amend` on."""
        plain = dense(name, version, self.folder, is_batched=name == BATCHED)
        deployment = self.deployment()
        grant = pack(
            plain.source,
            store=self.cluster.endpoints.store,
            model=name,
            version=version,
            service=SERVICE,
            policy_sha256=deployment.governed_policy(POLICY).body_sha256,
            deployment=deployment,
            key=self.model_owner,
            progress=lambda _done, _all: None,
            declaration=plain.declaration,
        )
        self._granted[name, version] = grant
        self.oracles[name, version] = Oracle(plain)

    def amend(self, *withdrawn: tuple[str, str]) -> None:
        """Sign the service with what was packed, but for what is withdrawn; two owners do."""
        for key in withdrawn:
            del self._granted[key], self.oracles[key]
        callers = (
            KeyCaller(name="caller", key=str(self.caller.key.public)),
            KeyCaller(name="operator", key=str(self.operator.key.public), roles=("infer", "models")),
        )
        grants = list(self._granted.values())
        document = service_document(
            SERVICE,
            policy=POLICY,
            grants=grants,
            model_owners=[self.model_owner.public],
            callers=callers,
        )
        body = encode_document(msgspec.structs.replace(document, times=TIMES))
        self._change(f"services/{SERVICE}", body, tuple(grant.sealed_identity for grant in grants))

    def rotate(self) -> None:
        """Replace the keys on demand; what was sealed to those before is answered."""
        self._change(
            f"rotations/{SERVICE}", encode_document(RotationDocument(service=SERVICE, retire="drain"))
        )

    def epoch(self) -> int:
        """Return the number of the newest active epoch."""
        epochs = key_service_at(self.cluster.endpoints.gateway).status().epochs
        return max((epoch.epoch for epoch in epochs if epoch.state == "active"), default=0)

    def _change(self, resource: str, body: bytes, attachments: tuple[bytes, ...] = ()) -> None:
        with self._lock:
            deployment = self.deployment()
            message = deployment.draft(resource, body, attachments=attachments, now=datetime.now(UTC))
            for name in OWNERS[:THRESHOLD]:
                message = deployment.sign(
                    message, read_signing_key(self.owners.folder / name / f"{name}.key")
                )
            deployment.submit(message)


@contextmanager
def soaked_world() -> Iterator[World]:
    """Run a cluster that serves three models, each in its first version."""
    options = ClusterOptions(services=(SERVICE,), replicas=REPLICAS)
    with (
        tempfile.TemporaryDirectory(prefix="s3ml-soak-") as work,
        LocalCluster(options, ClusterFolder.create(None), report=lambda _: None) as cluster,
    ):
        endpoints = cluster.endpoints
        owners = Owners(
            folder=Path(work) / "owners",
            gateway=endpoints.gateway,
            simulation_root=endpoints.simulation_root,
        )
        owners.make_keys()
        owners.begin_deployment()
        owners.sign_policy()
        world = World(cluster=cluster, owners=owners, folder=Path(work))
        for name in (ALONE, BATCHED, SPARE):
            world.publish(name, "1")
        world.amend()
        for replica in cluster.replicas:
            cluster.wait_until_ready(replica, deadline_s=READY_S)
        yield world
