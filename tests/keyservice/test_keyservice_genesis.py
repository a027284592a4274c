"""A deployment begins once, by the will of its own owners, inside the TEE that they accept."""

import asyncio

import msgspec
import pytest

from s3ml.attestation import EvidenceRejectedError, encode_policy
from s3ml.keyservice.client import verify_genesis_reply
from s3ml.keyservice.documents import CONTROL_TYPE, GenesisRequest, Owner
from s3ml.keyservice.errors import ConflictError, NotFoundError, NotServingError, RefusedError
from s3ml.keyservice.parsing import DocumentMalformedError, encode_document
from s3ml.primitives.envelope import Envelope, SignatureError
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.primitives.signing import SigningKey
from tests.keyservice.keyservice_world import (
    KEY_SERVICE_POLICY,
    NONCE,
    OWNER_KEYS,
    REAL_POLICY,
    InProcessAttester,
    World,
    proposal,
    signed,
    signed_proposal,
)

ADA = Owner(name="ada", key=str(OWNER_KEYS[0].public))
BO = Owner(name="bo", key=str(OWNER_KEYS[1].public))


async def refused(world: World, envelope: Envelope) -> None:
    try:
        await world.service.genesis(GenesisRequest(proposal=envelope, nonce=NONCE))
    finally:
        assert world.service.deployment().state == "uninitialised"
        assert world.attester.quotes == 0


class TestProposal:
    async def test_too_few_signatures(self, world: World) -> None:
        with pytest.raises(SignatureError, match="expected 2 of the named keys, got 1"):
            await refused(world, signed_proposal(OWNER_KEYS[0]))

    async def test_one_owner_twice_counts_once(self, world: World) -> None:
        once = signed_proposal(OWNER_KEYS[0])
        twice = msgspec.structs.replace(once, signatures=once.signatures * 2)
        with pytest.raises(SignatureError, match="got 1"):
            await refused(world, twice)

    async def test_strangers_do_not_count(self, world: World) -> None:
        with pytest.raises(SignatureError):
            await refused(world, signed_proposal(OWNER_KEYS[0], SigningKey.generate()))

    async def test_another_document_type(self, world: World) -> None:
        envelope = Envelope(payload_type=CONTROL_TYPE, payload=encode_document(proposal()))
        with pytest.raises(SignatureError, match="payload type"):
            await refused(world, signed(envelope, *OWNER_KEYS))

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"threshold": 4}, "at most 3"),
            ({"owners": (ADA, Owner(name="bo", key=ADA.key))}, "each key once"),
            ({"owners": (ADA, Owner(name="ada", key=BO.key))}, "each key once"),
            ({"key_service_policy": b"version = 1"}, "policy"),
            ({"key_service_policy": b"nonsense"}, "policy"),
            ({"allow_simulated": False}, "expected true"),
            ({"key_service_policy": encode_policy(REAL_POLICY)}, "expected false"),
            ({"owners": (ADA, Owner(name="bo", key="ed25519:" + "/" * 43 + "="))}, "canonical"),
            ({"witnesses": ("w",)}, "witness"),
            ({"witness_quorum": 1}, "witness quorum: expected 0 to 0"),
        ],
    )
    async def test_its_own_rules(self, world: World, changes: dict[str, object], told: str) -> None:
        with pytest.raises(ConfigurationError, match=told):
            await refused(world, signed_proposal(**changes))

    @pytest.mark.parametrize(
        "changes",
        [
            {"owners": ()},
            {"threshold": 0},
            {"witnesses": ("",)},
            {"witness_quorum": -1},
            {"key_service_policy": b""},
            {"random": bytes(31)},
            {"owners": (Owner(name="../ada", key=ADA.key), BO)},
        ],
    )
    async def test_its_form(self, world: World, changes: dict[str, object]) -> None:
        with pytest.raises(DocumentMalformedError):
            await refused(world, signed_proposal(**changes))


class TestBeginning:
    async def test_another_proposal_begins_nothing(self, world: World) -> None:
        await world.begin()
        before = world.service.deployment()
        with pytest.raises(ConflictError, match="begun already"):
            await world.begin(random=bytes([1]) * 32)
        assert world.service.deployment() == before

    async def test_the_same_proposal_is_proven_again_to_another_nonce(self, world: World) -> None:
        """A lost reply loses nothing, and every owner can see for themselves."""
        await world.begin()
        before, first = world.service.deployment(), world.genesis_reply
        assert first is not None
        nonce = bytes([7]) * 32
        again = await world.service.genesis(GenesisRequest(proposal=signed_proposal(), nonce=nonce))
        assert world.service.deployment() == before
        assert again.entry == first.entry
        assert again.attester_nonce != first.attester_nonce
        genesis = verify_genesis_reply(again, proposal=signed_proposal(), nonce=nonce, now=world.clock.now())
        assert genesis.deployment == before.deployment

    async def test_two_at_once_begin_one_deployment(self, world: World) -> None:
        requests = [
            GenesisRequest(proposal=signed_proposal(random=bytes([n]) * 32), nonce=NONCE) for n in (1, 2)
        ]
        outcomes = await asyncio.gather(*map(world.service.genesis, requests), return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ConflictError", "GenesisReply"]

    async def test_a_tee_that_does_not_answer_begins_nothing(self, world: World) -> None:
        world.attester.error = UnavailableError("no quote")
        with pytest.raises(UnavailableError):
            await world.begin()
        assert world.service.deployment().state == "uninitialised"

    async def test_before_it_there_is_nothing(self, world: World) -> None:
        assert world.service.deployment().is_simulated
        assert not world.service.is_ready
        with pytest.raises(NotFoundError):
            world.service.resources()
        with pytest.raises(NotFoundError):
            world.service.checkpoint()
        with pytest.raises(NotServingError, match="uninitialised"):
            _ = world.keyring
        with pytest.raises(NotFoundError):
            world.service.challenge(world.session().challenge_request())

    async def test_a_changed_build_satisfies_no_owner(self, world: World) -> None:
        world.attester._measurement = bytes(32)
        await world.begin()
        assert world.genesis_reply is not None
        with pytest.raises(EvidenceRejectedError, match="measurement"):
            verify_genesis_reply(
                world.genesis_reply, proposal=signed_proposal(), nonce=NONCE, now=world.clock.now()
            )


class TestOwnersTool:
    async def test_another_nonce(self, world: World) -> None:
        await world.begin()
        assert world.genesis_reply is not None
        with pytest.raises(EvidenceRejectedError, match="report_data"):
            verify_genesis_reply(
                world.genesis_reply, proposal=signed_proposal(), nonce=bytes(32), now=world.clock.now()
            )

    async def test_another_proposal(self, world: World) -> None:
        await world.begin()
        assert world.genesis_reply is not None
        with pytest.raises(RefusedError, match="proposal"):
            verify_genesis_reply(
                world.genesis_reply,
                proposal=signed_proposal(random=bytes([1]) * 32),
                nonce=NONCE,
                now=world.clock.now(),
            )

    @pytest.mark.parametrize("swapped", ["checkpoint", "statement"])
    async def test_evidence_with_another_key_in_the_entry(self, world: World, swapped: str) -> None:
        """The evidence binds the whole entry, not its intake key alone."""
        await world.begin()
        reply, genesis = world.genesis_reply, world.genesis
        assert reply is not None
        keys = msgspec.structs.replace(genesis.keys, **{swapped: str(SigningKey.generate().public)})
        entry = reply.entry.replace(msgspec.json.encode(genesis.keys), msgspec.json.encode(keys))
        assert entry != reply.entry
        with pytest.raises(EvidenceRejectedError, match="report_data"):
            verify_genesis_reply(
                msgspec.structs.replace(reply, entry=entry),
                proposal=signed_proposal(),
                nonce=NONCE,
                now=world.clock.now(),
            )

    async def test_evidence_of_other_keys(self, world: World) -> None:
        await world.begin()
        reply, genesis = world.genesis_reply, world.genesis
        assert reply is not None
        keys = msgspec.structs.replace(genesis.keys, intake=bytes(1216))
        entry = reply.entry.replace(msgspec.json.encode(genesis.keys), msgspec.json.encode(keys))
        assert entry != reply.entry
        with pytest.raises(EvidenceRejectedError, match="report_data"):
            verify_genesis_reply(
                msgspec.structs.replace(reply, entry=entry),
                proposal=signed_proposal(),
                nonce=NONCE,
                now=world.clock.now(),
            )

    def test_the_world_is_consistent(self) -> None:
        assert KEY_SERVICE_POLICY.is_simulated
        assert InProcessAttester(bytes(32)).tee == "simulated"
