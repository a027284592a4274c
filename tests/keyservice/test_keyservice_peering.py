"""What a serving replica gives to another, and what that one takes."""

import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from s3ml.keyservice import peering
from s3ml.keyservice.documents import JoinEntry
from s3ml.keyservice.errors import NotServingError
from s3ml.keyservice.joining import Reading
from s3ml.keyservice.keys import DeploymentSecrets, Keyring
from s3ml.keyservice.log import parse_entry
from s3ml.keyservice.parsing import DocumentMalformedError, encode_document
from s3ml.keyservice.peering import SharedSecrets, reading_of, share, standing_of, take
from s3ml.keyservice.replica import Phase
from s3ml.primitives.aead import StorageTamperedError
from s3ml.primitives.errors import UnavailableError
from s3ml.primitives.secret import SecretBytes
from s3ml.transparency.cosignature import QuorumMissingError
from s3ml.transparency.note import NoteRejectedError
from tests.keyservice.keyservice_fleet import Fleet, Member


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, replicas=1, witnesses=3)
    yield made
    made.stop()


@pytest.fixture
async def first(fleet: Fleet) -> Member:
    await fleet.serve()
    return fleet.first


class TestSharing:
    async def test_everything_arrives(self, fleet: Fleet, first: Member) -> None:
        joiner = fleet.add()
        taken = take(share(first.keyring), joiner.service.replica)
        assert taken.is_of(first.view.authority)
        assert taken.wrapping_key == first.keyring.wrapping_key
        assert taken.generations.ids == first.keyring.generations.ids

    async def test_what_is_held_already_stays(self, fleet: Fleet, first: Member) -> None:
        joiner = fleet.add()
        await joiner.step()
        own = joiner.keyring.generations.add(SecretBytes.random(32), joiner.clock.now())
        taken = take(share(first.keyring), joiner.service.replica)
        assert taken.generations.ids == {own, *first.keyring.generations.ids}

    async def test_keys_that_do_not_govern(self, fleet: Fleet, first: Member) -> None:
        joiner = fleet.add()
        other = Keyring.generate(1, first.genesis.deployment, DeploymentSecrets.generate())
        with pytest.raises(StorageTamperedError, match="not those that govern"):
            take(share(other), joiner.service.replica)

    async def test_something_else(self, fleet: Fleet, first: Member) -> None:
        joiner = fleet.add()
        with pytest.raises(DocumentMalformedError):
            take(SecretBytes(b"{}"), joiner.service.replica)

    async def test_no_secret_shows(self, first: Member) -> None:
        shared = msgspec.json.decode(share(first.keyring).reveal(), type=SharedSecrets)
        assert repr(shared) == "SharedSecrets(redacted)"
        assert repr(shared.generations[0]) == "SharedGeneration(redacted)"
        assert encode_document(shared) == share(first.keyring).reveal()


class TestStanding:
    async def test_a_serving_replica_has_one(self, first: Member) -> None:
        standing = standing_of(first.service.replica)
        assert (standing.log_size, standing.log_root) == (first.view.size, first.view.root)

    async def test_others_have_none(self, fleet: Fleet, first: Member) -> None:
        with pytest.raises(NotServingError):
            standing_of(fleet.add().service.replica)
        fleet.clock.advance(300)
        with pytest.raises(NotServingError):
            standing_of(first.service.replica)


class TestReading:
    """What a joiner holds an offer against is its own."""

    def reading(self, member: Member) -> Reading:
        return reading_of(member.service.replica, 3)

    async def test_a_cosigned_head_of_its_log(self, first: Member) -> None:
        reading = self.reading(first)
        assert reading.open_checkpoint(first.view.checkpoint).size == first.view.size
        assert (reading.committed_size, reading.root_of(first.view.size)) == (3, first.view.root)

    async def test_one_without_its_quorum(self, first: Member) -> None:
        alone = first.fleet.database.rows.head
        assert alone is not None
        with pytest.raises(QuorumMissingError):
            self.reading(first).open_checkpoint(alone.checkpoint)

    async def test_one_of_another_log(self, first: Member) -> None:
        other = first.view.checkpoint.replace("s3ml/", "s3m1/")
        with pytest.raises(NoteRejectedError):
            self.reading(first).open_checkpoint(other)


class TestJoining:
    async def test_it_is_in_the_log_before_the_secrets_leave(self, fleet: Fleet, first: Member) -> None:
        joiner = fleet.add()
        joiner.meet()
        before = first.database_size
        await joiner.service.membership._peers.join(joiner.service.replica)
        entry = parse_entry(fleet.database.rows.log[before]).body
        assert isinstance(entry, JoinEntry)
        assert entry.source == first.service.replica.id
        assert joiner.phase is Phase.SERVING

    async def test_one_that_cannot_be_recorded_gets_nothing(self, fleet: Fleet, first: Member) -> None:
        joiner = fleet.add()

        def gone(name: str) -> None:
            if name == "append":
                raise UnavailableError("storage: disk is full")

        first.store.before = gone
        with pytest.raises(UnavailableError, match="disk is full"):
            await joiner.step()
        assert joiner.phase is Phase.SEALED

    async def test_a_store_that_stalls_ends_the_attempt(
        self, fleet: Fleet, first: Member, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The source stands at a head that the joiner cannot read in time."""
        joiner = fleet.add()
        joiner.meet()
        await first.put_policy(name="newer")
        monkeypatch.setattr(peering, "READ_TIMEOUT_S", 0.05)
        release = threading.Event()

        def stall(_: str) -> None:
            release.wait(300)

        joiner.store.before = stall
        try:
            with pytest.raises(UnavailableError, match="does not answer in time"):
                await joiner.service.membership._peers.join(joiner.service.replica)
        finally:
            release.set()
        joiner.store.before = lambda _: None
        await joiner.step()
        assert joiner.service.is_ready
