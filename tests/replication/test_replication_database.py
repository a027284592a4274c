"""The database is killed, slow, cut off in the middle, or full: nothing acknowledged is lost."""

import itertools
import os
import secrets
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from s3ml.keyservice.client import KeyServiceClient, KeyServiceUnavailableError
from s3ml.keyservice.documents import ControlMessage, ControlReply
from tests.keyservice.postgres_server import PostgresServer, has_capability, running
from tests.replication.fleet import DEADLINE_S, Platform, eventually
from tests.replication.settings import Setting, begun
from tests.replication.taps import Message, Way

pytestmark = pytest.mark.integration
MOUNTS = 21
SLOW_S = 0.1
_names = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that may be killed."""
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def setting(platform: Platform, server: PostgresServer) -> Iterator[Setting]:
    """Two replicas and three witnesses."""
    with begun(platform, server, replicas=2, witnesses=3) as found:
        yield found


def new_name() -> str:
    """Return the name of a policy that does not exist."""
    return f"policies/database-{next(_names)}"


class TestKilled:
    """The database is killed as by a power failure, and comes back."""

    def test_what_was_acknowledged_is_there(self, setting: Setting, server: PostgresServer) -> None:
        fleet, people = setting.fleet, setting.people
        acknowledged: list[str] = []
        refused: list[str] = []
        is_killed = threading.Event()
        drafts = {name: people.draft(name, people.policy_body()) for name in (new_name() for _ in range(30))}

        def send() -> None:
            for number, (name, message) in enumerate(drafts.items()):
                if number == len(drafts) - 5:
                    is_killed.wait(DEADLINE_S)  # where this thread is that far ahead
                try:
                    fleet.client(0).control(message)
                except KeyServiceUnavailableError:
                    refused.append(name)
                else:
                    acknowledged.append(name)

        with ThreadPoolExecutor(1) as thread:
            sending = thread.submit(send)
            eventually(lambda: len(acknowledged) >= 5, what="changes")
            server.kill()
            is_killed.set()
            with pytest.raises(KeyServiceUnavailableError) as unavailable:
                people.bundle(1)
            assert "\n" not in str(unavailable.value)
            eventually(lambda: bool(refused), what="a change that the dead database refuses")
            server.start()
            sending.result()
        fleet.until_serving()
        for name, message in drafts.items():
            reply = eventually(lambda one=message: fleet.client(1).control(one), what="sent again")  # type: ignore[misc]
            assert setting.places_of(message) == [reply.index]
            assert name in people.resources(1)
        assert len(acknowledged) < len(drafts)
        people.bundled(0)
        people.released(1)


class TestSlow:
    """The database answers late: whatever is answered holds, and nothing happens twice."""

    def test_changes_hold_once(self, setting: Setting) -> None:
        fleet, people = setting.fleet, setting.people
        messages = [people.draft(new_name(), people.policy_body()) for _ in range(2)]
        for member in fleet.members:
            member.database.delay_s = SLOW_S
        replies: list[ControlReply] = []
        for number, message in enumerate(messages):
            replies.append(
                eventually(lambda n=number, one=message: fleet.client(n).control(one), what="a change")  # type: ignore[misc]
            )
        for member in fleet.members:
            member.database.mend()
        for message, reply in zip(messages, replies, strict=True):
            assert setting.places_of(message) == [reply.index]
        fleet.until_serving()


class TestCut:
    """The connection is lost in the middle of a commit, and comes back at once."""

    @pytest.mark.parametrize("where", ["before the server has it", "before its reply arrives"])
    def test_the_replica_finds_out_what_became_of_it(self, setting: Setting, where: str) -> None:
        fleet, people = setting.fleet, setting.people
        message = people.draft(new_name(), people.policy_body())
        tap = fleet.members[0].database
        way, kind = (Way.TO_SERVER, b"B") if where.startswith("before the server") else (Way.TO_CLIENT, b"C")

        def is_it(found: Message) -> bool:
            return found.way is way and found.kind == kind and b"WITH moved AS" in found.statement

        pause = tap.pause(is_it)
        with ThreadPoolExecutor(1) as thread:
            sending = thread.submit(fleet.client(0).control, message)
            pause.wait()
            tap.cut()
            tap.mend()
            pause.drop()
            with suppress(KeyServiceUnavailableError):
                reply = sending.result()
                assert setting.places_of(message) == [reply.index]
        again = eventually(lambda: fleet.client(0).control(message), what="the message sent again")
        assert setting.places_of(message) == [again.index]
        fleet.until_serving()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own, of which a database fills the larger part."""
    if not has_capability(MOUNTS):
        pytest.skip("only who may mount file systems can fill one")
    folder = Path(tempfile.mkdtemp(prefix="s3ml-pg-", dir="/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m,mode=755", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


class TestFull:
    """The disk is full: changes are refused, and go on once there is room."""

    def test_it_refuses_and_goes_on(self, platform: Platform, small_disk: Path) -> None:
        data = small_disk / "pg"
        data.mkdir(mode=0o755)
        server = PostgresServer(data, {"wal_keep_size": "0", "max_wal_size": "32MB", "min_wal_size": "32MB"})
        server.start()
        try:
            with begun(platform, server, replicas=1) as setting:
                fleet, people = setting.fleet, setting.people
                large = [secrets.token_bytes(32) for _ in range(250)]
                messages = [people.draft(f"policies/full-{n}", people.policy_body(*large)) for n in range(28)]
                filler = small_disk / "filler"
                _fill(filler)
                _use_up(server)
                client = fleet.client(0)
                acknowledged, refused = _send_until_refused(client, messages)
                assert "storage" in refused
                assert "\n" not in refused
                filler.unlink()
                server.kill()  # some versions end by themselves when they cannot write ahead
                server.start()
                fleet.until_serving()
                for message in messages[: acknowledged + 1]:
                    reply = eventually(lambda one=message: client.control(one), what="a change")  # type: ignore[misc]
                    assert setting.places_of(message) == [reply.index]
        finally:
            server.stop(signal.SIGQUIT)


def _send_until_refused(client: KeyServiceClient, messages: list[ControlMessage]) -> tuple[int, str]:
    """Send one after the other; return how many were acknowledged, and what was said then."""
    for number, message in enumerate(messages):
        try:
            client.control(message)
        except KeyServiceUnavailableError as error:
            return number, str(error)
    raise AssertionError("all were acknowledged")


def _fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb") as file, suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(65536))


def _use_up(server: PostgresServer) -> None:
    """Write into the database until it, too, finds no room."""
    with suppress(psycopg.Error), psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE waste (data text)")
        for _ in range(4000):
            connection.execute("INSERT INTO waste SELECT repeat(md5(random()::text), 4000)")
