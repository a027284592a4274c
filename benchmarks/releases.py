"""How fast a key service releases keys: its state machine in this process, real quotes, SQLite on disk.

Part of `trust.py`. Enclaves are played by the quoting key of a simulated platform that this module makes.
The requester's side, quote and opening, is left out of the times.
"""

import asyncio
import hashlib
import secrets
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyrage

from benchmarks.summaries import summary
from s3ml.attestation import Alternative, AppraisalPolicy, Evidence, Tee, encode_policy
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.simulated.quote import EnclaveReport, render_quote
from s3ml.keyservice.client import (
    Genesis,
    ReleaseSession,
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
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.service import KeyService
from s3ml.keyservice.storage import SQLiteStorage
from s3ml.primitives.clock import SystemClock
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.signing import SigningKey

SERVICE, MODEL, POLICY = "tumours", "tumours", "model-server"
CONCURRENCY = 16


class PlayedEnclave:
    """An enclave that measures as `code`; satisfies `Attester`."""

    tee = Tee.SIMULATED

    def __init__(self, pki: SimulatedPKI, code: bytes) -> None:
        self._pki = pki
        self._code = hashlib.sha256(code).digest()
        self._collateral = pki.collateral(datetime.now(UTC) - timedelta(hours=1))

    @property
    def policy(self) -> AppraisalPolicy:
        """What accepts this enclave and no other."""
        root, measurements = self._pki.root_der, (self._code.hex(),)
        return AppraisalPolicy(accept=(Alternative(tee=Tee.SIMULATED, root=root, measurements=measurements),))

    def quote(self, report_data: bytes) -> Evidence:
        """Return evidence over `report_data`."""
        report = EnclaveReport(
            measurement=self._code, signer=bytes(32), product_id=1, svn=1, report_data=report_data
        )
        return Evidence(tee=Tee.SIMULATED, quote=render_quote(self._pki, report), collateral=self._collateral)

    def sealing_key(self) -> SecretBytes:
        """Return a key of this code."""
        return SecretBytes(hashlib.sha256(b"sealing" + self._code).digest())


async def measure(count: int) -> dict[str, Any]:
    """Return what a release costs the key service, one at a time and many at a time."""
    pki = SimulatedPKI.create(datetime.now(UTC) - timedelta(days=1))
    enclave, replica = PlayedEnclave(pki, b"key service"), PlayedEnclave(pki, b"model server")
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        storage = SQLiteStorage(Path(folder) / "log.sqlite")
        service = KeyService(storage, enclave, clock, EventLog(lambda _line: None, clock))
        background = asyncio.create_task(service.run())
        try:
            await _begin(service, enclave.policy, replica.policy)
            taken_us = [await _release(service, replica) for _ in range(count)]
            rate = await _rate(service, replica, count)
        finally:
            background.cancel()
            await asyncio.gather(background, return_exceptions=True)
            storage.close()
    return {
        "one_at_a_time_us": summary(taken_us, 1),
        f"per_s_at_{CONCURRENCY}": round(rate, 1),
        "requesters_side": "runs in the same process; left out of the first figure, inside the second",
    }


async def _release(service: KeyService, replica: PlayedEnclave) -> float:
    """Get one release and return how long the key service took for it."""
    session = ReleaseSession(SERVICE, replica)
    began = time.perf_counter()
    challenge = service.challenge(session.challenge_request())
    challenged = time.perf_counter()
    request = session.answer(challenge)
    answered = time.perf_counter()
    reply = await service.release(request)
    released = time.perf_counter()
    assert session.open(reply).release.epochs
    return (challenged - began + released - answered) * 1e6


async def _rate(service: KeyService, replica: PlayedEnclave, count: int) -> float:
    """Return releases per second with several requesters."""
    numbers = iter(range(count))

    async def requester() -> None:
        for _ in numbers:
            await _release(service, replica)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(requester())
    return count / (time.perf_counter() - began)


async def _begin(service: KeyService, own: AppraisalPolicy, replicas: AppraisalPolicy) -> None:
    """Found a deployment of one owner, and sign a policy and a service with one model."""
    owner, model_owner = SigningKey.generate(), SigningKey.generate()
    proposal = Proposal(
        owners=(Owner(name="ada", key=str(owner.public)),),
        threshold=1,
        key_service_policy=encode_policy(own),
        allow_simulated=True,
        random=secrets.token_bytes(32),
    )
    envelope = Envelope(payload_type=PROPOSAL_TYPE, payload=encode_document(proposal)).with_signature(owner)
    reply = await service.genesis(GenesisRequest(proposal=envelope, nonce=secrets.token_bytes(32)))
    genesis, policy = identify_genesis(reply.entry), encode_policy(replicas)
    service.control(_signed(genesis, owner, f"policies/{POLICY}", policy))
    about = {
        "service": SERVICE,
        "policy_sha256": hashlib.sha256(policy).hexdigest(),
        "model": MODEL,
        "model_version": "1",
    }
    sealed = seal_identity(genesis, str(pyrage.x25519.Identity.generate()), **about)
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
        model_owners=(str(model_owner.public),),
        models=(manifest.with_signature(model_owner),),
    )
    service.control(_signed(genesis, owner, f"services/{SERVICE}", encode_document(document), sealed))


def _signed(
    genesis: Genesis, owner: SigningKey, resource: str, body: bytes, *attachments: bytes
) -> ControlMessage:
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
        statement=message.statement.with_signature(owner), body=message.body, attachments=message.attachments
    )
