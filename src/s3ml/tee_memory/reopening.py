"""A source that is opened again after it failed: what it reads may have gone, and come back."""

from collections.abc import Callable

from s3ml.primitives.errors import S3MLError
from s3ml.tee_memory.reading import Counts, Kind, Source


class ReopeningSource:
    """Counts as the source that it opens does.

    Args:
        source: Open; closed with this.
        reopen: Opens another one of the same kind.
    """

    def __init__(self, source: Source, reopen: Callable[[], Source]) -> None:
        self._source: Source | None = source
        self._reopen = reopen
        self._kind = source.kind
        self._name = source.name

    @property
    def kind(self) -> Kind:
        """What the memory is."""
        return self._kind

    @property
    def name(self) -> str:
        """What is read, by the source that was opened last."""
        return self._name

    def count(self) -> Counts:
        """Read the counts, after opening the source again if the last time failed.

        Raises:
            S3MLError: it cannot be opened, or read.
        """
        source = self._source
        if source is None:
            source = self._reopen()
            self._source, self._name = source, source.name
        try:
            return source.count()
        except S3MLError:
            self.close()
            raise

    def close(self) -> None:
        """Close the source, if it is open."""
        source, self._source = self._source, None
        if source is not None:
            source.close()
