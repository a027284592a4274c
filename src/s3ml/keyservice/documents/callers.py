"""Who may call a service: rules that owners sign, and that its model servers enforce inside their TEE.

Everything that a rule needs is in it: the public keys of token issuers are pinned here, because what runs in
a TEE fetches nothing. A kind that is not known does not parse: who cannot enforce a rule serves nobody.

Source: docs/spec/callers.md; RFC 7515 and 7517 (JWS, JWK), RFC 8037 (Ed25519).
"""

from typing import Annotated, Literal

import msgspec

from s3ml.keyservice.documents.document import Document
from s3ml.keyservice.fields import Name, PublicKeyText

# Printable ASCII without spaces, quotes and backslashes: nothing that looks like something else.
_TEXT_PATTERN = r"\A[\x21\x23-\x5b\x5d-\x7e]{1,256}\Z"
_BYTES_32_PATTERN = r"\A[A-Za-z0-9_-]{43}\Z"
# A modulus of 2048 to 8192 bits; which of them is decided where the key is read.
_MODULUS_PATTERN = r"\A[A-Za-z0-9_-]{342,1366}\Z"
_EXPONENT_PATTERN = r"\A[A-Za-z0-9_-]{1,6}\Z"

DEFAULT_TOKEN_LIFETIME_S = 86_400

Role = Literal["infer", "models"]
Text = Annotated[str, msgspec.Meta(pattern=_TEXT_PATTERN)]
Coordinate = Annotated[str, msgspec.Meta(pattern=_BYTES_32_PATTERN)]
Roles = Annotated[tuple[Role, ...], msgspec.Meta(min_length=1, max_length=2)]


class RateLimit(Document, frozen=True, kw_only=True):
    """How often one identity may call one replica: `per_s` calls a second, `burst` of them at once."""

    per_s: Annotated[float, msgspec.Meta(ge=0.001, le=100_000)]
    burst: Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class Ed25519IssuerKey(Document, frozen=True, kw_only=True, tag_field="kty", tag="OKP"):
    """An issuer's Ed25519 public key, as a JWK."""

    kid: Text
    alg: Literal["EdDSA"]
    crv: Literal["Ed25519"]
    x: Coordinate


class P256IssuerKey(Document, frozen=True, kw_only=True, tag_field="kty", tag="EC"):
    """An issuer's P-256 public key, as a JWK."""

    kid: Text
    alg: Literal["ES256"]
    crv: Literal["P-256"]
    x: Coordinate
    y: Coordinate


class RSAIssuerKey(Document, frozen=True, kw_only=True, tag_field="kty", tag="RSA"):
    """An issuer's RSA public key of 2048 to 8192 bits, as a JWK; for one algorithm."""

    kid: Text
    alg: Literal["RS256", "PS256"]
    n: Annotated[str, msgspec.Meta(pattern=_MODULUS_PATTERN)]
    e: Annotated[str, msgspec.Meta(pattern=_EXPONENT_PATTERN)]


IssuerKey = Ed25519IssuerKey | P256IssuerKey | RSAIssuerKey


class RequiredClaim(Document, frozen=True, kw_only=True):
    """A claim that a token must have: one of `values`, or a list with one of them in it."""

    claim: Text
    values: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=64)]


class AnonymousCallers(Document, frozen=True, kw_only=True, tag_field="kind", tag="anonymous"):
    """Anybody may call, in the role `infer`; this rule stands alone. All of them share one rate."""

    rate: RateLimit | None = None


class KeyCaller(Document, frozen=True, kw_only=True, tag_field="kind", tag="key"):
    """Whoever signs each request with this key."""

    name: Name
    key: PublicKeyText
    roles: Roles = ("infer",)
    rate: RateLimit | None = None


class TokenCallers(Document, frozen=True, kw_only=True, tag_field="kind", tag="jwt"):
    """Whoever bears a token of this issuer, for this audience, with these claims.

    `max_lifetime_s` bounds how long a token may hold; the rate is for each subject (`sub`).
    """

    name: Name
    issuer: Text
    audience: Text
    keys: Annotated[tuple[IssuerKey, ...], msgspec.Meta(min_length=1, max_length=16)]
    claims: Annotated[tuple[RequiredClaim, ...], msgspec.Meta(max_length=16)] = ()
    max_lifetime_s: Annotated[int, msgspec.Meta(ge=60, le=604_800)] = DEFAULT_TOKEN_LIFETIME_S
    roles: Roles = ("infer",)
    rate: RateLimit | None = None


CallerRule = AnonymousCallers | KeyCaller | TokenCallers
CallerRules = Annotated[tuple[CallerRule, ...], msgspec.Meta(min_length=1, max_length=64)]
