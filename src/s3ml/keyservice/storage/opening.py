"""Which storage a setting means: a path is SQLite's, a URL is PostgreSQL's.

The driver of PostgreSQL is imported only where it is asked for.
"""

from pathlib import Path

from s3ml.keyservice.storage.protocol import Storage
from s3ml.keyservice.storage.sqlite import SQLiteStorage
from s3ml.primitives.errors import ConfigurationError

POSTGRESQL_SCHEMES = ("postgresql://", "postgres://")


def open_storage(setting: str) -> Storage:
    """Open the storage that `setting` names; it appears in no message where it is a URL.

    Args:
        setting: The path of a file whose folder exists, or ``postgresql://user:password@host/database``.

    Raises:
        ConfigurationError: it is a URL of another kind or a malformed one, the driver is not installed, or
            the server may lose what it commits.
        StorageUnavailableError: the file or the server does not serve.
    """
    if setting.startswith(POSTGRESQL_SCHEMES):
        return _open_postgresql(setting)
    if "://" in setting:
        raise ConfigurationError(
            "storage: expected a path or postgresql://user:password@host/database, got another URL"
        )
    return SQLiteStorage(Path(setting))


def _open_postgresql(url: str) -> Storage:
    try:
        from s3ml.keyservice.storage.postgresql import PostgreSQLStorage  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "storage: the driver of PostgreSQL is not installed: pip install 's3ml[postgres]'"
        ) from error
    return PostgreSQLStorage(url)
