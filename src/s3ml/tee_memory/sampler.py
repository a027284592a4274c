"""Takes counts again and again, and keeps the newest reading of a node and of each of its servers.

Nothing here sleeps or listens: whoever drives it calls `sample` as often as it likes. A source that fails
leaves its last reading to grow old, and says why; it never ends the sampling.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import S3MLError
from s3ml.tee_memory.reading import Counts, Reading, Source, compare, complete
from s3ml.tee_memory.readings import (
    ERROR_LIMIT,
    SERVERS_LIMIT,
    AgedReading,
    NodeReadings,
    ServerReadings,
    provenance,
)


class Servers(Protocol):
    """Who shares a node's TEE memory; they come and go."""

    def names(self) -> Iterable[str]:
        """Return those that there are now.

        Raises:
            UnavailableError: it cannot be known now.
        """
        ...

    def source(self, name: str) -> Source:
        """Return what counts the paging of one of them; whoever asked closes it.

        Raises:
            UnavailableError: it is gone already, or cannot be read.
        """
        ...


class NoServers:
    """Nothing is attributed."""

    def names(self) -> Iterable[str]:
        """Return none."""
        return ()

    def source(self, name: str) -> Source:
        """Refuse: there is none."""
        raise KeyError(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The newest that is known from one source.

    Args:
        counts: As they were read last; None before the first time.
        reading: Made of the two newest counts; a node's is completed from its servers'.
    """

    counts: Counts | None = None
    reading: Reading | None = None


class Sampler:
    """Keeps the newest readings of one node.

    Args:
        node: Its name.
        source: Counts the node's paging.
        clock: Monotonic; the one on which `source` takes its counts.
        interval_s: How often `sample` is going to be called, for readers.
        servers: To whom paging is attributed; at most 256 of them, the first by name.

    Attributes:
        node: Its name.
        source: Counts the node's paging.
        interval_s: How often readings are taken.
        sample_count: Times that the node's counts could be read.
        failure_count: Times that they, or a server's, could not.
        error: Why the newest attempt failed; None if it did not.
    """

    def __init__(
        self, node: str, source: Source, clock: Clock, *, interval_s: float, servers: Servers | None = None
    ) -> None:
        self.node = node
        self.source = source
        self.interval_s = interval_s
        self.sample_count = 0
        self.failure_count = 0
        self.error: str | None = None
        self._clock = clock
        self._servers: Servers = servers or NoServers()
        self._newest = Sample()
        self._attributed: dict[str, tuple[Source | None, Sample]] = {}

    @property
    def newest(self) -> Sample:
        """The node's."""
        return self._newest

    @property
    def attributed(self) -> Mapping[str, Sample]:
        """The servers', by name."""
        return {name: sample for name, (_, sample) in sorted(self._attributed.items())}

    def age_s(self) -> float | None:
        """Return how old the node's newest reading is; None before the first."""
        reading = self._newest.reading
        return None if reading is None else reading.age_s(self._clock.monotonic_s())

    def sample(self) -> None:
        """Read every source once."""
        self.error = None
        newest = self._read(self.source, self._newest)
        if newest is not None:
            self._newest = newest
            self.sample_count += 1
        self._follow_servers()
        for name, (source, before) in self._attributed.items():
            if source is None:
                continue
            after = self._read(source, before)
            if after is None:  # Perhaps a server of that name began anew: opened again the next time.
                source.close()
            self._attributed[name] = (source, after) if after is not None else (None, before)
        self._complete()

    def readings(self) -> NodeReadings:
        """Return what is known, with its age at this moment."""
        now_s = self._clock.monotonic_s()
        is_simulated, is_emulated = provenance(self.source.kind)
        return NodeReadings(
            node=self.node,
            kind=self.source.kind,
            source=self.source.name,
            is_simulated=is_simulated,
            is_emulated=is_emulated,
            interval_s=self.interval_s,
            reading=_aged(self._newest, now_s),
            servers=tuple(
                ServerReadings(name=name, reading=_aged(sample, now_s))
                for name, sample in self.attributed.items()
            ),
            error=self.error,
        )

    def close(self) -> None:
        """Close every source."""
        for source, _ in self._attributed.values():
            if source is not None:
                source.close()
        self._attributed.clear()
        self.source.close()

    def _read(self, source: Source, before: Sample) -> Sample | None:
        """Return the next sample; None, with the reason kept, where it failed or is absurd."""
        try:
            counts = source.count()
        except S3MLError as error:
            self._fail(str(error))
            return None
        reading = compare(source, before.counts, counts)
        if not reading.is_sane:
            self._fail(f"{source.name}: counts that cannot be true")
            return None
        return Sample(counts=counts, reading=reading)

    def _complete(self) -> None:
        """Fill in what the node's reading lacks from the servers that could be read just now."""
        if self._newest.reading is not None:
            readings = [
                sample.reading
                for source, sample in self._attributed.values()
                if source is not None and sample.reading is not None
            ]
            self._newest = replace(self._newest, reading=complete(self._newest.reading, readings))

    def _follow_servers(self) -> None:
        """Open the sources of servers that came, and close those of servers that went."""
        try:
            present = sorted(self._servers.names())[:SERVERS_LIMIT]
        except S3MLError as error:
            self._fail(str(error))
            return
        for name in self._attributed.keys() - set(present):
            source, _ = self._attributed.pop(name)
            if source is not None:
                source.close()
        for name in present:
            source, sample = self._attributed.get(name, (None, Sample()))
            if source is None:
                try:
                    self._attributed[name] = (self._servers.source(name), sample)
                except S3MLError as error:
                    self._fail(str(error))

    def _fail(self, reason: str) -> None:
        self.failure_count += 1
        self.error = reason[:ERROR_LIMIT]


def _aged(sample: Sample, now_s: float) -> AgedReading | None:
    return None if sample.reading is None else AgedReading.of(sample.reading, now_s=now_s)
