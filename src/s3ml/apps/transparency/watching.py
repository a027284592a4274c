"""Follow a log: every new head must append to the newest that was seen, also across restarts.

The newest verified checkpoint is kept in a file. After a restart the log is replayed from its first entry,
and must pass through that very head. A head that does not is kept beside it: two checkpoints that one key
signed and that contradict each other prove to everybody that the log was forked.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from s3ml.apps.transparency.replay import LogRejectedError, Replay, VerifiedHead, size_of
from s3ml.apps.transparency.sources import LogSource
from s3ml.keyservice.documents import LogEntry
from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import ConfigurationError, UnavailableError, UntrustedPeerError
from s3ml.primitives.files import read_limited, write_atomically
from s3ml.primitives.names import DIGEST_PATTERN
from s3ml.transparency.checkpoint import Checkpoint, parse_checkpoint
from s3ml.transparency.note import NOTE_LIMIT_BYTES, Note, NoteRejectedError

PATIENCE_S = 10.0


class ForkedError(UntrustedPeerError):
    """The log is not an extension of what was seen of it before."""


class WentBackError(UntrustedPeerError):
    """The log that is shown is shorter than one that was seen before."""


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1] = 1
    deployment: Annotated[str, msgspec.Meta(pattern=DIGEST_PATTERN)]
    checkpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What is new: the verified head, and the entries since the one before it."""

    head: VerifiedHead
    entries: tuple[LogEntry, ...]


class Watch:
    """Follows one deployment's log.

    Args:
        deployment: The pinned id.
        source: The log, from an untrusted peer.
        path: Where the newest verified checkpoint is kept.

    Raises:
        ConfigurationError: the file is malformed, or of another deployment.
    """

    def __init__(self, deployment: str, source: LogSource, path: Path) -> None:
        self._deployment = deployment
        self._source = source
        self._path = path
        self._replay = Replay(deployment)
        self._fresh: list[LogEntry] = []
        self._known = self._read_known()

    def look(self) -> News | None:
        """Fetch the newest head and verify it; nothing where it is the one that is known.

        At the first look after a start, and after a look that failed, the whole log is read and every step of
        an audit is taken; only the entries after the known head are new.

        Raises:
            WentBackError: the head is an earlier one than the known.
            ForkedError: the log holds every step of an audit, and does not lead through the known head.
            LogRejectedError: a step fails.
            UnavailableError: the source does not answer.
            ConfigurationError: what proves a fork cannot be kept.
        """
        note = self._source.checkpoint()
        size, known = size_of(note), self._known
        if known is not None and size < known.size:
            raise WentBackError(
                f"log: WENT BACK: expected the {known.size} entries that were seen before or more, got {size}"
            )
        head = self._advance(note, size)
        if known is not None and self._replay.root(known.size) != known.root:
            self._begin_anew()
            raise self._forked(note, known)
        if known is not None and known.size == head.size:
            return None
        return News(head=head, entries=tuple(self._fresh))

    def remember(self, news: News) -> None:
        """Keep the head of `news` as the newest that is known.

        Raises:
            ConfigurationError: the state cannot be kept.
        """
        document = _File(deployment=self._deployment, checkpoint=news.head.note)
        write_atomically(self._path, msgspec.json.encode(document) + b"\n")
        self._known = parse_checkpoint(Note.parse(news.head.note).text)
        self._fresh = []

    def _advance(self, note: str, size: int) -> VerifiedHead:
        """Read on and verify; what does not continue what was read is read once more from its first entry."""
        if self._replay.size > size:
            self._begin_anew()
        is_whole = self._replay.size == 0
        try:
            return self._read(note, size)
        except LogRejectedError:
            self._begin_anew()
            if is_whole:
                raise
        try:
            return self._read(note, size)
        except LogRejectedError:
            self._begin_anew()
            raise

    def _read(self, note: str, size: int) -> VerifiedHead:
        seen = self._known.size if self._known is not None else 0
        for data in self._source.entries(self._replay.size, size):
            entry = self._replay.read(data)
            if entry.index >= seen:
                self._fresh.append(entry)
        return self._replay.verify_head(note)

    def _begin_anew(self) -> None:
        self._replay, self._fresh = Replay(self._deployment), []

    def _forked(self, note: str, known: Checkpoint) -> ForkedError:
        proof = self._path.with_name(f"{self._path.name}.fork")
        write_atomically(proof, note.encode())
        return ForkedError(
            f"log: FORKED: expected a log that leads through the {known.size} entries that were seen before, "
            f"got another; the checkpoint that contradicts {self._path} is kept in {proof}: show both to "
            "everybody"
        )

    def _read_known(self) -> Checkpoint | None:
        if not self._path.exists():
            return None
        data = read_limited(self._path, limit_bytes=2 * NOTE_LIMIT_BYTES, what="watch state")
        try:
            file = msgspec.json.decode(data, type=_File)
            known = parse_checkpoint(Note.parse(file.checkpoint).text)
        except (msgspec.DecodeError, UnicodeDecodeError, NoteRejectedError) as error:
            raise ConfigurationError(f"watch state {self._path}: {error}") from error
        if file.deployment != self._deployment:
            raise ConfigurationError(
                f"watch state {self._path}: expected deployment {self._deployment}, got {file.deployment}: "
                "use one file for each deployment"
            )
        return known


def follow(
    watch: Watch,
    *,
    interval_s: float,
    clock: Clock,
    sleep: Callable[[float], None],
    tell: Callable[[str], None],
    patience_s: float = PATIENCE_S,
) -> Iterator[News]:
    """Yield news for ever; each is remembered once the caller asks for the next.

    A log that goes back is asked for again for a while: of several replicas, one may be behind.

    Args:
        watch: What to follow.
        interval_s: Between two looks, in seconds.
        clock: For the patience.
        sleep: Waits that many seconds.
        tell: Told why a look was in vain, each time that it becomes so.
        patience_s: How long a log that went back is asked for again.

    Raises:
        WentBackError: for longer than `patience_s`.
        ForkedError: the log forked.
        LogRejectedError: a step fails.
        ConfigurationError: the state cannot be kept.
    """
    behind_since_s: float | None = None
    is_told = False
    while True:
        try:
            news = watch.look()
        except UnavailableError as error:
            if not is_told:
                tell(f"{error}: trying again")
            news, is_told = None, True
        except WentBackError as error:
            behind_since_s = clock.monotonic_s() if behind_since_s is None else behind_since_s
            if clock.monotonic_s() - behind_since_s >= patience_s:
                raise
            if not is_told:
                tell(f"{error}: asking again for {patience_s:g} s")
            news, is_told = None, True
        else:
            behind_since_s, is_told = None, False
            if news is not None:
                yield news
                watch.remember(news)
        sleep(interval_s)
