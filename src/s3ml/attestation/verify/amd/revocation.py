"""AMD's revocation list: signed by the ARK, over what the ARK has signed.

Source: RFC 5280, section 5.1; AMD 57230, section 4 (the list of each processor line).
"""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from s3ml.attestation.errors import EvidenceMalformedError, Mismatch
from s3ml.attestation.verify.amd.certificate import (
    SERIAL_LIMIT_BYTES,
    AmdCertificate,
    authority_key,
    check_algorithm,
    read_extensions,
)
from s3ml.attestation.verify.amd.der import SEQUENCE, DerReader
from s3ml.attestation.verify.amd.signature import is_signed_by_authority

VERSION_2 = 1
CACHED_LISTS = 16

_WHAT = "revocation list"
_EXPLICIT_EXTENSIONS = 0xA0


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationList:
    """A revocation list, taken apart and trusted in nothing."""

    signed: bytes
    signature: bytes
    issuer: bytes
    issued: datetime
    expires: datetime
    serials: frozenset[int]


@lru_cache(maxsize=CACHED_LISTS)
def parse_revocation_list(der: bytes) -> RevocationList:
    """Read a revocation list; pure, so that what was read once is not read again.

    Args:
        der: From an untrusted peer.

    Raises:
        EvidenceMalformedError: it is not exactly one list of version 2 with a next update, signed as AMD
            signs, or it has a critical extension, such as a list of changes alone has.
    """
    whole = DerReader(der, _WHAT)
    outer = whole.enter(SEQUENCE)
    whole.finish()
    signed, content = outer.take_both(SEQUENCE)
    algorithm = outer.take_whole(SEQUENCE)
    signature = outer.take_bits()
    outer.finish()
    fields = DerReader(content, _WHAT)
    if fields.take_unsigned(1) != VERSION_2:
        raise EvidenceMalformedError(f"{_WHAT}: expected version 2")
    check_algorithm(fields.take_whole(SEQUENCE), algorithm, _WHAT)
    issuer = fields.take_whole(SEQUENCE)
    issued, expires = fields.take_time(), fields.take_time()
    serials = _read_entries(fields.enter(SEQUENCE)) if fields.next_is(SEQUENCE) else frozenset()
    if not fields.is_at_end:
        read_extensions(fields.enter(_EXPLICIT_EXTENSIONS), _WHAT, understood=frozenset())
    fields.finish()
    return RevocationList(
        signed=signed, signature=signature, issuer=issuer, issued=issued, expires=expires, serials=serials
    )


def check_revocation(
    revocations: RevocationList, certificates: tuple[AmdCertificate, ...], *, now: datetime
) -> list[Mismatch]:
    """Check the list itself, and that nothing that is relied on is in it.

    1. The root signed it, under its own name, and may.
    2. It was issued, and has not expired.
    3. It has the serial number of no certificate below the root.

    Args:
        revocations: The list.
        certificates: Leaf first, root last.
        now: Aware.
    """
    *below, root = certificates
    is_signed = (
        revocations.issuer == root.subject
        and root.signs_revocation_lists
        and is_signed_by_authority(authority_key(root), revocations.signature, revocations.signed)
    )
    mismatches = []
    if not is_signed:  # (1)
        expected = "a revocation list signed by the root"
        mismatches.append(Mismatch(claim="revocation", expected=expected, got="another signature"))
    if not revocations.issued <= now < revocations.expires:  # (2)
        expected = f"a revocation list valid at {now.isoformat()}"
        got = f"issued {revocations.issued.isoformat()}, expires {revocations.expires.isoformat()}"
        mismatches.append(Mismatch(claim="collateral_validity", expected=expected, got=got))
    return mismatches + [
        Mismatch(
            claim="revocation",
            expected=f"{certificate.common_name[:80]} not in the revocation list",
            got=f"serial number {certificate.serial:x}, which is revoked",
        )
        for certificate in below
        if certificate.serial in revocations.serials  # (3)
    ]


def _read_entries(entries: DerReader) -> frozenset[int]:
    serials = set()
    while not entries.is_at_end:
        entry = entries.enter(SEQUENCE)
        serials.add(entry.take_unsigned(SERIAL_LIMIT_BYTES))
        entry.take_time()
        if not entry.is_at_end:
            _read_entry_extensions(entry)
        entry.finish()
    return frozenset(serials)


def _read_entry_extensions(entry: DerReader) -> None:
    """Pass over why a certificate was revoked; a critical extension, such as another issuer, rejects."""
    listed = entry.take_whole(SEQUENCE)
    read_extensions(DerReader(listed, _WHAT), _WHAT, understood=frozenset())
