"""Tokens (JWT) of issuers whose keys the owners pinned: read strictly, verified with one key, held to rules.

PyJWT checks the signature alone; it is given the one key that issuer and key id name, and that key's own
algorithm, whatever the token says. Claims are checked here, against a time that is passed in. Nothing is
fetched, and one token costs at most one verification.

Source: docs/spec/callers.md, section "Tokens"; RFC 7519; RFC 8725; docs/adr/0012-tokens-with-pyjwt.md.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import msgspec

from s3ml.keyservice.caller_rules import IssuerPublicKey, read_issuer_key
from s3ml.keyservice.documents import RequiredClaim, TokenCallers
from s3ml.primitives.units import KIB, MINUTE_S

TOKEN_LIMIT_BYTES = 8 * KIB
# How far the clocks of an issuer and of this machine may be apart.
LEEWAY_S = float(MINUTE_S)
_TYPES = (None, "jwt", "at+jwt", "application/jwt", "application/at+jwt")
# Whoever signs these says that the rest does not hold without them; nothing here understands any.
_UNKNOWN_EXTENSIONS = ("crit", "b64")

T = TypeVar("T")


class _Header(msgspec.Struct, frozen=True):
    """What is read of a token's header; `jku`, `jwk` and their like are never looked at."""

    alg: str
    kid: str | None = None
    typ: str | None = None


class _Claims(msgspec.Struct, frozen=True):
    """The registered claims, in the types that RFC 7519 gives them; times are in seconds."""

    iss: str
    aud: str | list[str]
    exp: float
    nbf: float | None = None
    iat: float | None = None
    sub: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token whose issuer signed it; whether it holds now, and for what, is another question."""

    claims: _Claims
    all_claims: dict[str, Any]

    @property
    def subject(self) -> str:
        """Who it is about; empty where it does not say."""
        return self.claims.sub

    def __repr__(self) -> str:
        return "Token(redacted)"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    algorithm: str
    public_key: IssuerPublicKey


class TokenReader:
    """Reads the tokens of the issuers that some rules name.

    Args:
        rules: Judged already: a key id of an issuer means one key.

    Raises:
        ConfigurationError: a key cannot be read.
    """

    __slots__ = ("_keys", "_signatures")

    def __init__(self, rules: Sequence[TokenCallers]) -> None:
        # Two MiB and 60 ms, for services that have issuers alone.
        from jwt import PyJWS  # noqa: PLC0415

        self._keys: dict[str, dict[str, _Key]] = {}
        for rule in rules:
            keys = self._keys.setdefault(rule.issuer, {})
            keys |= {key.kid: _Key(algorithm=key.alg, public_key=read_issuer_key(key)) for key in rule.keys}
        algorithms = sorted({key.algorithm for keys in self._keys.values() for key in keys.values()})
        self._signatures = PyJWS(algorithms=algorithms)

    def read(self, text: str) -> Token | None:
        """Return the token in `text`, from an untrusted peer; None where anything about it is not right.

        1. It is at most 8 KiB: three parts in canonical base64url, header and claims JSON objects in which no
           key stands twice, of the registered types.
        2. Its type is that of an access token or none; it asks for no extension; it is bound to no key.
        3. Its issuer is one of the rules', and the key id names one of that issuer's keys; without a key id,
           the issuer has one key alone.
        4. Its algorithm is that key's.
        5. The key signed it.
        """
        if len(text) > TOKEN_LIMIT_BYTES:  # (1)
            return None
        parts = text.split(".")
        if len(parts) != 3 or _decode(parts[2]) is None:  # noqa: PLR2004 - header, claims, signature
            return None
        header_object, claims_object = _read_object(parts[0]), _read_object(parts[1])
        header, claims = _convert(header_object, _Header), _convert(claims_object, _Claims)
        if header_object is None or claims_object is None or header is None or claims is None:
            return None
        if (header.typ and header.typ.lower()) not in _TYPES or "cnf" in claims_object:  # (2)
            return None
        if any(name in header_object for name in _UNKNOWN_EXTENSIONS):
            return None
        key = self._find(claims.iss, header.kid)  # (3)
        if key is None or header.alg != key.algorithm or not self._is_signed(text, key):  # (4), (5)
            return None
        return Token(claims=claims, all_claims=claims_object)

    def _find(self, issuer: str, kid: str | None) -> _Key | None:
        keys = self._keys.get(issuer, {})
        if kid is not None:
            return keys.get(kid)
        return next(iter(keys.values())) if len(keys) == 1 else None

    def _is_signed(self, text: str, key: _Key) -> bool:
        from jwt import InvalidTokenError  # noqa: PLC0415 - see above

        try:
            self._signatures.decode(text, key.public_key, algorithms=[key.algorithm])
        except InvalidTokenError:
            return False
        return True


def is_admitted(token: Token, rule: TokenCallers, *, now_s: float) -> bool:
    """Tell whether `rule` admits `token` now.

    1. The rule's issuer made it, for the rule's audience.
    2. It has not expired, and began to hold; both with a minute of leeway.
    3. It holds for no longer than the rule allows: from now on, and from when it was issued.
    4. It has every claim that the rule requires.

    Args:
        token: Its signature holds.
        rule: What it is held against.
        now_s: Seconds since 1970, in UTC.
    """
    claims = token.claims
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if claims.iss != rule.issuer or rule.audience not in audiences:  # (1)
        return False
    begins_s = max((at for at in (claims.nbf, claims.iat) if at is not None), default=now_s)
    if not (now_s < claims.exp + LEEWAY_S and begins_s <= now_s + LEEWAY_S):  # (2)
        return False
    issued_s = now_s if claims.iat is None else claims.iat
    if claims.exp - min(issued_s, now_s) > rule.max_lifetime_s + LEEWAY_S:  # (3)
        return False
    return all(_has(token, required) for required in rule.claims)  # (4)


def _has(token: Token, required: RequiredClaim) -> bool:
    value = token.all_claims.get(required.claim)
    values: Iterable[Any] = value if isinstance(value, list) else (value,)
    return any(isinstance(one, str) and one in required.values for one in values)


def _decode(text: str) -> bytes | None:
    """Decode canonical base64url without padding."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii") == text else None


def _read_object(text: str) -> dict[str, Any] | None:
    """Read a part of a token as a JSON object in which no key stands twice."""
    data = _decode(text)
    if data is None:
        return None
    try:
        found = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _convert(found: dict[str, Any] | None, kind: type[T]) -> T | None:
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError:
        return None
