"""Quotes of Intel's TEEs whose layout is not exact: none can be read."""

from collections.abc import Callable
from typing import Any

from tests.attestation.corpus.intel_edits import reissued_pck
from tests.attestation.corpus.intel_layout import AUTHENTICATION_BYTES, QuoteLayout, number, patch, pem
from tests.attestation.corpus.lie import Lie, Tell, malformed


def damaged(change: Callable[[bytes], bytes]) -> Tell:
    """Damage the quote."""
    return lambda world: world.with_(quote=change(world.quote))


def laid(change: Callable[[bytes, QuoteLayout], bytes]) -> Tell:
    """Damage the quote where its parts begin."""
    return lambda world: world.with_(quote=change(world.quote, QuoteLayout.of(world)))


def rechained(change: Callable[[bytes], bytes]) -> Tell:
    """Change the text of the quote's certificates; the lengths fit."""
    return laid(lambda quote, at: at.with_chain(quote, change(quote[at.chain :])))


def longer(quote: bytes, at: QuoteLayout) -> bytes:
    """Let the quote's length count a byte behind the certificates."""
    return patch(quote + b"\n", at.signed, number(len(quote) + 1 - at.signature))


def split(quote: bytes, at: QuoteLayout) -> bytes:
    """Move the border between authentication data and certificates; all lengths fit."""
    return patch(quote, at.authentication, number(AUTHENTICATION_BYTES + 1, 2))


def with_padding(world: Any) -> Any:
    """Have a PCK certificate whose base64 is padded, as two of three are."""
    is_padded = False
    while not is_padded:
        world = reissued_pck()(world)
        is_padded = b"=\n" in first_block(world.quote[QuoteLayout.of(world).chain :])
    return world


def first_block(chain: bytes) -> bytes:
    """Return the PEM of the first certificate."""
    return chain[: chain.index(b"-----END")]


def of_padding(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Change the base64 of the first certificate, from its last four characters on."""

    def changed(chain: bytes) -> bytes:
        end = chain.index(b"\n-----END")
        return chain[: end - 4] + change(chain[end - 4 : end]) + chain[end:]

    return changed


def next_letter(quantum: bytes) -> bytes:
    """Set a bit that padding leaves unused."""
    last = len(quantum.rstrip(b"=")) - 1
    return patch(quantum, last, bytes((quantum[last] + 1,)))


LIES: tuple[Lie, ...] = (
    malformed("quote-of-one-byte", damaged(lambda quote: quote[:1])),
    malformed("header-alone", damaged(lambda quote: quote[:48])),
    malformed("report-cut", damaged(lambda quote: quote[:400])),
    malformed("signature-missing", laid(lambda quote, at: quote[: at.signed])),
    malformed("signature-of-no-length", laid(lambda quote, at: quote[: at.signed] + bytes(4))),
    malformed("last-byte-missing", damaged(lambda quote: quote[:-1])),
    malformed("byte-appended", damaged(lambda quote: quote + b"\x00")),
    malformed("page-of-zeros-appended", damaged(lambda quote: quote + bytes(4096))),
    malformed("two-quotes", damaged(lambda quote: quote + quote)),
    malformed("byte-appended-that-the-length-counts", laid(longer)),
    malformed(
        "length-of-signature-one-less",
        laid(lambda quote, at: patch(quote, at.signed, number(len(quote) - at.signature - 1))),
    ),
    malformed("length-of-signature-huge", laid(lambda quote, at: patch(quote, at.signed, b"\xff" * 4))),
    malformed("version-2", damaged(lambda quote: patch(quote, 0, b"\x02"))),
    malformed("version-6", damaged(lambda quote: patch(quote, 0, b"\x06"))),
    malformed("attestation-key-of-another-kind", damaged(lambda quote: patch(quote, 2, b"\x03"))),
    malformed("tee-type-unknown", damaged(lambda quote: patch(quote, 4, b"\x82"))),
    malformed("quoting-enclave-of-another-vendor", damaged(lambda quote: patch(quote, 12, b"\x00"))),
    malformed(
        "authentication-data-too-long", laid(lambda quote, at: patch(quote, at.authentication, b"\xff\xff"))
    ),
    malformed("authentication-data-one-byte-longer", laid(split)),
    malformed("certification-of-another-kind", laid(lambda quote, at: patch(quote, at.kind, b"\x04"))),
    malformed("certification-of-no-length", laid(lambda quote, at: patch(quote, at.kind + 2, bytes(4)))),
    malformed("quote-chain-empty", rechained(lambda _: b"")),
    malformed("quote-chain-with-two-nuls", rechained(lambda chain: chain + b"\x00\x00")),
    malformed("quote-chain-with-text-behind", rechained(lambda chain: chain + b"end")),
    malformed("quote-chain-with-text-before", rechained(lambda chain: b"#" + chain)),
    malformed(
        "quote-chain-with-an-empty-line",
        rechained(lambda chain: chain.replace(b"-----\n-----", b"-----\n\n-----", 1)),
    ),
    malformed("quote-chain-with-bare-returns", rechained(lambda chain: chain.replace(b"\n", b"\r", 2))),
    malformed("quote-chain-with-a-space", rechained(lambda chain: chain.replace(b"\nMII", b"\nM II", 1))),
    malformed("quote-chain-of-four", rechained(lambda chain: chain + pem(b"\x30\x00"))),
    malformed("quote-chain-beyond-ascii", rechained(lambda chain: b"\xff" + chain)),
    malformed(
        "quote-chain-without-padding",
        rechained(of_padding(lambda quantum: quantum.rstrip(b"="))),
        given=with_padding,
    ),
    malformed("quote-chain-of-non-canonical-base64", rechained(of_padding(next_letter)), given=with_padding),
    malformed("quote-chain-of-no-certificates", rechained(lambda _: pem(b"nothing") * 3)),
)
