"""Make the key service's own vectors; run once from the repository's root, and again only for a new version.

``python -m conformance.vectors.make_keyservice``
"""

import asyncio
import base64
import json
import tempfile
from pathlib import Path
from typing import Any

from s3ml.attestation import encode_policy
from s3ml.keyservice.bindings import identity_info, release_binding, release_info
from s3ml.keyservice.challenges import Challenge
from s3ml.keyservice.joining.transcript import (
    hello_digest,
    join_info,
    joiner_binding,
    offer_digest,
    reply_digest,
    request_digest,
    source_binding,
)
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.encoding import sha256, tagged
from s3ml.wire.hpke import HYBRID_AES256, open_once
from tests.clocks import NOW
from tests.keyservice.keyservice_join_world import Deployment, Exchange
from tests.keyservice.keyservice_world import KEY_SERVICE_POLICY, MODEL_POLICY, NONCE, OWNER_KEYS, World

FOLDER = Path(__file__).parent
SOURCE = "this project, conformance/vectors/make_keyservice.py"


def text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def write(name: str, vector: dict[str, Any]) -> None:
    (FOLDER / f"{name}.json").write_text(json.dumps({"source": SOURCE, **vector}, indent=1) + "\n")


def make_log(world: World) -> None:
    view = world.view
    entries = world.storage.entries(0, view.size)
    write(
        "log",
        {
            "deployment": view.authority.deployment,
            "entries": [text(entry) for entry in entries],
            "leaf_hashes": [view.tree.leaf(index).hex() for index in range(view.size)],
            "roots": [view.tree.root(size).hex() for size in range(1, view.size + 1)],
            "checkpoint_key": str(view.authority.checkpoint_key),
            "checkpoint": view.checkpoint,
            "audit_records": [text(record) for record in world.storage.audit(0, 9)],
        },
    )


def make_control(world: World, sealed: bytes) -> None:
    body = world.document(world.manifest(sealed))
    message = world.message("services/tumours", 2, body)
    intake = world.keyring.deployment.intake
    fields = {
        "deployment": world.genesis.deployment,
        "service": "tumours",
        "policy_sha256": sha256(encode_policy(MODEL_POLICY)).hex(),
        "model": "forest",
        "model_version": "1",
    }
    assert open_once(HYBRID_AES256, intake, sealed, info=identity_info(**fields)).decode() == world.identity
    write(
        "control_message",
        {
            "owners": [str(key.public) for key in OWNER_KEYS],
            "threshold": 2,
            "genesis": text(world.genesis.entry),
            "statement": json.loads(message.statement.to_json()),
            "body": text(message.body),
            "resource": "services/tumours",
            "resource_version": 2,
            "identity": {
                **fields,
                "info": identity_info(**fields).hex(),
                "intake_private_key": intake.to_bytes().hex(),
                "sealed": text(sealed),
                "opened": world.identity,
            },
        },
    )


async def make_release(world: World) -> None:
    session = world.session()
    challenge = world.service.challenge(session.challenge_request())
    request = session.answer(challenge)
    issued: Challenge = world.service._releaser._challenges._open[challenge.nonce]
    pending = session._pending
    assert pending is not None
    reply = await world.service.release(request)
    bound = release_binding(
        deployment=challenge.deployment,
        nonce=challenge.nonce,
        attester_nonce=request.attester_nonce,
        public_key=request.public_key,
        service="tumours",
        policy_sha256=challenge.policy_sha256,
        log_head=issued.log_head,
    ).report_data()
    opened = open_once(HYBRID_AES256, pending.key, reply.sealed, info=release_info(bound))
    write(
        "release",
        {
            "deployment": challenge.deployment,
            "service": "tumours",
            "nonce": challenge.nonce.hex(),
            "attester_nonce": request.attester_nonce.hex(),
            "policy_sha256": challenge.policy_sha256,
            "log_head": challenge.log_head.hex(),
            "private_key": pending.key.to_bytes().hex(),
            "public_key": text(request.public_key),
            "report_data": bound.hex(),
            "info": release_info(bound).hex(),
            "statement_key": str(world.genesis.statement_key),
            "sealed": text(reply.sealed),
            "opened": text(opened),
        },
    )


async def make_trust_bundle(world: World) -> None:
    write(
        "trust_bundle",
        {
            "deployment": world.genesis.deployment,
            "service": "tumours",
            "nonce": NONCE.hex(),
            "now": world.clock.now().isoformat(),
            "key_service_policy": encode_policy(KEY_SERVICE_POLICY).decode(),
            "service_policy": encode_policy(MODEL_POLICY).decode(),
            "known_size": 2,
            "known_root": world.view.tree.root(2).hex(),
            "bundle": (await world.bundle(known_size=2)).decode(),
            "log_size": world.view.size,
            "log_root": world.view.root.hex(),
        },
    )


def make_join() -> None:
    exchange = Exchange(Deployment("vectors")).to_reply()
    hello, offer, request, reply = exchange.hello, exchange.offer, exchange.request, exchange.reply
    private_key = exchange.private_key.hex()
    said = request_digest(hello, offer, request)
    write(
        "join",
        {
            "private_key": private_key,
            "messages": {
                name: json.loads(encode_document(message))
                for name, message in (
                    ("hello", hello),
                    ("offer", offer),
                    ("request", request),
                    ("reply", reply),
                )
            },
            "hello_digest": hello_digest(hello).hex(),
            "offer_digest": offer_digest(hello, offer).hex(),
            "request_digest": said.hex(),
            "reply_digest": reply_digest(said, reply.sealed).hex(),
            "joiner_report_data": joiner_binding(hello, offer).report_data().hex(),
            "source_report_data": source_binding(hello, offer, request, reply.sealed).report_data().hex(),
            "info": join_info(said).hex(),
            "now": NOW.isoformat(),
            "policy": text(exchange.deployment.policy),
            "opened": text(exchange.open()),
        },
    )


def make_encodings() -> None:
    cases: list[tuple[str, list[bytes]]] = [
        ("S3ML report data v1", []),
        ("S3ML deployment v1", [b""]),
        ("S3ML trust nonce v1", [bytes(32), b"\xff" * 32]),
        ("S3ML release v1", [b"a", b"", b"bc"]),
        ("S3ML release v1", [b"ab", b"", b"c"]),
    ]
    write(
        "encodings",
        {
            "cases": [
                {
                    "tag": tag,
                    "fields": [field.hex() for field in fields],
                    "encoded": tagged(tag, *fields).hex(),
                    "sha256": sha256(tagged(tag, *fields)).hex(),
                }
                for tag, fields in cases
            ]
        },
    )


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder) / "log.sqlite")
        await world.begin()
        await world.put_policy()
        sealed = world.sealed_identity()
        body = world.document(world.manifest(sealed))
        await world.service.control(world.message("services/tumours", 1, body, attachments=(sealed,)))
        await make_release(world)
        await world.service._audit.flush()
        make_log(world)
        make_control(world, sealed)
        await make_trust_bundle(world)
        make_join()
        make_encodings()
        world.stop()


if __name__ == "__main__":
    asyncio.run(main())
