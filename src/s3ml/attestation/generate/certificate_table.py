"""The table of certificates that a SEV-SNP host hands to its guest beside a report.

It comes from the untrusted host: it is read strictly, and proves nothing before it is verified. Entries that
are not known here are passed over, because hosts may add their own.

Source: AMD 56421, SEV-ES Guest-Hypervisor Communication Block Standardization 2.03, section 4.1.8.1 (entries
of GUID, offset and length, ended by one of zeros); AMDESE/sev-guest, cert-table.c, and virtee/sev (the GUIDs,
whose bytes stand in the order in which they are written; certificates in DER or PEM).
"""

import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.evidence import CRL_LIMIT_BYTES
from s3ml.attestation.verify.amd.certificate import parse_certificate
from s3ml.attestation.verify.amd.revocation import parse_revocation_list
from s3ml.attestation.verify.certificates import parse_pem
from s3ml.primitives.units import KIB

TABLE_LIMIT_BYTES: Final = 32 * KIB
ENTRIES_LIMIT: Final = 16
CERTIFICATE_LIMIT_BYTES: Final = 8 * KIB

VCEK_GUID: Final = uuid.UUID("63da758d-e664-4564-adc5-f4b93be8accd")
VLEK_GUID: Final = uuid.UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
ASK_GUID: Final = uuid.UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782")  # or the ASVK, with a VLEK
ARK_GUID: Final = uuid.UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae")
CRL_GUID: Final = uuid.UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea")

_ENTRY = struct.Struct("<16s I I")  # GUID, offset from the table's start, length
_END = bytes(16)
_PEM = b"-----BEGIN "


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateTable:
    """What a host handed over; all DER, nothing of it verified.

    Args:
        vcek: The certificate of this chip's key.
        vlek: The certificate of the key that AMD gave to the host's owner.
        ask: The authority that signed either.
        ark: The root.
        crl: The root's revocation list.
    """

    vcek: bytes | None = None
    vlek: bytes | None = None
    ask: bytes | None = None
    ark: bytes | None = None
    crl: bytes | None = None


def parse_certificate_table(data: bytes) -> CertificateTable:
    """Read a table; an empty one is a table without entries.

    Args:
        data: From the untrusted host, at most 32 KiB.

    Raises:
        EvidenceMalformedError: too large, no end, too many entries, one twice, one that lies outside of the
            table or in its head, or one that is not exactly one certificate or revocation list.
    """
    if len(data) > TABLE_LIMIT_BYTES:
        raise _malformed(f"expected at most {TABLE_LIMIT_BYTES} bytes, got {len(data)}")
    found: dict[str, bytes] = {}
    entries = _read_head(data) if data else []
    head = _ENTRY.size * (len(entries) + 1)
    for guid, offset, size in entries:
        if not head <= offset <= offset + size <= len(data):
            raise _malformed(f"expected entries within {head} to {len(data)}, got {offset} + {size}")
        if (kind := _KINDS.get(guid)) is None:
            continue
        name, read = kind
        if name in found:
            raise _malformed(f"expected one {name.upper()}, got two")
        found[name] = read(name, data[offset : offset + size])
    return CertificateTable(**found)


def _read_head(data: bytes) -> list[tuple[uuid.UUID, int, int]]:
    entries: list[tuple[uuid.UUID, int, int]] = []
    for position in range(0, len(data) - _ENTRY.size + 1, _ENTRY.size):
        guid, offset, size = _ENTRY.unpack_from(data, position)
        if guid == _END:
            return entries
        if len(entries) == ENTRIES_LIMIT:
            raise _malformed(f"expected at most {ENTRIES_LIMIT} entries, got more")
        entries.append((uuid.UUID(bytes=guid), offset, size))
    raise _malformed("expected an entry of zeros at its end, got none")


def _read_certificate(name: str, data: bytes) -> bytes:
    """Return the DER of what may be DER or PEM: the format leaves it open, and hosts differ."""
    if len(data) > CERTIFICATE_LIMIT_BYTES:
        raise _malformed(f"{name.upper()}: expected at most {CERTIFICATE_LIMIT_BYTES} bytes, got {len(data)}")
    try:
        if data.startswith(_PEM):
            (data,) = parse_pem(data.decode("ascii"), what="PEM")
        return parse_certificate(data).der
    except (EvidenceMalformedError, ValueError) as error:
        raise _malformed(f"{name.upper()}: expected exactly one certificate, DER or PEM: {error}") from error


def _read_revocation_list(name: str, data: bytes) -> bytes:
    if len(data) > CRL_LIMIT_BYTES:
        raise _malformed(f"{name.upper()}: expected at most {CRL_LIMIT_BYTES} bytes, got {len(data)}")
    try:
        parse_revocation_list(data)
    except EvidenceMalformedError as error:
        raise _malformed(f"{name.upper()}: expected a revocation list, DER: {error}") from error
    return data


def _malformed(reason: str) -> EvidenceMalformedError:
    return EvidenceMalformedError(f"certificate table of the host: {reason}")


_KINDS: Final[dict[uuid.UUID, tuple[str, Callable[[str, bytes], bytes]]]] = {
    VCEK_GUID: ("vcek", _read_certificate),
    VLEK_GUID: ("vlek", _read_certificate),
    ASK_GUID: ("ask", _read_certificate),
    ARK_GUID: ("ark", _read_certificate),
    CRL_GUID: ("crl", _read_revocation_list),
}
