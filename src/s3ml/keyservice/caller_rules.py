"""What rules about callers must satisfy beyond their types, and the keys of token issuers as keys.

The key service judges rules when owners sign them; model servers read the same keys to enforce them.

Source: docs/spec/callers.md; RFC 7518, section 6 (JWK parameters), RFC 8037, section 2 (Ed25519).
"""

import base64
import binascii
from collections import Counter
from collections.abc import Iterable, Sequence

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from s3ml.keyservice.documents import (
    AnonymousCallers,
    CallerRule,
    Ed25519IssuerKey,
    IssuerKey,
    KeyCaller,
    Mismatch,
    P256IssuerKey,
    TokenCallers,
)
from s3ml.keyservice.errors import mismatch
from s3ml.primitives.errors import ConfigurationError

RSA_BITS = (2048, 8192)
# F4, which every issuer uses; small exponents have cost others too much.
RSA_EXPONENT = 65537

IssuerPublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey


def read_issuer_key(key: IssuerKey) -> IssuerPublicKey:
    """Return an issuer's JWK as a public key.

    Raises:
        ConfigurationError: it is no canonical base64url, no point of its curve, or no RSA key of 2048 to 8192
            bits with the exponent 65537.
    """
    try:
        if isinstance(key, Ed25519IssuerKey):
            return Ed25519PublicKey.from_public_bytes(_decode(key.x))
        if isinstance(key, P256IssuerKey):
            x, y = (int.from_bytes(_decode(text), "big") for text in (key.x, key.y))
            return EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()
        n, e = (int.from_bytes(_decode(text), "big") for text in (key.n, key.e))
        if not RSA_BITS[0] <= n.bit_length() <= RSA_BITS[1] or e != RSA_EXPONENT:
            raise ConfigurationError(
                f"key {key.kid}: expected RSA of {RSA_BITS[0]} to {RSA_BITS[1]} bits with exponent "
                f"{RSA_EXPONENT}, got {n.bit_length()} bits with exponent {e}"
            )
        return RSAPublicNumbers(e, n).public_key()
    except ValueError as error:
        raise ConfigurationError(f"key {key.kid}: expected a public key of {key.alg}") from error


def judge_callers(rules: Sequence[CallerRule]) -> list[Mismatch]:
    """Return what is wrong with `rules`.

    1. Anonymous callers stand alone.
    2. Names stand once; so do callers' keys, and roles, claims and key ids within a rule.
    3. Each issuer's key is one.
    4. A key id of an issuer means one key, in whatever rule it stands: one token, one key to verify it with.
    """
    failed = []
    if len(rules) > 1 and any(isinstance(rule, AnonymousCallers) for rule in rules):  # (1)
        failed.append(mismatch("callers", expected="anonymous alone, or others", got="both"))
    named = [rule for rule in rules if not isinstance(rule, AnonymousCallers)]
    failed += _twice("callers: name", (rule.name for rule in named))  # (2)
    failed += _twice("callers: key", (rule.key for rule in named if isinstance(rule, KeyCaller)))
    for rule in named:
        failed += _twice(f"caller {rule.name}: role", rule.roles)
    of_issuers = [rule for rule in named if isinstance(rule, TokenCallers)]
    for rule in of_issuers:
        failed += _twice(f"caller {rule.name}: claim", (claim.claim for claim in rule.claims))
        failed += _twice(f"caller {rule.name}: kid", (key.kid for key in rule.keys))
        failed += _unreadable(rule)  # (3)
    return failed + _ambiguous(of_issuers)  # (4)


def _twice(claim: str, values: Iterable[str]) -> list[Mismatch]:
    return [
        mismatch(claim, expected=f"{value} once", got=f"{count} times")
        for value, count in Counter(values).items()
        if count > 1
    ]


def _unreadable(rule: TokenCallers) -> list[Mismatch]:
    failed = []
    for key in rule.keys:
        try:
            read_issuer_key(key)
        except ConfigurationError as error:
            failed.append(mismatch(f"caller {rule.name}", expected="readable keys", got=error))
    return failed


def _ambiguous(rules: Sequence[TokenCallers]) -> list[Mismatch]:
    meant: dict[tuple[str, str], IssuerKey] = {}
    return [
        mismatch(
            f"caller {rule.name}: kid {key.kid}",
            expected=f"one key of {rule.issuer}",
            got="another one than before",
        )
        for rule in rules
        for key in rule.keys
        if meant.setdefault((rule.issuer, key.kid), key) != key
    ]


def _decode(text: str) -> bytes:
    """Decode canonical base64url without padding; its alphabet is checked already.

    Raises:
        ValueError: a length that base64 does not have, or bits that are left over.
    """
    padded = text + "=" * (-len(text) % 4)
    try:
        data = base64.urlsafe_b64decode(padded)
    except binascii.Error as error:
        raise ValueError("no base64url") from error
    if base64.urlsafe_b64encode(data).decode() != padded:
        raise ValueError("no canonical base64url")
    return data
