"""A host edits the database by hand: what was committed is served, or nothing is, and why is said."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from s3ml.keyservice.client import KeyServiceUnavailableError
from s3ml.keyservice.cosigning import Cosigner
from s3ml.keyservice.ledger import Ledger
from s3ml.keyservice.storage import open_storage
from s3ml.primitives.clock import RatchetClock, SystemClock
from s3ml.primitives.errors import S3MLError
from s3ml.transparency.checkpoint import open_checkpoint
from s3ml.transparency.cosignature import has_quorum, verified_cosignatures
from s3ml.transparency.note import NoteRejectedError
from tests.keyservice.postgres_server import PostgresServer
from tests.keyservice.storage_editing import EDITS, Edit, Editor, secret_edits
from tests.replication.fleet import Platform, eventually
from tests.replication.settings import Setting, begun
from tests.replication.snapshots import Snapshot

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True)
class Edited:
    """A fleet whose database is about to be edited, and what it said before."""

    setting: Setting
    snapshot: Snapshot
    url: str
    is_kept: list[bool]

    def keep(self) -> None:
        """What is in the database now is the newest, and stays."""
        self.is_kept.append(True)

    def edit(self, edit: Edit) -> None:
        """Edit the database."""
        with Editor(self.url) as editor:
            edit.do(editor)

    def read(self) -> tuple[int, bytes]:
        """Read the whole log as an auditor or a fresh replica does; return its committed size and root."""
        storage = open_storage(self.url)
        try:
            ledger = Ledger(storage, RatchetClock(SystemClock()), Cosigner((), timeout_s=1.0))
            return ledger.view.size, ledger.view.root
        finally:
            storage.close()


@pytest.fixture(scope="module")
def pair(platform: Platform, postgres: PostgresServer) -> Iterator[Setting]:
    """Two replicas and three witnesses; a log with audit records."""
    with begun(platform, postgres, replicas=2, witnesses=3) as found:
        people, fleet = found.people, found.fleet
        session = people.session()
        for _ in range(4):
            people.release(session, fleet.client(0))
        fleet.stop(0)  # which writes the records that waited
        fleet.start(0)
        fleet.until_serving(0)
        assert fleet.run("SELECT count(*) FROM s3ml_audit") == [(4,)]
        yield found


@pytest.fixture
def edited(pair: Setting) -> Iterator[Edited]:
    """The same, and nobody can commit; whatever a test does to the database is undone afterwards."""
    fleet = pair.fleet
    taps = [tap for member in fleet.members for tap in member.witnesses]

    def is_parted() -> bool:
        """Cut the witnesses off; a commit that has their signatures by then is awaited first."""
        for tap in taps:
            tap.cut()
        is_settled = len(set(fleet.head())) == 1
        if not is_settled:
            for tap in taps:
                tap.mend()
        return is_settled

    eventually(is_parted, what="a settled head that nobody can move")
    snapshot = Snapshot.take(fleet, "before")
    found = Edited(pair, snapshot, fleet.server.url(schema=fleet.schema), [])
    yield found
    if not found.is_kept:
        snapshot.restore()
    snapshot.drop()
    for tap in taps:
        tap.mend()
    for number in range(len(fleet.members)):
        pair.people.bundled(number)
        pair.people.released(number)


READERS_SEE = [edit for edit in EDITS if not edit.is_harmless and not edit.name.startswith("seal")]
NOTHING_COMMITTED = {"committed-deleted", "committed-moved-aside"}
READERS_DO_NOT = [edit for edit in EDITS if edit not in READERS_SEE]


def check_replicas(edited: Edited, known: tuple[int, bytes]) -> None:
    """Check that each replica serves what was committed, or refuses in one line."""
    people = edited.setting.people
    for number in (0, 1):
        try:
            found = people.bundle(number, known=known)
        except KeyServiceUnavailableError as error:
            assert "\n" not in str(error)
        else:
            assert (found.log_size, found.log_root) == known


class TestLog:
    """Entries, audit records, heads and notes: changed, cut, moved, deleted, swapped."""

    @pytest.mark.parametrize("edit", READERS_SEE, ids=str)
    def test_whoever_reads_it_refuses(self, edited: Edited, edit: Edit) -> None:
        known = edited.read()

        def is_seen() -> bool:
            """Edit and read; a commit that was under way when the witnesses left may undo an edit once."""
            edited.edit(edit)
            if edit.name in NOTHING_COMMITTED:
                return edited.read()[0] == 0  # the witnesses would have to cosign the very same head
            if edit.name == "note-changed" and self.has_quorum(edited):
                return True
            try:
                edited.read()
            except S3MLError as refused:
                assert "\n" not in str(refused)
                return True
            return False

        eventually(is_seen, what="a reader that sees it")
        check_replicas(edited, known)

    def has_quorum(self, edited: Edited) -> bool:
        """Whether what is left of the note's cosignatures still is a quorum: one of three can be spared."""
        people = edited.setting.people
        ((note,),) = edited.setting.fleet.run("SELECT note FROM s3ml_committed")
        witnesses = people.begun.witnesses
        try:
            open_checkpoint(str(note), origin=people.begun.origin, key=people.begun.checkpoint_key)
        except NoteRejectedError:
            return False
        return has_quorum(verified_cosignatures(str(note), witnesses), 2)

    @pytest.mark.parametrize("edit", READERS_DO_NOT, ids=str)
    def test_what_no_reader_needs_changes_nothing(self, edited: Edited, edit: Edit) -> None:
        known = edited.read()
        edited.edit(edit)
        assert edited.read() == known
        check_replicas(edited, known)


EPOCH, IDENTITY = "epoch-keys", "model-identity"
RELEASED = [
    *(edit for kind in (EPOCH, IDENTITY) for edit in secret_edits(kind) if "swapped" not in edit.name),
    *(edit for edit in secret_edits(EPOCH, IDENTITY) if "swapped" in edit.name),
]


class TestReleasedSecrets:
    """Keys of epochs and identities of models: what was changed is never released.

    A replica that has opened them before releases what it remembers, which is what was stored; one that has
    not refuses.
    """

    @pytest.mark.parametrize("edit", RELEASED, ids=str)
    def test_what_was_changed_never_leaves(self, edited: Edited, edit: Edit) -> None:
        people, fleet = edited.setting.people, edited.setting.fleet
        before = people.release(people.session(), fleet.client(0))
        known = edited.read()
        edited.edit(edit)
        for number in (0, 1):
            try:
                after = people.release(people.session(), fleet.client(number))
            except KeyServiceUnavailableError as refused:
                assert "\n" not in str(refused)
            else:
                assert (after.epochs, after.models) == (before.epochs, before.models)
        assert edited.read() == known
        check_replicas(edited, known)


class TestRestartedOnIt:
    """A replica that starts on an edited database says what is wrong, and goes on once it is right."""

    @pytest.mark.parametrize(
        "edit",
        [edit for edit in EDITS if edit.name in {"entry-changed", "seal-changed", "note-emptied"}]
        + [edit for kind in ("statement-key", "wrapping-key") for edit in secret_edits(kind)[:1]],
        ids=str,
    )
    def test_it_waits(self, edited: Edited, edit: Edit) -> None:
        fleet = edited.setting.fleet
        fleet.kill()
        edited.edit(edit)
        told = len(fleet.members[0].log.read_text())
        fleet.launch(0)

        def says() -> str | None:
            """Return why it waits, or why it has ended: its supervisor starts it again."""
            lines = fleet.members[0].log.read_text()[told:].splitlines()
            found = [line for line in lines if '"waiting"' in line or line.startswith("key service: ")]
            return next((line for line in found if "stored" in line), None)

        eventually(says, what="a replica that says what is wrong", tell=lambda: fleet.last_events(0))
        edited.snapshot.restore()
        for member in fleet.members:
            for tap in member.witnesses:
                tap.mend()
        fleet.kill(0)
        fleet.start(0)
        fleet.until_serving(0)
        fleet.start(1)
        fleet.until_serving(1)
        edited.keep()
