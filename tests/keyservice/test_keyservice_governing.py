"""What owners sign is carried out once, whole, with whatever begins and ends by it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from s3ml.attestation import encode_policy
from s3ml.keyservice.documents import EpochEntry, GenesisRequest, RotationDocument
from s3ml.keyservice.epochs import REQUEST_S
from s3ml.keyservice.errors import (
    ConflictError,
    HaltedError,
    NotFoundError,
    RefusedError,
    UncommittedError,
)
from s3ml.keyservice.log import parse_entry
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.errors import ConfigurationError
from tests.keyservice.keyservice_fleet import Fleet, Member, gone
from tests.keyservice.keyservice_world import (
    MODEL_POLICY,
    MODEL_SERVER_CODE,
    NONCE,
    policy_of,
    signed_proposal,
)

LEASE_S, BUNDLE_S = 300, 600


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.stop()


@pytest.fixture
async def member(fleet: Fleet) -> Member:
    await fleet.serve()
    return fleet.first


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, witnesses=3)
    yield made
    made.stop()


def living(member: Member) -> list[tuple[int, str]]:
    return [(one.number, one.state) for one in member.view.state.epochs["tumours"].living]


def kept_keys(member: Member) -> list[str]:
    return sorted(n.version for n in member.fleet.database.rows.secrets if n.kind == "epoch-keys")


class TestResending:
    """A message that is in the log is answered as it was the first time."""

    async def test_it_changes_nothing(self, member: Member) -> None:
        message = member.message("policies/more", 1, encode_policy(MODEL_POLICY))
        first = await member.service.control(message)
        size = member.database_size
        assert await member.service.control(message) == first
        assert member.database_size == size

    async def test_it_is_told_where_it_stands_once_the_log_has_grown(self, member: Member) -> None:
        message = member.message("policies/more", 1, encode_policy(MODEL_POLICY))
        first = await member.service.control(message)
        await member.put_policy(name="later")
        again = await member.service.control(message)
        assert (again.index, again.log_size) == (first.index, first.log_size + 1)

    async def test_a_change_that_was_not_committed_is_finished_by_sending_it_again(
        self, watched: Fleet
    ) -> None:
        await watched.serve()
        member = watched.first
        for witness in watched.witnesses:
            witness.interfere = gone
        message = member.message("policies/more", 1, encode_policy(MODEL_POLICY))
        with pytest.raises(UncommittedError):
            await member.service.control(message)
        assert "more" not in member.view.state.policies
        with pytest.raises(UncommittedError):
            await member.service.control(message)
        for witness in watched.witnesses:
            witness.interfere = lambda: None
        size = member.database_size
        reply = await member.service.control(message)
        assert (reply.index, reply.log_size, member.database_size) == (size - 1, size, size)

    async def test_a_genesis_that_was_not_committed_likewise(self, watched: Fleet) -> None:
        await watched.begin()
        assert watched.first.database_size == 1
        assert watched.first.service.is_ready

    async def test_a_genesis_by_another_proposal(self, member: Member) -> None:
        with pytest.raises(ConflictError, match="another proposal"):
            await member.service.genesis(
                GenesisRequest(proposal=signed_proposal(random=bytes([1]) * 32), nonce=NONCE)
            )


class TestDeletion:
    """Owners take a service away with all its keys, and a policy that no service needs."""

    async def delete(self, member: Member, resource: str, version: int = 2) -> None:
        await member.service.control(member.message(resource, version, b"", method="DELETE"))

    async def test_a_service_goes_with_its_secrets(self, member: Member) -> None:
        await self.delete(member, "services/tumours")
        kinds = {name.kind for name in member.fleet.database.rows.secrets}
        assert not kinds & {"epoch-keys", "model-identity"}
        assert living(member) == []
        with pytest.raises(NotFoundError):
            member.service.challenge(member.session().challenge_request())
        with pytest.raises(NotFoundError):
            await member.bundle()
        assert [one.resource for one in member.service.resources().resources] == ["policies/models"]
        (gone,) = member.service.resources().deleted
        assert (gone.resource, gone.resource_version) == ("services/tumours", 2)

    async def test_it_may_come_back_and_its_epochs_count_on(self, member: Member) -> None:
        await self.delete(member, "services/tumours")
        await member.put_service(version=3)
        assert living(member) == [(2, "active")]
        session = member.session()
        assert session.open(await member.release(session)).release.epochs[0].epoch == 2

    async def test_a_policy_that_is_needed_stays(self, member: Member) -> None:
        with pytest.raises(ConflictError, match="is needed by services/tumours: delete those first"):
            await self.delete(member, "policies/models")

    async def test_a_policy_that_nobody_needs_goes(self, member: Member) -> None:
        await self.delete(member, "services/tumours")
        await self.delete(member, "policies/models")
        assert member.service.resources().resources == ()
        await member.restart()
        assert member.view.state.policies == {}

    @pytest.mark.parametrize("resource", ["services/others", "policies/others"])
    async def test_what_is_not_there(self, member: Member, resource: str) -> None:
        with pytest.raises(ConflictError, match="expected one that stands, got none"):
            await self.delete(member, resource, 1)

    async def test_what_was_deleted_is_not_deleted_again(self, member: Member) -> None:
        await self.delete(member, "services/tumours")
        with pytest.raises(ConflictError, match="got none"):
            await self.delete(member, "services/tumours", 3)

    @pytest.mark.parametrize(("resource", "body"), [("services/tumours", b"x"), ("rotations/tumours", b"")])
    async def test_a_body_or_another_kind(self, member: Member, resource: str, body: bytes) -> None:
        version = 2 if resource.startswith("services") else 1
        with pytest.raises(ConfigurationError, match="expected a service, a policy or a secret to delete"):
            await member.service.control(member.message(resource, version, body, method="DELETE"))


class TestRotation:
    """New keys on request: what was sealed to the old ones is answered, or is not."""

    async def test_draining(self, member: Member) -> None:
        await member.rotate("drain")
        assert living(member) == [(1, "active"), (2, "pending")]
        for after_s, expected in (
            (LEASE_S - 1, [(1, "active"), (2, "pending")]),
            (1, [(1, "draining"), (2, "active")]),
            (BUNDLE_S + REQUEST_S - 1, [(1, "draining"), (2, "active")]),
            (1, [(2, "active")]),
        ):
            member.clock.advance(after_s)
            await member.step()
            assert living(member) == expected
        assert kept_keys(member) == ["2"]

    async def test_a_model_server_holds_every_living_key(self, member: Member) -> None:
        await member.rotate("drain")
        session = member.session()
        opened = session.open(await member.release(session))
        assert [(one.epoch, one.state) for one in opened.release.epochs] == [(1, "active"), (2, "pending")]

    async def test_discarding(self, member: Member) -> None:
        await member.rotate("discard")
        assert living(member) == [(2, "active")]
        assert kept_keys(member) == ["2"]

    async def test_discarding_while_one_is_pending(self, member: Member) -> None:
        await member.rotate("drain")
        await member.rotate("discard")
        assert living(member) == [(3, "active")]
        assert kept_keys(member) == ["3"]

    async def test_a_schedule(self, member: Member) -> None:
        member.clock.advance(24 * 3600 - LEASE_S)
        await member.step()
        assert living(member) == [(1, "active"), (2, "pending")]
        bodies = [parse_entry(data).body for data in member.storage.entries(0, 99)]
        assert [body.reason for body in bodies if isinstance(body, EpochEntry)] == ["created", "scheduled"]

    async def test_a_service_that_there_is_not(self, member: Member) -> None:
        with pytest.raises(ConflictError, match="expected a service of that name"):
            await member.rotate(service="others")

    async def test_a_request_that_names_another(self, member: Member) -> None:
        body = encode_document(RotationDocument(service="others", retire="drain"))
        with pytest.raises(RefusedError, match="expected tumours, got others"):
            await member.service.control(member.message("rotations/tumours", 1, body))

    async def test_a_resource_that_is_not_known(self, member: Member) -> None:
        with pytest.raises(ConfigurationError):
            await member.service.control(member.message("secrets/x", 1, b"{}"))


class TestPolicies:
    """Narrowing ends at once, widening drains."""

    async def test_a_narrowed_one(self, member: Member) -> None:
        narrowed = policy_of(MODEL_SERVER_CODE, min_qe_svn=1)
        await member.put_policy(narrowed, version=2)
        assert (living(member), kept_keys(member)) == ([], [])
        await member.put_service(version=2, policy=narrowed)
        assert living(member) == [(2, "active")]

    async def test_a_new_policy_by_another_name_that_is_wider_drains(self, member: Member) -> None:
        wider = policy_of(MODEL_SERVER_CODE, advisories=("INTEL-SA-00001",))
        await member.put_policy(wider, name="wider")
        sealed = member.sealed_identity(policy=wider)
        body = member.document(member.manifest(sealed, policy=wider), under=wider, policy="wider")
        await member.service.control(member.message("services/tumours", 2, body, attachments=(sealed,)))
        assert living(member) == [(1, "draining"), (2, "active")]
        session = member.session()
        opened = session.open(await member.release(session))
        assert [(one.epoch, one.state) for one in opened.release.epochs] == [(1, "draining"), (2, "active")]


class TestAFork:
    async def test_nothing_is_changed_on_one(self, watched: Fleet) -> None:
        await watched.serve()
        member = watched.first
        backup = watched.database.copy()
        await member.put_policy(name="newer")
        watched.database.restore(backup)
        with pytest.raises(HaltedError, match="the database went back"):
            await member.put_policy(name="more")
