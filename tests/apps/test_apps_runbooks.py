"""The runbooks, word for word: a real PostgreSQL, real witnesses, three replicas of the key service.

Each page builds on what the pages before it left, so that a fixture follows one page after the other.
"""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3ml.keyservice.documents import StatusReply
from tests.apps.conftest import Ended
from tests.apps.runbook_site import RUNBOOKS, Site, block_names, running_site

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]
FOLLOWED = ("bootstrap", "add-a-replica", "rotate", "upgrade", "revoke", "replace-lost-witnesses")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A deployment begun by following bootstrap.md."""
    with running_site() as site:
        site.bootstrap()
        yield site


@pytest.fixture(scope="module")
def joined(site: Site) -> str:
    """A replica was killed, and another one took its place."""
    os.kill(pid_at(site.key_services[0]), signal.SIGKILL)
    site.until("the loss is seen", lambda: "started another" in (site.folder / "up.log").read_text())
    site.until_all_serve()
    _, shown = site.follow("add-a-replica", "a replica joins")
    return shown.out


@pytest.fixture(scope="module")
def rotated(site: Site, joined: str) -> list[list[tuple[int, str]]]:
    """The epochs before, with another schedule, after a rotation, and after one that discards."""
    found = [site.epochs]
    for name, living in (("rotate on schedule", 1), ("rotate now", 2), ("discard keys", 1)):
        site.follow("rotate", name)
        site.until(f"{name}: {living} epochs", lambda living=living: len(site.epochs) == living)
        found.append(site.epochs)
    return found


@pytest.fixture(scope="module")
def upgraded(site: Site, rotated: object) -> list[StatusReply]:
    """The key service's policy was widened and narrowed again; what it said after each."""
    found = []
    *_, shown = site.follow("upgrade", "widen")
    site.learn(shown.out)
    site.until_all_serve()
    site.follow("upgrade", "everybody again")
    found.append(site.statuses()[0])
    *_, shown = site.follow("upgrade", "narrow")
    site.learn(shown.out)
    site.until_all_serve()
    found.append(site.statuses()[0])
    return found


@pytest.fixture(scope="module")
def revoked(site: Site, upgraded: object) -> dict[str, list[Ended]]:
    """Everything that can be revoked was."""
    return {name: site.follow("revoke", name) for name in block_names("revoke")}


@pytest.fixture(scope="module")
def succeeded(site: Site, revoked: object) -> StatusReply:
    """All witnesses are lost and every replica was restarted; owners named other witnesses."""
    page = "replace-lost-witnesses"
    site.lose_witnesses()
    for address in site.key_services:
        os.kill(pid_at(address), signal.SIGKILL)
    site.until(
        "they recover", lambda: [one.deployment.state for one in site.statuses()] == ["recovering"] * 3
    )
    site.recovering = site.key_services[1]
    site.follow(page, "new keys")
    site.watch(letter="n")
    site.start_witnesses(page, "new witnesses")
    site.follow(page, "acknowledge")
    site.until_all_serve()
    site.follow(page, "afterwards")
    return site.statuses()[0]


class TestBootstrap:
    def test_it_is_fork_protected_and_three_replicas_serve(self, site: Site) -> None:
        found = site.statuses()
        assert [one.deployment.state for one in found] == ["serving"] * 3
        assert all(one.deployment.is_fork_protected for one in found)
        assert (found[0].quorum, len(found[0].witnesses)) == (2, 3)

    def test_the_trust_file_follows_the_key_service(self, site: Site) -> None:
        assert '[key_service]\nfollow = "owners"' in (site.folder / "trust.toml").read_text()


class TestAddAReplica:
    def test_the_log_says_that_it_joined(self, joined: str) -> None:
        assert "joined: replica" in joined
        assert "sees the newest log" in joined


class TestRotate:
    def test_a_pending_epoch_waits_for_its_lease(self, rotated: list[list[tuple[int, str]]]) -> None:
        before, scheduled, now, _ = rotated
        assert before == scheduled
        assert [state for _, state in now] == ["active", "pending"]

    def test_discarded_keys_are_gone(self, rotated: list[list[tuple[int, str]]]) -> None:
        *_, now, discarded = rotated
        assert discarded == [(now[-1][0] + 1, "active")]


class TestUpgrade:
    def test_widening_keeps_epochs_and_narrowing_does_not(
        self, rotated: list[list[tuple[int, str]]], upgraded: list[StatusReply]
    ) -> None:
        wide, narrow = ([(one.epoch, one.state) for one in found.epochs] for found in upgraded)
        assert wide == rotated[-1]
        assert narrow == [(wide[-1][0] + 1, "active")]

    def test_the_keys_are_new_each_time(self, upgraded: list[StatusReply]) -> None:
        assert [one.keys_number for one in upgraded] == [2, 3]


class TestRevoke:
    def test_the_narrower_policy_is_compared(self, revoked: dict[str, list[Ended]]) -> None:
        _, compared, _ = revoked["a narrower policy"]
        assert compared.out.startswith("NARROWER")

    def test_the_service_answers_under_the_narrower_policy(self, revoked: dict[str, list[Ended]]) -> None:
        assert revoked["a service under the narrower policy"][-1].out.startswith("label")

    def test_the_service_is_gone(self, revoked: dict[str, list[Ended]]) -> None:
        assert "no services yet" in revoked["a service goes"][-1].out

    @pytest.mark.usefixtures("revoked")
    def test_another_owner_decides(self, site: Site) -> None:
        site.until(
            "every replica knows the owners",
            lambda: all(status.owners == ("alice", "bob", "dave") for status in site.statuses()),
        )
        assert re.search(r"2 of 3: alice, bob, dave", site.run("s3ml status").out)

    def test_and_the_whole_log_holds(self, site: Site, revoked: object) -> None:
        done = site.run("s3ml log audit --json")
        assert done.status == 0, done.err
        assert json.loads(done.out)["is_fork_protected"]


class TestReplaceLostWitnesses:
    def test_the_new_ones_govern(self, succeeded: StatusReply) -> None:
        assert [one.name for one in succeeded.witnesses] == [f"n{n}.example.org/w{n}" for n in (1, 2, 3)]
        assert succeeded.deployment.is_fork_protected


class TestEveryBlock:
    def test_it_was_followed(self, site: Site, succeeded: object) -> None:
        told = {(page, name) for page in FOLLOWED for name in block_names(page)}
        assert told == site.followed

    def test_the_index_names_every_page(self) -> None:
        index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
        assert all(f"({path.name})" in index for path in RUNBOOKS.glob("*.md") if path.name != "README.md")


def pid_at(address: str) -> int:
    """Return the process that listens at an address of loopback."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    (inode,) = (
        line.split()[9] for line in lines if line.split()[1].endswith(port) and line.split()[3] == "0A"
    )
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if path.readlink().name == f"socket:[{inode}]":
                return int(path.parts[2])
        except OSError:
            continue
    raise AssertionError(f"nobody listens at {address}")
