"""Rows of a database, turned into what the key service asked for, value by value.

A row comes from the host: see `values`. Each function raises `ValueTypeError` where one does not fit.
"""

from collections.abc import Iterable

from s3ml.keyservice.storage.protocol import Committed, Head, SecretName, WrappedSecret
from s3ml.keyservice.storage.values import READ_LIMIT_BYTES, ValueTypeError, typed

Row = tuple[object, ...]


def read_heads(row: Row) -> tuple[Head | None, Committed | None]:
    """Return both heads from (size, checkpoint, seal, size, note); a head of no values is none.

    Raises:
        ValueTypeError: a value has another type or length.
    """
    size, checkpoint, seal, committed_size, note = row
    head = committed = None
    if (size, checkpoint, seal) != (None, None, None):
        head = Head(size=typed(size, int), checkpoint=typed(checkpoint, str), seal=typed(seal, bytes))
    if (committed_size, note) != (None, None):
        committed = Committed(size=typed(committed_size, int), note=typed(note, str))
    return head, committed


def read_values(rows: Iterable[Row]) -> list[bytes]:
    """Return the one column of `rows`, as far as it is within `READ_LIMIT_BYTES`; a first row always.

    Raises:
        ValueTypeError: a value has another type or length.
    """
    taken: list[bytes] = []
    total_bytes = 0
    for (value,) in rows:
        data = typed(value, bytes)
        total_bytes += len(data)
        if taken and total_bytes > READ_LIMIT_BYTES:
            break
        taken.append(data)
    return taken


def read_secrets(kind: str, rows: Iterable[Row]) -> list[WrappedSecret]:
    """Return the secrets of one kind from rows of (name, version, ciphertext).

    Raises:
        ValueTypeError: a value has another type or length, or all have more than `READ_LIMIT_BYTES`.
    """
    secrets: list[WrappedSecret] = []
    total_bytes = 0
    for name, version, ciphertext in rows:
        data = typed(ciphertext, bytes)
        total_bytes += len(data)
        if total_bytes > READ_LIMIT_BYTES:
            raise ValueTypeError(f"expected secrets of at most {READ_LIMIT_BYTES} bytes in all")
        secret_name = SecretName(kind=kind, name=typed(name, str), version=typed(version, str))
        secrets.append(WrappedSecret(name=secret_name, ciphertext=data))
    return secrets
