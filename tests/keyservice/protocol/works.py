"""What replicas are asked to do, and the deployment that they do it in."""

from typing import Any

import pyrage

from s3ml.attestation import AppraisalPolicy, encode_policy
from s3ml.keyservice.authority import Authority
from s3ml.keyservice.client import control_message, model_manifest, seal_identity
from s3ml.keyservice.documents import (
    ACKNOWLEDGEMENT_TYPE,
    Acknowledgement,
    AnonymousCallers,
    ControlMessage,
    GenesisRequest,
    KeyServiceDocument,
    RotationDocument,
    ServiceDocument,
)
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.encoding import sha256
from s3ml.primitives.envelope import Envelope
from tests.clocks import NOW
from tests.keyservice.keyservice_world import (
    KEY_SERVICE_POLICY,
    MODEL_OWNER,
    MODEL_POLICY,
    NONCE,
    OWNER_KEYS,
    policy_of,
    signed,
    signed_proposal,
)
from tests.keyservice.protocol.node import Bench, Node
from tests.keyservice.protocol.stepping import Dice

IDENTITY = str(pyrage.x25519.Identity.generate())
WIDE = AppraisalPolicy(accept=(*KEY_SERVICE_POLICY.accept, *policy_of(bytes(32)).accept))
WIDE_MODELS = AppraisalPolicy(accept=(*MODEL_POLICY.accept, *policy_of(bytes(32)).accept))

_MADE: dict[tuple[str, str], tuple[bytes, bytes]] = {}


def digest(policy: AppraisalPolicy) -> str:
    return sha256(encode_policy(policy)).hex()


def message(
    deployment: str,
    resource: str,
    version: int,
    body: bytes,
    previous: str,
    *,
    attachments: tuple[bytes, ...] = (),
) -> ControlMessage:
    """Return a change that two owners signed."""
    made = control_message(
        deployment=deployment,
        resource=resource,
        resource_version=version,
        previous_sha256=previous,
        body=body,
        nonce=sha256(f"{resource} {version}".encode() + body),
        now=NOW,
        attachments=attachments,
    )
    return ControlMessage(
        statement=signed(made.statement, *OWNER_KEYS[:2]), body=made.body, attachments=made.attachments
    )


def service_document(authority: Authority, policy: AppraisalPolicy) -> tuple[bytes, bytes]:
    """Return the body of a service with one model, and its sealed identity; the same ones every time."""
    if (made := _MADE.get((authority.deployment, digest(policy)))) is not None:
        return made
    sealed = seal_identity(
        authority,
        IDENTITY,
        policy_sha256=digest(policy),
        service="tumours",
        model="forest",
        model_version="1",
    )
    manifest = model_manifest(
        deployment=authority.deployment,
        service="tumours",
        policy_sha256=digest(policy),
        model="forest",
        model_version="1",
        payload_sha256="ab" * 32,
        payload_bytes=1,
        sealed_identity=sealed,
    ).with_signature(MODEL_OWNER)
    document = ServiceDocument(
        service="tumours",
        policy="models",
        policy_sha256=digest(policy),
        callers=(AnonymousCallers(),),
        model_owners=(str(MODEL_OWNER.public),),
        models=(manifest,),
    )
    made = encode_document(document), sealed
    return _MADE.setdefault((authority.deployment, digest(policy)), made)


async def step(node: Node) -> str:
    """Do what membership does each second."""
    await node.up.membership._step()
    return "done"


async def begin(node: Node) -> str:
    """Begin the deployment with one service."""
    bench, service = node.bench, node.up
    panel = bench.panel
    proposal = signed_proposal(
        key_service_policy=encode_policy(WIDE),
        witnesses=tuple(str(key) for key in panel.keys),
        witness_quorum=bench.quorum,
    )
    await service.genesis(GenesisRequest(proposal=proposal, nonce=NONCE))
    view = service.replica.ledger.view
    policy = message(view.authority.deployment, "policies/models", 1, encode_policy(WIDE_MODELS), "")
    await service.control(policy)
    bench.table.dice = Dice(b"model owner")
    body, sealed = service_document(view.authority, WIDE_MODELS)
    bench.table.dice = node.dice
    await service.control(
        message(view.authority.deployment, "services/tumours", 1, body, "", attachments=(sealed,))
    )
    bench.authority = view.authority
    return "done"


def _deployment(bench: Bench) -> Authority:
    assert bench.authority is not None
    return bench.authority


async def change(node: Node, made: ControlMessage) -> Any:
    """Have a replica carry out what owners signed."""
    return await node.up._governor.change(made)


async def narrow(node: Node) -> Any:
    """Narrow the policy of the service: its epochs end at once."""
    bench = node.bench
    deployment = _deployment(bench).deployment
    body = encode_policy(MODEL_POLICY)
    return await change(node, message(deployment, "policies/models", 2, body, digest(WIDE_MODELS)))


async def rotate(node: Node) -> Any:
    """Ask for new keys of the service."""
    body = encode_document(RotationDocument(service="tumours", retire="discard"))
    made = message(_deployment(node.bench).deployment, "rotations/tumours", 1, body, "")
    return await change(node, made)


async def rekey(node: Node) -> Any:
    """Narrow the policy of the key service: all keys of the deployment are replaced."""
    body = encode_document(KeyServiceDocument(policy=encode_policy(KEY_SERVICE_POLICY)))
    made = message(_deployment(node.bench).deployment, "deployment/key-service", 1, body, "")
    return await change(node, made)


async def acknowledge(node: Node) -> str:
    """Have owners sign what a replica shows; they sign the newest head only."""
    service = node.up
    await service.replica.ledger.refresh()
    view = service.replica.ledger.view
    payload = encode_document(
        Acknowledgement(
            deployment=view.authority.deployment,
            nonce=service.replica.nonce,
            log_size=view.size,
            log_root=view.root,
            created_at=NOW,
        )
    )
    envelope = Envelope(payload_type=ACKNOWLEDGEMENT_TYPE, payload=payload)
    await service.acknowledge(signed(envelope, *OWNER_KEYS[:2]))
    return "done"


WORKS = {
    "step": step,
    "narrow": narrow,
    "rotate": rotate,
    "rekey": rekey,
    "acknowledge": acknowledge,
}
