"""What the key service asks of storage.

One commit is one transaction: entries, head, secrets and audit records appear together or not at all, and
only where the log still has the expected size. What `append` has returned from survives a crash.
"""

from dataclasses import dataclass
from typing import Protocol

from s3ml.primitives.errors import UnavailableError


class StorageUnavailableError(UnavailableError):
    """The disk is full, the database is locked or broken: nothing was acknowledged, nothing is lost."""


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
    """The newest head of the log.

    Args:
        size: The number of entries.
        checkpoint: The signed note over size and root.
        seal: Size and root under the wrapping key.
    """

    size: int
    checkpoint: str
    seal: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What is stored in one transaction.

    Args:
        expected_size: The size that the log must have now.
        entries: The entries to append; at least one.
        head: The head after them.
        secrets: Secrets to put; one of the same name is replaced.
        forget: Names of secrets to delete.
        audit_start: The index of the first of `audit`.
        audit: Audit records to append.
    """

    expected_size: int
    entries: tuple[bytes, ...]
    head: Head
    secrets: tuple[WrappedSecret, ...] = ()
    forget: tuple[SecretName, ...] = ()
    audit_start: int = 0
    audit: tuple[bytes, ...] = ()


class Storage(Protocol):
    """An append-only log with a head, a table of secrets and an audit stream; methods block.

    Safe to call from several threads. Every method raises `StorageUnavailableError` where the store does not
    serve.
    """

    def head(self) -> Head | None:
        """Return the newest head, or nothing before the first commit."""
        ...

    def entries(self, start: int, end: int) -> list[bytes]:
        """Return the entries from index `start` up to before `end`, in order; fewer where there are fewer."""
        ...

    def secret(self, name: SecretName) -> bytes | None:
        """Return the ciphertext kept under `name`."""
        ...

    def audit(self, start: int, end: int) -> list[bytes]:
        """Return the audit records from index `start` up to before `end`; fewer where there are fewer."""
        ...

    def append(self, commit: Commit) -> None:
        """Store `commit` as one transaction.

        Raises:
            HeadMovedError: the log has another size than `commit.expected_size`.
        """
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...
