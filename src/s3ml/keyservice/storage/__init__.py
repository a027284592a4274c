"""Where the key service keeps its log and its wrapped secrets: a seam, on SQLite and on PostgreSQL.

Storage is the host's. It may return anything; what it returns is checked by whoever asked.
"""

from s3ml.keyservice.storage.opening import open_storage
from s3ml.keyservice.storage.protocol import (
    Commit,
    Committed,
    Head,
    HeadMovedError,
    OutcomeUnknownError,
    SecretName,
    Storage,
    StorageUnavailableError,
    WrappedSecret,
)
from s3ml.keyservice.storage.sqlite import SQLiteStorage

__all__ = [
    "Commit",
    "Committed",
    "Head",
    "HeadMovedError",
    "OutcomeUnknownError",
    "SQLiteStorage",
    "SecretName",
    "Storage",
    "StorageUnavailableError",
    "WrappedSecret",
    "open_storage",
]
