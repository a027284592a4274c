"""Honest bytes from which fuzzing starts."""

import struct
import uuid
from datetime import UTC, datetime
from typing import Any

from s3ml.attestation import encode_evidence, encode_policy
from s3ml.attestation.collateral.item import Item, encode_item
from s3ml.attestation.generate.certificate_table import ARK_GUID, ASK_GUID, CRL_GUID, VCEK_GUID
from tests.attestation.fuzz.formats import formats

ITEM = "sgx-tcb-info-53334d4c0000-standard"
SEPARATOR = b"\x00"  # between the body of an answer and its header field


def all_evidence() -> tuple[bytes, ...]:
    return tuple(encode_evidence(world.evidence) for world in formats().values())


def policies() -> tuple[bytes, ...]:
    worlds = formats()
    asked = (*worlds.values(), worlds["TDX 1.0"].with_policy_for_registers())
    return tuple(encode_policy(world.policy) for world in asked)


def chains() -> tuple[bytes, ...]:
    sgx, snp = formats()["SGX"].collateral, formats()["SEV-SNP"].certificates
    return tuple(text.encode() for text in (sgx.pck_crl_issuer_chain, sgx.tcb_info_issuer_chain, snp.chain))


def quotes(*names: str) -> tuple[bytes, ...]:
    return tuple(formats()[name].quote for name in names)


def part(name: str, field: str) -> bytes:
    """Return a part of the collateral or the certificates."""
    world = formats()[name]
    value: Any = getattr(world.certificates if name == "SEV-SNP" else world.collateral, field)
    return value.encode() if isinstance(value, str) else value


def honest_part(name: str, field: str) -> tuple[bytes, ...]:
    return event_logs() if field == "event_log" else (part(name, field),)


def event_logs() -> tuple[bytes, ...]:
    return (formats()["TDX 1.0"].event_log,)


def amd_certificates() -> tuple[bytes, ...]:
    pki = formats()["SEV-SNP"].pki
    return (pki.endorsement.certificate, pki.authority.certificate, pki.ark.certificate)


def certificate_tables() -> tuple[bytes, ...]:
    """Return the table that a host hands over: entries, one of zeros, and what they name."""
    entries = dict(zip((VCEK_GUID, ASK_GUID, ARK_GUID), amd_certificates(), strict=True))
    entries[CRL_GUID] = part("SEV-SNP", "crl")
    head, body = b"", b""
    start = (len(entries) + 1) * 24
    for guid, data in entries.items():
        head += _entry(guid, start + len(body), len(data))
        body += data
    return (head + _entry(uuid.UUID(int=0), 0, 0) + body,)


def items() -> tuple[bytes, ...]:
    document = Item(
        name=ITEM,
        chain=part("SGX", "tcb_info_issuer_chain").decode(),
        text=part("SGX", "tcb_info").decode(),
        signature=part("SGX", "tcb_info_signature"),
        confirmed_at=datetime(2026, 3, 1, tzinfo=UTC),
        source="https://localhost/sgx/certification/v4/tcb",
        etag='"1"',
    )
    return (encode_item(document),)


def answers(document: str, field: str) -> tuple[bytes, ...]:
    """Return an answer of Intel's about `field`, a document of the collateral, and its header field."""
    signature = part("SGX", f"{field}_signature").hex()
    body = b'{"%s":%s,"signature":"%s"}' % (document.encode(), part("SGX", field), signature.encode())
    return (body + SEPARATOR + _quoted(part("SGX", f"{field}_issuer_chain")),)


def crl_answers(name: str, field: str, *, is_chained: bool = False) -> tuple[bytes, ...]:
    """Return an answer that is a revocation list, in DER and in hexadecimal digits."""
    der = part(name, field)
    tail = SEPARATOR + _quoted(chains()[0]) if is_chained else b""
    return tuple(body + tail for body in (der, der.hex().encode()))


def _quoted(text: bytes) -> bytes:
    return text.replace(b"\n", b"%0A").replace(b" ", b"%20")


def _entry(guid: uuid.UUID, offset: int, size: int) -> bytes:
    return struct.pack("<16s I I", guid.bytes, offset, size)
