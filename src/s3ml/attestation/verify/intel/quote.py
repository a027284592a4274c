"""What SGX and TDX quotes share: how they are read, and how their attestation key is certified.

The length is exact: a byte too many anywhere rejects, apart from the single NUL with which Intel's library
ends the certificate chain.

Source: Intel SGX ECDSA QuoteLibReference DCAP API, appendix A.4; Intel TDX DCAP Quoting Library API,
appendix A.3.
"""

from dataclasses import dataclass

from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.verify.intel.sgx_report import REPORT_BYTES, SgxReport

HEADER_BYTES = 48
HEADER_FIELDS_BYTES = 28  # the rest is user data
ATTESTATION_KEY_ECDSA_P256 = 2
CERTIFICATION_PCK_CHAIN = 5
INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certification:
    """Who vouches for a quote, taken apart and trusted in nothing.

    Args:
        signed: What the attestation key signed: header and report.
        signature: By the attestation key over `signed`, r || s.
        attestation_key: Its public point, x || y.
        report: The quoting enclave's report, as its 384 bytes.
        report_signature: By the platform's PCK over `report`.
        authentication: Hashed with the attestation key into the report's data.
        chain: The PEM of the platform's certificates.
        qe_svn: The quoting enclave's security version, from the header or that enclave's report.
        pce_svn: That of the provisioning certification enclave, from the header; None where it has none.
    """

    signed: bytes
    signature: bytes
    attestation_key: bytes
    report: bytes
    report_signature: bytes
    authentication: bytes
    chain: str
    qe_svn: int
    pce_svn: int | None

    @property
    def quoting_enclave(self) -> SgxReport:
        """The quoting enclave's report, read."""
        return SgxReport.parse(self.report)


class Reader:
    """Takes fields off the front of a quote, or of what messages shall call it instead."""

    __slots__ = ("_data", "_document", "_position")

    def __init__(self, data: bytes, document: str = "quote") -> None:
        self._data = data
        self._document = document
        self._position = 0

    def take(self, size: int, what: str) -> bytes:
        """Return the next `size` bytes; EvidenceMalformedError where fewer are left."""
        end = self._position + size
        if end > len(self._data):
            raise EvidenceMalformedError(
                f"{self._document}: {what}: expected {size} bytes, got {len(self._data) - self._position}"
            )
        field = self._data[self._position : end]
        self._position = end
        return field

    def number(self, size: int, what: str) -> int:
        """Return the next little-endian number of `size` bytes."""
        return int.from_bytes(self.take(size, what), "little")

    def expect(self, value: int, size: int, what: str) -> None:
        """Take a number that has to be `value`; EvidenceMalformedError where it is another."""
        got = self.number(size, what)
        if got != value:
            raise EvidenceMalformedError(f"{self._document}: {what}: expected {value}, got {got}")

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._position


def read_certified_key(reader: Reader) -> tuple[bytes, bytes, bytes, str]:
    """Read the quoting enclave's report, its signature, authentication data and the PEM of its chain.

    Raises:
        EvidenceMalformedError: too short, too long, or another kind of certification data.
    """
    report = reader.take(REPORT_BYTES, "quoting enclave's report")
    signature = reader.take(64, "quoting enclave's signature")
    authentication = reader.take(reader.number(2, "authentication length"), "authentication data")
    reader.expect(CERTIFICATION_PCK_CHAIN, 2, "kind of certification data")
    size = reader.number(4, "certification length")
    if size != reader.remaining:
        raise EvidenceMalformedError(
            f"quote: expected {size} bytes of certification data, got {reader.remaining}"
        )
    chain = reader.take(size, "certification data").removesuffix(b"\x00").decode("latin-1")
    return report, signature, authentication, chain
