"""What a replica would release and state now, found out on a copy of its life."""

from dataclasses import dataclass
from typing import Any

import msgspec

from s3ml.attestation import AppraisalPolicy, Tee
from s3ml.keyservice.bindings import release_info
from s3ml.keyservice.documents import (
    Release,
    ReleaseReply,
    ReleaseRequest,
    TrustBundle,
    TrustBundleRequest,
    TrustStatement,
)
from s3ml.keyservice.documents.release import ChallengeRequest
from s3ml.keyservice.releases import Appraised, served
from s3ml.primitives.encoding import sha256
from s3ml.primitives.envelope import parse_envelope
from s3ml.primitives.signing import VerifyKey
from s3ml.wire.hpke import HYBRID_AES256, Kem, PrivateKey, open_once
from tests.clocks import NOW
from tests.keyservice.keyservice_world import MODEL_SERVER_CODE, NONCE
from tests.keyservice.protocol.model import World
from tests.keyservice.protocol.node import Ended, Node
from tests.keyservice.protocol.trails import Lives, Trail

BOUND = bytes(64)
REQUESTER = PrivateKey.from_bytes(Kem.MLKEM768_X25519, bytes(Kem.MLKEM768_X25519.private_key_bytes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What left a replica: from which head, by which keys, under which policy."""

    verb: str
    size: int
    root: bytes
    statement_key: str
    policy_sha256: str
    epochs: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Enclave:
    """What a model server's evidence would have proven."""

    tee: str = Tee.SIMULATED
    technology: str = "sgx"
    measurement: str = MODEL_SERVER_CODE.hex()
    platform: str = "simulated"
    signed_at: Any = NOW


def appraise(request: Any, challenge: Any, view: Any, *, now: Any, cache: Any) -> Appraised:
    """Take a model server at its word; evidence has tests of its own."""
    served(view, challenge.service)

    def satisfies(other: AppraisalPolicy) -> bool:
        return any(MODEL_SERVER_CODE.hex() in (one.measurements or ()) for one in other.accept)

    return Appraised(
        request=request,
        challenge=challenge,
        bound=BOUND,
        enclave=Enclave(),  # type: ignore[arg-type]
        satisfies=satisfies,
    )


async def release(node: Node) -> Told:
    """Ask a replica for the keys of its service, and open what it gives."""
    service = node.up
    challenge = service.challenge(ChallengeRequest(role="model-server", service="tumours"))
    request = ReleaseRequest(
        nonce=challenge.nonce, attester_nonce=NONCE, public_key=REQUESTER.public, evidence=b""
    )
    reply: ReleaseReply = await service.release(request)
    opened = open_once(HYBRID_AES256, REQUESTER, reply.sealed, info=release_info(BOUND))
    envelope = parse_envelope(opened)
    found = msgspec.json.decode(envelope.payload, type=Release)
    view = service.replica.ledger.view  # Nothing else has run since.
    return Told(
        verb="releases",
        size=view.size,
        root=view.root,
        statement_key=_signer(envelope, view, node),
        policy_sha256=found.policy_sha256,
        epochs=tuple((epoch.epoch, key.key_config[2:]) for epoch in found.epochs for key in epoch.keys),
    )


async def state(node: Node) -> Told:
    """Ask a replica what holds of its service."""
    (found,) = await node.up._answer_batch([TrustBundleRequest(service="tumours", nonce=NONCE)])
    if not isinstance(found, bytes):
        raise found
    bundle = msgspec.json.decode(found, type=TrustBundle)
    statement = msgspec.json.decode(bundle.statement.payload, type=TrustStatement)
    return Told(
        verb="states",
        size=statement.log_size,
        root=statement.log_root,
        statement_key=_signer(bundle.statement, node.up.replica.ledger.view, node),
        policy_sha256=sha256(statement.policy).hex(),
        epochs=((0, statement.key_configs),),
    )


def _signer(envelope: Any, view: Any, node: Node) -> str:
    """Return which of the keys that ever governed signed an envelope."""
    keyring = node.up.replica._keyring
    candidates = [str(view.authority.statement_key)]
    if keyring is not None:
        candidates.append(str(keyring.deployment.statement.public))
    for text in candidates:
        try:
            envelope.verify((VerifyKey.parse(text),), threshold=1, payload_type=envelope.payload_type)
        except Exception:  # noqa: BLE001, S112 - any failure means another key
            continue
        return text
    return "unknown"


PROBES = {"release": release, "state": state}


def probe(lives: Lives, world: World, index: int, label: str) -> Told | None:
    """Return what a replica would say now, nothing where it refuses or is busy."""
    trail: Trail = lives.step(world.trails[index], ("start", label, PROBES[label]), world.around(index))
    for event in trail.events:
        if isinstance(event, Ended) and event.label == label:
            return event.value if isinstance(event.value, Told) else None
    return None
