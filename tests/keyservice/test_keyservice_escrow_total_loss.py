"""Every replica and every platform is lost; the database and k holders are left: the deployment goes on."""

import hashlib

import msgspec
import pytest

from s3ml.attestation import AppraisalPolicy, encode_policy
from s3ml.keyservice.documents import KeyServiceDocument, RecoveryAsk, RecoveryRequestReply
from s3ml.keyservice.errors import ConflictError, RefusedError
from s3ml.keyservice.escrow.holder import (
    VerifiedRequest,
    contribute,
    follow_owners,
    verify_outcome,
    verify_request,
)
from s3ml.keyservice.escrow.shares import open_shares
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.replica import Phase
from s3ml.primitives.envelope import SignatureError
from s3ml.primitives.secret import SecretBytes
from tests.keyservice.escrow_world import HOLDERS, IDENTITIES, Escrow, recovery_body
from tests.keyservice.keyservice_world import (
    KEY_SERVICE_CODE,
    KEY_SERVICE_POLICY,
    NONCE,
    InProcessAttester,
    World,
    policy_of,
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
        assert status.outcome is not None
        outcome = verify_outcome(status.outcome, verified, now=serving.clock.now())
        assert (outcome.opened, outcome.failures) == (4, 0)
        assert (serving.view.size, serving.keyring) == (size, keyring)

    async def test_a_restored_database_is_rehearsed_on_a_sealed_replica(self, serving: World) -> None:
        await named(serving)
        await move(serving)
        reply, verified = await asked(serving, "rehearsal")
        shares = open_shares(reply.shares, IDENTITIES[1:3])
        status = await serving.service.restorer.contribute(contribute(verified, shares))
        assert status.outcome is not None
        assert phase(serving) == Phase.SEALED


class TestTheOwnersChain:
    """It travels with the request, so that a holder without a network knows what owners signed last."""

    async def chained(self, world: World) -> RecoveryRequestReply:
        reply, _ = await asked(world, "rehearsal")
        return msgspec.structs.replace(reply, authority=world.service.authority())

    async def test_it_leads_to_what_governs(self, serving: World) -> None:
        await named(serving)
        authority = follow_owners(await self.chained(serving), deployment=serving.genesis.deployment)
        assert authority is not None
        assert authority.policy == KEY_SERVICE_POLICY

    async def test_none_came(self, serving: World) -> None:
        await named(serving)
        reply, _ = await asked(serving, "rehearsal")
        assert follow_owners(reply, deployment=serving.genesis.deployment) is None

    async def test_of_another_deployment(self, serving: World) -> None:
        await named(serving)
        with pytest.raises(RefusedError, match="owners' chain: deployment"):
            follow_owners(await self.chained(serving), deployment="ab" * 32)

    async def test_the_replica_reads_a_log_with_another_policy(self, serving: World) -> None:
        await named(serving)
        reply = await self.chained(serving)
        other = msgspec.structs.replace(reply.request, policy_sha256="ab" * 32)
        with pytest.raises(RefusedError, match="key-service policy: expected"):
            follow_owners(
                msgspec.structs.replace(reply, request=other), deployment=serving.genesis.deployment
            )

    async def test_shares_that_the_deployment_did_not_make(self, serving: World) -> None:
        await named(serving)
        reply = await self.chained(serving)
        forged = Escrow(deployment=serving.genesis.deployment).shares
        with pytest.raises(SignatureError):
            follow_owners(
                msgspec.structs.replace(reply, shares=forged), deployment=serving.genesis.deployment
            )

    async def test_new_code_has_new_shares_and_older_ones_are_worthless(self, serving: World) -> None:
        """Another policy of the key service renews every key: whoever held shares before holds nothing."""
        await named(serving)
        older = await serving.service.restorer.shares()
        wider = AppraisalPolicy(
            accept=(*KEY_SERVICE_POLICY.accept, *policy_of(b"newer code".ljust(32)).accept)
        )
        body = encode_document(KeyServiceDocument(policy=encode_policy(wider)))
        await serving.service.control(serving.message("deployment/key-service", 1, body))
        reply = await self.chained(serving)
        authority = follow_owners(reply, deployment=serving.genesis.deployment)
        assert authority is not None
        assert authority.policy == wider
        verified = verify_request(
            reply, deployment=serving.genesis.deployment, policy=wider, now=serving.clock.now()
        )
        with pytest.raises(RefusedError, match="share 1 of ada: share set"):
            contribute(verified, open_shares(older, IDENTITIES[:2]))
        status = await serving.service.restorer.contribute(
            contribute(verified, open_shares(reply.shares, IDENTITIES[:2]))
        )
        assert status.outcome is not None
        outcome = verify_outcome(status.outcome, verified, now=serving.clock.now())
        assert (outcome.opened, outcome.failures) == (5, 0)  # with the retiring checkpoint key
