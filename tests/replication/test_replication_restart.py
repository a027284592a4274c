"""Replicas that start again: they serve by a live peer or by witnesses, and never by each other's word."""

import itertools
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from s3ml.keyservice.client import KeyServiceRefusedError, KeyServiceUnavailableError
from s3ml.keyservice.documents.joining import JOIN_KEM, JoinHello
from s3ml.keyservice.peers import PeerClient
from s3ml.primitives.envelope import Envelope
from s3ml.wire.hpke import PrivateKey
from tests.keyservice.postgres_server import PostgresServer
from tests.replication.fleet import Platform, eventually
from tests.replication.settings import Setting, begun

pytestmark = pytest.mark.integration
_names = itertools.count(1)


@pytest.fixture(scope="module")
def trio(platform: Platform, postgres: PostgresServer) -> Iterator[Setting]:
    """Three replicas and three witnesses, of which two are a quorum."""
    with begun(platform, postgres, replicas=3, witnesses=3) as found:
        yield found


@pytest.fixture
def setting(trio: Setting) -> Iterator[Setting]:
    """The same, mended afterwards."""
    yield trio
    for witness in trio.fleet.witnesses:
        if not witness.is_running:
            witness.start()
    for member in trio.fleet.members:
        if member.launched is None:
            trio.fleet.start(member.number)
    trio.fleet.until_serving()
    for member in trio.fleet.members:  # whose generation keys may take a while to reach each other
        trio.people.bundled(member.number)
        trio.people.released(member.number)


def waits(setting: Setting, number: int, after: int, saying: str) -> None:
    """Wait until a replica says that it waits for this; `after` counts what it had said before."""

    def has_said() -> bool:
        told = [e for e in setting.fleet.events(number)[after:] if e.get("event") == "replica"]
        return any(e["detail"] == "waiting" and saying in str(e["error"]) for e in told)

    what = f"replica {number} that waits: {saying}"
    eventually(has_said, what=what, tell=lambda: setting.fleet.last_events(number))


class TestAllAtOnce:
    """Every replica is killed at once: nobody is left who knows which state is the newest."""

    def test_they_stay_recovering_until_a_quorum_of_witnesses_answers(self, setting: Setting) -> None:
        fleet, people = setting.fleet, setting.people
        name = f"policies/kept-{next(_names)}"
        kept = people.change(name, people.policy_body())
        seen = people.bundle()
        told = [len(fleet.events(number)) for number in range(3)]
        fleet.kill()
        fleet.witnesses[0].kill()
        fleet.witnesses[1].kill()
        fleet.start()

        for number in range(3):
            waits(setting, number, told[number], "1 of 2 witnesses cosigned")
            fleet.until(number, "recovering")
            with pytest.raises(KeyServiceUnavailableError, match="newest") as refused:
                people.bundle(number)
            assert "s3ml deployment acknowledge" in str(refused.value)
            with pytest.raises(KeyServiceUnavailableError, match="recovering"):
                people.release(people.session(), fleet.client(number))
            with pytest.raises(KeyServiceUnavailableError):
                people.put_policy(f"refused-{number}", at=number)

        fleet.witnesses[0].start()
        fleet.until_serving(0, 1, 2)
        for number in range(3):
            assert people.resources(number)[name] == 1
            after = people.bundled(number, known=(seen.log_size, seen.log_root))
            assert after.log_size > kept.log_size
            assert after.key_configs != seen.key_configs  # nobody was left who held the older keys
            people.released(number)

    def test_two_that_restarted_never_vouch_for_each_other(self, setting: Setting) -> None:
        fleet, people = setting.fleet, setting.people
        told = [len(fleet.events(number)) for number in range(3)]
        fleet.kill()
        fleet.witnesses[0].kill()
        fleet.witnesses[1].kill()
        fleet.start(0, 1)
        for number in (0, 1):
            waits(setting, number, told[number], "witnesses cosigned")
            hello = JoinHello(
                deployment=people.begun.deployment,
                nonce=bytes(32),
                public_key=PrivateKey.generate(JOIN_KEM).public,
            )
            with pytest.raises(KeyServiceUnavailableError, match="recovering"):
                PeerClient(fleet.members[number].url).join_offer(hello)
            assert fleet.status(number).state == "recovering"


class TestAcknowledgement:
    """Owners say to one process that one head is the newest."""

    def test_what_is_not_theirs_or_not_this_process_is_refused(self, setting: Setting) -> None:
        fleet, people = setting.fleet, setting.people
        fleet.kill()
        fleet.witnesses[0].kill()
        fleet.witnesses[1].kill()
        fleet.start(0, 1)
        client = fleet.client(0)
        status, other = fleet.until(0, "recovering"), fleet.until(1, "recovering")

        with pytest.raises(KeyServiceRefusedError, match="signature"):
            client.acknowledge(people.acknowledgement(status, people.owners[0]))
        for mistaken in (
            people.acknowledgement(other),
            people.acknowledgement(msgspec.structs.replace(status, stored_size=status.stored_size - 1)),
            people.acknowledgement(msgspec.structs.replace(status, stored_root=bytes(32))),
        ):
            with pytest.raises(KeyServiceRefusedError) as refused:
                client.acknowledge(mistaken)
            assert refused.value.status == 409
        assert fleet.status(0).state == "recovering"

    def test_without_a_quorum_it_is_stored_and_not_served(self, setting: Setting) -> None:
        fleet, people = setting.fleet, setting.people
        fleet.kill()
        fleet.witnesses[0].kill()
        fleet.witnesses[1].kill()
        fleet.start(0)
        acknowledgement = eventually(
            lambda: unserved(setting, people.acknowledgement(fleet.until(0, "recovering"))),
            what="an acknowledgement of the head that it shows now",
        )
        assert fleet.status(0).state == "recovering"
        fleet.witnesses[0].start()
        fleet.until_serving(0)
        with pytest.raises(KeyServiceRefusedError):  # it was for a process that recovers
            fleet.client(0).acknowledge(acknowledgement)


def unserved(setting: Setting, acknowledgement: Envelope) -> Envelope | None:
    """Acknowledge a head that too few witnesses cosign; none if the head moved meanwhile.

    What a killed replica sent the database may be committed there a moment after its death.
    """
    try:
        with pytest.raises(KeyServiceUnavailableError, match="witnesses cosigned"):
            setting.fleet.client(0).acknowledge(acknowledgement)
    except KeyServiceRefusedError as error:
        assert "sign what it shows now" in str(error)
        return None
    return acknowledgement


class TestLosingAllButOne:
    """One that is left keeps everything, and lets the others in again."""

    def test_nothing_is_lost(self, setting: Setting) -> None:
        fleet, people = setting.fleet, setting.people
        session = people.session()
        before, held = people.bundle(1), people.release(session, fleet.client(0))
        fleet.kill(0, 1)
        name = f"policies/alone-{next(_names)}"
        people.change(name, people.policy_body(), at=2)
        after = people.bundled(2, known=(before.log_size, before.log_root))
        assert after.key_configs == before.key_configs  # the very keys that clients were told of
        assert people.released(2, session).epochs == held.epochs
        fleet.start(0, 1)
        fleet.until_serving(0, 1)
        for number in (0, 1):
            assert people.resources(number)[name] == 1
            assert people.bundled(number).key_configs == before.key_configs
            assert people.released(number, session).epochs == held.epochs

    def test_a_joined_replica_serves(
        self, setting: Setting, record_property: Callable[[str, object], None]
    ) -> None:
        """From listening to its first trust bundle; how long that takes is for whoever runs it to judge."""
        fleet, people = setting.fleet, setting.people
        fleet.kill(1)
        fleet.start(1)
        began = time.monotonic()
        people.bundled(1)
        took_s = time.monotonic() - began
        record_property("join_s", round(took_s, 3))
        print(f"joined and served in {took_s:.2f} s")  # noqa: T201 - a figure for whoever runs it
