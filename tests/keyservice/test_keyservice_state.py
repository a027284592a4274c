"""An entry counts where it follows from what the log says, and nowhere else."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from s3ml.attestation.generate import SealingAbsentError
from s3ml.keyservice.documents import (
    EntryBody,
    EpochEntry,
    EpochStateEntry,
    JoinEntry,
    KeysEntry,
    PresenceEntry,
    ReleasesEntry,
    RestartEntry,
)
from s3ml.keyservice.errors import ConflictError, GenerationMissingError, NotFoundError
from s3ml.keyservice.generations import Generations
from s3ml.keyservice.keys import read_epoch
from s3ml.keyservice.log import LogTamperedError, Written
from s3ml.keyservice.state import PRESENCE_KEPT, State, apply
from s3ml.keyservice.statements import state_service
from s3ml.primitives.envelope import SignatureError
from tests.keyservice.keyservice_fleet import Fleet, Member
from tests.keyservice.keyservice_world import OWNER_KEYS

ID, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.stop()


@pytest.fixture
async def member(fleet: Fleet) -> Member:
    await fleet.serve()
    return fleet.first


def applied(member: Member, body: EntryBody, *, later_s: float = 0, state: State | None = None) -> State:
    chain = member.service.replica.ledger._reader.chain
    time = member.clock.now() + timedelta(seconds=later_s)
    return apply(state or member.view.state, chain.build(body, time=time))


class TestEpochStates:
    @pytest.mark.parametrize(
        ("service", "number", "state", "told"),
        [
            ("tumours", 2, "retired", "expected one that is not retired"),
            ("tumours", 1, "active", "expected a state after active, got active"),
            ("others", 1, "retired", "expected one that is not retired"),
        ],
    )
    def test_a_move_that_leads_nowhere(
        self, member: Member, service: str, number: int, state: str, told: str
    ) -> None:
        entry = EpochStateEntry(service=service, epoch=number, state=state, reason="scheduled")  # type: ignore[arg-type]
        with pytest.raises(LogTamperedError, match=told):
            applied(member, entry)

    def test_one_that_holds(self, member: Member) -> None:
        entry = EpochStateEntry(service="tumours", epoch=1, state="retired", reason="lost")
        assert applied(member, entry).epochs["tumours"].living == ()


class TestEpochs:
    def test_of_a_service_that_there_is_not(self, member: Member) -> None:
        entry = EpochEntry(
            service="others",
            policy_sha256=ID,
            epoch=1,
            state="active",
            generation=ID,
            key_configs=b"",
            reason="created",
        )
        with pytest.raises(LogTamperedError, match="does not follow"):
            applied(member, entry)


class TestReplicas:
    def test_none_lets_itself_in(self, member: Member) -> None:
        entry = JoinEntry(replica=ID, source=ID, tee="simulated", measurement=ID)
        with pytest.raises(LogTamperedError, match="cannot let itself in"):
            applied(member, entry)
        assert applied(member, JoinEntry(replica=ID, source=OTHER, tee="simulated", measurement=ID))

    def test_presence_is_kept_for_an_hour(self, member: Member) -> None:
        entry = PresenceEntry(replica=ID, random=bytes(32), generations=(OTHER,))
        state = applied(member, entry)
        assert state.presence[ID].generations == {OTHER}
        later = PresenceEntry(replica=OTHER, random=bytes(32))
        kept_s = PRESENCE_KEPT.total_seconds()
        assert ID in applied(member, later, later_s=kept_s, state=state).presence
        assert ID not in applied(member, later, later_s=kept_s + 1, state=state).presence

    def test_a_restart_by_nobodys_word(self, member: Member) -> None:
        assert applied(member, RestartEntry(replica=ID, random=bytes(32)))

    def test_a_restart_by_the_owners_word(self, member: Member) -> None:
        nonce = bytes([5]) * 32
        said = member.acknowledgement(nonce=nonce)
        assert applied(member, RestartEntry(replica=ID, random=nonce, acknowledgement=said))
        with pytest.raises(ConflictError):
            applied(member, RestartEntry(replica=ID, random=bytes(32), acknowledgement=said))
        few = member.acknowledgement(OWNER_KEYS[0], nonce=nonce)
        with pytest.raises(SignatureError):
            applied(member, RestartEntry(replica=ID, random=nonce, acknowledgement=few))
        elsewhere = member.acknowledgement(nonce=nonce, log_size=1)
        with pytest.raises(ConflictError):
            applied(member, RestartEntry(replica=ID, random=nonce, acknowledgement=elsewhere))


class TestOthers:
    def test_keys_that_nothing_awaits(self, member: Member) -> None:
        entry = KeysEntry(number=2, policy_sha256=ID, keys=member.view.authority.keys)
        with pytest.raises(LogTamperedError, match="follow a change of its policy at once"):
            applied(member, entry)

    def test_audit_records_out_of_their_place(self, member: Member) -> None:
        with pytest.raises(LogTamperedError, match="expected record 0, got 5"):
            applied(member, ReleasesEntry(first=5, count=1, sha256=ID))
        assert applied(member, ReleasesEntry(first=0, count=3, sha256=ID)).audited == 3

    def test_before_genesis_nothing_stands(self) -> None:
        for ask in (lambda: State().governing, lambda: State().deployment, lambda: State().standing):
            with pytest.raises(NotFoundError, match="its owners begin it"):
                ask()

    def test_written_is_what_was_built(self, member: Member) -> None:
        body = PresenceEntry(replica=ID, random=bytes(32))
        chain = member.service.replica.ledger._reader.chain
        built = chain.build(body, time=member.clock.now())
        assert isinstance(built, Written)
        assert built.entry.index == member.view.size


class TestServicesWithoutKeys:
    """A service whose keys nobody can use says so, and when to come again."""

    async def test_a_statement(self, member: Member) -> None:
        bare = replace(member.view, state=replace(member.view.state, epochs={}))
        key = member.keyring.deployment.statement
        with pytest.raises(GenerationMissingError, match="has no active keys yet"):
            state_service(bare, "tumours", key, member.clock.now())

    async def test_keys_of_a_generation_that_is_held_elsewhere(self, member: Member) -> None:
        (epoch,) = member.view.state.epochs["tumours"].living
        with pytest.raises(GenerationMissingError, match="another replica holds it"):
            read_epoch(Generations(member.genesis.deployment), member.storage, epoch)

    async def test_a_release(self, member: Member) -> None:
        session = member.session()
        request = session.answer(member.service.challenge(session.challenge_request()))
        member.keyring.generations.clear()
        with pytest.raises(GenerationMissingError, match="lacks the generation key"):
            await member.service.release(request)

    async def test_a_release_between_two_epochs(self, member: Member) -> None:
        session = member.session()
        request = session.answer(member.service.challenge(session.challenge_request()))
        reader = member.service.replica.ledger._reader
        reader.view = replace(reader.view, state=replace(reader.view.state, epochs={}))
        with pytest.raises(GenerationMissingError, match="has no active keys yet"):
            await member.service.release(request)


class TestDeployments:
    async def test_a_tee_that_cannot_seal_begins_one_all_the_same(
        self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def absent() -> None:
            raise SealingAbsentError("none")

        monkeypatch.setattr(fleet.first.attester, "sealing_key", absent)
        await fleet.serve()
        assert fleet.first.service.is_ready
        assert not [name for name in fleet.database.rows.secrets if name.kind == "wrapping-key"]

    async def test_it_says_what_it_protects_from(self, member: Member) -> None:
        assert not member.genesis.is_fork_protected
        assert member.service.replica.lease_s == 0.0
        status = member.service.status()
        assert (status.quorum, status.keys_number, status.threshold) == (0, 1, 2)
        assert [(one.epoch, one.is_held) for one in status.epochs] == [(1, True)]

    async def test_a_lease_is_told(self, tmp_path: Path) -> None:
        watched = Fleet(tmp_path, witnesses=1)
        try:
            assert watched.first.service.status().owners == ()
            await watched.serve()
            assert watched.first.service.replica.lease_s == 300.0
            (witness,) = watched.first.service.status().witnesses
            assert witness.cosigned_at is not None
            watched.clock.advance(300)
            assert watched.first.service.deployment().trouble is not None
        finally:
            watched.stop()

    async def test_how_it_came_to_be_governed(self, member: Member) -> None:
        reply = member.service.authority()
        assert (reply.genesis, reply.entries) == (member.genesis.entry, ())
