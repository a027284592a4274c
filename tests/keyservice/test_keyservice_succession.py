"""Witnesses that follow others, and checkpoint keys that follow others."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from s3ml.attestation import AppraisalPolicy
from s3ml.keyservice.documents import RestartEntry, WitnessesDocument
from s3ml.keyservice.errors import ConflictError, HaltedError, UncommittedError
from s3ml.keyservice.following import follow
from s3ml.keyservice.log import LogTamperedError, parse_entry
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.replaying import check_head
from s3ml.keyservice.replica import Phase
from s3ml.primitives.envelope import SignatureError
from s3ml.primitives.errors import ConfigurationError, UntrustedPeerError
from s3ml.transparency.checkpoint import Checkpoint, sign_checkpoint
from tests.keyservice.keyservice_fleet import Fleet, InProcessWitness, Member, gone
from tests.keyservice.keyservice_world import KEY_SERVICE_CODE, KEY_SERVICE_POLICY, OWNER_KEYS, policy_of

# Besides the present code, another build.
WIDER = AppraisalPolicy(accept=(*policy_of(KEY_SERVICE_CODE).accept, *policy_of(bytes(range(32))).accept))


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """One replica that serves under two of three witnesses."""
    made = Fleet(tmp_path, witnesses=3)
    await made.serve()
    yield made
    made.stop()


def succession(fleet: Fleet, witnesses: list[InProcessWitness], quorum: int) -> WitnessesDocument:
    """Put new witnesses in the place of the old ones at the host, and return what owners sign of them."""
    fleet.witnesses = witnesses
    fleet.watch(fleet.first.view.authority)
    return WitnessesDocument(witnesses=tuple(str(one.key) for one in witnesses), witness_quorum=quorum)


def newcomers(fleet: Fleet, count: int) -> list[InProcessWitness]:
    return [InProcessWitness(10 + number, fleet.clock) for number in range(count)]


async def ended(fleet: Fleet) -> Member:
    """Lose every witness with something stored, and the process: what starts again is recovering."""
    for witness in fleet.witnesses:
        witness.interfere = gone
    first = fleet.first
    with pytest.raises(UncommittedError):
        await first.put_policy(name="other")
    return first


async def started(first: Member) -> Member:
    first.stop()
    first.start()
    with pytest.raises((UncommittedError, HaltedError)):
        await first.step()
    assert first.has_come_to(Phase.RECOVERING)
    return first


class TestSuccession:
    """k of n owners replace witnesses that are gone; nobody else does."""

    async def test_what_was_stored_goes_on_under_the_new_ones(self, fleet: Fleet) -> None:
        first = await ended(fleet)
        named = succession(fleet, newcomers(fleet, 3), 2)
        await started(first)
        stored = first.service.replica.ledger.stored
        said = first.acknowledgement(log_size=stored.size, log_root=stored.root, successors=named)
        await first.service.acknowledge(said)
        assert first.has_come_to(Phase.SERVING)
        assert "policies/other" in first.view.state.places
        assert [str(one) for one in first.view.authority.witnesses] == list(named.witnesses)
        first.verify(await first.bundle())

    async def test_clients_and_auditors_follow_it(self, fleet: Fleet) -> None:
        first = await ended(fleet)
        named = succession(fleet, newcomers(fleet, 3), 2)
        await started(first)
        stored = first.service.replica.ledger.stored
        said = first.acknowledgement(log_size=stored.size, log_root=stored.root, successors=named)
        await first.service.acknowledge(said)
        authority = first.view.authority
        chain = [data for _, data in authority.chain]
        assert follow(authority.genesis, chain).witnesses == authority.witnesses
        entry = parse_entry(chain[-1])
        assert isinstance(entry.body, RestartEntry)
        forged = msgspec.structs.replace(
            entry,
            body=msgspec.structs.replace(entry.body, acknowledgement=first.acknowledgement(OWNER_KEYS[0])),
        )
        with pytest.raises(UntrustedPeerError):
            follow(authority.genesis, [*chain[:-1], encode_document(forged)])

    async def test_none_at_all_is_not_fork_protected(self, fleet: Fleet) -> None:
        first = await ended(fleet)
        named = succession(fleet, [], 0)
        await started(first)
        stored = first.service.replica.ledger.stored
        said = first.acknowledgement(log_size=stored.size, log_root=stored.root, successors=named)
        await first.service.acknowledge(said)
        assert first.has_come_to(Phase.SERVING)
        assert not first.service.deployment().is_fork_protected

    async def test_an_older_database_goes_on_where_owners_say_so(self, fleet: Fleet) -> None:
        """The newest database is lost for good: witnesses that know it refuse, others are named."""
        first = fleet.first
        older = fleet.database.copy()
        await first.put_policy(name="lost")
        fleet.database.restore(older)
        await started(first)
        named = succession(fleet, newcomers(fleet, 3), 2)
        await started(first)
        stored = first.service.replica.ledger.stored
        said = first.acknowledgement(log_size=stored.size, log_root=stored.root, successors=named)
        await first.service.acknowledge(said)
        assert first.has_come_to(Phase.SERVING)
        assert "policies/lost" not in first.view.state.places

    async def test_too_few_owners_name_nobody(self, fleet: Fleet) -> None:
        first = await ended(fleet)
        named = succession(fleet, newcomers(fleet, 3), 2)
        await started(first)
        stored = first.service.replica.ledger.stored
        said = first.acknowledgement(
            OWNER_KEYS[0], log_size=stored.size, log_root=stored.root, successors=named
        )
        with pytest.raises(SignatureError):
            await first.service.acknowledge(said)
        assert first.has_come_to(Phase.RECOVERING)

    async def test_the_committed_head_is_not_the_stored_one(self, fleet: Fleet) -> None:
        """Owners see and sign what would go on, never less than is stored."""
        first = await ended(fleet)
        named = succession(fleet, newcomers(fleet, 3), 2)
        await started(first)
        with pytest.raises(ConflictError):
            await first.service.acknowledge(first.acknowledgement(successors=named))

    async def test_a_quorum_of_half_is_none(self, fleet: Fleet) -> None:
        first = await ended(fleet)
        named = succession(fleet, newcomers(fleet, 2), 1)
        await started(first)
        stored = first.service.replica.ledger.stored
        said = first.acknowledgement(log_size=stored.size, log_root=stored.root, successors=named)
        with pytest.raises(ConfigurationError, match="more than half"):
            await first.service.acknowledge(said)

    async def test_it_needs_the_new_quorum(self, fleet: Fleet) -> None:
        first = await ended(fleet)
        fresh = newcomers(fleet, 3)
        named = succession(fleet, fresh, 2)
        await started(first)
        for witness in fresh[:2]:
            witness.interfere = gone
        stored = first.service.replica.ledger.stored
        said = first.acknowledgement(log_size=stored.size, log_root=stored.root, successors=named)
        with pytest.raises(UncommittedError):
            await first.service.acknowledge(said)
        assert first.has_come_to(Phase.RECOVERING)


class TestAChangeOfKeys:
    """After an upgrade, witnesses have until the next one to be told the new checkpoint key."""

    async def test_witnesses_that_know_the_older_key_alone_go_on(
        self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = fleet.first
        monkeypatch.setattr(fleet, "watch", lambda _: None)
        await first.put_key_service(WIDER)
        await first.put_policy(name="after")
        assert "policies/after" in first.view.state.places
        keys = first.service.replica.serving_keyring().deployment
        assert [key.public for key in keys.checkpoint_keys] == [
            first.view.authority.checkpoint_key,
            first.genesis.checkpoint_key,
        ]

    async def test_the_older_key_alone_convinces_nobody_else(self, fleet: Fleet) -> None:
        first = fleet.first
        await first.put_key_service(WIDER)
        older = first.service.replica.serving_keyring().deployment.retiring
        assert older is not None
        checkpoint = Checkpoint(origin=first.genesis.origin, size=first.view.size, root=first.view.root)
        with pytest.raises(LogTamperedError, match="signature"):
            check_head(
                sign_checkpoint(checkpoint, older),
                size=checkpoint.size,
                root=checkpoint.root,
                authority=first.view.authority,
            )

    async def test_it_is_gone_with_the_next_change(self, fleet: Fleet) -> None:
        first = fleet.first
        await first.put_key_service(WIDER)
        await first.put_key_service(KEY_SERVICE_POLICY)
        keys = first.service.replica.serving_keyring().deployment
        assert first.genesis.checkpoint_key not in {key.public for key in keys.checkpoint_keys}
        names = {secret.name for secret in first.storage.secrets_of("retiring-checkpoint-key")}
        assert {name.version for name in names} == {"3"}

    async def test_a_process_that_starts_again_has_it(self, fleet: Fleet) -> None:
        first = fleet.first
        await first.put_key_service(WIDER)
        before = first.service.replica.serving_keyring().deployment.retiring
        await first.restart()
        after = first.service.replica.serving_keyring().deployment.retiring
        assert before is not None
        assert after is not None
        assert before.public == after.public

    async def test_a_replica_that_joins_has_it(self, tmp_path: Path) -> None:
        fleet = Fleet(tmp_path, replicas=2, witnesses=3)
        await fleet.serve()
        first, second = fleet.members
        await first.put_key_service(WIDER)
        await second.step()
        assert second.has_come_to(Phase.SERVING)
        given = second.service.replica.serving_keyring().deployment.retiring
        assert given is not None
        assert given.public == first.genesis.checkpoint_key
        fleet.stop()
