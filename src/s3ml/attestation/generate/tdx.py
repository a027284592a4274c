"""TDX: quotes from configfs-tsm, and the firmware's event log from ACPI's CCEL table.

There is no sealing key: TDX gives a trust domain nothing that survives it.

Source: Linux, Documentation/ABI/testing/configfs-tsm; ACPI 6.5, section 5.2.34 (CCEL); Intel TDX DCAP Quoting
Library API, appendix A.3 (a quote's length).
"""

import time
from collections.abc import Callable
from typing import Final

from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.evidence import EVENT_LOG_LIMIT_BYTES, QUOTE_LIMIT_BYTES, Evidence, Tee
from s3ml.attestation.generate.attester import SealingAbsentError
from s3ml.attestation.generate.collateral import CollateralSource, collateral_for
from s3ml.attestation.generate.directory import Directory, read_bounded
from s3ml.attestation.generate.tsm import Provider, TsmReports
from s3ml.attestation.verify.claimed import claimed_report_data
from s3ml.attestation.verify.intel.event_log import trim_event_log
from s3ml.primitives.errors import UnavailableError
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.units import MIB

AREA_LIMIT_BYTES: Final = MIB  # firmware reserves 64 to 256 KiB
_BODY_END_VERSION_4 = 632
_BODY_VERSION_5 = 54
_BODY_SIZE_VERSION_5 = slice(50, 54)


class TdxAttester:
    """An `Attester` of a trust domain of Intel TDX.

    Args:
        root: ``/sys/kernel/config/tsm/report``.
        event_log: ``/sys/firmware/acpi/tables/data/CCEL``.
        collateral: What Intel says of the platform.
        pause: Waits that many seconds before an attempt is repeated.
    """

    __slots__ = ("_collateral", "_event_log", "_reports")

    def __init__(
        self,
        root: Directory,
        event_log: Directory,
        collateral: CollateralSource,
        *,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._reports = TsmReports(root, Provider.TDX, pause=pause)
        self._event_log = event_log
        self._collateral = collateral

    @property
    def tee(self) -> Tee:
        """Always `Tee.TDX`."""
        return Tee.TDX

    def quote(self, report_data: bytes) -> Evidence:
        """Return evidence of this trust domain that carries `report_data`; blocks.

        Args:
            report_data: Exactly 64 bytes.

        Raises:
            ConfigurationError: `report_data` has another length, or this is no trust domain.
            UnavailableError: The kernel, the host's quoting service or every source of collateral does not
                answer; or quote or event log are not what evidence can hold.
        """
        quote = trim_quote(self._reports.request(report_data).outblob)
        if len(quote) > QUOTE_LIMIT_BYTES:
            raise UnavailableError(
                f"TDX: quote: expected at most {QUOTE_LIMIT_BYTES} bytes, got {len(quote)}"
            )
        evidence = Evidence(
            tee=Tee.TDX,
            quote=quote,
            collateral=collateral_for(self._collateral, quote, what="TDX"),
            event_log=read_event_log(self._event_log),
        )
        if claimed_report_data(evidence) != report_data:
            raise UnavailableError("TDX: quote: expected the report data that were asked for, got others")
        return evidence

    def sealing_key(self) -> SecretBytes:
        """Say that there is none.

        Raises:
            SealingAbsentError: Always.
        """
        raise SealingAbsentError(
            "TDX: expected a sealing key, got none: trust domains have none; what seals state runs on SGX"
        )


def trim_quote(quote: bytes) -> bytes:
    """Return a quote without the zeros behind it, which some hosts leave of a buffer of fixed size.

    Args:
        quote: Of version 4 or 5. What is none, or has something else behind it, stays as it is.
    """
    body_end = _BODY_END_VERSION_4
    if quote[:2] == b"\x05\x00":
        body_end = _BODY_VERSION_5 + int.from_bytes(quote[_BODY_SIZE_VERSION_5], "little")
    end = body_end + 4 + int.from_bytes(quote[body_end : body_end + 4], "little")
    return quote if quote[end:].strip(b"\x00") else quote[:end]


def read_event_log(table: Directory) -> bytes | None:
    """Return the firmware's event log without the unused end of its area; None where there is no table.

    Args:
        table: The data of the CCEL table.

    Raises:
        UnavailableError: it is no log in SHA-384 alone, or larger than evidence can hold.
    """
    try:
        log = trim_event_log(read_bounded(table, limit_bytes=AREA_LIMIT_BYTES, what="TDX: event log"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnavailableError(f"TDX: event log: {error.strerror}") from error
    except EvidenceMalformedError as error:
        raise UnavailableError(f"TDX: {error}") from error
    if len(log) > EVENT_LOG_LIMIT_BYTES:
        raise UnavailableError(
            f"TDX: event log: expected at most {EVENT_LOG_LIMIT_BYTES} bytes, got {len(log)}"
        )
    return log
