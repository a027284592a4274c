"""An SGX enclave's report: 384 bytes, read exactly, trusted in nothing.

Source: Intel SDM, volume 3D, sections 37.7 (attributes) and 37.15 (report).
"""

from dataclasses import dataclass
from typing import Self

REPORT_BYTES = 384

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
