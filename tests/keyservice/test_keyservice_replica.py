"""When a replica serves, and when it does not: sealed, recovering, serving, the lease, restarts, joins."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s3ml.attestation.generate import SealingAbsentError
from s3ml.keyservice.documents import GenesisRequest
from s3ml.keyservice.errors import ConflictError, HaltedError, NotServingError, UncommittedError
from s3ml.keyservice.replica import Phase
from s3ml.keyservice.storage import StorageUnavailableError
from s3ml.keyservice.upkeep import PRESENCE_S, REPLICA_LEASE_S
from s3ml.primitives.envelope import SignatureError
from s3ml.primitives.errors import ConfigurationError, S3MLError, UnavailableError
from tests.keyservice.keyservice_fleet import Fleet, Member, gone
from tests.keyservice.keyservice_world import NONCE, OWNER_KEYS, signed_proposal
from tests.keyservice.memory_storage import Rows

Make = Callable[..., Fleet]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Fleet] = []

    def build(**counts: int) -> Fleet:
        made.append(Fleet(tmp_path, **counts))
        return made[-1]

    yield build
    for fleet in made:
        fleet.stop()


def witnesses_are_gone(fleet: Fleet) -> None:
    for witness in fleet.witnesses:
        witness.interfere = gone


def witnesses_are_back(fleet: Fleet) -> None:
    for witness in fleet.witnesses:
        witness.interfere = lambda: None


async def serves_nothing(member: Member, told: str) -> None:
    for ask in (member.bundle, lambda: member.release(member.session())):
        with pytest.raises(NotServingError, match=told):
            await ask()
    assert not member.service.is_ready


class TestSealed:
    """Without the keys, nothing is served and nothing is proven."""

    async def test_a_tee_that_cannot_seal_comes_back_sealed(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fleet = make()
        await fleet.serve()

        def absent() -> None:
            raise SealingAbsentError("none")

        monkeypatch.setattr(fleet.first.attester, "sealing_key", absent)
        with pytest.raises(NotServingError, match="sealed"):
            await fleet.first.restart()
        assert fleet.first.phase is Phase.SEALED
        await serves_nothing(fleet.first, "sealed")

    async def test_another_platform_opens_nothing(self, make: Make) -> None:
        fleet = make()
        await fleet.serve()
        fleet.first.is_cut_off = True
        stranger = fleet.add()
        with pytest.raises(UnavailableError):
            await stranger.step()
        assert stranger.phase is Phase.SEALED

    async def test_it_attests_no_genesis_whose_keys_it_does_not_hold(self, make: Make) -> None:
        """Anybody can store a genesis that owners proposed, with keys of their own; no TEE vouches for it."""
        fleet = make()
        await fleet.begin()
        stranger = fleet.add()
        before = stranger.attester.quotes
        with pytest.raises(NotServingError, match="does not hold its keys"):
            await stranger.service.genesis(GenesisRequest(proposal=signed_proposal(), nonce=NONCE))
        assert stranger.attester.quotes == before


class TestRestart:
    """A process that starts again proves that what is stored is the newest, or serves nothing."""

    async def test_witnesses_prove_it(self, make: Make) -> None:
        fleet = make(witnesses=3)
        await fleet.serve()
        await fleet.first.restart()
        assert fleet.first.phase is Phase.SERVING
        assert fleet.first.verify(await fleet.first.bundle()).is_fork_protected

    async def test_without_them_it_is_recovering(self, make: Make) -> None:
        fleet = make(witnesses=3)
        await fleet.serve()
        witnesses_are_gone(fleet)
        with pytest.raises(UncommittedError):
            await fleet.first.restart()
        assert fleet.first.phase is Phase.RECOVERING
        await serves_nothing(fleet.first, "recovering")
        witnesses_are_back(fleet)
        await fleet.first.step()
        assert fleet.first.service.is_ready

    async def test_an_older_database_is_refused_by_the_witnesses(self, make: Make) -> None:
        fleet = make(witnesses=3)
        await fleet.serve()
        backup = fleet.database.copy()
        await fleet.first.put_policy(name="newer")
        fleet.database.restore(backup)
        with pytest.raises(HaltedError, match="this database is a fork, or older"):
            await fleet.first.restart()
        with pytest.raises(HaltedError, match="this database is a fork, or older"):
            await fleet.first.bundle()
        assert fleet.first.phase is Phase.RECOVERING

    async def test_a_genesis_that_lost_its_race_admits_nobody(self, make: Make) -> None:
        """Keys that were to begin a deployment do not make this process one of another's replicas."""
        fleet = make(witnesses=1)
        await fleet.serve()
        backup = fleet.database.copy()
        fleet.database.restore(Rows())
        twin = fleet.add(platform=bytes([0]))

        def broken(name: str) -> None:
            if name == "append":
                raise StorageUnavailableError("storage: disk is full")

        twin.store.before = broken
        with pytest.raises(StorageUnavailableError):
            await twin.begin(random=bytes([1]) * 32)
        twin.store.before = lambda _: None
        fleet.database.restore(backup)
        twin.is_cut_off = fleet.first.is_cut_off = True
        witnesses_are_gone(fleet)
        with pytest.raises(S3MLError):
            await twin.step()
        assert twin.phase is Phase.RECOVERING


class TestAcknowledgement:
    """Owners may vouch for one process and one head, once."""

    @pytest.fixture
    async def recovering(self, make: Make) -> Member:
        fleet = make()
        await fleet.serve()
        member = fleet.first
        member.stop()
        member.start()
        await member.service.membership._open()
        assert member.phase is Phase.RECOVERING
        return member

    async def test_k_of_n_do(self, recovering: Member) -> None:
        reply = await recovering.service.acknowledge(recovering.acknowledgement())
        assert (reply.state, reply.log_size) == ("serving", recovering.view.size)
        assert recovering.service.is_ready

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"nonce": bytes(32)}, ConflictError),
            ({"deployment": "ab" * 32}, ConflictError),
            ({"log_size": 4}, ConflictError),
            ({"log_root": bytes(32)}, ConflictError),
        ],
    )
    async def test_for_something_else(
        self, recovering: Member, changes: dict[str, object], error: type[S3MLError]
    ) -> None:
        before = recovering.database_size
        with pytest.raises(error, match="acknowledgement"):
            await recovering.service.acknowledge(recovering.acknowledgement(**changes))
        assert (recovering.phase, recovering.database_size) == (Phase.RECOVERING, before)

    async def test_too_few(self, recovering: Member) -> None:
        with pytest.raises(SignatureError, match="expected 2"):
            await recovering.service.acknowledge(recovering.acknowledgement(OWNER_KEYS[0]))
        assert recovering.phase is Phase.RECOVERING

    async def test_another_payload_type(self, recovering: Member) -> None:
        message = recovering.message("policies/more", 1, b"")
        with pytest.raises(SignatureError, match="payload type"):
            await recovering.service.acknowledge(message.statement)

    async def test_a_replay_to_the_next_process(self, recovering: Member) -> None:
        said = recovering.acknowledgement()
        await recovering.service.acknowledge(said)
        recovering.stop()
        recovering.start()
        await recovering.service.membership._open()
        with pytest.raises(ConflictError, match="another deployment, process or head"):
            await recovering.service.acknowledge(said)

    async def test_one_that_serves_needs_none(self, recovering: Member) -> None:
        said = recovering.acknowledgement()
        await recovering.service.acknowledge(said)
        with pytest.raises(ConfigurationError, match="expected one that is recovering"):
            await recovering.service.acknowledge(said)

    async def test_one_that_is_sealed_cannot_use_it(self, recovering: Member) -> None:
        recovering.stop()
        recovering.start()
        with pytest.raises(ConfigurationError, match="got one that is sealed"):
            await recovering.service.acknowledge(recovering.acknowledgement())


class TestLease:
    """A replica serves for as long as a quorum keeps cosigning its own fresh bytes."""

    async def test_it_ends_without_a_quorum_and_comes_back_with_it(self, make: Make) -> None:
        fleet = make(witnesses=3)
        await fleet.serve()
        member = fleet.first
        witnesses_are_gone(fleet)
        fleet.clock.advance(REPLICA_LEASE_S - 1)
        assert member.service.is_ready
        fleet.clock.advance(1)
        await serves_nothing(member, "no quorum of witnesses has cosigned")
        with pytest.raises(UncommittedError):
            await member.step()
        witnesses_are_back(fleet)
        await member.step()
        assert member.service.is_ready

    async def test_it_is_renewed_before_it_ends(self, make: Make) -> None:
        fleet = make(witnesses=3)
        await fleet.serve()
        for _ in range(10):
            fleet.clock.advance(PRESENCE_S)
            await fleet.first.step()
            assert fleet.first.service.is_ready

    async def test_with_no_witnesses_there_is_none(self, make: Make) -> None:
        fleet = make()
        await fleet.serve()
        fleet.clock.advance(10 * REPLICA_LEASE_S)
        assert fleet.first.service.is_ready

    async def test_what_owners_sign_renews_nothing(self, make: Make) -> None:
        """A host can have known their message, and its cosignatures, for long."""
        fleet = make(witnesses=3)
        await fleet.serve()
        fleet.clock.advance(REPLICA_LEASE_S - 1)
        await fleet.first.put_policy(name="more")
        fleet.clock.advance(1)
        await serves_nothing(fleet.first, "no quorum")


class TestJoining:
    """A serving peer lets others in, and nobody else does."""

    async def test_a_peer_gives_everything(self, make: Make) -> None:
        fleet = make(replicas=2, witnesses=3)
        await fleet.serve()
        second = fleet.members[1]
        session = second.session()
        opened = session.open(await second.release(session))
        assert [epoch.epoch for epoch in opened.release.epochs] == [1]
        assert second.keyring.generations.ids == fleet.first.keyring.generations.ids
        assert second.verify(await second.bundle()).is_fork_protected

    async def test_losing_all_but_one_loses_nothing(self, make: Make) -> None:
        fleet = make(replicas=3)
        await fleet.serve()
        for lost in fleet.members[:2]:
            lost.is_cut_off = True
        survivor = fleet.members[2]
        await survivor.put_policy(name="more")
        session = survivor.session()
        assert session.open(await survivor.release(session)).release.epochs[0].epoch == 1

    async def test_two_that_restarted_never_let_each_other_in(self, make: Make) -> None:
        fleet = make(replicas=2, witnesses=3)
        await fleet.serve()
        witnesses_are_gone(fleet)
        for member in fleet.members:
            member.stop()
            member.start()
        for member in (*fleet.members, *fleet.members):
            with pytest.raises(UnavailableError):
                await member.step()
            assert member.phase is not Phase.SERVING
        assert not any(member.service.is_ready for member in fleet.members)

    async def test_one_whose_lease_ended_lets_nobody_in(self, make: Make) -> None:
        fleet = make(replicas=1, witnesses=3)
        await fleet.serve()
        witnesses_are_gone(fleet)
        fleet.clock.advance(REPLICA_LEASE_S)
        joiner = fleet.add()
        with pytest.raises(UnavailableError):
            await joiner.step()
        assert joiner.phase is Phase.SEALED

    async def test_it_serves_only_after_a_proof_of_its_own(self, make: Make) -> None:
        fleet = make(replicas=1, witnesses=3)
        await fleet.serve()
        joiner = fleet.add()
        joiner.meet()
        await joiner.service.membership._peers.join(joiner.service.replica)
        await serves_nothing(joiner, "no quorum")
        await joiner.step()
        assert joiner.service.is_ready

    async def test_another_build_is_let_in_by_nobody(self, make: Make) -> None:
        fleet = make()
        await fleet.serve()
        other = fleet.add(code=bytes(32))
        with pytest.raises(S3MLError, match="measurement"):
            await other.step()
        assert other.phase is Phase.SEALED

    async def test_generations_that_others_made_are_taken_over(self, make: Make) -> None:
        fleet = make(replicas=2)
        await fleet.serve()
        first, second = fleet.members
        fleet.clock.advance(2 * 24 * 3600)
        await first.step()
        assert first.keyring.generations.ids != second.keyring.generations.ids
        await second.step()
        assert first.keyring.generations.ids <= second.keyring.generations.ids


class TestMembership:
    """Steps fail and are tried again; each failure is told once."""

    async def test_a_failure_is_told_once(self, make: Make) -> None:
        fleet = make(witnesses=1)
        await fleet.serve()
        witnesses_are_gone(fleet)
        fleet.clock.advance(PRESENCE_S)
        for _ in range(3):
            await fleet.first.service.membership.step()
        told = [one for one in fleet.first.told if one["event"] == "replica"]
        assert [one["detail"] for one in told] == ["waiting"]

    async def test_a_bug_ends_nothing(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        fleet = make()
        await fleet.serve()

        async def bug() -> None:
            raise RuntimeError("a secret detail")

        monkeypatch.setattr(fleet.first.service.replica.ledger, "refresh", bug)
        await fleet.first.service.membership.step()
        assert fleet.first.told[-1]["error"] == "RuntimeError"

    async def test_before_genesis_there_is_nothing_to_do(self, make: Make) -> None:
        fleet = make()
        await fleet.first.service.membership.step()
        assert fleet.first.phase is Phase.UNINITIALISED
        assert fleet.first.told[-1]["detail"] == "uninitialised"
