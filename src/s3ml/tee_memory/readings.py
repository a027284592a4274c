"""What a node agent tells of its node: the document of `GET /v1/readings`.

It carries ages, never instants: two machines share no monotonic clock. All of it is the host's word; it is
parsed strictly, and believed only as far as routing goes.

Source: docs/spec/tee-memory.md.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec

from s3ml.primitives.errors import ConfigurationError, UntrustedPeerError
from s3ml.primitives.units import KIB
from s3ml.tee_memory.reading import Confidence, Kind, Reading

READINGS_PATH = "/v1/readings"
READINGS_LIMIT_BYTES = 256 * KIB
SERVERS_LIMIT = 256
ERROR_LIMIT = 300
NAME_PATTERN = r"\A[A-Za-z0-9][A-Za-z0-9._:-]{0,252}\Z"

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Amount = Annotated[int, msgspec.Meta(ge=0, le=2**60)]
Rate = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Span = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class ReadingsMalformedError(UntrustedPeerError):
    """What was said to be a node's readings is none."""


class AgedReading(msgspec.Struct, frozen=True, kw_only=True):
    """One reading on its way; every field but the age is that of a `Reading`.

    Args:
        age_s: How old it was when it was sent.
    """

    kind: Kind
    source: Label
    age_s: Span
    span_s: Span
    capacity_bytes: Amount | None
    resident_bytes: Amount | None
    evicted_bytes: Amount | None
    page_ins_per_s: Rate | None
    page_outs_per_s: Rate | None
    pressure: Share | None
    confidence: Confidence
    guests: Amount | None = None
    guests_capacity: Amount | None = None

    @classmethod
    def of(cls, reading: Reading, *, now_s: float) -> "AgedReading":
        """Return a reading as it is sent at a monotonic instant of its taker's clock."""
        return cls(
            kind=reading.kind,
            source=reading.source,
            age_s=reading.age_s(now_s),
            span_s=reading.span_s,
            capacity_bytes=reading.capacity_bytes,
            resident_bytes=reading.resident_bytes,
            evicted_bytes=reading.evicted_bytes,
            page_ins_per_s=reading.page_ins_per_s,
            page_outs_per_s=reading.page_outs_per_s,
            pressure=reading.pressure,
            confidence=reading.confidence,
            guests=reading.guests,
            guests_capacity=reading.guests_capacity,
        )

    def received(self, now_s: float) -> Reading:
        """Return it on the receiver's clock.

        Args:
            now_s: Monotonic, from before it was asked for: the way here makes a reading older, not younger.
        """
        return Reading(
            kind=self.kind,
            source=self.source,
            taken_at_s=now_s - self.age_s,
            span_s=self.span_s,
            capacity_bytes=self.capacity_bytes,
            resident_bytes=self.resident_bytes,
            evicted_bytes=self.evicted_bytes,
            page_ins_per_s=self.page_ins_per_s,
            page_outs_per_s=self.page_outs_per_s,
            pressure=self.pressure,
            confidence=self.confidence,
            guests=self.guests,
            guests_capacity=self.guests_capacity,
        )


class ServerReadings(msgspec.Struct, frozen=True, kw_only=True):
    """What of a node's paging is one server's.

    Args:
        name: Unique on its node.
        reading: None while nothing could be read.
    """

    name: Name
    reading: AgedReading | None


class NodeReadings(msgspec.Struct, frozen=True, kw_only=True):
    """The newest readings of one node and its servers.

    Args:
        node: Its name.
        kind: What its TEE memory is.
        source: What is read there, in a word or two for people.
        is_simulated: Nothing was measured: the figures come from a model.
        is_emulated: The paging is real, the TEE is not.
        interval_s: How often readings are taken.
        reading: The node's; None while nothing could be read.
        servers: Those that the paging is attributed to; at most 256.
        error: Why the newest attempt to read failed; None if it did not.
    """

    node: Name
    kind: Kind
    source: Label
    is_simulated: bool
    is_emulated: bool
    interval_s: Span
    reading: AgedReading | None
    servers: Annotated[tuple[ServerReadings, ...], msgspec.Meta(max_length=SERVERS_LIMIT)]
    error: Annotated[str, msgspec.Meta(max_length=ERROR_LIMIT)] | None = None

    def encode(self) -> bytes:
        """Return the document."""
        return msgspec.json.encode(self)

    def received(self, now_s: float) -> Reading | None:
        """Return the node's reading on the receiver's clock; `now_s` as in `AgedReading.received`."""
        return None if self.reading is None else self.reading.received(now_s)

    def servers_received(self, now_s: float) -> Mapping[str, Reading]:
        """Return the servers' readings by name, without those that have none."""
        return {
            server.name: server.reading.received(now_s)
            for server in self.servers
            if server.reading is not None
        }


_DECODER = msgspec.json.Decoder(NodeReadings)


def decode(data: bytes) -> NodeReadings:
    """Parse a node agent's answer.

    Fields that are not known are ignored, so that an agent may be newer than its readers.

    Args:
        data: From an untrusted host.

    Raises:
        ReadingsMalformedError: it is too long, no such document, its figures are beyond their limits, names
            repeat, or it contradicts itself about what is simulated.
    """
    if len(data) > READINGS_LIMIT_BYTES:
        raise ReadingsMalformedError(
            f"readings: expected at most {READINGS_LIMIT_BYTES} bytes, got {len(data)}"
        )
    try:
        found = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ReadingsMalformedError(f"readings: {error}") from error
    if (found.is_simulated, found.is_emulated) != provenance(found.kind):
        raise ReadingsMalformedError(f"readings: kind {found.kind} contradicts is_simulated or is_emulated")
    readings = [found.reading, *(server.reading for server in found.servers)]
    if any(reading is not None and reading.kind is not found.kind for reading in readings):
        raise ReadingsMalformedError(f"readings: expected every reading to be of kind {found.kind}")
    names = [server.name for server in found.servers]
    if len(set(names)) != len(names):
        raise ReadingsMalformedError("readings: expected the names of servers to be unique")
    return found


def provenance(kind: Kind) -> tuple[bool, bool]:
    """Return whether readings of a kind are simulated, and whether they are emulated."""
    return kind is Kind.SIMULATED, kind is Kind.EMULATED


def check_monitored_name(name: str, *, what: str) -> str:
    """Return `name` when a node or a server may be called so.

    Raises:
        ConfigurationError: it may not.
    """
    try:
        return msgspec.convert(name, Name)
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"{what}: expected 1 to 253 of letters, digits and inner . _ : -, got {name[:80]!r}"
        ) from error
