"""Event logs of simulated trust domains, in the format of TDX's firmware.

Source: TCG PC Client Platform Firmware Profile 1.06, section 10; UEFI 2.10, section 38.4.1.
"""

import hashlib
from collections.abc import Iterable

from s3ml.attestation.verify.intel.event_log import (
    ALGORITHM_SHA384,
    EV_NO_ACTION,
    SHA1_BYTES,
    SPEC_ID_SIGNATURE,
    SPEC_VERSION,
    LoggedEvent,
)
from s3ml.attestation.verify.intel.tdx_report import REGISTER_BYTES

EV_EVENT_TAG = 6


def measured_event(register: int, data: bytes, *, kind: int = EV_EVENT_TAG) -> LoggedEvent:
    """Return the event that extends `register` (0 to 3) with the SHA-384 of `data`."""
    return LoggedEvent(index=register + 1, kind=kind, digest=hashlib.sha384(data).digest(), data=data)


def encode_event_log(events: Iterable[LoggedEvent]) -> bytes:
    """Return the log of `events`, headed by the event that names the algorithm."""
    return b"".join((encode_spec_id(), *(encode_event(event) for event in events)))


def encode_spec_id() -> bytes:
    """Return the first event of every log: the format, and SHA-384 as its only algorithm."""
    content = b"".join(
        (
            SPEC_ID_SIGNATURE,
            bytes(4),  # platform class: client
            SPEC_VERSION,
            b"\x00\x02",  # no errata, integers of 64 bits
            (1).to_bytes(4, "little"),
            ALGORITHM_SHA384.to_bytes(2, "little"),
            REGISTER_BYTES.to_bytes(2, "little"),
            b"\x00",  # nothing of the vendor's
        )
    )
    head = (1).to_bytes(4, "little") + EV_NO_ACTION.to_bytes(4, "little") + bytes(SHA1_BYTES)
    return head + len(content).to_bytes(4, "little") + content


def encode_event(event: LoggedEvent) -> bytes:
    """Return one event as it stands in a log."""
    return b"".join(
        (
            event.index.to_bytes(4, "little"),
            event.kind.to_bytes(4, "little"),
            (1).to_bytes(4, "little"),
            ALGORITHM_SHA384.to_bytes(2, "little"),
            event.digest,
            len(event.data).to_bytes(4, "little"),
            event.data,
        )
    )
