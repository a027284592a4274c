"""What faults of others do to one replica: witnesses that do not answer, replicas that are quicker, bugs."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from s3ml.attestation import encode_policy
from s3ml.keyservice.authority import Authority
from s3ml.keyservice.bodies import BodyTooLargeError, Readers
from s3ml.keyservice.challenges import Challenges
from s3ml.keyservice.documents import ACKNOWLEDGEMENT_TYPE, Acknowledgement, GenesisRequest
from s3ml.keyservice.errors import ConflictError, HaltedError, RefusedError, UncommittedError
from s3ml.keyservice.ledger import Ledger
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.replaying import View
from s3ml.keyservice.replica import Phase
from s3ml.primitives.clock import RatchetClock
from s3ml.primitives.envelope import Envelope, SignatureError
from s3ml.primitives.errors import UnavailableError
from s3ml.transparency.witness.signer import WitnessSigner
from tests.keyservice import keyservice_world
from tests.keyservice.keyservice_world import (
    MODEL_POLICY,
    NONCE,
    OWNER_KEYS,
    World,
    signed,
    signed_proposal,
)

WITNESS = WitnessSigner.generate("witness.test/w0")
WITNESSES: dict[str, Any] = {"witnesses": (str(WITNESS.public),), "witness_quorum": 1}
Answer = Callable[[View], Awaitable[None]]


class OneWitness:
    """A witness without a network, which answers as it is told to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.before: Answer = self.nothing

    async def nothing(self, _: View) -> None:
        """Cosign at once."""

    async def silent(self, view: View) -> None:
        """Do not answer."""
        raise UncommittedError(f"0 of 1 witnesses cosigned entry {view.size}")

    async def cosign(self, view: View, _: Sequence[Authority]) -> str:
        """Return the checkpoint with the cosignature."""
        await self.before(view)
        return f"{view.checkpoint}{WITNESS.cosign(view.checkpoint, timestamp=self.world.clock.now())}\n"


@pytest.fixture
def witness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OneWitness:
    """The only witness of a key service that has not begun."""
    world = World(tmp_path / "log.sqlite")
    world.stop()
    found = OneWitness(world)
    monkeypatch.setattr(keyservice_world, "Cosigner", lambda *_, **__: found)
    world.start()
    return found


def other(witness: OneWitness) -> Ledger:
    """Return another replica's way to the same log, with a witness that answers."""
    cosigner: Any = OneWitness(witness.world)
    return Ledger(witness.world.storage, RatchetClock(witness.world.clock), cosigner)


class TestGenesis:
    """A deployment begins once its witnesses know its log."""

    async def test_what_they_are_to_watch_is_said_and_the_proposal_is_sent_again(
        self, witness: OneWitness
    ) -> None:
        world = witness.world
        witness.before = witness.silent
        request = GenesisRequest(proposal=signed_proposal(**WITNESSES), nonce=NONCE)
        with pytest.raises(UncommittedError, match="witnesses watch the log s3ml/") as refused:
            await world.service.genesis(request)
        stored = world.service.replica.ledger.stored.authority
        assert stored.genesis.origin in str(refused.value)
        assert stored.keys.checkpoint in str(refused.value)
        witness.before = witness.nothing
        await world.service.genesis(request)
        world.service.replica.serving()
        world.stop()


class TestContradiction:
    """Witnesses that know a longer log show a fork, unless the longer log is this one."""

    async def test_another_replica_was_quicker(self, witness: OneWitness) -> None:
        world = witness.world
        await world.begin(**WITNESSES)
        quicker = other(witness)

        async def finished_by_another(_: View) -> None:
            witness.before = witness.nothing
            await quicker.settle()
            raise HaltedError("witnesses know a longer log")

        witness.before = finished_by_another
        await world.put_policy()
        assert world.service.replica.ledger.trouble is None
        assert world.view.size == quicker.view.size
        world.stop()

    async def test_it_is_another_log(self, witness: OneWitness) -> None:
        world = witness.world
        await world.begin(**WITNESSES)

        async def contradict(_: View) -> None:
            raise HaltedError("witnesses know a longer log")

        witness.before = contradict
        with pytest.raises(HaltedError):
            await world.put_policy()
        assert isinstance(world.service.replica.ledger.trouble, HaltedError)
        world.stop()


class TestFinishing:
    """A head that one replica left uncommitted is finished by another that only looks."""

    async def test_at_the_next_look(self, witness: OneWitness) -> None:
        world = witness.world
        await world.begin(**WITNESSES)
        looking = other(witness)
        witness.before = witness.silent
        with pytest.raises(UncommittedError):
            await world.put_policy()
        assert looking.is_settled
        await looking.refresh()
        assert not looking.is_settled
        await looking.settle()
        assert looking.is_settled
        assert looking.view.size == world.service.replica.ledger.stored.size
        world.stop()

    async def test_a_step_does_it(self, witness: OneWitness) -> None:
        world = witness.world
        await world.begin(**WITNESSES)
        witness.before = witness.silent
        with pytest.raises(UncommittedError):
            await world.put_policy()
        witness.before = witness.nothing
        await world.service.membership.step()
        assert "policies/models" in {one.resource for one in world.service.resources().resources}
        world.stop()


class TestSteps:
    """What a peer or a store says ends no replica."""

    async def test_a_bug_is_told_and_the_next_step_is_taken(
        self, serving: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger = serving.service.replica.ledger

        async def fail() -> View:
            raise ValueError("a secret that must not be told")

        with monkeypatch.context() as patched:
            patched.setattr(ledger, "refresh", fail)
            await serving.service.membership.step()
        told = [event for event in serving.told if event["event"] == "replica"]
        assert (told[-1]["detail"], told[-1]["error"]) == ("failure", "ValueError")
        await serving.service.membership.step()
        assert serving.told[-1]["detail"] == "serving"


class TestAcknowledgement:
    """What is wrong is said, whether or not witnesses answer."""

    async def test_before_anything_is_written(self, witness: OneWitness) -> None:
        world = witness.world
        await world.begin(**WITNESSES)
        world.stop()
        world.start()
        witness.before = witness.silent
        await world.service.membership.step()
        replica = world.service.replica
        assert replica.phase is Phase.RECOVERING
        view = replica.ledger.view
        document = Acknowledgement(
            deployment=world.genesis.deployment,
            nonce=replica.nonce,
            log_size=view.size,
            log_root=view.root,
            created_at=world.clock.now(),
        )

        def envelope(**changes: Any) -> Envelope:
            fields = {name: getattr(document, name) for name in document.__struct_fields__}
            payload = encode_document(Acknowledgement(**{**fields, **changes}))
            return Envelope(payload_type=ACKNOWLEDGEMENT_TYPE, payload=payload)

        with pytest.raises(SignatureError):
            await replica.restart(signed(envelope(), OWNER_KEYS[0]))
        for mistaken in (envelope(nonce=bytes(32)), envelope(log_root=bytes(32))):
            with pytest.raises(ConflictError):
                await replica.restart(signed(mistaken, *OWNER_KEYS[:2]))
        with pytest.raises(UncommittedError):
            await replica.restart(signed(envelope(), *OWNER_KEYS[:2]))
        assert encode_policy(MODEL_POLICY)
        world.stop()


class TestChallenges:
    """The table of challenges is bounded, and closed to nobody."""

    def test_a_new_one_takes_the_place_of_the_oldest(self) -> None:
        table = Challenges(capacity=3)
        fields: dict[str, Any] = {"service": "s", "policy_sha256": "ab" * 32, "log_head": bytes(32)}
        issued = [table.issue(**fields, now_s=float(second)) for second in range(4)]
        with pytest.raises(RefusedError):
            table.take(issued[0].nonce, now_s=5.0)
        for one in issued[1:]:
            assert table.take(one.nonce, now_s=5.0) == one


def request_of(*chunks: bytes, wait: asyncio.Event | None = None, length: str | None = None) -> Request:
    """Return a request whose body comes in these pieces, the last of them once `wait` is set."""
    waiting = list(chunks)

    async def receive() -> dict[str, Any]:
        if wait is not None and len(waiting) == 1:
            await wait.wait()
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    headers = [] if length is None else [(b"content-length", length.encode())]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


class TestBodies:
    """Bodies are bounded in size, in number and in time."""

    async def test_a_whole_one(self) -> None:
        assert await Readers(1).read(request_of(b"a", b"b", length="2"), limit_bytes=2) == b"ab"

    @pytest.mark.parametrize("length", ["3", "-1", "x", "\u0663"])
    async def test_an_announced_length(self, length: str) -> None:
        found = request_of(b"a")
        found.scope["headers"] = [(b"content-length", length.encode("utf-8"))]
        with pytest.raises(BodyTooLargeError):
            await Readers(1).read(found, limit_bytes=2)

    async def test_more_than_was_announced(self) -> None:
        with pytest.raises(BodyTooLargeError, match="got more"):
            await Readers(1).read(request_of(b"aa", b"b"), limit_bytes=2)

    async def test_one_that_takes_too_long(self) -> None:
        never = asyncio.Event()
        with pytest.raises(UnavailableError, match="too long"):
            await Readers(1, timeout_s=0.0).read(request_of(b"a", b"b", wait=never), limit_bytes=2)

    async def test_the_oldest_makes_way(self) -> None:
        readers, never = Readers(2), asyncio.Event()
        slow = [
            asyncio.ensure_future(readers.read(request_of(b"a", b"b", wait=never), limit_bytes=2))
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        assert await readers.read(request_of(b"c"), limit_bytes=2) == b"c"
        with pytest.raises(UnavailableError, match="too long"):
            await slow[0]
        never.set()
        assert await slow[1] == b"ab"
