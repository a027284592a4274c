"""What the key service asks of storage.

One commit is one transaction: entries, head, secrets and audit records appear together or not at all, and
only where the log still has the expected size. What `append` has returned from survives a crash.

Source: docs/spec/storage.md.
"""

from dataclasses import dataclass
from typing import Protocol

from s3ml.keyservice.storage.values import check_texts, check_values
from s3ml.primitives.errors import UnavailableError


class StorageUnavailableError(UnavailableError):
    """The disk is full, the database is away, locked or broken: nothing was acknowledged."""


class OutcomeUnknownError(StorageUnavailableError):
    """No answer came to an `append`, and the store could not be asked again: stored whole, or not at all.

    Whoever continues reads the head first, as after `HeadMovedError`.
    """


class HeadMovedError(UnavailableError):
    """Somebody else appended to the log: the compare-and-swap failed and nothing was stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretName:
    """Under what a secret is kept; the name is part of what its ciphertext authenticates."""

    kind: str
    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedSecret:
    """A ciphertext and its name."""

    name: SecretName
    ciphertext: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The newest head of the log, committed or not.

    Args:
        size: The number of entries.
        checkpoint: The signed note over size and root.
        seal: Size and root under the wrapping key.
    """

    size: int
    checkpoint: str
    seal: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The newest head that a quorum of witnesses has cosigned.

    Args:
        size: The number of entries.
        note: The signed note over size and root, with the cosignatures.

    Raises:
        ConfigurationError: the note is longer than storage takes, and could not be read back.
    """

    size: int
    note: str

    def __post_init__(self) -> None:
        check_texts(self.note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What is stored in one transaction.

    Args:
        expected_size: The size that the log must have now.
        entries: The entries to append; at least one.
        head: The head after them.
        secrets: Secrets to put; one of the same name is replaced.
        forget: Names of secrets to delete; one that is put as well stays.
        audit_start: The index of the first of `audit`.
        audit: Audit records to append.
        committed: Where no witness has to be asked: the committed head, stored as by `Storage.commit`.

    Raises:
        ConfigurationError: a part is longer than storage takes, and could not be read back.
    """

    expected_size: int
    entries: tuple[bytes, ...]
    head: Head
    secrets: tuple[WrappedSecret, ...] = ()
    forget: tuple[SecretName, ...] = ()
    audit_start: int = 0
    audit: tuple[bytes, ...] = ()
    committed: Committed | None = None

    def __post_init__(self) -> None:
        check_texts(self.head.checkpoint)
        check_values(self.head.seal, *self.entries, *self.audit)
        check_values(*(secret.ciphertext for secret in self.secrets))
        for name in (*self.forget, *(secret.name for secret in self.secrets)):
            check_texts(name.kind, name.name, name.version)


class Storage(Protocol):
    """An append-only log with a head, a table of secrets and an audit stream.

    Every method blocks, may be called from several threads at once, and raises `StorageUnavailableError`
    where the store does not serve, in bounded time. What it returns was checked for type and length alone.
    """

    def head(self) -> Head | None:
        """Return the newest head, or nothing before the first append."""
        ...

    def committed(self) -> Committed | None:
        """Return the newest committed head, or nothing before the first."""
        ...

    def heads(self) -> tuple[Head | None, Committed | None]:
        """Return both heads as they are at one moment, in one round trip."""
        ...

    def entries(self, start: int, end: int) -> list[bytes]:
        """Return the entries from index `start` up to before `end`, in order.

        Fewer where there are fewer, or where all would be more than `READ_LIMIT_BYTES`; none only where none
        is there.
        """
        ...

    def audit(self, start: int, end: int) -> list[bytes]:
        """Return the audit records from index `start` up to before `end`, in order; fewer as of `entries`."""
        ...

    def secret(self, name: SecretName) -> bytes | None:
        """Return the ciphertext kept under `name`."""
        ...

    def secrets_of(self, kind: str) -> list[WrappedSecret]:
        """Return all secrets of one kind, ordered by name and version; at most `READ_LIMIT_BYTES`.

        Raises:
            StorageUnavailableError: likewise where they are more.
        """
        ...

    def append(self, commit: Commit) -> None:
        """Store `commit` as one transaction.

        Raises:
            HeadMovedError: the log has another size than `commit.expected_size`; nothing was stored.
            OutcomeUnknownError: stored whole, or not at all.
            StorageUnavailableError: any other: nothing was stored.
        """
        ...

    def commit(self, committed: Committed) -> None:
        """Store `committed` where it is newer than the stored one, or of its size; else nothing changes."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...
