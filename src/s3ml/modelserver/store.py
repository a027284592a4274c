"""Where bundles lie: a folder, or anything that fsspec reaches. Untrusted, and read only."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from s3ml.primitives.errors import ConfigurationError, UnavailableError

# Stores that only read bytes; no caches, archives or other wrappers that would do more with the host's files.
SCHEMES = ("", "file", "http", "https", "s3", "gs", "memory")


class BundleStore:
    """Opens bundles below a base.

    Folders and ``file:`` URLs are opened directly, which keeps fsspec out of memory where nobody needs it.

    Args:
        base: A path, or a URL such as ``s3://bucket/models``, of one of `SCHEMES`.

    Raises:
        ConfigurationError: another kind of URL.
    """

    __slots__ = ("_base", "_folder")

    def __init__(self, base: str) -> None:
        parts = urlsplit(base)
        if "::" in base or parts.scheme not in SCHEMES:
            raise ConfigurationError(
                f"S3ML_BUNDLES: expected a folder or a URL of {', '.join(filter(None, SCHEMES))}, "
                f"got {base[:80]!r}"
            )
        self._base = base.rstrip("/")
        self._folder: Path | None = None
        if parts.scheme == "file":
            self._folder = Path(unquote(parts.path))
        elif not parts.scheme:
            self._folder = Path(base)

    @contextmanager
    def open(self, location: str) -> Iterator[IO[bytes]]:
        """Open a bundle for reading; blocking.

        Args:
            location: Below the base, with forward slashes.

        Raises:
            UnavailableError: it is missing or cannot be read now.
            ConfigurationError: fsspec, or what it needs for this kind of URL, is not installed.
        """
        try:
            with self._open(location) as file:
                yield file
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise UnavailableError(f"bundle {location}: cannot be read from the store: {reason}") from error

    def _open(self, location: str) -> IO[bytes]:
        if self._folder is not None:
            return (self._folder / location).open("rb")
        try:
            from fsspec.config import conf  # noqa: PLC0415 - only stores that are no folder need it
            from fsspec.core import url_to_fs  # noqa: PLC0415

            conf.clear()  # what fsspec read from the host's files when it was imported
            filesystem, path = url_to_fs(f"{self._base}/{location}")
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"S3ML_BUNDLES: {self._base}: cannot be reached: {error}") from error
        file: IO[bytes] = filesystem.open(path, "rb")
        return file
