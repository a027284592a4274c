"""A deployment of one owner, with a policy and a service with one model: what owners of a benchmark sign."""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyrage

from s3ml.attestation import AppraisalPolicy, encode_policy
from s3ml.keyservice.authority import Authority
from s3ml.keyservice.client import (
    Genesis,
    KeyServiceClient,
    KeyServiceUnavailableError,
    control_message,
    identify_genesis,
    model_manifest,
    seal_identity,
)
from s3ml.keyservice.documents import (
    PROPOSAL_TYPE,
    AnonymousCallers,
    ControlMessage,
    GenesisRequest,
    Owner,
    Proposal,
    ServiceDocument,
)
from s3ml.keyservice.errors import UncommittedError
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.service import KeyService
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.signing import SigningKey

SERVICE, MODEL, POLICY = "tumours", "tumours", "model-server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Founder:
    """Signs everything that a deployment begins with.

    Args:
        key_service: The policy of the key service itself.
        model_server: The policy of the service.
        witnesses: The keys of its witnesses; more than half of them have to cosign.
        tell: Told of the log once it has a name: the witnesses are to watch it then.
    """

    key_service: AppraisalPolicy
    model_server: AppraisalPolicy
    witnesses: Sequence[str] = ()
    tell: Callable[[str, str], None] = lambda _origin, _key: None
    owner: SigningKey = field(default_factory=SigningKey.generate)
    model_owner: SigningKey = field(default_factory=SigningKey.generate)

    def request(self) -> GenesisRequest:
        """Return what begins the deployment."""
        proposal = Proposal(
            owners=(Owner(name="ada", key=str(self.owner.public)),),
            threshold=1,
            witnesses=tuple(self.witnesses),
            witness_quorum=len(self.witnesses) // 2 + 1 if self.witnesses else 0,
            key_service_policy=encode_policy(self.key_service),
            allow_simulated=True,
            random=secrets.token_bytes(32),
        )
        envelope = Envelope(payload_type=PROPOSAL_TYPE, payload=encode_document(proposal))
        return GenesisRequest(proposal=envelope.with_signature(self.owner), nonce=secrets.token_bytes(32))

    def tell_of(self, entry: bytes) -> None:
        """Tell the witnesses of the log that begins with `entry`."""
        found = identify_genesis(entry)
        self.tell(found.origin, found.keys.checkpoint)

    def messages(self, genesis: Genesis) -> tuple[ControlMessage, ControlMessage]:
        """Return the policy of the service, and then the service."""
        policy = encode_policy(self.model_server)
        about = {
            "service": SERVICE,
            "policy_sha256": hashlib.sha256(policy).hexdigest(),
            "model": MODEL,
            "model_version": "1",
        }
        sealed = seal_identity(Authority.of(genesis), str(pyrage.x25519.Identity.generate()), **about)
        manifest = model_manifest(
            deployment=genesis.deployment,
            payload_sha256="ab" * 32,
            payload_bytes=1,
            sealed_identity=sealed,
            **about,
        )
        document = ServiceDocument(
            service=SERVICE,
            policy=POLICY,
            policy_sha256=about["policy_sha256"],
            callers=(AnonymousCallers(),),
            model_owners=(str(self.model_owner.public),),
            models=(manifest.with_signature(self.model_owner),),
        )
        return (
            self._signed(genesis, f"policies/{POLICY}", policy),
            self._signed(genesis, f"services/{SERVICE}", encode_document(document), sealed),
        )

    def _signed(self, genesis: Genesis, resource: str, body: bytes, *attachments: bytes) -> ControlMessage:
        message = control_message(
            deployment=genesis.deployment,
            resource=resource,
            resource_version=1,
            previous_sha256="",
            body=body,
            nonce=secrets.token_bytes(32),
            now=datetime.now(UTC),
            attachments=attachments,
        )
        return ControlMessage(
            statement=message.statement.with_signature(self.owner),
            body=message.body,
            attachments=message.attachments,
        )


async def found_here(service: KeyService, founder: Founder) -> None:
    """Begin a deployment at a key service in this process."""
    request = founder.request()
    try:
        reply = await service.genesis(request)
    except UncommittedError:
        founder.tell_of(service.replica.ledger.storage.entries(0, 1)[0])
        reply = await service.genesis(request)
    for message in founder.messages(identify_genesis(reply.entry)):
        await service.control(message)


def found_at(client: KeyServiceClient, founder: Founder, read_entry: Callable[[], bytes]) -> None:
    """Begin a deployment at a key service over HTTP.

    Args:
        client: Leads to it.
        founder: Signs.
        read_entry: Reads the first entry from storage.
    """
    request = founder.request()
    try:
        reply = client.genesis(request)
    except KeyServiceUnavailableError:
        founder.tell_of(read_entry())
        reply = client.genesis(request)
    for message in founder.messages(identify_genesis(reply.entry)):
        client.control(message)
