"""`s3ml log`: every lie about a log has a line of its own; the truth passes, and is told in plain words."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from s3ml.apps.cli.root import run
from s3ml.apps.transparency import describing, watching
from s3ml.apps.transparency.describing import describe, describe_body, headline
from s3ml.apps.transparency.replay import LogRejectedError, Replay, audit
from s3ml.apps.transparency.sources import LogFile
from s3ml.apps.transparency.watching import ForkedError, News, Watch, WentBackError, follow
from s3ml.keyservice.documents import (
    ControlEntry,
    ControlStatement,
    EntryBody,
    EpochEntry,
    EpochStateEntry,
    GenesisEntry,
    LogEntry,
    OpaqueSecretDocument,
    RestartEntry,
    RotationDocument,
    SymmetricKeyDocument,
)
from s3ml.keyservice.log import Chain, parse_entry
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import UnavailableError
from s3ml.primitives.signing import SigningKey
from s3ml.transparency.checkpoint import Checkpoint, sign_checkpoint
from s3ml.transparency.note import Note, NoteSignature
from tests.apps.log_world import CHECKPOINT_KEY, NOW, WITNESSES, Gateway, Log, gateway, policy, write_log
from tests.clocks import FakeClock
from tests.transparency.transparency_world import signer

LOG = Log().fill()
SIZE = len(LOG.entries)
PRESENCE = 3


class Desk:
    """Somebody's folder, and what the last command said."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys
        self.out = self.err = ""

    def run(self, *words: str) -> int:
        status = run(["log", *words])
        self.out, self.err = self.capsys.readouterr()
        return status

    def audit(self, note: str, entries: list[bytes], *words: str, deployment: str = LOG.deployment) -> int:
        """Audit a file that holds these."""
        path = write_log(self.folder / "log", note, entries)
        return self.run("audit", "--file", str(path), "--deployment", deployment, *words)

    @property
    def line(self) -> str:
        """The one line of an error."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("s3ml: ")]
        return line


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


@pytest.fixture
def served() -> Iterator[Gateway]:
    with gateway() as made:
        yield made


def replaced(entries: list[bytes], index: int, *by: bytes) -> list[bytes]:
    return [*entries[:index], *by, *entries[index + 1 :]]


def changed(index: int, old: bytes, new: bytes) -> list[bytes]:
    data = LOG.entries[index].replace(old, new)
    assert data != LOG.entries[index]
    return replaced(LOG.entries, index, data)


def broken_cosignature() -> str:
    note = Note.parse(LOG.note())
    log, one, two = note.signatures
    two = NoteSignature(name=two.name, key_id=two.key_id, signature=two.signature[:-1] + b"\x00")
    return str(Note(text=note.text, signatures=(log, one, two)))


def foreign() -> Log:
    return Log(random=b"\x01" * 32).fill()


def unsigned() -> Log:
    """A log whose genesis one owner alone signed, where two decide."""
    log = Log()
    entry = parse_entry(log.entries[0])
    assert isinstance(entry.body, GenesisEntry)
    envelope = entry.body.proposal
    one = msgspec.structs.replace(envelope, signatures=envelope.signatures[:1])
    log.chain = Chain()
    data = log.chain.build(msgspec.structs.replace(entry.body, proposal=one), time=NOW).data
    log.chain.append(data)
    log.entries = [data]
    return log


class TestTruth:
    """A log that nobody touched passes, and the steps say what was checked."""

    def test_a_whole_log(self, desk: Desk) -> None:
        assert desk.audit(LOG.note(), LOG.entries) == 0
        steps = [int(number) for number in re.findall(r"✓ (\d)", desk.out)]
        assert steps == [1, 2, 3, 4, 5, 6]
        assert "witness.example/w1 at 2026-03-01T12:00:00+00:00" in desk.out
        assert f"Checked: {SIZE} entries." in desk.out
        assert "NOT FORK-PROTECTED" not in desk.err

    def test_json_says_the_same(self, desk: Desk) -> None:
        assert desk.audit(LOG.note(), LOG.entries, "--json") == 0
        told = json.loads(desk.out)
        assert (told["deployment"], told["log_size"]) == (LOG.deployment, SIZE)
        assert told["kinds"] == {"genesis": 1, "control": 2, "join": 1, "presence": 2, "releases": 1}
        assert [step["number"] for step in told["steps"]] == [1, 2, 3, 4, 5, 6]
        assert told["is_fork_protected"]

    def test_without_witnesses_it_says_so(self, desk: Desk) -> None:
        log = Log(quorum=0).fill()
        assert desk.audit(log.note(by=()), log.entries, deployment=log.deployment) == 0
        assert "NOT FORK-PROTECTED" in desk.out
        assert "NOT FORK-PROTECTED" in desk.err

    def test_new_keys_and_new_witnesses_are_followed(self, desk: Desk) -> None:
        log = Log().fill()
        log.upgrade()
        log.replace_witnesses()
        log.presence(7)
        assert desk.audit(log.note(by=(1, 2)), log.entries, deployment=log.deployment) == 0
        assert desk.audit(log.note(by=(0, 1)), log.entries, deployment=log.deployment) == 3
        assert "step 6 fails" in desk.line
        assert (
            desk.audit(log.note(by=(1, 2), key=CHECKPOINT_KEY), log.entries, deployment=log.deployment) == 3
        )
        assert "step 5 fails" in desk.line

    def test_a_log_is_pinned_by_a_trust_file_too(self, desk: Desk) -> None:
        path = write_log(desk.folder / "log", LOG.note(), LOG.entries)
        assert desk.run("audit", "--file", str(path), "--trust", str(desk.folder / "none")) == 2
        assert "trust file" in desk.line
        assert desk.run("audit", "--file", str(path), "--deployment", "x") == 2
        assert "64 hexadecimal digits" in desk.line

    def test_from_a_gateway(self, desk: Desk, served: Gateway) -> None:
        served.show(LOG)
        served.batch = 2
        assert desk.run("audit", "--gateway", served.url, "--deployment", LOG.deployment) == 0
        assert f"Checked: {SIZE} entries." in desk.out

    def test_what_was_exported_is_audited_offline(self, desk: Desk, served: Gateway) -> None:
        served.show(LOG)
        path = str(desk.folder / "log")
        assert desk.run("export", path, "--gateway", served.url) == 0
        served.is_down = True
        assert desk.run("audit", "--file", path, "--deployment", LOG.deployment) == 0
        assert desk.run("export", path, "--gateway", served.url) == 4
        served.is_down = False
        assert desk.run("export", path, "--gateway", served.url) == 2
        assert "exists already" in desk.line
        assert desk.run("export", str(desk.folder / "none" / "log"), "--gateway", served.url) == 2
        assert "cannot be written" in desk.line
        assert {path.name for path in desk.folder.iterdir()} == {"log"}


UNSIGNED = unsigned()
LIES: dict[str, tuple[str, list[bytes], int, str]] = {
    "an entry's time is changed": (
        LOG.note(),
        changed(PRESENCE, b"12:00:04", b"12:00:05"),
        2,
        "log entry 4: does not continue the entry before it: one of the two was changed",
    ),
    "the last entry is changed": (LOG.note(), changed(SIZE - 1, b"bb", b"cc"), 4, "root of 7 entries"),
    "a change that owners signed is changed": (LOG.note(), changed(1, b"Y2Nj", b"ZGRk"), 3, "entry 1: "),
    "genesis is changed": (LOG.note(), changed(0, b"12:00:01", b"12:00:02"), 1, "another genesis"),
    "time runs backwards": (LOG.note(), changed(1, b"12:00:02", b"11:00:02"), 2, "time runs backwards"),
    "an entry is dropped": (
        LOG.note(),
        replaced(LOG.entries, PRESENCE),
        2,
        "expected entry 3, got entry 4: entries are missing or moved",
    ),
    "an entry is there twice": (
        LOG.note(),
        replaced(LOG.entries, PRESENCE, *[LOG.entries[PRESENCE]] * 2),
        2,
        "expected entry 4, got entry 3: an entry is repeated or moved",
    ),
    "two entries are swapped": (
        LOG.note(),
        [*LOG.entries[:2], LOG.entries[3], LOG.entries[2], *LOG.entries[4:]],
        2,
        "expected entry 2, got entry 3",
    ),
    "an entry is moved to the end": (
        LOG.note(),
        [*LOG.entries[:3], *LOG.entries[4:], LOG.entries[3]],
        2,
        "expected entry 3, got entry 4",
    ),
    "the end is cut off": (
        LOG.note(),
        LOG.entries[:-1],
        4,
        "expected 7, got 6: entries are missing at the end",
    ),
    "all is cut off": (LOG.note(), [], 1, "got an empty log"),
    "the beginning is cut off": (LOG.note(), LOG.entries[1:], 2, "expected entry 0, got entry 1"),
    "the checkpoint is older": (LOG.note(SIZE - 1), LOG.entries, 4, "there are more than it names"),
    "an entry is no entry": (LOG.note(), replaced(LOG.entries, 2, b"{}"), 2, "entry 2: cannot be read"),
    "an entry is of another log": (
        LOG.note(),
        replaced(LOG.entries, 2, foreign().entries[2]),
        2,
        "does not continue",
    ),
    "genesis is signed by too few": (UNSIGNED.note(), UNSIGNED.entries, 1, "genesis: signatures: expected 2"),
    "the whole log is another's": (foreign().note(), foreign().entries, 1, f"expected {LOG.deployment}, got"),
    "the checkpoint is another log's": (foreign().note(), LOG.entries, 5, "expected one of s3ml/"),
    "the checkpoint is by another key": (
        LOG.note(key=SigningKey.from_raw(bytes([77]) * 32)),
        LOG.entries,
        5,
        "expected a signature of the deployment's key",
    ),
    "the checkpoint's signature is broken": (
        re.sub(r"(— s3ml/\S+ \S{8})\S{4}", r"\1AAAA", LOG.note()),
        LOG.entries,
        5,
        "does not hold",
    ),
    "the checkpoint names another root": (
        sign_checkpoint(Checkpoint(origin=LOG.origin, size=SIZE, root=bytes(32)), CHECKPOINT_KEY),
        LOG.entries,
        4,
        "root of 7 entries: expected 0000",
    ),
    "the checkpoint is none": ("nothing", LOG.entries, 5, "note: expected a text"),
    "a cosignature is missing": (
        LOG.note(by=(1,)),
        LOG.entries,
        6,
        "2 of 3 witnesses, got 1: witness.example/w2",
    ),
    "all cosignatures are missing": (LOG.note(by=()), LOG.entries, 6, "got 0: none"),
    "a cosignature is broken": (broken_cosignature(), LOG.entries, 6, "got 1: witness.example/w1"),
    "a cosignature is of another head": (
        LOG.note(by=(0,)) + WITNESSES[1].cosign(LOG.note(SIZE - 1), timestamp=NOW) + "\n",
        LOG.entries,
        6,
        "got 1",
    ),
    "a stranger cosigned": (
        LOG.note(by=(0,)) + signer(9).cosign(LOG.note(), timestamp=NOW) + "\n",
        LOG.entries,
        6,
        "got 1",
    ),
}


class TestLies:
    """Each lie ends with status 3 and one line that names the step that found it."""

    @pytest.mark.parametrize("lie", LIES)
    def test_it_is_found(self, desk: Desk, lie: str) -> None:
        note, entries, step, why = LIES[lie]
        deployment = UNSIGNED.deployment if entries == UNSIGNED.entries else LOG.deployment
        assert desk.audit(note, entries, deployment=deployment) == 3
        assert desk.line.startswith(f"s3ml: log: step {step} fails: ")
        assert why in desk.line
        assert desk.out == ""

    def test_every_byte_of_every_entry_counts(self, tmp_path: Path) -> None:
        """A single changed bit, anywhere, is found."""
        for index, data in enumerate(LOG.entries):
            for place in range(0, len(data), max(1, len(data) // 25)):
                flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
                path = write_log(tmp_path / "log", LOG.note(), replaced(LOG.entries, index, flipped))
                with pytest.raises(LogRejectedError):
                    audit(LogFile(path), LOG.deployment)

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b"", "expected a log written by"),
            (b"nonsense\n", "expected a log written by"),
            (b'{"format": "s3ml-log", "version": 2, "checkpoint": ""}\n', "expected a log written by"),
            (b'{"format": "s3ml-log", "version": 1, "checkpoint": "', "cut off"),
            (b"x" * 200_000 + b"\n", "longer than any entry"),
        ],
    )
    def test_no_such_file(self, desk: Desk, content: bytes, why: str) -> None:
        path = desk.folder / "log"
        path.write_bytes(content)
        assert desk.run("audit", "--file", str(path), "--deployment", LOG.deployment) == 2
        assert why in desk.line

    def test_a_line_that_is_no_base64(self, desk: Desk) -> None:
        path = write_log(desk.folder / "log", LOG.note(), LOG.entries[:2])
        path.write_text(path.read_text() + "!\n")
        assert desk.run("audit", "--file", str(path), "--deployment", LOG.deployment) == 2
        assert "line 4: expected standard base64" in desk.line

    def test_a_missing_file(self, desk: Desk) -> None:
        path = str(desk.folder / "log")
        assert desk.run("audit", "--file", path, "--deployment", LOG.deployment) == 2
        assert "No such file" in desk.line

    def test_a_head_that_is_no_checkpoint(self) -> None:
        replay = Replay(LOG.deployment)
        replay.read(LOG.entries[0])
        with pytest.raises(LogRejectedError, match="step 5"):
            replay.verify_head("nothing")

    def test_a_gateway_that_keeps_entries_back(self, desk: Desk, served: Gateway) -> None:
        served.show(LOG)
        served.entries = served.entries[:3]
        assert desk.run("audit", "--gateway", served.url, "--deployment", LOG.deployment) == 3
        assert "entries are missing at the end" in desk.line


class TestShow:
    def test_every_entry_is_in_words(self, desk: Desk, served: Gateway) -> None:
        served.show(LOG)
        assert desk.run("show", "--gateway", served.url) == 0
        assert "UNVERIFIED" in desk.err
        for words in (
            "A deployment begins.",
            "2 of 3 owners decide:",
            "2 of 3 witnesses cosign every head:",
            "policies/resnet changes to version 1",
            "sees the newest log",
            "Releases 0 to 2 of the audit stream",
            "deployment/owners changes to version 1",
            "gave it the secrets",
        ):
            assert words in desk.out
        assert desk.out.index("A deployment begins.") < desk.out.index("sees the newest log")

    def test_the_newest_alone(self, desk: Desk, served: Gateway) -> None:
        served.show(LOG)
        assert desk.run("show", "--gateway", served.url, "--last", "2") == 0
        assert "A deployment begins." not in desk.out
        assert "deployment/owners" in desk.out

    def test_json(self, desk: Desk) -> None:
        path = write_log(desk.folder / "log", LOG.note(), LOG.entries)
        assert desk.run("show", "--file", str(path), "--json") == 0
        told = json.loads(desk.out)
        assert [entry["index"] for entry in told["entries"]] == list(range(SIZE))
        assert told["entries"][0]["kind"] == "genesis"
        assert told["entries"][0]["words"][0] == "A deployment begins."

    def test_a_broken_entry_is_one_line(self, desk: Desk) -> None:
        path = write_log(desk.folder / "log", LOG.note(), [b"{}"])
        assert desk.run("show", "--file", str(path)) == 2
        assert "log entry" in desk.line


def entry_of(body: EntryBody) -> LogEntry:
    return LogEntry(index=7, previous="0" * 64, deployment=LOG.deployment, time=NOW, body=body)


def control(resource: str, body: bytes, method: str = "PUT") -> LogEntry:
    statement = ControlStatement(
        deployment=LOG.deployment,
        method=method,  # type: ignore[arg-type]
        resource=resource,
        resource_version=3,
        previous_sha256="",
        body_sha256="0" * 64,
        nonce=bytes(32),
        created_at=NOW,
    )
    envelope = Envelope(payload_type="x", payload=encode_document(statement))
    return entry_of(ControlEntry(statement=envelope, body=body))


TERMS = {"version": 1, "service": "x", "policy": "p", "policy_sha256": "1" * 64, "secret": "s"}
SYMMETRIC = SymmetricKeyDocument(**TERMS)  # type: ignore[arg-type]
OPAQUE = OpaqueSecretDocument(**TERMS, sealed_sha256="2" * 64, commitment="3" * 64)  # type: ignore[arg-type]
ACKNOWLEDGEMENT = Envelope(payload_type="x", payload=b"").with_signature(CHECKPOINT_KEY)


class TestWords:
    """Whatever an entry says is shown: in words, or whole."""

    def test_every_kind_has_words(self) -> None:
        assert set(describing._WORDS) == set(EntryBody.__args__)

    def test_every_kind_of_resource_has_words(self) -> None:
        from s3ml.keyservice.fields import RESOURCE_PATTERN

        several, alone = re.findall(r"\(\?:([a-z|-]+)\)", RESOURCE_PATTERN)
        assert set(describing._RESOURCES) == {
            *several.split("|"),
            *(f"deployment/{name}" for name in alone.split("|")),
        }

    def test_a_kind_without_words_is_shown_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        entry = parse_entry(LOG.entries[PRESENCE])
        monkeypatch.setattr(describing, "_WORDS", {})
        (line,) = describe(entry)
        assert json.loads(line) == json.loads(msgspec.json.encode(entry.body))

    def test_a_resource_without_words_is_shown_raw(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(describing, "_RESOURCES", {})
        assert describe_body("policies/x", b'{"a": 1}\x1b[2J') == ['Body: {"a": 1}\\x1b[2J']

    def test_what_cannot_be_read_is_shown_whole(self) -> None:
        genesis = parse_entry(LOG.entries[0]).body
        broken = msgspec.structs.replace(genesis, proposal=Envelope(payload_type="x", payload=b"no"))
        assert "bm8=" in describe(entry_of(broken))[0]
        assert describe(control("services/x", b"no"))[1] == "Body: no"
        assert describe(control("deployment/recovery", b"\xff"))[1] == "Body: \\xff"

    @pytest.mark.parametrize(
        ("entry", "words"),
        [
            (control("policies/x", policy()), "a" * 64),
            (control("secrets/x", encode_document(SYMMETRIC)), "32 bytes that the key service makes"),
            (control("secrets/x", encode_document(OPAQUE)), f"with commitment {'3' * 64}"),
            (control("secrets/x", b"", "DELETE"), "DELETE secrets/x, version 3"),
            (
                control("rotations/x", encode_document(RotationDocument(service="x", retire="discard"))),
                "its old ones are retired at once",
            ),
            (
                control("rotations/x", encode_document(RotationDocument(service="x", retire="drain"))),
                "its old ones drain",
            ),
            (
                entry_of(
                    EpochEntry(
                        service="x",
                        policy_sha256="0" * 64,
                        epoch=4,
                        state="pending",
                        generation="1" * 64,
                        key_configs=b"k",
                        reason="scheduled",
                    )
                ),
                "Service x: epoch 4 begins pending (scheduled).",
            ),
            (
                entry_of(EpochStateEntry(service="x", epoch=4, state="retired", reason="lost")),
                "Service x: epoch 4 becomes retired (lost).",
            ),
            (entry_of(RestartEntry(replica="1" * 64, random=bytes(32))), "the witnesses show"),
            (
                entry_of(
                    RestartEntry(
                        replica="1" * 64,
                        random=bytes(32),
                        acknowledgement=Envelope(payload_type="x", payload=b"").with_signature(
                            CHECKPOINT_KEY
                        ),
                    )
                ),
                "acknowledged by 1 keys",
            ),
        ],
    )
    def test_kinds(self, entry: LogEntry, words: str) -> None:
        assert words in "\n".join(describe(entry))

    def test_new_keys(self) -> None:
        log = Log()
        log.upgrade()
        log.replace_witnesses()
        words = ["\n".join(describe(parse_entry(data))) for data in log.entries]
        assert "The key service satisfies:" in words[1]
        assert "The deployment has its keys number 2." in words[2]
        assert "2 of 2 witnesses cosign every head:" in words[3]

    def test_without_witnesses(self) -> None:
        assert "No witnesses: NOT FORK-PROTECTED." in describe(parse_entry(Log(quorum=0).entries[0]))

    def test_nothing_that_a_terminal_obeys_is_shown(self) -> None:
        join = parse_entry(LOG.entries[2]).body
        entry = entry_of(msgspec.structs.replace(join, tee="\x1b[31mred\x07", measurement="m" * 5000))
        text = "\n".join(describe(entry))
        assert "\x1b" not in text
        assert "\\x1b[31mred" in text
        assert "characters)" in text

    def test_a_headline(self) -> None:
        assert headline(parse_entry(LOG.entries[PRESENCE])) == "    3  2026-03-01 12:00:04 UTC  presence"


class TestWatchingOnce:
    """Each look is compared with all that was seen, across restarts."""

    @pytest.fixture
    def look(self, desk: Desk, served: Gateway) -> Callable[..., int]:
        def run_once(*words: str, deployment: str = LOG.deployment) -> int:
            state = str(desk.folder / "state")
            return desk.run(
                *("watch", "--once", "--gateway", served.url, "--deployment", deployment, "--state", state),
                *words,
            )

        return run_once

    def test_news_are_told_once(self, desk: Desk, served: Gateway, look: Callable[..., int]) -> None:
        served.show(LOG, 3)
        assert look() == 0
        assert "A deployment begins." in desk.out
        assert "Verified: 3 entries, cosigned by witness.example/w1" in desk.out
        assert look() == 0
        assert desk.out == ""
        served.show(LOG)
        assert look("--json") == 0
        told = json.loads(desk.out)
        assert [entry["index"] for entry in told["entries"]] == [3, 4, 5, 6]

    def test_a_log_that_goes_back(self, desk: Desk, served: Gateway, look: Callable[..., int]) -> None:
        served.show(LOG)
        assert look() == 0
        served.show(LOG, 5)
        assert look() == 3
        assert "WENT BACK: expected the 7 entries" in desk.line

    @pytest.mark.parametrize("growth", [0, 1])
    def test_a_log_that_forks(
        self, desk: Desk, served: Gateway, look: Callable[..., int], growth: int
    ) -> None:
        """Also where every signature and every cosignature of the fork holds."""
        served.show(LOG)
        assert look() == 0
        fork = Log()
        for seed in range(SIZE - 1 + growth):
            fork.presence(seed)
        assert fork.deployment == LOG.deployment
        served.show(fork)
        assert look() == 3
        assert "FORKED: expected a log that leads through the 7 entries" in desk.line
        assert (desk.folder / "state.fork").read_text() == fork.note()
        served.show(LOG)
        assert look() == 0

    def test_a_head_that_is_not_cosigned(self, desk: Desk, served: Gateway, look: Callable[..., int]) -> None:
        served.show(LOG, by=(0,))
        assert look() == 3
        assert "step 6 fails" in desk.line
        assert not (desk.folder / "state").exists()

    def test_a_state_of_another_deployment(
        self, desk: Desk, served: Gateway, look: Callable[..., int]
    ) -> None:
        served.show(LOG)
        assert look() == 0
        assert look(deployment="0" * 64) == 2
        assert "one file for each deployment" in desk.line
        (desk.folder / "state").write_text("nonsense")
        assert look() == 2
        assert "watch state" in desk.line

    def test_without_witnesses_it_says_so(
        self, desk: Desk, served: Gateway, look: Callable[..., int]
    ) -> None:
        log = Log(quorum=0)
        served.show(log, by=())
        assert look(deployment=log.deployment) == 0
        assert "no witness: NOT FORK-PROTECTED" in desk.out


class Source:
    """A log in memory that fails when it is told to, and counts what is fetched."""

    def __init__(self) -> None:
        self.note = ""
        self.data: list[bytes] = []
        self.fails_at: int | None = None
        self.fetched: list[int] = []

    def show(self, log: Log, size: int | None = None) -> None:
        size = len(log.entries) if size is None else size
        self.note, self.data = log.note(size), log.entries[:size]

    def checkpoint(self) -> str:
        return self.note

    def entries(self, start: int, size: int) -> Iterator[bytes]:
        for index in range(start, min(size, len(self.data))):
            if self.fails_at in {index, 0}:
                raise UnavailableError("the source is down")
            self.fetched.append(index)
            yield self.data[index]


class TestFollowing:
    """What is followed for long is not asked for anew, and one late answer is no alarm."""

    @pytest.fixture
    def source(self) -> Source:
        return Source()

    @pytest.fixture
    def watch(self, source: Source, tmp_path: Path) -> Watch:
        return Watch(LOG.deployment, source, tmp_path / "state")

    def test_only_new_entries_are_fetched(self, source: Source, watch: Watch) -> None:
        for size in (1, 4, SIZE):
            source.show(LOG, size)
            news = watch.look()
            assert news is not None
            watch.remember(news)
        assert source.fetched == list(range(SIZE))

    def test_news_that_were_not_remembered_come_again(self, source: Source, watch: Watch) -> None:
        source.show(LOG, 3)
        assert watch.look() is not None
        news = watch.look()
        assert news is not None
        assert [entry.index for entry in news.entries] == [0, 1, 2]

    def test_an_outage_in_the_middle_loses_nothing(self, source: Source, watch: Watch) -> None:
        source.show(LOG)
        source.fails_at = 4
        with pytest.raises(UnavailableError):
            watch.look()
        source.fails_at = None
        news = watch.look()
        assert news is not None
        assert [entry.index for entry in news.entries] == list(range(SIZE))
        assert source.fetched == list(range(SIZE))

    def test_a_replica_that_is_behind_after_an_outage(self, source: Source, watch: Watch) -> None:
        source.show(LOG)
        source.fails_at = 5
        with pytest.raises(UnavailableError):
            watch.look()
        source.fails_at = None
        source.show(LOG, 3)
        news = watch.look()
        assert news is not None
        assert news.head.size == 3

    def test_a_fork_while_it_is_followed(self, source: Source, watch: Watch) -> None:
        source.show(LOG)
        news = watch.look()
        assert news is not None
        watch.remember(news)
        fork = Log()
        for seed in range(SIZE + 3):
            fork.presence(seed)
        source.show(fork)
        with pytest.raises(ForkedError):
            watch.look()
        source.data = LOG.entries
        with pytest.raises(LogRejectedError):
            watch.look()
        source.show(LOG)
        assert watch.look() is None

    def test_a_fork_that_no_step_accepts(self, source: Source, watch: Watch) -> None:
        source.show(LOG, 3)
        news = watch.look()
        assert news is not None
        watch.remember(news)
        source.show(LOG, 5)
        source.data = [*LOG.entries[:3], b"{}", LOG.entries[4]]
        with pytest.raises(LogRejectedError, match="step 2"):
            watch.look()

    @staticmethod
    def follow(watch: Watch, source: Source, *steps: Callable[[], None]) -> tuple[list[News], list[str]]:
        """Follow while `steps` happen, one at each sleep; then fail."""
        clock, told, found = FakeClock(), list[str](), list[News]()
        left = list(steps)

        def sleep(seconds: float) -> None:
            clock.advance(seconds)
            if not left:
                raise KeyboardInterrupt
            left.pop(0)()

        following = follow(watch, interval_s=4.0, clock=clock, sleep=sleep, tell=told.append)
        with pytest.raises((KeyboardInterrupt, WentBackError)) as ended:
            found.extend(following)
        told.append(type(ended.value).__name__)
        return found, told

    def test_it_follows(self, source: Source, watch: Watch) -> None:
        source.show(LOG, 2)
        found, told = self.follow(
            watch, source, lambda: None, lambda: source.show(LOG, 5), lambda: source.show(LOG)
        )
        assert [news.head.size for news in found] == [2, 5, SIZE]
        assert told == ["KeyboardInterrupt"]

    def test_an_outage_is_told_once(self, source: Source, watch: Watch) -> None:
        source.show(LOG, 2)

        def fail() -> None:
            source.fails_at = 0
            source.show(LOG, 5)

        def heal() -> None:
            source.fails_at = None

        found, told = self.follow(watch, source, fail, lambda: None, heal)
        assert [news.head.size for news in found] == [2, 5]
        assert told == ["the source is down: trying again", "KeyboardInterrupt"]

    def test_a_replica_that_is_behind_for_a_moment_is_no_alarm(self, source: Source, watch: Watch) -> None:
        source.show(LOG, 5)
        found, told = self.follow(
            watch, source, lambda: source.show(LOG, 4), lambda: None, lambda: source.show(LOG)
        )
        assert [news.head.size for news in found] == [5, SIZE]
        assert len(told) == 2
        assert "WENT BACK" in told[0]

    def test_a_log_that_stays_back_is_one(self, source: Source, watch: Watch) -> None:
        source.show(LOG, 5)
        steps = [lambda: source.show(LOG, 4), *[lambda: None] * 20]
        _, told = self.follow(watch, source, *steps)
        assert told[-1] == "WentBackError"

    def test_the_command_follows(self, desk: Desk, served: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
        served.show(LOG, 3)
        naps: list[float] = []

        def nap(seconds: float) -> None:
            naps.append(seconds)
            served.is_down = len(naps) == 1
            if len(naps) == 2:
                served.show(LOG)
            if len(naps) == 4:
                raise KeyboardInterrupt

        monkeypatch.setattr(time, "sleep", nap)
        state = str(desk.folder / "state")
        words = ("--gateway", served.url, "--deployment", LOG.deployment, "--state", state)
        assert desk.run("watch", *words, "--interval", "0.5") == 130
        assert naps == [0.5] * 4
        assert "WAITING" in desk.err
        assert "Verified: 7 entries" in desk.out
        assert watching.PATIENCE_S == 10.0
