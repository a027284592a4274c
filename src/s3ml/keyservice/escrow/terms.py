"""What owners decide about recovery: who holds shares, and how many of them are enough.

Source: docs/spec/recovery.md, section "Terms".
"""

from dataclasses import dataclass

import pyrage
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from s3ml.keyservice.control import BODY_LIMIT_BYTES
from s3ml.keyservice.documents import RecoveryDocument, RecoveryKey
from s3ml.keyservice.errors import RefusedError, mismatch
from s3ml.keyservice.parsing import parse_document

# An X25519 recipient in Bech32 (BIP 173): "age1", 52 characters of 5 bits that hold 32 bytes, a checksum.
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_PREFIX_CHARACTERS = 4
_CHECKSUM_CHARACTERS = 6
_PADDING_BITS = 4
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryTerms:
    """Terms that hold every rule; made by `judge_recovery` alone.

    Args:
        threshold: How many holders recover the wrapping key together.
        holders: Who they are; the holder in place i has share i + 1.
    """

    threshold: int
    holders: tuple[RecoveryKey, ...]


def judge_recovery(body: bytes) -> RecoveryTerms:
    """Return the terms in `body`, the body of ``PUT deployment/recovery``.

    1. There are 1 to 16 recipients; each name and each recipient stands once.
    2. Each recipient is an age recipient of X25519.
    3. The threshold is at most their number.

    Raises:
        DocumentMalformedError: it is no such document.
        RefusedError: another rule fails; all mismatches are listed.
    """
    document = parse_document(body, RecoveryDocument, what="recovery", limit_bytes=BODY_LIMIT_BYTES)
    count, failed = len(document.recipients), []
    if len({key.name for key in document.recipients}) != count:  # (1)
        failed.append(mismatch("recipients", expected="each name once", got="one twice"))
    if len({key.recipient for key in document.recipients}) != count:
        failed.append(mismatch("recipients", expected="each recipient once", got="one twice"))
    failed += [  # (2)
        mismatch(f"recipient of {key.name}", expected="an age recipient", got=key.recipient)
        for key in document.recipients
        if not is_recipient(key.recipient)
    ]
    if document.threshold > count:  # (3)
        expected = f"at most {count} (the recipients)"
        failed.append(mismatch("threshold", expected=expected, got=document.threshold))
    if failed:
        raise RefusedError("deployment/recovery", failed)
    return RecoveryTerms(threshold=document.threshold, holders=document.recipients)


def is_recipient(text: str) -> bool:
    """Tell whether `text` is an age recipient of X25519 that something can be encrypted to.

    A point of low order is none: age ends the whole process over one, where the key service would encrypt.
    """
    try:
        recipient = pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        return False
    if str(recipient) != text:
        return False
    digits = [_BECH32.index(character) for character in text[_PREFIX_CHARACTERS:-_CHECKSUM_CHARACTERS]]
    bits = sum(digit << 5 * place for place, digit in enumerate(reversed(digits)))
    raw = (bits >> _PADDING_BITS).to_bytes(_KEY_BYTES, "big")
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(raw))
    except ValueError:
        return False
    return True


def warn_about_terms(terms: RecoveryTerms) -> tuple[str, ...]:
    """Return what owners should think about before they sign `terms`, a sentence each."""
    count = len(terms.holders)
    warnings = []
    if terms.threshold == 1:
        warnings.append("ANY SINGLE HOLDER recovers the wrapping key alone.")
    if terms.threshold == count:
        warnings.append("EVERY holder is needed: the loss of one recovery key loses the way back.")
    return tuple(warnings)
