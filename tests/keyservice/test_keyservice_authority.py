"""Who governs a deployment, and how that changes: as in TUF, for the key service and clients alike."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3ml.attestation import AppraisalPolicy, Tee, encode_policy
from s3ml.attestation.policy import Alternative
from s3ml.keyservice.authority import Authority
from s3ml.keyservice.client import TrustBundleRejectedError
from s3ml.keyservice.documents import (
    ControlEntry,
    ControlMessage,
    KeysEntry,
    KeyServiceDocument,
    LogEntry,
)
from s3ml.keyservice.errors import ConflictError, NotServingError, RefusedError
from s3ml.keyservice.following import follow
from s3ml.keyservice.ledger import Plan
from s3ml.keyservice.log import LogTamperedError, parse_entry
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.replica import Phase
from s3ml.keyservice.storage import SecretName
from s3ml.primitives.envelope import SignatureError
from s3ml.primitives.errors import ConfigurationError, S3MLError, UntrustedPeerError
from s3ml.primitives.signing import SigningKey
from tests.keyservice.keyservice_fleet import Fleet, Member, gone, owners_body, witnesses_body
from tests.keyservice.keyservice_world import (
    KEY_SERVICE_CODE,
    KEY_SERVICE_POLICY,
    OWNER_KEYS,
    PKI,
    REAL_POLICY,
    policy_of,
)

NEW = tuple(SigningKey.from_raw(bytes([n]) * 32) for n in (21, 22, 23))
NARROWER = policy_of(KEY_SERVICE_CODE, min_qe_svn=1)
WIDER = AppraisalPolicy(
    accept=(
        Alternative(
            tee=Tee.SIMULATED, root=PKI.root_der, measurements=(KEY_SERVICE_CODE.hex(), bytes(32).hex())
        ),
    )
)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.stop()


@pytest.fixture
async def member(fleet: Fleet) -> Member:
    await fleet.serve()
    return fleet.first


def chain(member: Member) -> list[bytes]:
    return [data for _, data in member.view.authority.chain]


def followed(member: Member, entries: list[bytes] | None = None, **options: Any) -> Authority:
    return follow(member.genesis, chain(member) if entries is None else entries, **options)


def edited(data: bytes, **changes: Any) -> bytes:
    entry = parse_entry(data)
    return encode_document(msgspec.structs.replace(entry, **changes))


async def refused(member: Member, message: ControlMessage, error: type[S3MLError], told: str) -> None:
    before = member.database_size
    with pytest.raises(error, match=told):
        await member.service.control(message)
    assert member.database_size == before


class TestOwners:
    """New owners are signed by enough of the old and by enough of the new."""

    async def test_they_are_replaced(self, member: Member) -> None:
        await member.put_owners(NEW, 2, *OWNER_KEYS[:2], *NEW[:2])
        authority = member.view.authority
        assert [owner.key for owner in authority.owners] == [str(key.public) for key in NEW]
        assert followed(member) == authority

    async def test_one_is_added_and_another_removed(self, member: Member) -> None:
        await member.put_owners((*OWNER_KEYS, NEW[0]), 3, *OWNER_KEYS)
        await member.put_owners((*OWNER_KEYS[:2], NEW[0]), 2, *OWNER_KEYS[1:], NEW[0])
        assert followed(member).threshold == 2

    @pytest.mark.parametrize(
        ("keys", "told"),
        [
            (OWNER_KEYS[:2], "expected 2 of the named keys, got 0"),
            ((*OWNER_KEYS[:2], NEW[0]), "got 1"),
            (NEW[:2], "got 0"),
            ((OWNER_KEYS[0], *NEW), "got 1"),
        ],
    )
    async def test_too_few_of_either(self, member: Member, keys: tuple[SigningKey, ...], told: str) -> None:
        message = member.message("deployment/owners", 1, owners_body(NEW, 2), keys=keys)
        await refused(member, message, SignatureError, told)

    async def test_a_minority_cannot_lower_the_threshold(self, member: Member) -> None:
        message = member.message("deployment/owners", 1, owners_body(OWNER_KEYS, 1), keys=OWNER_KEYS[:1])
        await refused(member, message, SignatureError, "expected 2 of the named keys, got 1")

    @pytest.mark.parametrize(
        ("owners", "threshold", "told"),
        [(NEW, 4, "at most 3"), ((NEW[0], NEW[0]), 1, "each key once")],
    )
    async def test_their_own_rules(
        self, member: Member, owners: tuple[SigningKey, ...], threshold: int, told: str
    ) -> None:
        body = owners_body(owners, threshold)
        message = member.message("deployment/owners", 1, body, keys=(*OWNER_KEYS, *NEW))
        await refused(member, message, ConfigurationError, told)

    async def test_removed_ones_decide_nothing_more(self, member: Member) -> None:
        await member.put_owners(NEW, 2, *OWNER_KEYS[:2], *NEW[:2])
        await refused(member, member.message("policies/x", 1, b""), SignatureError, "got 0")
        with pytest.raises(SignatureError):
            await member.put_owners(OWNER_KEYS, 2, *OWNER_KEYS)

    async def test_a_version_and_a_body_bind(self, member: Member) -> None:
        body = owners_body(OWNER_KEYS[:2], 2)
        await refused(
            member, member.message("deployment/owners", 2, body), ConflictError, "expected 1, got 2"
        )
        message = member.message("deployment/owners", 1, body, previous="ab" * 32)
        await refused(member, message, ConflictError, "expected none")

    async def test_no_part_of_the_deployment_is_deleted(self, member: Member) -> None:
        message = member.message("deployment/owners", 1, b"", method="DELETE")
        await refused(
            member, message, ConfigurationError, "expected a service, a policy or a secret to delete"
        )

    async def test_what_former_owners_signed_still_holds_for_clients(self, member: Member) -> None:
        await member.put_owners(NEW, 2, *OWNER_KEYS[:2], *NEW[:2])
        verified = member.verify(await member.bundle())
        assert "1 change(s) since genesis" in verified.steps[2].detail


class TestFollowing:
    """A chain that is not whole, in order, of this deployment and signed is followed nowhere."""

    @pytest.fixture
    async def changed(self, member: Member) -> Member:
        """Owners, key-service policy with keys, owners again: four links."""
        await member.put_owners((*OWNER_KEYS, NEW[0]), 2)
        await member.put_key_service(NARROWER)
        await member.put_owners(NEW, 2, *OWNER_KEYS[:2], *NEW[:2])
        assert len(chain(member)) == 4
        return member

    async def test_whole_it_leads_to_what_governs(self, changed: Member) -> None:
        assert followed(changed) == changed.view.authority

    async def test_it_may_be_followed_up_to_a_place(self, changed: Member) -> None:
        last = changed.view.authority.chain[-1][0]
        assert followed(changed, before=last).owners != followed(changed).owners
        assert followed(changed, before=last + 1) == followed(changed)

    @pytest.mark.parametrize(
        ("order", "error"),
        [
            ((1, 2, 3), None),
            ((0, 2, 3), UntrustedPeerError),
            ((0, 1, 3), UntrustedPeerError),
            ((0, 1), UntrustedPeerError),
            ((3,), S3MLError),
            ((0, 0, 1, 2, 3), UntrustedPeerError),
            ((0, 1, 2, 3, 3), UntrustedPeerError),
            ((1, 2, 0, 3), UntrustedPeerError),
            ((0, 2, 1, 3), UntrustedPeerError),
        ],
    )
    async def test_dropped_repeated_or_moved_links(
        self, changed: Member, order: tuple[int, ...], error: type[S3MLError] | None
    ) -> None:
        """A dropped first change of owners is found out by the second, which replaces what it put there."""
        links = chain(changed)
        with pytest.raises(error or ConflictError):
            followed(changed, [links[i] for i in order])

    async def test_links_of_another_deployment(self, changed: Member) -> None:
        for index in range(4):
            links = chain(changed)
            links[index] = edited(links[index], deployment="ab" * 32)
            with pytest.raises(UntrustedPeerError, match="entries of the deployment"):
                followed(changed, links)

    async def test_a_message_for_another_deployment(self, changed: Member) -> None:
        message = changed.message(
            "deployment/owners", 3, owners_body(NEW[:2], 2), keys=NEW, deployment="ab" * 32
        )
        with pytest.raises(RefusedError, match="deployment"):
            followed(changed, [*chain(changed), self.link(changed, message)])

    async def test_a_link_signed_by_removed_owners(self, changed: Member) -> None:
        message = changed.message("deployment/owners", 3, owners_body(OWNER_KEYS, 2), keys=OWNER_KEYS)
        with pytest.raises(SignatureError):
            followed(changed, [*chain(changed), self.link(changed, message)])

    async def test_a_link_that_is_no_part_of_the_deployment(self, changed: Member) -> None:
        message = changed.message("policies/x", 1, b"", keys=NEW)
        with pytest.raises(UntrustedPeerError, match="no part of the deployment"):
            followed(changed, [*chain(changed), self.link(changed, message)])

    async def test_a_deletion(self, changed: Member) -> None:
        message = changed.message("deployment/owners", 3, b"", keys=NEW, method="DELETE")
        with pytest.raises(UntrustedPeerError, match="no part of the deployment"):
            followed(changed, [*chain(changed), self.link(changed, message)])

    async def test_entries_of_another_kind(self, changed: Member) -> None:
        presence = next(
            data
            for data in changed.storage.entries(0, 99)
            if not isinstance(parse_entry(data).body, ControlEntry | KeysEntry) and parse_entry(data).index
        )
        with pytest.raises(UntrustedPeerError):
            followed(changed, [presence])

    async def test_keys_that_no_change_awaits(self, changed: Member) -> None:
        keys = parse_entry(chain(changed)[2])
        later = edited(chain(changed)[2], index=keys.index + 100)
        with pytest.raises(UntrustedPeerError, match="do not follow from a change"):
            followed(changed, [*chain(changed), later])

    @pytest.mark.parametrize("field", [{"number": 3}, {"policy_sha256": "ab" * 32}])
    async def test_keys_for_another_change(self, changed: Member, field: dict[str, Any]) -> None:
        links = chain(changed)
        body = parse_entry(links[2]).body
        links[2] = edited(links[2], body=msgspec.structs.replace(body, **field))
        with pytest.raises(UntrustedPeerError, match="do not follow from a change"):
            followed(changed, links)

    async def test_another_change_while_keys_are_awaited(self, changed: Member) -> None:
        links = chain(changed)
        keys = parse_entry(links[2]).index
        links[2] = edited(links[3], index=keys)
        with pytest.raises(UntrustedPeerError, match="changes of the deployment and its keys alone"):
            followed(changed, links[:3])

    @staticmethod
    def link(member: Member, message: ControlMessage) -> bytes:
        body = ControlEntry(statement=message.statement, body=message.body)
        entry = LogEntry(
            index=member.view.size,
            previous="00" * 32,
            deployment=member.genesis.deployment,
            time=member.clock.now(),
            body=body,
        )
        return encode_document(entry)


class TestWitnesses:
    """Witnesses are the owners' to name; the old and the new ones commit the change together."""

    async def test_they_are_replaced(self, tmp_path: Path) -> None:
        fleet = Fleet(tmp_path, witnesses=4)
        old, new = fleet.witnesses[:3], fleet.witnesses[1:]
        keys = tuple(str(one.key) for one in old)
        try:
            await fleet.serve(witnesses=keys, witness_quorum=2)
            await fleet.first.put_part("witnesses", witnesses_body(fleet.witnesses, 3))
            await fleet.first.put_part("witnesses", witnesses_body(new, 2))
            assert fleet.first.view.authority.witnesses == tuple(one.key for one in new)
            verified = fleet.first.verify(await fleet.first.bundle())
            assert "w3" in verified.steps[5].detail or "w2" in verified.steps[5].detail
            assert "w0" not in verified.steps[5].detail
        finally:
            fleet.stop()

    async def test_quorums_that_need_not_meet_do_not_follow_each_other(self, tmp_path: Path) -> None:
        """Else a host could have one head committed by those before, and another by those after."""
        fleet = Fleet(tmp_path, witnesses=4)
        old, new = fleet.witnesses[:3], fleet.witnesses[1:]
        try:
            await fleet.serve(witnesses=tuple(str(one.key) for one in old), witness_quorum=2)
            message = fleet.first.message("deployment/witnesses", 1, witnesses_body(new, 2))
            await refused(fleet.first, message, RefusedError, "together more than 4, got 2 and 2")
        finally:
            fleet.stop()

    @pytest.mark.parametrize("quorum", [0, 1, 3])
    async def test_a_quorum_of_too_few_or_too_many(self, fleet: Fleet, member: Member, quorum: int) -> None:
        pair = Fleet(fleet.folder, replicas=0, witnesses=2).witnesses
        message = member.message("deployment/witnesses", 1, witnesses_body(pair, quorum))
        await refused(member, message, ConfigurationError, "witness quorum: expected 2 to 2")

    async def test_they_may_go_altogether_and_everybody_is_told(self, tmp_path: Path) -> None:
        fleet = Fleet(tmp_path, witnesses=1)
        try:
            await fleet.serve()
            await fleet.first.put_part("witnesses", witnesses_body((), 0))
            verified = fleet.first.verify(await fleet.first.bundle())
            assert not verified.is_fork_protected
            assert "NOT FORK-PROTECTED" in verified.steps[5].detail
        finally:
            fleet.stop()


class TestKeyServicePolicy:
    """A change of the key service's own policy replaces its keys, in one step."""

    async def test_every_key_is_another_one(self, member: Member) -> None:
        before, wrapping = member.view.authority, member.keyring.wrapping_key
        await member.put_key_service(NARROWER)
        after = member.view.authority
        assert (after.keys_number, after.awaits_keys) == (2, False)
        for name in ("checkpoint", "statement", "intake"):
            assert getattr(after.keys, name) != getattr(before.keys, name)
        assert member.keyring.wrapping_key != wrapping
        assert member.keyring.is_of(after)
        kinds = {name.kind: name.version for name in member.fleet.database.rows.secrets if "key" in name.kind}
        assert kinds["statement-key"] == kinds["checkpoint-key"] == kinds["wrapping-key"] == "2"

    async def test_wrapping_keys_of_other_numbers_are_left_alone(self, member: Member) -> None:
        stray = SecretName(kind="wrapping-key", name="ab" * 32, version="7")
        member.fleet.database.rows.secrets[stray] = b"x"
        await member.put_key_service(NARROWER)
        assert stray in member.fleet.database.rows.secrets

    async def test_what_was_stored_goes_on(self, member: Member) -> None:
        await member.put_key_service(NARROWER)
        session = member.session()
        assert session.open(await member.release(session)).release.models[0].identity == member.identity
        await member.restart()
        session = member.session()
        assert session.open(await member.release(session)).release.models[0].identity == member.identity

    async def test_narrowing_discards_every_epoch(self, member: Member) -> None:
        generations = member.keyring.generations.ids
        await member.put_key_service(NARROWER)
        living = member.view.state.epochs["tumours"].living
        assert [(one.number, one.state) for one in living] == [(2, "active")]
        assert not generations & member.keyring.generations.ids
        versions = [n.version for n in member.fleet.database.rows.secrets if n.kind == "epoch-keys"]
        assert versions == ["2"]

    async def test_widening_keeps_them(self, member: Member) -> None:
        generations = member.keyring.generations.ids
        await member.put_key_service(WIDER)
        living = member.view.state.epochs["tumours"].living
        assert [(one.number, one.state) for one in living] == [(1, "active")]
        assert member.keyring.generations.ids == generations
        session = member.session()
        assert session.open(await member.release(session)).release.epochs[0].epoch == 1

    async def test_a_client_that_follows_accepts_and_one_that_pins_refuses(self, member: Member) -> None:
        await member.put_key_service(WIDER)
        bundle = await member.bundle()
        assert member.verify(bundle, follow_key_service=True).log_size == member.view.size
        assert member.verify(bundle, key_service_policy=WIDER)
        member.attester._measurement = bytes(32)
        bundle = await member.bundle()
        with pytest.raises(TrustBundleRejectedError, match="measurement") as rejected:
            member.verify(bundle)
        assert rejected.value.number == 4
        assert member.verify(bundle, follow_key_service=True)

    @pytest.mark.parametrize("kind", ["statement", "checkpoint"])
    async def test_the_old_keys_are_accepted_by_nobody(self, member: Member, kind: str) -> None:
        old = member.keyring.deployment
        await member.put_key_service(WIDER)
        new = member.keyring
        stale = replace(new, deployment=replace(new.deployment, **{kind: getattr(old, kind)}))
        member.service.replica._keyring = stale
        if kind == "statement":
            with pytest.raises(TrustBundleRejectedError) as rejected:
                member.verify(await member.bundle())
            assert rejected.value.number == 5
        else:
            with pytest.raises(LogTamperedError, match="checkpoint"):
                await member.put_policy(name="more")

    async def test_a_replica_that_does_not_satisfy_it_refuses(self, member: Member) -> None:
        body = encode_document(KeyServiceDocument(policy=encode_policy(policy_of(bytes(32)))))
        message = member.message("deployment/key-service", 1, body)
        await refused(member, message, RefusedError, "does not satisfy it")
        assert member.service.is_ready

    async def test_a_real_platform_does_not_become_a_simulated_one_or_back(self, member: Member) -> None:
        body = encode_document(KeyServiceDocument(policy=encode_policy(REAL_POLICY)))
        message = member.message("deployment/key-service", 1, body)
        await refused(member, message, RefusedError, "is_simulated")

    async def test_a_lost_reply_is_answered_again(self, member: Member) -> None:
        body = encode_document(KeyServiceDocument(policy=encode_policy(NARROWER)))
        message = member.message("deployment/key-service", 1, body)
        first = await member.service.control(message)
        assert (await member.service.control(message)).index == first.index
        assert member.view.authority.keys_number == 2


class TestOtherReplicas:
    """A rotation of the deployment's keys sends every other replica back to its peers."""

    async def test_peers_rejoin(self, tmp_path: Path) -> None:
        fleet = Fleet(tmp_path, replicas=2)
        try:
            await fleet.serve()
            first, second = fleet.members
            await first.put_key_service(NARROWER)
            await second.service.replica.ledger.refresh()
            assert second.has_come_to(Phase.SEALED)
            with pytest.raises(NotServingError):
                await second.bundle()
            await second.step()
            assert second.has_come_to(Phase.SERVING)
            assert second.keyring.wrapping_key == first.keyring.wrapping_key
            assert second.verify(await second.bundle(), key_service_policy=KEY_SERVICE_POLICY)
        finally:
            fleet.stop()

    async def test_its_older_keys_write_nothing_that_nobody_could_read_past(self, tmp_path: Path) -> None:
        """It has not seen the rotation yet: its plan loses the race, and is not made again with old keys."""
        fleet = Fleet(tmp_path, replicas=2)
        try:
            await fleet.serve()
            first, second = fleet.members
            await first.put_key_service(NARROWER)
            size = second.database_size
            with pytest.raises(NotServingError, match="keys were replaced"):
                await second.service.replica.be_present()
            assert second.database_size == size
            await first.step()
            await second.step()
            assert second.has_come_to(Phase.SERVING)
        finally:
            fleet.stop()

    async def test_what_opens_from_its_own_platform_is_recovering_until_it_is_let_in(
        self, tmp_path: Path
    ) -> None:
        fleet = Fleet(tmp_path)
        try:
            await fleet.serve()
            twin = fleet.add(platform=bytes([0]))
            await twin.step()
            await fleet.first.put_key_service(NARROWER)
            await twin.service.replica.ledger.refresh()
            await twin.service.membership._open()
            assert twin.has_come_to(Phase.RECOVERING)
            await twin.step()
            assert twin.has_come_to(Phase.SERVING)
        finally:
            fleet.stop()

    async def test_keys_whose_commit_is_finished_by_another_live_on(self, tmp_path: Path) -> None:
        fleet = Fleet(tmp_path, replicas=2, witnesses=3)
        try:
            await fleet.serve()
            first, second = fleet.members
            second.is_cut_off = True
            for witness in fleet.witnesses:
                witness.interfere = gone
            body = encode_document(KeyServiceDocument(policy=encode_policy(NARROWER)))
            message = first.message("deployment/key-service", 1, body)
            with pytest.raises(S3MLError, match="witnesses cosigned"):
                await first.service.control(message)
            for witness in fleet.witnesses:
                witness.interfere = lambda: None
            await second.service.replica.ledger.settle()
            await first.step()
            assert first.phase is Phase.SERVING
            assert first.view.authority.keys_number == 2
            session = first.session()
            assert session.open(await first.release(session)).release.epochs[0].epoch == 2
        finally:
            fleet.stop()


class TestAwaitedKeys:
    """Between a change of the key service's policy and its keys, nothing stands."""

    async def test_a_change_without_keys_is_not_written(self, member: Member) -> None:
        body = encode_document(KeyServiceDocument(policy=encode_policy(NARROWER)))
        message = member.message("deployment/key-service", 1, body)
        entry = ControlEntry(statement=message.statement, body=body)
        other = member.message("policies/x", 1, encode_policy(KEY_SERVICE_POLICY))
        second = ControlEntry(statement=other.statement, body=other.body)
        before = member.database_size
        with pytest.raises(LogTamperedError, match="follow a change of its policy at once"):
            await member.service.replica.ledger.commit(
                lambda _: Plan(keyring=member.keyring, bodies=(entry, second))
            )
        assert member.database_size == before

    async def test_keys_without_a_change_are_not_written(self, member: Member) -> None:
        keys = KeysEntry(number=2, policy_sha256="ab" * 32, keys=member.view.authority.keys)
        with pytest.raises(LogTamperedError, match="follow a change of its policy at once"):
            await member.service.replica.ledger.commit(lambda _: Plan(keyring=member.keyring, bodies=(keys,)))
