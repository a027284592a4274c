"""Every replica and every platform is lost; the database and k holders are left: the deployment goes on."""

import hashlib

import pytest

from s3ml.keyservice.documents import RecoveryAsk, RecoveryRequestReply
from s3ml.keyservice.errors import ConflictError
from s3ml.keyservice.escrow.holder import VerifiedRequest, contribute, verify_request, verify_verdict
from s3ml.keyservice.escrow.shares import open_shares
from s3ml.keyservice.replica import Phase
from s3ml.primitives.secret import SecretBytes
from tests.keyservice.escrow_world import HOLDERS, IDENTITIES, recovery_body
from tests.keyservice.keyservice_world import (
    KEY_SERVICE_CODE,
    KEY_SERVICE_POLICY,
    NONCE,
    InProcessAttester,
    World,
)


class OtherPlatform(InProcessAttester):
    """The same code on another machine: another sealing key."""

    def sealing_key(self) -> SecretBytes:
        return SecretBytes(hashlib.sha256(b"another machine").digest())


async def named(world: World) -> None:
    """Let the owners name three holders, of whom two recover."""
    await world.service.control(world.message("deployment/recovery", 1, recovery_body(2, HOLDERS[:3])))


async def move(world: World) -> None:
    """Lose the platform; start the same code on another, over the same database."""
    world.attester = OtherPlatform(KEY_SERVICE_CODE)
    world.stop()
    world.start()


def phase(world: World) -> Phase:
    return world.service.replica.phase


async def asked(world: World, purpose: str = "recovery") -> tuple[RecoveryRequestReply, VerifiedRequest]:
    ask = RecoveryAsk(purpose="recovery" if purpose == "recovery" else "rehearsal", nonce=NONCE)
    reply = await world.service.restorer.request(ask)
    verified = verify_request(
        reply,
        deployment=world.genesis.deployment,
        policy=KEY_SERVICE_POLICY,
        now=world.clock.now(),
    )
    return reply, verified


class TestTotalLoss:
    async def test_two_of_three_holders_bring_it_back(self, serving: World) -> None:
        await named(serving)
        deployment, checkpoint = serving.genesis.deployment, serving.genesis.checkpoint_key
        await move(serving)
        assert phase(serving) == Phase.SEALED
        reply, verified = await asked(serving)
        for holder in (2, 0):
            shares = open_shares(reply.shares, [IDENTITIES[holder]])
            status = await serving.service.restorer.contribute(contribute(verified, shares))
        assert (status.contributed, status.missing) == (("ada", "cy"), 0)
        assert phase(serving) == Phase.RECOVERING
        await serving.service.membership._step()
        assert serving.service.is_ready
        assert serving.genesis.deployment == deployment
        assert serving.keyring.deployment.checkpoint.public == checkpoint

    async def test_models_are_back_and_epochs_are_new(self, serving: World) -> None:
        """Epoch keys are in no share: what was sealed to the old ones stays closed."""
        await named(serving)
        before = serving.session()
        old = before.open(await serving.release(before)).release
        await move(serving)
        reply, verified = await asked(serving)
        both = open_shares(reply.shares, IDENTITIES[:2])
        await serving.service.restorer.contribute(contribute(verified, both))
        await serving.service.membership._step()
        session = serving.session()
        new = session.open(await serving.release(session)).release
        assert [one.identity for one in new.models] == [one.identity for one in old.models]
        assert {one.epoch for one in new.epochs}.isdisjoint({one.epoch for one in old.epochs})

    async def test_a_replica_that_has_its_keys_asks_for_none(self, serving: World) -> None:
        await named(serving)
        with pytest.raises(ConflictError, match="expected a sealed replica"):
            await asked(serving)


class TestRehearsal:
    async def test_it_proves_the_backup_without_touching_the_deployment(self, serving: World) -> None:
        await named(serving)
        size, keyring = serving.view.size, serving.keyring
        reply, verified = await asked(serving, "rehearsal")
        shares = open_shares(reply.shares, IDENTITIES[:2])
        status = await serving.service.restorer.contribute(contribute(verified, shares))
        assert status.verdict is not None
        verdict = verify_verdict(status.verdict, verified, policy=KEY_SERVICE_POLICY, now=serving.clock.now())
        assert (verdict.opened, verdict.failures) == (4, 0)
        assert (serving.view.size, serving.keyring) == (size, keyring)

    async def test_a_restored_database_is_rehearsed_on_a_sealed_replica(self, serving: World) -> None:
        await named(serving)
        await move(serving)
        reply, verified = await asked(serving, "rehearsal")
        shares = open_shares(reply.shares, IDENTITIES[1:3])
        status = await serving.service.restorer.contribute(contribute(verified, shares))
        assert status.verdict is not None
        assert phase(serving) == Phase.SEALED
