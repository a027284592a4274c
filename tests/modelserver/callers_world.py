"""Issuers, tokens, callers' keys, and rules that name them."""

import base64
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_p256
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from jwt import PyJWS

from s3ml.keyservice.documents import (
    Ed25519IssuerKey,
    IssuerKey,
    KeyCaller,
    P256IssuerKey,
    RSAIssuerKey,
    TokenCallers,
)
from s3ml.primitives.signing import SigningKey
from tests.modelserver.conftest import START

ISSUER, AUDIENCE = "https://issuer.example", "tumours"
NOW_S = START.timestamp()
ADA, BO = (SigningKey.from_raw(bytes([n]) * 32) for n in (51, 52))

Private = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey


def url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    return url64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


ED25519, OTHER_ED25519 = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (61, 62))
P256 = generate_p256(SECP256R1())
RSA = generate_rsa(65537, 2048)


def jwk(private: Private, kid: str, alg: str) -> IssuerKey:
    if isinstance(private, Ed25519PrivateKey):
        raw = private.public_key().public_bytes_raw()
        return Ed25519IssuerKey(kid=kid, alg="EdDSA", crv="Ed25519", x=url64(raw))
    if isinstance(private, EllipticCurvePrivateKey):
        point = private.public_key().public_numbers()
        return P256IssuerKey(kid=kid, alg="ES256", crv="P-256", x=number(point.x, 32), y=number(point.y, 32))
    numbers = private.public_key().public_numbers()
    return RSAIssuerKey(kid=kid, alg="PS256" if alg == "PS256" else "RS256", n=number(numbers.n), e="AQAB")


KEYS: dict[str, tuple[Private, str]] = {
    "ed": (ED25519, "EdDSA"),
    "ec": (P256, "ES256"),
    "rs": (RSA, "RS256"),
    "ps": (RSA, "PS256"),
}
ISSUER_KEYS = tuple(jwk(private, kid, alg) for kid, (private, alg) in KEYS.items())


def staff(name: str = "staff", **changes: Any) -> TokenCallers:
    fields: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE, "keys": ISSUER_KEYS}
    return TokenCallers(name=name, **{**fields, **changes})


def key_caller(name: str = "ada", key: SigningKey = ADA, **changes: Any) -> KeyCaller:
    return KeyCaller(name=name, key=str(key.public), **changes)


def claims(**changes: Any) -> dict[str, Any]:
    fields = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "iat": NOW_S - 60,
        "nbf": NOW_S - 60,
        "exp": NOW_S + 600,
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def token(
    kid: str | None = "ed",
    *,
    private: Private | None = None,
    alg: str | None = None,
    header: dict[str, Any] | None = None,
    payload: bytes | None = None,
    **changes: Any,
) -> str:
    """Sign a token; whatever is not said is as it should be."""
    found, own = KEYS.get(kid or "ed", (ED25519, "EdDSA"))
    body = json.dumps(claims(**changes)).encode() if payload is None else payload
    headers = {**({} if kid is None else {"kid": kid}), **(header or {})}
    return PyJWS().encode(body, private or found, algorithm=alg or own, headers=headers)


def unsigned(header: dict[str, Any] | bytes, payload: dict[str, Any] | bytes, signature: bytes = b"") -> str:
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    return ".".join([*(url64(part) for part in parts), url64(signature)])


def sign(header: dict[str, Any] | bytes, payload: dict[str, Any] | bytes) -> str:
    """Sign whatever these bytes are with the issuer's Ed25519 key."""
    text = unsigned(header, payload).rpartition(".")[0]
    return f"{text}.{url64(ED25519.sign(text.encode()))}"
