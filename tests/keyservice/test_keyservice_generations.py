"""Generation keys: made daily, kept while needed, destroyed with their last epoch, and what that is worth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from s3ml.keyservice.generations import LIFETIME, Generation, Generations, generation_id
from s3ml.keyservice.keys import EpochKeys, Keyring
from s3ml.keyservice.storage import SecretName
from s3ml.keyservice.upkeep import REPLICA_LEASE_S
from s3ml.keyservice.vault import Vault, epoch_name
from s3ml.primitives.aead import StorageTamperedError
from s3ml.primitives.errors import UnavailableError
from s3ml.primitives.secret import SecretBytes
from s3ml.wire.errors import SealRejectedError
from s3ml.wire.hpke import HYBRID_AES256, Kem, PrivateKey, open_once, seal_once
from s3ml.wire.ohttp import parse_key_configs
from tests.clocks import NOW
from tests.keyservice.keyservice_fleet import Fleet, Member
from tests.keyservice.memory_storage import Rows

DEPLOYMENT = "ab" * 32
DAY_S = 24 * 3600.0


class TestOneReplica:
    """What a replica holds, by its own clock."""

    def test_one_is_made_where_none_is_held(self) -> None:
        held = Generations(DEPLOYMENT)
        assert held.ids == frozenset()
        made = held.newest(NOW)
        assert held.ids == {made}
        assert held.vault(made) is not None
        assert held.vault("00" * 32) is None

    @pytest.mark.parametrize(
        ("age", "is_same"),
        [(timedelta(), True), (LIFETIME - timedelta(seconds=1), True), (LIFETIME, False)],
    )
    def test_it_is_used_for_a_day(self, age: timedelta, *, is_same: bool) -> None:
        held = Generations(DEPLOYMENT)
        first = held.newest(NOW)
        assert (held.newest(NOW + age) == first) is is_same

    def test_one_from_the_future_is_used_for_nothing_new(self) -> None:
        held = Generations(DEPLOYMENT)
        other = held.add(SecretBytes.random(32), NOW + timedelta(hours=1))
        assert held.newest(NOW) != other

    def test_the_youngest_of_several(self) -> None:
        held = Generations(DEPLOYMENT)
        held.add(SecretBytes.random(32), NOW - timedelta(hours=2))
        young = held.add(SecretBytes.random(32), NOW - timedelta(hours=1))
        assert held.newest(NOW) == young

    def test_the_same_key_twice_is_one(self) -> None:
        held, key = Generations(DEPLOYMENT), SecretBytes.random(32)
        assert held.add(key, NOW) == held.add(SecretBytes(key.reveal()), NOW) == generation_id(key)
        assert len(held.all()) == 1

    @pytest.mark.parametrize(
        ("is_needed", "age", "is_kept"),
        [
            (True, 10 * LIFETIME, True),
            (False, LIFETIME - timedelta(seconds=1), True),
            (False, LIFETIME, False),
        ],
    )
    def test_it_is_kept_while_needed_or_young(
        self, *, is_needed: bool, age: timedelta, is_kept: bool
    ) -> None:
        held, key = Generations(DEPLOYMENT), SecretBytes.random(32)
        one = held.add(key, NOW)
        gone = held.retain({one} if is_needed else set(), NOW + age)
        assert (one in held.ids, gone) == (is_kept, () if is_kept else (one,))
        assert len(key) == (32 if is_kept else 0)  # wiped

    def test_all_of_them_at_once(self) -> None:
        held, key = Generations(DEPLOYMENT), SecretBytes.random(32)
        held.add(key, NOW)
        held.clear()
        assert (held.ids, len(key)) == (frozenset(), 0)

    def test_a_key_does_not_show(self) -> None:
        one = Generation(id="x", key=SecretBytes(b"k" * 32), made_at=NOW)
        assert "kkkk" not in repr(one)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, replicas=2)
    yield made
    made.stop()


async def pass_days(fleet: Fleet, days: int) -> None:
    """Let time pass in steps of ten minutes around every rotation; every replica does its work."""
    for _ in range(days):
        for wait_s in (DAY_S - 1200, 600.0, 600.0):
            fleet.clock.advance(wait_s)
            for member in fleet.members:
                await member.step()


@dataclass
class Theft:
    """Everything that is stored, and everything that every replica holds in memory."""

    rows: Rows
    sealing_keys: list[SecretBytes]
    keys: list[SecretBytes]
    private: list[PrivateKey]

    @classmethod
    def of(cls, fleet: Fleet, *older: Rows) -> "Theft":
        """Steal from `fleet`; `older` are copies of the database that the thief has kept from before."""
        rows = fleet.database.copy()
        for kept in older:
            rows.secrets = {**kept.secrets, **rows.secrets}
        rings: Sequence[Keyring] = [member.keyring for member in fleet.members]
        keys = [ring.wrapping_key for ring in rings]
        keys += [SecretBytes(one.key.reveal()) for ring in rings for one in ring.generations.all()]
        return cls(
            rows=rows,
            sealing_keys=[member.attester.sealing_key() for member in fleet.members],
            keys=keys,
            private=[ring.deployment.intake for ring in rings],
        )

    def opened_epochs(self, member: Member, service: str, number: int) -> list[PrivateKey]:
        """Return every private key of an epoch that any stolen key opens, under any stolen name."""
        name, found = epoch_name(service, number), []
        ciphertext = self.rows.secrets.get(name)
        for key in (*self.keys, *self.sealing_keys):
            try:
                data = Vault(key, member.genesis.deployment).unwrap(name, ciphertext)
            except StorageTamperedError:
                continue
            for released in msgspec.json.decode(data, type=EpochKeys).keys:
                (config,) = parse_key_configs(released.key_config)
                if config.kem is Kem.MLKEM768_X25519:
                    found.append(PrivateKey.from_bytes(config.kem, released.private_key))
        return found

    def opens(self, member: Member, number: int, recorded: bytes) -> bool:
        for private in (*self.opened_epochs(member, "tumours", number), *self.private):
            try:
                return open_once(HYBRID_AES256, private, recorded, info=b"request") == b"a patient's image"
            except SealRejectedError:
                continue
        return False


def record_request(member: Member) -> tuple[int, bytes]:
    """Seal a request as a client does, and return what the network saw of it, with its epoch."""
    (active,) = (one for one in member.view.state.epochs["tumours"].living if one.state == "active")
    hybrid = next(c for c in parse_key_configs(active.key_configs) if c.kem is Kem.MLKEM768_X25519)
    return active.number, seal_once(HYBRID_AES256, hybrid.public_key, b"a patient's image", info=b"request")


class TestForwardSecrecy:
    """Whoever steals everything after a generation was destroyed opens nothing that was sealed under it."""

    async def test_before_destruction_a_thief_opens_it(self, fleet: Fleet) -> None:
        """The control: with the generation's key, the stolen database does give the request away."""
        await fleet.serve()
        number, recorded = record_request(fleet.first)
        assert Theft.of(fleet).opens(fleet.first, number, recorded)

    async def test_after_it_nobody_does(self, fleet: Fleet) -> None:
        await fleet.serve()
        number, recorded = record_request(fleet.first)
        generation = next(iter(fleet.first.keyring.generations.ids))
        kept = fleet.database.copy()  # the thief has the old ciphertexts
        await pass_days(fleet, 3)
        assert all(generation not in member.keyring.generations.ids for member in fleet.members)
        assert epoch_name("tumours", number) not in fleet.database.rows.secrets
        stolen = Theft.of(fleet, kept)
        assert epoch_name("tumours", number) in stolen.rows.secrets
        assert stolen.opened_epochs(fleet.first, "tumours", number) == []
        assert not stolen.opens(fleet.first, number, recorded)
        later, seen = record_request(fleet.first)
        assert stolen.opens(fleet.first, later, seen)  # what is sealed now is what the theft gives away

    async def test_nothing_that_is_stored_wraps_a_generation_key(self, fleet: Fleet) -> None:
        await fleet.serve()
        keys = {one.key.reveal() for m in fleet.members for one in m.keyring.generations.all()}
        stolen = Theft.of(fleet)
        deployment = fleet.first.genesis.deployment
        for name, ciphertext in stolen.rows.secrets.items():
            for key in (*stolen.keys, *stolen.sealing_keys):
                try:
                    opened = Vault(key, deployment).unwrap(name, ciphertext)
                except StorageTamperedError:
                    continue
                assert not any(one in opened for one in keys), name

    async def test_recovery_brings_no_epoch_back(self, fleet: Fleet) -> None:
        """After total loss the wrapping key is enough for models, and for no request of before."""
        await fleet.serve()
        number, recorded = record_request(fleet.first)
        kept = fleet.database.copy()
        wrapping = fleet.first.keyring.wrapping_key
        fleet.members[1].is_cut_off = True
        await fleet.first.restart()
        stolen = Theft.of(fleet, kept)
        stolen.keys = [wrapping]
        assert not stolen.opens(fleet.first, number, recorded)
        session = fleet.first.session()
        assert session.open(await fleet.first.release(session)).release.models[0].identity


class TestEveryReplica:
    async def test_keys_rotate_daily_and_each_replica_destroys_its_own(self, fleet: Fleet) -> None:
        await fleet.serve()
        seen = set(fleet.first.keyring.generations.ids)
        for _ in range(4):
            await pass_days(fleet, 1)
            seen |= fleet.first.keyring.generations.ids
        assert len(seen) >= 4
        for member in fleet.members:
            assert len(member.keyring.generations.ids) <= 3
            needed = {one.generation for one in member.view.state.epochs["tumours"].living}
            assert needed <= member.keyring.generations.ids

    async def test_the_loss_of_every_holder_begins_new_epochs(self, fleet: Fleet) -> None:
        await fleet.serve()
        first, second = fleet.members
        fleet.clock.advance(2 * DAY_S)
        first.is_cut_off = True
        await first.step()  # a generation that the second never received
        (pending,) = (one for one in first.view.state.epochs["tumours"].living if one.state == "pending")
        await second.service.replica.ledger.refresh()
        assert pending.generation not in second.keyring.generations.ids
        fleet.clock.advance(REPLICA_LEASE_S + 1)
        await second.step()
        states = {one.number: one.state for one in second.view.state.epochs["tumours"].living}
        assert pending.number not in states
        assert "active" in states.values()

    async def test_what_a_present_replica_holds_is_not_lost(self, fleet: Fleet) -> None:
        await fleet.serve()
        first, second = fleet.members
        fleet.clock.advance(2 * DAY_S)
        await first.step()
        first.is_cut_off = True
        (pending,) = (one for one in first.view.state.epochs["tumours"].living if one.state == "pending")
        with pytest.raises(UnavailableError, match="peer: does not answer"):
            await second.step()
        living = second.view.state.epochs["tumours"].living
        assert pending.number in {one.number for one in living}

    async def test_names_of_stored_keys_are_of_living_epochs_alone(self, fleet: Fleet) -> None:
        await fleet.serve()
        await pass_days(fleet, 3)
        living = {str(one.number) for one in fleet.first.view.state.epochs["tumours"].living}
        stored: set[SecretName] = {n for n in fleet.database.rows.secrets if n.kind == "epoch-keys"}
        assert {name.version for name in stored} == living
