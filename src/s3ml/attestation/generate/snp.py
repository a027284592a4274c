"""SEV-SNP: reports from configfs-tsm, with certificates from the host or from AMD.

What the host's table lacks is asked of the `CollateralSource`: hosts hand over everything, only the leaf, or
nothing. There is no sealing key: what Linux offers through configfs-tsm derives none.

Source: Linux, Documentation/ABI/testing/configfs-tsm; AMD 56860, SEV Secure Nested Paging Firmware ABI
Specification 1.58, table 23 (ATTESTATION_REPORT: SIGNING_KEY).
"""

import time
from collections.abc import Callable
from typing import Final

from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.evidence import CHAIN_LIMIT_CHARACTERS, Evidence, SnpCertificates, Tee
from s3ml.attestation.generate.attester import SealingAbsentError
from s3ml.attestation.generate.certificate_table import CertificateTable, parse_certificate_table
from s3ml.attestation.generate.collateral import CollateralSource
from s3ml.attestation.generate.directory import Directory
from s3ml.attestation.generate.tsm import Provider, TsmReport, TsmReports
from s3ml.attestation.pem import encode_pem
from s3ml.primitives.errors import UnavailableError
from s3ml.primitives.secret import SecretBytes

REPORT_BYTES: Final = 1184
SIGNING_KEY_VCEK: Final = 0
SIGNING_KEY_VLEK: Final = 1
_KEY_INFO_OFFSET = 0x48
_REPORT_DATA = slice(0x50, 0x90)
_SIGNING_KEY_SHIFT = 2
_SIGNING_KEY_MASK = 0b111


class SnpAttester:
    """An `Attester` of a guest of AMD SEV-SNP.

    Args:
        root: ``/sys/kernel/config/tsm/report``.
        collateral: What AMD says of the processor.
        pause: Waits that many seconds before an attempt is repeated.
    """

    __slots__ = ("_collateral", "_reports")

    def __init__(
        self,
        root: Directory,
        collateral: CollateralSource,
        *,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._reports = TsmReports(root, Provider.SEV_SNP, pause=pause)
        self._collateral = collateral

    @property
    def tee(self) -> Tee:
        """Always `Tee.SEV_SNP`."""
        return Tee.SEV_SNP

    def quote(self, report_data: bytes) -> Evidence:
        """Return evidence of this guest that carries `report_data`; blocks.

        Args:
            report_data: Exactly 64 bytes.

        Raises:
            ConfigurationError: `report_data` has another length, or this is no guest of SEV-SNP.
            UnavailableError: The kernel or the firmware does not answer as it was asked, the host's table of
                certificates cannot be read or is too large, or it lacks something that no source gives.
        """
        report = self._reports.request(report_data)
        if len(report.outblob) != REPORT_BYTES:
            raise UnavailableError(
                f"SEV-SNP: report: expected {REPORT_BYTES} bytes, got {len(report.outblob)}"
            )
        if report.outblob[_REPORT_DATA] != report_data:
            raise UnavailableError(
                "SEV-SNP: report: expected the report data that were asked for, got others"
            )
        return Evidence(tee=Tee.SEV_SNP, quote=report.outblob, certificates=self._certificates(report))

    def sealing_key(self) -> SecretBytes:
        """Say that there is none.

        Raises:
            SealingAbsentError: Always.
        """
        raise SealingAbsentError(
            "SEV-SNP: expected a sealing key, got none: its guests have none; what seals state runs on SGX"
        )

    def _certificates(self, report: TsmReport) -> SnpCertificates:
        try:
            table = parse_certificate_table(report.auxblob)
            leaf = leaf_of(report.outblob, table)
            if leaf is None or table.ask is None or table.ark is None:
                return self._collateral.for_report(report.outblob, leaf=leaf)
        except EvidenceMalformedError as error:
            raise UnavailableError(f"SEV-SNP: {error}") from error
        chain = "".join(encode_pem(der) for der in (leaf, table.ask, table.ark))
        if len(chain) > CHAIN_LIMIT_CHARACTERS:
            raise UnavailableError(
                f"SEV-SNP: the host's certificates: expected at most {CHAIN_LIMIT_CHARACTERS} characters of "
                f"PEM, got {len(chain)}"
            )
        return SnpCertificates(chain=chain, crl=table.crl or self._revocation_list(report.outblob, leaf))

    def _revocation_list(self, report: bytes, leaf: bytes) -> bytes | None:
        """Return AMD's list; None where it is not at hand, which a policy accepts or does not."""
        try:
            return self._collateral.for_report(report, leaf=leaf).crl
        except (EvidenceMalformedError, UnavailableError):
            return None


def leaf_of(report: bytes, table: CertificateTable) -> bytes | None:
    """Return the certificate of the key that signed `report`, where the host handed it over.

    Args:
        report: 1,184 bytes.
        table: The host's.
    """
    key_info = int.from_bytes(report[_KEY_INFO_OFFSET : _KEY_INFO_OFFSET + 4], "little")
    signing_key = key_info >> _SIGNING_KEY_SHIFT & _SIGNING_KEY_MASK
    return {SIGNING_KEY_VCEK: table.vcek, SIGNING_KEY_VLEK: table.vlek}.get(signing_key)
