"""What faults of others do to one replica: witnesses that do not answer, replicas that are quicker, bugs."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from s3ml.keyservice.authority import Authority
from s3ml.keyservice.documents import ACKNOWLEDGEMENT_TYPE, Acknowledgement, GenesisRequest
from s3ml.keyservice.errors import ConflictError, HaltedError, UncommittedError
from s3ml.keyservice.ledger import Ledger
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.replaying import View
from s3ml.keyservice.replica import Phase
from s3ml.primitives.clock import RatchetClock
from s3ml.primitives.envelope import Envelope, SignatureError
from s3ml.transparency.witness.signer import WitnessSigner
from tests.keyservice import keyservice_world
from tests.keyservice.keyservice_world import (
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
        await looking.refresh()
        seen = looking.is_settled
        await looking.settle()
        assert (seen, looking.is_settled) == (False, True)
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
        view = replica.ledger.stored
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
        world.stop()
