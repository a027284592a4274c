"""TDX's event log: what extended the runtime registers, read exactly and replayed.

The firmware keeps it in the TCG's crypto-agile format: a first event that names the algorithms, then events
with their digests. Here SHA-384 is the only algorithm. Index 0 stands for MRTD, which nothing extends at run
time, and 1 to 4 for RTMR0 to RTMR3. An event of the kind "no action" extends nothing either.

What an event's data say is not checked: its digest alone extends a register, and for some kinds it is not the
digest of the data. 48 KiB hold 743 events at most, so that their number needs no limit of its own.

Source: TCG PC Client Platform Firmware Profile 1.06, section 10 (TCG_PCR_EVENT2, Spec ID event,
EV_NO_ACTION); UEFI 2.10, section 38.4.1 (registers of Intel TDX); ACPI 6.5, section 5.2.34 (CCEL); Intel TDX
Module specification (TDG.MR.RTMR.EXTEND).
"""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.evidence import EVENT_LOG_LIMIT_BYTES
from s3ml.attestation.verify.intel.quote import Reader
from s3ml.attestation.verify.intel.tdx_report import REGISTER_BYTES, REGISTERS

ALGORITHM_SHA384 = 0x000C
EV_NO_ACTION = 3
SPEC_ID_SIGNATURE = b"Spec ID Event03\x00"
SPEC_VERSION = b"\x00\x02"  # minor, major
SHA1_BYTES = 20
_WHAT = "event log"
_FILLERS = (b"\xff", b"\x00")
_EVENT = struct.Struct(
    "<III H 48s I"
)  # index, kind, number of digests, algorithm, digest, length of the data


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """One event of a log.

    Args:
        index: 0 for MRTD, 1 to 4 for RTMR0 to RTMR3.
        kind: The TCG's event type.
        digest: SHA-384, 48 bytes.
        data: What the firmware noted, not covered by anything.
    """

    index: int
    kind: int
    digest: bytes
    data: bytes = b""

    @property
    def register(self) -> int | None:
        """The runtime register that it extended, 0 to 3; None where it extended none."""
        return None if self.index == 0 or self.kind == EV_NO_ACTION else self.index - 1


def parse_event_log(data: bytes) -> tuple[LoggedEvent, ...]:
    """Read every event after the first, which names the algorithm.

    Args:
        data: From an untrusted peer.

    Raises:
        EvidenceMalformedError: too large, too short, too long, another algorithm, or an index above 4.
    """
    if len(data) > EVENT_LOG_LIMIT_BYTES:
        raise EvidenceMalformedError(
            f"event log: expected at most {EVENT_LOG_LIMIT_BYTES} bytes, got {len(data)}"
        )
    reader = Reader(data, _WHAT)
    _read_spec_id(reader)
    events = []
    while reader.remaining:
        events.append(_read_event(reader))
    return tuple(events)


def trim_event_log(data: bytes) -> bytes:
    """Return a log without the unused end of the memory that ACPI's CCEL table reserves for it.

    Args:
        data: From the firmware of this very platform.

    Raises:
        EvidenceMalformedError: no log, or something else than filling behind it.
    """
    reader = Reader(data, _WHAT)
    _read_spec_id(reader)
    while reader.remaining:
        end = len(data) - reader.remaining
        if data[end : end + 1] in _FILLERS and not data[end:].strip(data[end : end + 1]):
            return data[:end]
        _read_event(reader)
    return data


def replay(events: Iterable[LoggedEvent]) -> tuple[bytes, bytes, bytes, bytes]:
    """Return what RTMR0 to RTMR3 hold after `events`, starting from zeros."""
    registers = [bytes(REGISTER_BYTES)] * REGISTERS
    for event in events:
        if event.register is not None:
            registers[event.register] = hashlib.sha384(registers[event.register] + event.digest).digest()
    first, second, third, fourth = registers
    return first, second, third, fourth


def _read_spec_id(reader: Reader) -> None:
    """Read the first event, which has the TCG's older layout with a SHA-1 of zeros."""
    _check_index(reader.number(4, "index of a register"))
    reader.expect(EV_NO_ACTION, 4, "kind of the first event")
    reader.expect(0, SHA1_BYTES, "digest of the first event")
    size = reader.number(4, "length of the first event")
    end = reader.remaining - size
    if reader.take(16, "signature") != SPEC_ID_SIGNATURE:
        raise EvidenceMalformedError(f"event log: signature: expected {SPEC_ID_SIGNATURE!r}")
    reader.take(4, "platform class")
    if reader.take(2, "version of the specification") != SPEC_VERSION:
        raise EvidenceMalformedError("event log: version of the specification: expected 2.0")
    reader.take(2, "errata, size of integers")
    reader.expect(1, 4, "number of algorithms")
    reader.expect(ALGORITHM_SHA384, 2, "algorithm")
    reader.expect(REGISTER_BYTES, 2, "length of digests")
    reader.take(reader.number(1, "length of the vendor's information"), "vendor's information")
    if reader.remaining != end:
        raise EvidenceMalformedError(f"event log: length of the first event: expected another, got {size}")


def _read_event(reader: Reader) -> LoggedEvent:
    index, kind, count, algorithm, digest, size = _EVENT.unpack(reader.take(_EVENT.size, "event"))
    _check_index(index)
    if (count, algorithm) != (1, ALGORITHM_SHA384):
        raise EvidenceMalformedError(
            f"event log: digests of an event: expected 1 of algorithm {ALGORITHM_SHA384}, "
            f"got {count}, the first of {algorithm}"
        )
    return LoggedEvent(index=index, kind=kind, digest=digest, data=reader.take(size, "data of an event"))


def _check_index(index: int) -> None:
    if index > REGISTERS:
        raise EvidenceMalformedError(
            f"event log: index of a register: expected 0 to {REGISTERS}, got {index}"
        )
