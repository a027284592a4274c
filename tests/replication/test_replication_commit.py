"""A replica is killed at each step of a commit: what was acknowledged stays, what was not happens once."""

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from s3ml.keyservice.client import KeyServiceClient, KeyServiceUnavailableError
from s3ml.keyservice.upkeep import PRESENCE_S
from tests.keyservice.postgres_server import PostgresServer
from tests.replication.fleet import Fleet, Platform, eventually
from tests.replication.settings import Setting, begun
from tests.replication.taps import Message, Pause, Way

pytestmark = pytest.mark.integration
VICTIM, OTHER = 0, 1
_names = itertools.count(1)
_other_began_s = [0.0]


@pytest.fixture(scope="module")
def setting(platform: Platform, postgres: PostgresServer) -> Iterator[Setting]:
    """Two replicas and three witnesses, of which two are a quorum."""
    with begun(platform, postgres, replicas=2, witnesses=3) as found:
        _other_began_s[0] = time.monotonic()
        yield found


@dataclass(slots=True)
class Held:
    """What holds a commit back at some step, and how to tell that it is there."""

    pauses: list[Pause] = field(default_factory=list)
    has_come: Callable[[], bool] = lambda: True

    def wait(self) -> None:
        """Wait until the commit is at that step."""
        for pause in self.pauses:
            pause.wait()
        eventually(self.has_come, what="that step of a commit")

    def drop(self) -> None:
        """Lose what is held: whoever sent it is dead."""
        for pause in self.pauses:
            pause.drop()


def _is_append(message: Message) -> bool:
    return b"WITH moved AS" in message.statement


def _is_commit(message: Message) -> bool:
    return message.statement.strip().startswith(b"INSERT INTO s3ml_committed")


def _sent(kind: bytes, is_it: Callable[[Message], bool]) -> Callable[[Message], bool]:
    return lambda message: message.way is Way.TO_SERVER and message.kind == kind and is_it(message)


def _answered(is_it: Callable[[Message], bool]) -> Callable[[Message], bool]:
    return lambda message: message.way is Way.TO_CLIENT and message.kind == b"C" and is_it(message)


def _asks(message: Message) -> bool:
    return message.way is Way.TO_SERVER


def _replies(message: Message) -> bool:
    return message.way is Way.TO_CLIENT


def before_append(fleet: Fleet) -> Held:
    return Held([fleet.members[VICTIM].database.pause(_sent(b"B", _is_append))])


def after_append_before_its_reply(fleet: Fleet) -> Held:
    stored, _ = fleet.head()
    pause = fleet.members[VICTIM].database.pause(_answered(_is_append))
    return Held([pause], lambda: fleet.head()[0] > stored)


def before_cosigning(fleet: Fleet) -> Held:
    return Held([tap.pause(_asks) for tap in fleet.members[VICTIM].witnesses])


def after_one_of_two_cosignatures(fleet: Fleet) -> Held:
    first, *others = fleet.members[VICTIM].witnesses
    has_cosigned = first.pause(_replies)
    held = Held([other.pause(_asks) for other in others])

    def one_has() -> bool:
        has_cosigned.wait()
        has_cosigned.release()
        return True

    held.has_come = one_has
    return held


def after_the_quorum_before_commit(fleet: Fleet) -> Held:
    return Held([fleet.members[VICTIM].database.pause(_sent(b"B", _is_commit))])


def after_commit_before_its_reply(fleet: Fleet) -> Held:
    _, committed = fleet.head()
    pause = fleet.members[VICTIM].database.pause(_answered(_is_commit))
    return Held([pause], lambda: fleet.head()[1] > committed)


def after_commit_before_the_reply_to_the_owner(fleet: Fleet) -> Held:
    return Held([fleet.members[VICTIM].front.pause(_replies)])


NOT_STORED = [before_append]
STORED = [
    after_append_before_its_reply,
    before_cosigning,
    after_one_of_two_cosignatures,
    after_the_quorum_before_commit,
]
COMMITTED = [after_commit_before_its_reply, after_commit_before_the_reply_to_the_owner]


@pytest.fixture
def quiet(setting: Setting) -> Setting:
    """The same, where no replica proves for a while that it is present: nothing else writes meanwhile.

    The victim of the test before has just started; the other one has, too, once it has run for long.
    """
    if time.monotonic() - _other_began_s[0] > PRESENCE_S / 3:
        setting.fleet.restart(OTHER)
        setting.fleet.until_serving(VICTIM, OTHER)
        _other_began_s[0] = time.monotonic()
    setting.people.bundled(VICTIM)
    setting.people.bundled(OTHER)
    return setting


class TestKilled:
    """Whatever step a replica is killed at, its owners send their message again and it holds once."""

    @pytest.mark.parametrize("step", [*NOT_STORED, *STORED, *COMMITTED])
    def test_at_any_step(self, quiet: Setting, step: Callable[[Fleet], Held]) -> None:
        fleet, people = quiet.fleet, quiet.people
        resource = f"policies/killed-{next(_names)}"
        message = people.draft(resource, people.policy_body(), at=OTHER)
        seen = people.bundle(OTHER)
        before = fleet.head()
        for tap in fleet.members[OTHER].witnesses:
            tap.cut()  # so that the other replica does not finish it too soon
        held = step(fleet)
        owner = KeyServiceClient(fleet.members[VICTIM].front.url)
        with ThreadPoolExecutor(1) as thread:
            sending = thread.submit(owner.control, message)
            held.wait()
            stored, committed = fleet.head()
            listed = people.resources(OTHER)
            fleet.kill(VICTIM)
            held.drop()
            with pytest.raises(KeyServiceUnavailableError):
                sending.result()
        owner.close()

        assert (stored > before[0]) == (step not in NOT_STORED)
        assert (committed > before[1]) == (step in COMMITTED)
        assert resource not in listed or step in COMMITTED
        assert people.bundle(OTHER).log_size == (stored if step in COMMITTED else before[1])

        for tap in fleet.members[OTHER].witnesses:
            tap.mend()
        eventually(lambda: len(set(fleet.head())) == 1, what="another replica that finishes it")
        if step not in NOT_STORED:
            eventually(lambda: resource in people.resources(OTHER), what="another replica that sees it")
        client = fleet.client(OTHER)
        first = eventually(lambda: client.control(message), what="the message sent again")
        again = client.control(message)
        assert quiet.places_of(message) == [first.index] == [again.index]
        assert first.log_size <= fleet.head()[1]

        fleet.start(VICTIM)
        fleet.until_serving(VICTIM, OTHER)
        assert people.resources(VICTIM) == people.resources(OTHER)
        for number in (VICTIM, OTHER):
            known = (seen.log_size, seen.log_root)
            assert people.bundled(number, known=known).log_size >= first.log_size
