"""Deployments, their replicas, and enclaves of anybody's code, for joins."""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from s3ml.attestation import Evidence, Tee, VerdictCache, encode_evidence, encode_policy
from s3ml.attestation.simulated.quote import EnclaveReport, render_quote
from s3ml.attestation.verify.intel.sgx_report import FLAG_INIT, FLAG_MODE64BIT
from s3ml.keyservice.documents.joining import JoinHello, JoinOffer, JoinReply, JoinRequest
from s3ml.keyservice.joining import (
    JoinSession,
    JoinSource,
    OpenedJoin,
    Reading,
    SealedJoin,
    ServingStanding,
    seal,
    verify_joiner,
)
from s3ml.keyservice.log import origin
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.signing import SigningKey
from s3ml.transparency.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from s3ml.transparency.merkle import Tree, leaf_hash
from tests.clocks import NOW, FakeClock
from tests.keyservice.keyservice_world import (
    COLLATERAL,
    KEY_SERVICE_CODE,
    KEY_SERVICE_POLICY,
    PKI,
    SIGNER,
    policy_of,
)

FLAG_DEBUG = 0x02
POLICY = encode_policy(KEY_SERVICE_POLICY)
# The same code under another document: what a change of the policy leaves of an open join is seen with it.
NEXT_POLICY = encode_policy(policy_of(KEY_SERVICE_CODE, advisories=("INTEL-SA-00001",)))
OTHER_CODE = hashlib.sha256(b"an attacker's own code").digest()
CACHE = VerdictCache()


@dataclass(frozen=True, kw_only=True)
class Enclave:
    """A genuine enclave, whose code and platform say what a test says."""

    measurement: bytes = KEY_SERVICE_CODE
    signer: bytes = SIGNER
    product_id: int = 1
    svn: int = 1
    flags: int = FLAG_INIT | FLAG_MODE64BIT

    def quote(self, report_data: bytes) -> Evidence:
        report = EnclaveReport(
            measurement=self.measurement,
            signer=self.signer,
            product_id=self.product_id,
            svn=self.svn,
            report_data=report_data,
            flags=self.flags,
        )
        return Evidence(tee=Tee.SIMULATED, quote=render_quote(PKI, report), collateral=COLLATERAL)

    def evidence(self, report_data: bytes) -> bytes:
        return encode_evidence(self.quote(report_data))


GENUINE = Enclave()
STRANGER = Enclave(measurement=OTHER_CODE)


@dataclass
class Deployment:
    """A deployment's log, and one replica of it that serves."""

    name: str
    clock: FakeClock = field(default_factory=FakeClock)
    policy: bytes = POLICY
    secrets: bytes = b""
    size: int = 4

    def __post_init__(self) -> None:
        self.id = hashlib.sha256(self.name.encode()).hexdigest()
        self.secrets = self.secrets or b"wrapping and generation keys of " + self.name.encode()
        self.key = SigningKey.from_raw(hashlib.sha256(b"checkpoint" + self.name.encode()).digest())
        self.tree = Tree(leaf_hash(b"%s %d" % (self.name.encode(), index)) for index in range(64))
        self.source = JoinSource(now_s=self.clock.monotonic_s())

    def checkpoint(self, size: int | None = None) -> str:
        size = self.size if size is None else size
        head = Checkpoint(origin=origin(self.id), size=size, root=self.tree.root(size))
        return sign_checkpoint(head, self.key)

    def standing(self) -> ServingStanding:
        return ServingStanding(
            deployment=self.id,
            policy_document=self.policy,
            log_size=self.size,
            log_root=self.tree.root(self.size),
            checkpoint=self.checkpoint(),
        )

    def reading(self, **changes: Any) -> Reading:
        """Return what a replica that has read the log knows, or what a test has it know."""
        found = Reading(
            deployment=self.id,
            policy_document=self.policy,
            size=self.size,
            committed_size=1,
            root_of=self.tree.root,
            open_checkpoint=lambda note: open_checkpoint(note, origin=origin(self.id), key=self.key.public),
        )
        return replace(found, **changes)

    def session(self, enclave: Enclave = GENUINE) -> JoinSession:
        return JoinSession(self.id, enclave.quote, now_s=self.clock.monotonic_s())

    def offer(self, hello: JoinHello) -> JoinOffer:
        return self.source.offer(hello, standing=self.standing(), now_s=self.clock.monotonic_s())

    def answer(self, session: JoinSession, offer: JoinOffer, **changes: Any) -> JoinRequest:
        return session.answer(offer, self.reading(**changes), now_s=self.clock.monotonic_s())

    def sealed(self, request: JoinRequest) -> SealedJoin:
        join = self.source.take(request, now_s=self.clock.monotonic_s())
        joiner = verify_joiner(join, standing=self.standing(), now=NOW, cache=CACHE)
        admitted = self.source.admit(joiner, now_s=self.clock.monotonic_s())
        return seal(admitted, SecretBytes(self.secrets), standing=self.standing())

    def reply(self, request: JoinRequest, enclave: Enclave = GENUINE) -> JoinReply:
        sealed = self.sealed(request)
        return sealed.reply(enclave.quote(sealed.report_data))

    def opened(self, session: JoinSession, reply: JoinReply) -> OpenedJoin:
        return session.open(reply, now=NOW, now_s=self.clock.monotonic_s(), cache=CACHE)


@dataclass
class Exchange:
    """One join as it goes, message by message."""

    deployment: Deployment
    enclave: Enclave = GENUINE

    def __post_init__(self) -> None:
        self.session = self.deployment.session(self.enclave)
        self.hello = self.session.hello()
        asked = self.session._asked
        assert asked is not None
        self.private_key = asked.key.to_bytes()

    def to_offer(self) -> "Exchange":
        self.offer = self.deployment.offer(self.hello)
        return self

    def to_request(self) -> "Exchange":
        self.to_offer()
        self.request = self.deployment.answer(self.session, self.offer)
        return self

    def to_reply(self) -> "Exchange":
        self.to_request()
        self.reply = self.deployment.reply(self.request)
        return self

    def open(self, reply: JoinReply | None = None) -> bytes:
        return self.deployment.opened(self.session, reply or self.reply).secrets.reveal()
