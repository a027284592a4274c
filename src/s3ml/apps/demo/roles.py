"""Who does what in the demonstration: each role with its own folder and its own keys, and no other's."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from s3ml.apps.cli.connection import key_service_at
from s3ml.apps.governance.changes import Deployment
from s3ml.apps.governance.deployments import begin, propose, sign_proposal, trust_from
from s3ml.apps.governance.keys import generate_key_files, read_signing_key, read_verify_key
from s3ml.apps.governance.models import Grant, pack, read_grant, service_document, write_grant
from s3ml.apps.governance.policies import policy_document, read_root
from s3ml.attestation import parse_policy
from s3ml.bundle import Declaration
from s3ml.client.trust import Trust
from s3ml.primitives.files import write_atomically

OWNERS = ("alice", "bob", "carol")
THRESHOLD = 2
SERVICE = "tumours"
POLICY = "model-server"
_NOTHING_DECLARED = Declaration()


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """The deployment's owners: three keys in three folders, of which two sign."""

    folder: Path
    gateway: str
    simulation_root: Path

    def make_keys(self) -> None:
        """Give each owner a key of their own."""
        for name in OWNERS:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            generate_key_files(self.folder / name / name)

    def begin_deployment(self) -> Path:
        """Sign the proposal, verify the evidence that comes back, write the trust file; return its path.

        Clients are held to the model server's policy as the owners computed it from the code they reviewed.
        """
        root = read_root(self.simulation_root)
        policy = policy_document("model-server", root=root)
        write_atomically(self.policy_path, policy)
        public = [(name, read_verify_key(self.folder / name / f"{name}.pub")) for name in OWNERS]
        proposal = propose(
            public,
            threshold=THRESHOLD,
            key_service_policy=policy_document("key-service", root=root),
            allow_simulated=True,
        )
        for name in OWNERS[:THRESHOLD]:
            proposal = sign_proposal(proposal, read_signing_key(self.folder / name / f"{name}.key"))
        genesis = begin(key_service_at(self.gateway), proposal, allow_simulated=True, now=datetime.now(UTC))
        trust = trust_from(genesis, service_policies={SERVICE: parse_policy(policy)})
        trust.write(self.trust_path)
        return self.trust_path

    def sign_policy(self) -> None:
        """Let two owners sign the model server's policy."""
        self._change(f"policies/{POLICY}", self.policy_path.read_bytes())

    def sign_service(self, grant_path: Path, model_owner: Path) -> None:
        """Let two owners sign the service: this model, of this model owner."""
        grant = read_grant(grant_path)
        document = service_document(
            SERVICE, policy=POLICY, grants=[grant], model_owners=[read_verify_key(model_owner)]
        )
        self._change(f"services/{SERVICE}", msgspec.json.encode(document), (grant.sealed_identity,))

    @property
    def trust_path(self) -> Path:
        """The trust file that the owners give out."""
        return self.folder / "trust.toml"

    @property
    def policy_path(self) -> Path:
        """The model server's policy."""
        return self.folder / f"{POLICY}.toml"

    def _change(self, resource: str, body: bytes, attachments: tuple[bytes, ...] = ()) -> None:
        deployment = _connect(self.trust_path, self.gateway)
        message = deployment.draft(resource, body, attachments=attachments, now=datetime.now(UTC))
        for name in OWNERS[:THRESHOLD]:
            message = deployment.sign(message, read_signing_key(self.folder / name / f"{name}.key"))
        deployment.submit(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOwner:
    """The owner of the model: its plaintext never leaves this folder."""

    folder: Path

    def make_key(self) -> Path:
        """Make the key; return the path of its public half."""
        self.folder.mkdir(parents=True, exist_ok=True)
        generate_key_files(self.folder / "model-owner")
        return self.folder / "model-owner.pub"

    def pack(
        self,
        source: Path,
        *,
        store: Path,
        trust: Path,
        gateway: str,
        progress: Callable[[int, int], None],
        declaration: Declaration = _NOTHING_DECLARED,
    ) -> Path:
        """Pack, encrypt and sign the model; return the path of the grant for the deployment's owners."""
        deployment = _connect(trust, gateway)
        policy = deployment.governed_policy(POLICY)
        grant: Grant = pack(
            source,
            store=store,
            model=SERVICE,
            version="1",
            service=SERVICE,
            policy_sha256=policy.body_sha256,
            deployment=deployment,
            key=read_signing_key(self.folder / "model-owner.key"),
            progress=progress,
            declaration=declaration,
        )
        path = self.folder / "tumours-1.grant.json"
        write_grant(path, grant)
        return path


def _connect(trust: Path, gateway: str) -> Deployment:
    return Deployment.connect(key_service_at(gateway), deployment=Trust.read(trust).deployment)
