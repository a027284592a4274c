"""Several replicas of one deployment over one database, with witnesses and peers, all in this process.

The witnesses are real ones: their own core decides, over a state in memory. What lies or stalls wraps one.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from s3ml.attestation import AppraisalPolicy, encode_policy
from s3ml.keyservice.authority import Authority
from s3ml.keyservice.cosigning import Cosigner
from s3ml.keyservice.documents import (
    ACKNOWLEDGEMENT_TYPE,
    Acknowledgement,
    ControlReply,
    KeyServiceDocument,
    Owner,
    OwnersDocument,
    RotationDocument,
    WitnessesDocument,
)
from s3ml.keyservice.documents.joining import JoinHello, JoinOffer, JoinReply, JoinRequest
from s3ml.keyservice.errors import UncommittedError
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.replica import Phase
from s3ml.keyservice.service import KeyService
from s3ml.keyservice.storage import SQLiteStorage
from s3ml.primitives.clock import Clock
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import UnavailableError
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.signing import SigningKey, VerifyKey
from s3ml.transparency.cosignature import WitnessKey
from s3ml.transparency.witness.client import (
    WitnessConflictError,
    WitnessRefusedError,
    WitnessUnavailableError,
)
from s3ml.transparency.witness.decision import Latest, Verdict
from s3ml.transparency.witness.logs import LogsFile
from s3ml.transparency.witness.request import encode_request
from s3ml.transparency.witness.service import Witness
from s3ml.transparency.witness.signer import WitnessSigner
from s3ml.transparency.witness.store import StateMovedError, StateUnavailableError
from tests.clocks import FakeClock
from tests.keyservice.keyservice_world import KEY_SERVICE_CODE, OWNER_KEYS, InProcessAttester, World, signed
from tests.keyservice.memory_storage import Database, MemoryStorage

_T = TypeVar("_T")
STATUSES = {
    Verdict.MALFORMED: 400,
    Verdict.UNKNOWN_LOG: 404,
    Verdict.UNSIGNED: 403,
    Verdict.INCONSISTENT: 422,
}


class MemoryStore:
    """What a witness remembers, in memory."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[Latest, str]] = {}

    def latest(self, origin: str) -> Latest | None:
        found = self.held.get(origin)
        return None if found is None else found[0]

    def advance(self, origin: str, *, before: Latest | None, latest: Latest, note: str) -> None:
        if self.latest(origin) != before:
            raise StateMovedError("witness state: moved")
        self.held[origin] = latest, note

    def note(self, origin_sha256: str) -> str | None:
        return next(
            (n for o, (_, n) in self.held.items() if hashlib.sha256(o.encode()).hexdigest() == origin_sha256),
            None,
        )

    def heads(self) -> dict[str, Latest]:
        return {origin: latest for origin, (latest, _) in self.held.items()}


class EveryLog:
    """A witness's configuration that trusts, of each log, the keys that it is told."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[VerifyKey, ...]] = {}

    def current(self) -> dict[str, tuple[VerifyKey, ...]]:
        return self.keys


class InProcessWitness:
    """A witness with a client's interface: real decisions, no HTTP.

    Attributes:
        interfere: Called before each request; what it raises is what the client sees.
        asked: The old sizes of all requests.
    """

    def __init__(self, number: int, clock: Clock) -> None:
        self.signer = WitnessSigner(
            f"witness.example/w{number}", SigningKey.from_raw(bytes([90 + number]) * 32)
        )
        self.url = f"http://w{number}"
        self.logs, self.store = EveryLog(), MemoryStore()
        self.witness = Witness(self.signer, cast(LogsFile, self.logs), self.store, clock)
        self.interfere: Callable[[], None] = lambda: None
        self.alter: Callable[[tuple[str, ...]], tuple[str, ...]] = lambda lines: lines
        self.asked: list[int] = []

    @property
    def key(self) -> WitnessKey:
        return self.signer.public

    def watch(self, origin: str, *keys: VerifyKey) -> None:
        self.logs.keys[origin] = keys

    def add_checkpoint(self, *, old_size: int, proof: Sequence[bytes], note: str) -> tuple[str, ...]:
        self.asked.append(old_size)
        self.interfere()
        try:
            answer = self.witness.add_checkpoint(encode_request(old_size=old_size, proof=proof, note=note))
        except StateUnavailableError as error:
            raise WitnessUnavailableError(str(error)) from error
        outcome = answer.outcome
        if outcome.verdict is Verdict.COSIGN:
            return self.alter((answer.line,))
        if outcome.verdict is Verdict.STALE:
            raise WitnessConflictError(outcome.detail, known_size=outcome.known_size)
        raise WitnessRefusedError(outcome.detail, status=STATUSES[outcome.verdict])

    def close(self) -> None:
        """Nothing is open."""


def gone() -> None:
    """Stand for a witness that does not answer."""
    raise WitnessUnavailableError("witness: does not answer")


class InProcessPeer:
    """The way to another replica without HTTP; it is called from a thread of the joiner's."""

    def __init__(self, member: "Member", loop: asyncio.AbstractEventLoop) -> None:
        self._member = member
        self._loop = loop
        self.url = f"http://{member.path.name}"

    def join_offer(self, hello: JoinHello) -> JoinOffer:
        return self._ask(self._member.service.door.offer(hello))

    def join(self, request: JoinRequest) -> JoinReply:
        return self._ask(self._member.service.door.join(request))

    def close(self) -> None:
        """Nothing is open."""

    def _ask(self, answer: Coroutine[Any, Any, _T]) -> _T:
        if self._member.is_cut_off:
            answer.close()
            raise UnavailableError("peer: does not answer")
        return asyncio.run_coroutine_threadsafe(answer, self._loop).result(30)


@dataclass
class Member(World):
    """One replica of a fleet."""

    fleet: "Fleet" = field(kw_only=True)
    is_cut_off: bool = False

    def start(self) -> None:
        self.store = MemoryStorage(self.fleet.database)
        self.storage = cast(SQLiteStorage, self.store)
        self.events = EventLog(self.lines.write, self.clock)
        cosigner = Cosigner([witness.url for witness in self.fleet.witnesses], timeout_s=5.0)
        for one, witness in zip(cosigner._witnesses, self.fleet.witnesses, strict=True):
            one.client.close()
            one.client = cast(Any, witness)
        self.cosigner = cosigner
        self.service = KeyService(
            self.wrap_storage(self.store),
            self.attester,
            self.clock,
            self.events,
            cosigner=cosigner,
            batch_window_s=0.0,
        )

    def stop(self) -> None:
        self.cosigner.close()
        self.store.close()

    async def step(self) -> None:
        """Do what the process does every second; raises what it would tell."""
        self.meet()
        await self.service.membership._step()

    def nonce(self) -> bytes:
        self.counter += 1
        return hashlib.sha256(f"nonce {self.path.name} {self.counter}".encode()).digest()

    def meet(self) -> None:
        loop = asyncio.get_running_loop()
        peers = [InProcessPeer(other, loop) for other in self.fleet.members if other is not self]
        self.service.membership._peers._peers = peers  # type: ignore[attr-defined]

    async def restart(self) -> None:
        self.stop()
        self.start()
        await self.step()

    @property
    def phase(self) -> Phase:
        return self.service.replica.phase

    def has_come_to(self, phase: Phase) -> bool:
        """Tell whether it stands there now, whatever was seen of it before."""
        return self.phase is phase

    @property
    def database_size(self) -> int:
        return len(self.fleet.database.rows.log)

    def acknowledgement(self, *keys: SigningKey, **changes: Any) -> Envelope:
        replica = self.service.replica
        fields: dict[str, Any] = {
            "deployment": self.genesis.deployment,
            "nonce": replica.nonce,
            "log_size": self.view.size,
            "log_root": self.view.root,
            "created_at": self.clock.now(),
        }
        payload = encode_document(Acknowledgement(**{**fields, **changes}))
        envelope = Envelope(payload_type=ACKNOWLEDGEMENT_TYPE, payload=payload)
        return signed(envelope, *(keys or OWNER_KEYS[:2]))

    def part_version(self, part: str) -> int:
        return self.view.authority.versions.get(part, (0, ""))[0] + 1

    async def put_part(self, part: str, body: bytes, *keys: SigningKey) -> ControlReply:
        message = self.message(
            f"deployment/{part}", self.part_version(part), body, keys=keys or OWNER_KEYS[:2]
        )
        return await self.service.control(message)

    async def put_owners(
        self, owners: Sequence[SigningKey], threshold: int, *keys: SigningKey
    ) -> ControlReply:
        return await self.put_part("owners", owners_body(owners, threshold), *keys)

    async def put_key_service(self, policy: AppraisalPolicy, *keys: SigningKey) -> ControlReply:
        body = encode_document(KeyServiceDocument(policy=encode_policy(policy)))
        reply = await self.put_part("key-service", body, *keys)
        self.fleet.watch(self.view.authority)
        return reply

    async def rotate(self, retire: str = "drain", *, service: str = "tumours") -> ControlReply:
        resource = f"rotations/{service}"
        place = self.view.state.places.get(resource)
        body = encode_document(RotationDocument(service=service, retire=cast(Any, retire)))
        version = 1 if place is None else place.version + 1
        return await self.service.control(self.message(resource, version, body))


class Fleet:
    """Replicas, witnesses, and the database between them."""

    def __init__(self, folder: Path, *, replicas: int = 1, witnesses: int = 0) -> None:
        self.folder = folder
        self.database = Database()
        self.clock = FakeClock()
        self.witnesses = [InProcessWitness(number, self.clock) for number in range(witnesses)]
        self.members: list[Member] = []
        for _ in range(replicas):
            self.add()

    @property
    def first(self) -> Member:
        return self.members[0]

    def add(self, *, code: bytes = KEY_SERVICE_CODE, platform: bytes | None = None) -> Member:
        """Start one more process; each has a platform of its own unless one is named."""
        number = len(self.members)
        attester = PlatformAttester(code, platform or bytes([number]))
        member = Member(self.folder / f"r{number}", clock=self.clock, attester=attester, fleet=self)
        self.members.append(member)
        return member

    async def begin(self, **changes: Any) -> None:
        """Begin the deployment, with every witness watching its log."""
        quorum = len(self.witnesses) // 2 + 1 if self.witnesses else 0
        fields = {"witnesses": tuple(str(w.key) for w in self.witnesses), "witness_quorum": quorum, **changes}
        try:
            await self.first.begin(**fields)
        except UncommittedError:  # the witnesses learn of the log from the message
            self.watch(self.first.service.replica.ledger.stored.authority)
            await self.first.begin(**fields)

    async def serve(self, **changes: Any) -> None:
        """Begin, with one policy and one service, and have every replica serve."""
        await self.begin(**changes)
        await self.first.put_policy()
        await self.first.put_service()
        for member in self.members:
            await member.step()

    def watch(self, authority: Authority) -> None:
        """Tell the witnesses the checkpoint key that governs, beside those before."""
        for witness in self.witnesses:
            before = witness.logs.keys.get(authority.genesis.origin, ())
            witness.watch(authority.genesis.origin, *dict.fromkeys((*before, authority.checkpoint_key)))

    def stop(self) -> None:
        for member in self.members:
            member.stop()


class PlatformAttester(InProcessAttester):
    """An enclave on a platform of its own: what one seals, another does not open."""

    def __init__(self, measurement: bytes, platform: bytes) -> None:
        super().__init__(measurement)
        self.platform = platform

    def sealing_key(self) -> SecretBytes:
        return SecretBytes(hashlib.sha256(b"platform" + self.platform + self._measurement).digest())


def owners_body(owners: Sequence[SigningKey], threshold: int) -> bytes:
    """Return the body that names `owners`."""
    named = tuple(Owner(name=f"owner-{i}", key=str(key.public)) for i, key in enumerate(owners))
    return encode_document(OwnersDocument(owners=named, threshold=threshold))


def witnesses_body(witnesses: Sequence[InProcessWitness], quorum: int) -> bytes:
    """Return the body that names `witnesses`."""
    return encode_document(
        WitnessesDocument(witnesses=tuple(str(w.key) for w in witnesses), witness_quorum=quorum)
    )
