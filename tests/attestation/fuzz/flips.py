"""Single-bit flips of what is signed: none may be believed.

Source: docs/spec/evidence.md (layouts).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from s3ml.attestation import Evidence, Technology
from s3ml.attestation.verify.amd.report import SIGNED_BYTES
from tests.attestation.corpus.intel_layout import QuoteLayout
from tests.attestation.corpus.lie import Case, Outcome, Told, judge

BITS = 8
SCALAR_BYTES = 72
DOCUMENTS = (
    "tcb_info",
    "tcb_info_signature",
    "qe_identity",
    "qe_identity_signature",
    "root_ca_crl",
    "pck_crl",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Bytes of evidence, every bit of which counts.

    Args:
        name: Of the part.
        start: Where it begins in the quote, or in a part of the collateral.
        stop: Where it ends.
    """

    name: str
    start: int
    stop: int


def quote_parts(world: Any) -> tuple[Part, ...]:
    """Return what is signed in a quote or report, and what signs it."""
    is_snp = world.evidence.technology is Technology.SEV_SNP
    return _snp_parts() if is_snp else _intel_parts(world)


def _intel_parts(world: Any) -> tuple[Part, ...]:
    """Return what is signed in an SGX quote, or in a TDX quote of any version."""
    chain = world.quote.index(b"-----BEGIN")
    layout = QuoteLayout.of(world)
    certification = chain - (layout.chain - layout.certification)
    signed = certification - layout.wrapping - 128 - 4
    return (
        Part(name="header and report", start=0, stop=signed),
        Part(name="signature and attestation key", start=signed + 4, stop=signed + 4 + 128),
        Part(name="quoting enclave's report", start=certification, stop=certification + 384),
        Part(name="its signature", start=certification + 384, stop=certification + 448),
        Part(name="authentication data", start=certification + 450, stop=certification + 482),
    )


def collateral_part(world: Any, document: str) -> Part:
    """Return a signed document, a revocation list, or a signature."""
    return Part(name=document, start=0, stop=len(getattr(world.collateral, document)))


def _snp_parts() -> tuple[Part, ...]:
    """Return what is signed in a SEV-SNP report, and its signature, the zeros of r and s included."""
    return (
        Part(name="report", start=0, stop=SIGNED_BYTES),
        Part(name="signature", start=SIGNED_BYTES, stop=SIGNED_BYTES + 2 * SCALAR_BYTES),
    )


def one_bit_each(part: Part) -> Iterator[tuple[int, int]]:
    """Yield every byte with one bit of it, another one from byte to byte."""
    for offset in range(part.start, part.stop):
        yield offset, offset % BITS


def every_bit(part: Part) -> Iterator[tuple[int, int]]:
    """Yield every bit of every byte."""
    for offset in range(part.start, part.stop):
        for bit in range(BITS):
            yield offset, bit


def judge_flip(world: Told, offset: int, bit: int, document: str | None = None) -> Outcome:
    """Have the verifier judge honest evidence in which one bit of the quote, or of a document, is another."""
    evidence = world.evidence
    if document is None:
        flipped = msgspec.structs.replace(evidence, quote=_flip(evidence.quote, offset, bit))
    else:
        flipped = _flip_document(evidence, document, offset, bit)
    case = Case(
        evidence=msgspec.json.encode(flipped),
        policy=world.policy,
        report_data=world.report_data,
        now=world.now,
    )
    return judge(case)


def _flip_document(evidence: Evidence, name: str, offset: int, bit: int) -> Evidence:
    assert evidence.collateral is not None
    value = getattr(evidence.collateral, name)
    if isinstance(value, str):
        changed: str | bytes = _flip(value.encode("ascii"), offset, bit).decode("latin-1")
    else:
        changed = _flip(value, offset, bit)
    collateral = msgspec.structs.replace(evidence.collateral, **{name: changed})
    return msgspec.structs.replace(evidence, collateral=collateral)


def _flip(data: bytes, offset: int, bit: int) -> bytes:
    return data[:offset] + bytes((data[offset] ^ 1 << bit,)) + data[offset + 1 :]
