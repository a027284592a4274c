"""The way through, without HTTP."""

from s3ml.keyservice.client import verify_genesis_reply
from tests.keyservice.keyservice_world import MODEL_POLICY, NONCE, World, signed_proposal


class TestTheWay:
    async def test_genesis_is_verified_by_the_owners(self, world: World) -> None:
        genesis = await world.begin()
        assert world.genesis_reply is not None
        verified = verify_genesis_reply(
            world.genesis_reply, proposal=signed_proposal(), nonce=NONCE, now=world.clock.now()
        )
        assert verified.deployment == genesis.deployment

    async def test_an_attested_model_server_receives_keys_and_identity(self, serving: World) -> None:
        session = serving.session()
        opened = session.open(await serving.release(session))
        assert opened.release.models[0].identity == serving.identity
        assert [len(epoch.keys) for epoch in opened.release.epochs] == [2]
        assert session.deployment == serving.genesis.deployment

    async def test_a_client_verifies_the_service(self, serving: World) -> None:
        verified = serving.verify(await serving.bundle())
        assert verified.is_simulated
        assert not verified.is_fork_protected
        assert [step.number for step in verified.steps] == list(range(1, 13))
        assert verified.policy == MODEL_POLICY
