"""A host puts back an older database: all refuse, say what to do, and go on once the newest is back."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from s3ml.keyservice.client import KeyServiceUnavailableError, ReleaseSession, TrustBundleRejectedError
from s3ml.primitives.errors import S3MLError, UntrustedPeerError
from tests.keyservice.postgres_server import PostgresServer
from tests.replication.fleet import Platform, eventually
from tests.replication.people import SERVICE
from tests.replication.settings import Setting, begun
from tests.replication.snapshots import Snapshot

pytestmark = pytest.mark.integration
_numbers = itertools.count(1)


@dataclass(slots=True)
class RolledBack:
    """An older database is in place of the newest one."""

    setting: Setting
    newest: Snapshot
    added: str
    seen: tuple[int, bytes]
    session: ReleaseSession
    is_mended: bool = False

    def mend(self) -> None:
        """Put the newest database back, once: what replicas append then is newer still."""
        if not self.is_mended:
            self.newest.restore()
            self.is_mended = True


@pytest.fixture(scope="module")
def pair(platform: Platform, postgres: PostgresServer) -> Iterator[Setting]:
    """Two replicas and three witnesses."""
    with begun(platform, postgres, replicas=2, witnesses=3) as found:
        yield found


@pytest.fixture
def rolled_back(pair: Setting) -> Iterator[RolledBack]:
    """A backup is put back that is one acknowledged change behind; afterwards the newest database."""
    with rolling_back(pair) as found:
        yield found
    for member in pair.fleet.members:
        if member.launched is None:
            pair.fleet.start(member.number)
    pair.fleet.until_serving()
    for member in pair.fleet.members:  # whose generation keys may take a while to reach each other
        pair.people.bundled(member.number)
        pair.people.released(member.number)


@contextmanager
def rolling_back(setting: Setting) -> Iterator[RolledBack]:
    """Take a backup, change something, and put the backup back, for as long as the block."""
    fleet, people, number = setting.fleet, setting.people, next(_numbers)
    older = Snapshot.take(fleet, f"older_{number}")
    added = f"policies/added-{number}"
    people.change(added, people.policy_body())
    session = people.session()
    people.release(session, fleet.client(0))
    for member in fleet.members:
        found = people.bundle(member.number)  # each has seen the newest log
    newest = Snapshot.take(fleet, f"newest_{number}")
    older.restore()
    rolled_back = RolledBack(setting, newest, added, (found.log_size, found.log_root), session)
    try:
        yield rolled_back
    finally:
        rolled_back.mend()
        older.drop()
        newest.drop()


class TestServing:
    """Replicas that serve have seen the newest log."""

    def test_they_refuse_and_go_on(self, rolled_back: RolledBack) -> None:
        fleet, people = rolled_back.setting.fleet, rolled_back.setting.people
        for number in (0, 1):
            eventually(lambda n=number: fleet.status(n).trouble, what="trouble")  # type: ignore[misc]
            for ask in (
                lambda n=number: people.bundle(n),
                lambda n=number: people.put_policy(f"refused-{n}", at=n),
                lambda n=number: people.release(rolled_back.session, fleet.client(n)),
            ):
                with pytest.raises(KeyServiceUnavailableError) as refused:
                    ask()
                line = str(refused.value)
                assert "went back" in line
                assert "restore the newest database" in line
                assert "\n" not in line
        rolled_back.mend()
        fleet.until_serving()
        for number in (0, 1):
            assert people.resources(number)[rolled_back.added] == 1
            people.bundled(number, known=rolled_back.seen)
            people.released(number, rolled_back.session)


class TestRestarted:
    """Replicas that start again on the older database learn of the newer one from others."""

    def test_by_a_live_peer_or_by_the_witnesses_they_refuse(self, rolled_back: RolledBack) -> None:
        fleet, people = rolled_back.setting.fleet, rolled_back.setting.people
        told = len(fleet.events(1))
        fleet.restart(1)
        fleet.until(1, "recovering")
        eventually(
            lambda: any(
                e.get("detail") == "waiting" and "newest database" in str(e["error"])
                for e in fleet.events(1)[told:]
            ),
            what="a replica that waits for the newest database",
            tell=lambda: fleet.last_events(1),
        )
        fleet.restart(0)
        fleet.until(0, "recovering")
        for number in (0, 1):
            with pytest.raises(KeyServiceUnavailableError):
                people.bundle(number, known=rolled_back.seen)
            with pytest.raises(KeyServiceUnavailableError):
                people.release(rolled_back.session, fleet.client(number))
        rolled_back.mend()
        fleet.until_serving()
        for number in (0, 1):
            assert people.resources(number)[rolled_back.added] == 1
            people.bundled(number, known=rolled_back.seen)
            people.released(number, rolled_back.session)


class TestWithoutWitnesses:
    """NOT FORK-PROTECTED: a replica cannot know; whoever has seen more does."""

    def test_clients_and_model_servers_refuse(self, platform: Platform, postgres: PostgresServer) -> None:
        with begun(platform, postgres, replicas=1) as setting, rolling_back(setting) as rolled_back:
            fleet, people = setting.fleet, setting.people
            fleet.restart()
            fleet.until_serving()
            assert not fleet.status(0).is_fork_protected
            with pytest.raises(S3MLError, match=r"older log than you have seen|does not extend") as refused:
                people.bundle(0, known=rolled_back.seen)
            assert "\n" not in str(refused.value)
            with pytest.raises(UntrustedPeerError):
                people.release(rolled_back.session, fleet.client(0))
            people.put_policy("forked-1")  # the log grows past what was seen, another way
            people.put_policy("forked-2")
            people.put_policy("forked-3")
            with pytest.raises(TrustBundleRejectedError):
                people.bundle(0, known=rolled_back.seen)
            with pytest.raises(UntrustedPeerError):
                people.release(rolled_back.session, fleet.client(0))
            assert people.bundle(0).service == SERVICE  # who has seen nothing cannot know
