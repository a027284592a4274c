"""The layout of SGX quotes, version 3, with a PCK certificate chain; read exactly, trusted in nothing.

The length is exact: a byte too many anywhere rejects, apart from the single NUL with which Intel's library
ends the certificate chain.

Source: Intel SGX ECDSA QuoteLibReference DCAP API, appendix A.4; Intel SDM, volume 3D, section 37.7
(attributes) and 37.15 (report).
"""

from dataclasses import dataclass
from typing import Self

from s3ml.attestation.errors import EvidenceMalformedError

HEADER_BYTES = 48
REPORT_BYTES = 384
SIGNED_BYTES = HEADER_BYTES + REPORT_BYTES
QUOTE_VERSION = 3
ATTESTATION_KEY_ECDSA_P256 = 2
CERTIFICATION_PCK_CHAIN = 5
INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")

FLAG_INIT = 0x01
FLAG_DEBUG = 0x02
FLAG_MODE64BIT = 0x04
FLAG_PROVISION_KEY = 0x10
FLAG_EINITTOKEN_KEY = 0x20
FLAG_CET = 0x40
FLAG_KSS = 0x80
FLAG_AEX_NOTIFY = 0x400


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxReport:
    """An enclave's report as it stands in a quote."""

    flags: int
    measurement: bytes
    signer: bytes
    product_id: int
    svn: int
    report_data: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a report body of 384 bytes."""
        return cls(
            flags=int.from_bytes(body[48:56], "little"),
            measurement=body[64:96],
            signer=body[128:160],
            product_id=int.from_bytes(body[256:258], "little"),
            svn=int.from_bytes(body[258:260], "little"),
            report_data=body[320:384],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxQuote:
    """A quote, taken apart; `chain` is the PEM of the quoting platform's certificates."""

    qe_svn: int
    pce_svn: int
    enclave: SgxReport
    quoting_enclave: SgxReport
    chain: str


class _Reader:
    """Takes fields off the front of a quote."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, size: int, what: str) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise EvidenceMalformedError(
                f"quote: {what}: expected {size} bytes, got {len(self._data) - self._position}"
            )
        field = self._data[self._position : end]
        self._position = end
        return field

    def number(self, size: int, what: str) -> int:
        return int.from_bytes(self.take(size, what), "little")

    def expect(self, value: int, size: int, what: str) -> None:
        got = self.number(size, what)
        if got != value:
            raise EvidenceMalformedError(f"quote: {what}: expected {value}, got {got}")

    @property
    def remaining(self) -> int:
        return len(self._data) - self._position


def parse_sgx_quote(data: bytes) -> SgxQuote:
    """Take a quote apart.

    Args:
        data: From an untrusted peer.

    Raises:
        EvidenceMalformedError: too short, too long, another version, key type, vendor or kind of
            certification data.
    """
    reader = _Reader(data)
    reader.expect(QUOTE_VERSION, 2, "version")
    reader.expect(ATTESTATION_KEY_ECDSA_P256, 2, "attestation key type")
    reader.expect(0, 4, "reserved")
    qe_svn = reader.number(2, "QE SVN")
    pce_svn = reader.number(2, "PCE SVN")
    if reader.take(16, "QE vendor") != INTEL_QE_VENDOR:
        raise EvidenceMalformedError(f"quote: QE vendor: expected {INTEL_QE_VENDOR.hex()}")
    reader.take(20, "user data")
    enclave = SgxReport.parse(reader.take(REPORT_BYTES, "enclave report"))
    size = reader.number(4, "signature length")
    if size != reader.remaining:
        raise EvidenceMalformedError(f"quote: expected {size} bytes of signature, got {reader.remaining}")
    reader.take(64 + 64, "signature and attestation key")
    quoting_enclave = SgxReport.parse(reader.take(REPORT_BYTES, "quoting enclave's report"))
    reader.take(64, "quoting enclave's signature")
    reader.take(reader.number(2, "authentication length"), "authentication data")
    reader.expect(CERTIFICATION_PCK_CHAIN, 2, "kind of certification data")
    size = reader.number(4, "certification length")
    if size != reader.remaining:
        raise EvidenceMalformedError(
            f"quote: expected {size} bytes of certification data, got {reader.remaining}"
        )
    chain = reader.take(size, "certification data").removesuffix(b"\x00").decode("latin-1")
    return SgxQuote(
        qe_svn=qe_svn, pce_svn=pce_svn, enclave=enclave, quoting_enclave=quoting_enclave, chain=chain
    )
