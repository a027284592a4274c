"""A host gives each replica a database of its own, or parts them: one side goes on, the other refuses."""

import itertools
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from s3ml.keyservice.client import KeyServiceUnavailableError
from s3ml.keyservice.documents import ControlReply
from tests.keyservice.postgres_server import PostgresServer, running, server_folder, unprivileged
from tests.replication.fleet import Platform, eventually
from tests.replication.settings import Setting, begun

pytestmark = pytest.mark.integration
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def first() -> Iterator[PostgresServer]:
    """A server that may be stopped."""
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def setting(platform: Platform, first: PostgresServer) -> Iterator[Setting]:
    """Two replicas and three witnesses."""
    with begun(platform, first, replicas=2, witnesses=3) as found:
        yield found


@pytest.fixture
def second(first: PostgresServer) -> Iterator[PostgresServer]:
    """A second server with a copy of the data of the first."""
    with server_folder() as folder:
        server = PostgresServer(folder)
        first.stop()
        shutil.rmtree(server.data)
        shutil.copytree(first.data, server.data)
        _own(server.data)
        first.start()
        server.start()
        try:
            yield server
        finally:
            server.kill()


def _own(data: Path) -> None:
    whose = unprivileged()
    data.chmod(0o700)
    if whose:
        for folder, _, names in os.walk(data):
            for path in (folder, *(os.path.join(folder, name) for name in names)):  # noqa: PTH118
                os.chown(path, whose["user"], whose["group"])


class TestFork:
    """Two databases that were one: witnesses cosign one of them."""

    def test_one_side_gets_a_quorum_and_the_other_refuses(
        self, setting: Setting, first: PostgresServer, second: PostgresServer
    ) -> None:
        fleet, people = setting.fleet, setting.people
        fleet.members[1].database.redirect(second.folder / ".s.PGSQL.5432")
        fleet.until_serving(0, 1)
        session = people.session()
        drafts = [people.draft(f"policies/fork-{n}", people.policy_body(), at=n) for n in (0, 1)]

        def send(number: int) -> ControlReply | str:
            try:
                return fleet.client(number).control(drafts[number])
            except KeyServiceUnavailableError as error:
                return str(error)

        with ThreadPoolExecutor(2) as threads:
            replies = list(threads.map(send, (0, 1)))
        won = [n for n in (0, 1) if isinstance(replies[n], ControlReply)]
        assert len(won) == 1, replies
        winner, loser = won[0], 1 - won[0]
        said = str(replies[loser])
        assert "fork" in said
        assert "newest database" in said
        found = people.bundled(winner)
        people.released(winner, session)
        for _ in range(20):  # again and again, whatever the loser is about to try
            with pytest.raises(KeyServiceUnavailableError, match="newest database"):
                people.bundle(loser)
            with pytest.raises(KeyServiceUnavailableError, match="newest database"):
                people.release(session, fleet.client(loser))

        fleet.restart(loser)
        fleet.until(loser, "recovering")
        newest = (first, second)[winner]
        fleet.members[loser].database.redirect(newest.folder / ".s.PGSQL.5432")
        fleet.until_serving()
        for number in (0, 1):
            assert people.resources(number)[f"policies/fork-{winner}"] == 1
            assert f"policies/fork-{loser}" not in people.resources(number)
            people.bundled(number, known=(found.log_size, found.log_root))
            people.released(number, session)
        fleet.kill()
        if winner == 1:  # what follows is about the first server again, with what the second knows
            first.stop()
            second.stop()
            shutil.rmtree(first.data)
            shutil.copytree(second.data, first.data)
            _own(first.data)
            first.start()
        for member in fleet.members:
            member.database.redirect(first.folder / ".s.PGSQL.5432")
        fleet.start()
        fleet.until_serving()


class TestParted:
    """Replicas that do not reach each other share a database; one that reaches nothing refuses."""

    def test_two_that_do_not_reach_each_other_go_on(self, setting: Setting) -> None:
        fleet, people = setting.fleet, setting.people
        for number in (0, 1):
            fleet.members[number].peers[1 - number].swallow()
        seen = people.bundle(0)
        names = [f"policies/parted-{next(_numbers)}" for _ in range(4)]
        for turn, name in enumerate(names):
            people.change(name, people.policy_body(), at=turn % 2)
            eventually(
                lambda n=1 - turn % 2, one=name: one in people.resources(n),  # type: ignore[misc]
                what="a change that the other sees",
            )
        for number in (0, 1):
            people.bundle(number, known=(seen.log_size, seen.log_root))
            fleet.members[number].peers[1 - number].mend()

    def test_one_that_reaches_no_database_refuses_and_the_other_goes_on(self, setting: Setting) -> None:
        fleet, people = setting.fleet, setting.people
        member = fleet.members[1]
        for tap in (member.database, *member.witnesses, *member.peers.values()):
            tap.swallow()
        name = f"policies/parted-{next(_numbers)}"
        people.change(name, people.policy_body(), at=0)
        for ask in (
            lambda: people.bundle(1),
            lambda: fleet.client(1).control(people.draft(f"{name}-too", people.policy_body(), at=0)),
            lambda: people.release(people.session(), fleet.client(1)),
        ):
            with pytest.raises(KeyServiceUnavailableError) as refused:
                ask()
            assert "\n" not in str(refused.value)
        for tap in (member.database, *member.witnesses, *member.peers.values()):
            tap.mend()
        fleet.until_serving(1)
        eventually(lambda: name in people.resources(1), what="what it missed")
        assert f"{name}-too" not in people.resources(1)
