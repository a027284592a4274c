"""Where the key service keeps its log and its wrapped secrets: a seam, and its implementation on SQLite.

Storage is the host's. It may return anything; what it returns is checked by whoever asked.
"""

from s3ml.keyservice.storage.protocol import (
    Commit,
    Committed,
    Head,
    HeadMovedError,
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
    "SQLiteStorage",
    "SecretName",
    "Storage",
    "StorageUnavailableError",
    "WrappedSecret",
]
