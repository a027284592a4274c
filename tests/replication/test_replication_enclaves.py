"""Genuine enclaves of an attacker, and replicas that owners no longer want: no keys for them, nor of them."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from s3ml.apps.demo.tampering import change_a_byte
from s3ml.attestation import AppraisalPolicy, encode_policy
from s3ml.attestation.simulated.admin import Launched
from s3ml.keyservice.client import KeyServiceRefusedError, KeyServiceUnavailableError
from s3ml.keyservice.documents import JoinEntry, KeyServiceDocument
from s3ml.keyservice.log import parse_entry
from s3ml.keyservice.parsing import encode_document
from tests.keyservice.postgres_server import PostgresServer
from tests.replication.fleet import Platform, eventually
from tests.replication.people import policy_of
from tests.replication.settings import Setting, begun

pytestmark = pytest.mark.integration
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with one byte changed: another build, which the platform measures honestly."""
    return change_a_byte(tmp_path_factory.mktemp("changed"))


@pytest.fixture
def setting(platform: Platform, postgres: PostgresServer) -> Iterator[Setting]:
    """Two replicas and three witnesses."""
    with begun(platform, postgres, replicas=2, witnesses=3) as found:
        yield found


def joins(setting: Setting) -> list[JoinEntry]:
    """Return who was let in, as the log says."""
    rows = setting.fleet.run("SELECT entry FROM s3ml_log ORDER BY idx")
    bodies = [parse_entry(entry).body for (entry,) in rows if isinstance(entry, bytes)]
    return [body for body in bodies if isinstance(body, JoinEntry)]


def launched(setting: Setting, number: int) -> Launched:
    """Return what was launched as a replica."""
    found = setting.fleet.members[number].launched
    assert found is not None
    return found


def told_of(setting: Setting, number: int, word: str, *, after: int = 0) -> str:
    """Wait until a replica says that it waits because of this, and return what it says."""

    def said() -> str | None:
        errors = (
            str(e["error"]) for e in setting.fleet.events(number)[after:] if e.get("detail") == "waiting"
        )
        return next((error for error in errors if word in error), None)

    what = f"replica {number} that waits because of its {word}"
    return eventually(said, what=what, tell=lambda: setting.fleet.last_events(number))


class TestAttackersBuild:
    """A genuine enclave that runs other code than the owners signed."""

    def test_as_a_joiner_it_gets_nothing(self, setting: Setting, changed: Path) -> None:
        fleet, people = setting.fleet, setting.people
        stranger = fleet.add()
        fleet.start(stranger, package=changed)
        fleet.until(stranger, "sealed")
        said = told_of(setting, stranger, "measurement")
        assert launched(setting, stranger).measurement in said
        with pytest.raises(KeyServiceUnavailableError, match="sealed"):
            people.bundle(stranger)
        with pytest.raises(KeyServiceUnavailableError, match="sealed"):
            people.release(people.session(), fleet.client(stranger))
        measurements = {joined.measurement for joined in joins(setting)}
        assert measurements == {launched(setting, 1).measurement}
        assert fleet.status(stranger).state == "sealed"
        people.put_policy(f"goes-on-{next(_numbers)}")

    def test_as_a_source_it_gives_nothing(self, setting: Setting, changed: Path) -> None:
        """It is the only peer that answers, and no witness does: the restarted replica stays where it is."""
        fleet, people = setting.fleet, setting.people
        seen = people.bundle()
        stranger = fleet.add()
        fleet.start(stranger, package=changed)
        fleet.until(stranger, "sealed")
        fleet.kill(0, 1)
        for witness in fleet.witnesses[:2]:
            witness.kill()
        fleet.start(0)
        fleet.until(0, "recovering")
        waited = eventually(
            lambda: [e for e in fleet.events(0) if e.get("detail") == "waiting"], what="one that waits"
        )
        assert waited
        with pytest.raises(KeyServiceUnavailableError):
            people.bundle(0, known=(seen.log_size, seen.log_root))
        assert fleet.status(0).state == "recovering"

    def test_a_deployment_of_its_own_deceives_nobody(
        self, setting: Setting, platform: Platform, postgres: PostgresServer
    ) -> None:
        """Keys and witnesses of an attacker's deployment serve neither owners, nor clients, nor replicas."""
        with begun(platform, postgres, replicas=1) as other:
            number = setting.fleet.add()
            member = setting.fleet.members[number]
            for tap in member.peers.values():
                tap.redirect(("127.0.0.1", other.fleet.members[0].port))
            for tap in member.witnesses:
                tap.cut()
            setting.fleet.start(number)
            setting.fleet.until(number, "recovering")
            said = eventually(
                lambda: next((e for e in setting.fleet.events(number) if e.get("detail") == "waiting"), None)
            )
            assert said
            assert setting.fleet.status(number).deployment == setting.people.begun.deployment
            assert setting.fleet.status(number).state == "recovering"


class TestUpgrade:
    """Owners let new code in, and then only that: older replicas get none of the new keys."""

    def test_a_stale_replica_is_left_out(self, setting: Setting, changed: Path) -> None:
        fleet, people = setting.fleet, setting.people
        root, old = people.policy, launched(setting, 0).measurement
        fresh = fleet.add()
        fleet.start(fresh, package=changed)
        fleet.until(fresh, "sealed")
        new = launched(setting, fresh).measurement
        assert new != old

        vendor = root.accept[0].root
        assert vendor is not None
        both = policy_of(bytes.fromhex(old), bytes.fromhex(new), root=vendor)
        change(setting, both, at=0)
        people.policy = both
        people.tell_witnesses(0)
        fleet.until_serving()
        seen = people.bundled(fresh)
        session = people.session()
        people.released(0, session)

        only_new = policy_of(bytes.fromhex(new), root=vendor)
        with pytest.raises(KeyServiceRefusedError, match="does not satisfy"):
            change(setting, only_new, at=0)
        change(setting, only_new, at=fresh)
        people.policy = only_new
        people.tell_witnesses(fresh)
        fleet.until_serving(fresh)
        after = people.bundled(fresh, known=(seen.log_size, seen.log_root))
        assert after.key_configs != seen.key_configs
        people.released(fresh, session)

        for stale in (0, 1):
            fleet.until(stale, "sealed")
            with pytest.raises(KeyServiceUnavailableError, match="sealed"):
                people.bundle(stale)
            with pytest.raises(KeyServiceUnavailableError, match="sealed"):
                people.release(people.session(), fleet.client(stale))
        before = [joined for joined in joins(setting) if joined.measurement == old]
        told = len(fleet.events(0))
        fleet.restart(0)
        fleet.until(0, "sealed")
        told_of(setting, 0, "measurement", after=told)
        assert [joined for joined in joins(setting) if joined.measurement == old] == before
        assert people.resources(fresh)["policies/models"] == 1
        people.put_policy(f"goes-on-{next(_numbers)}", at=fresh)


def change(setting: Setting, policy: AppraisalPolicy, *, at: int) -> None:
    """Have owners change which code may be the key service."""
    body = encode_document(KeyServiceDocument(policy=encode_policy(policy)))
    message = setting.people.draft("deployment/key-service", body, at=at)
    client = setting.fleet.client(at)
    assert msgspec.structs.asdict(eventually(lambda: client.control(message), what="a change of policy"))
