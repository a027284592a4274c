"""What owners type about callers: ``anonymous``, ``key:NAME=FILE.pub[,ROLE…]`` or ``jwt:FILE.toml``.

Source: docs/spec/callers.md, section "On the command line".
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec

from s3ml.apps.governance.keys import read_verify_key
from s3ml.keyservice.caller_rules import judge_callers
from s3ml.keyservice.documents import AnonymousCallers, CallerRule, KeyCaller, Role, TokenCallers
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited
from s3ml.primitives.names import check_name
from s3ml.primitives.units import KIB

_LIMIT_BYTES = 256 * KIB
# What a JWK needs here; everything else that issuers publish with it is for others.
_MEMBERS = {"OKP": ("crv", "x"), "EC": ("crv", "x", "y"), "RSA": ("n", "e")}
_ALGORITHMS = {"OKP": "EdDSA", "EC": "ES256"}
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class _TokenFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that describes tokens; `keys` is the path of a JWK set, from the file's own folder."""

    name: str
    issuer: str
    audience: str
    keys: str
    claims: dict[str, list[str]] = msgspec.field(default_factory=dict)
    max_lifetime_s: int | None = None
    roles: list[str] | None = None
    rate: dict[str, int | float] | None = None


class _KeySet(msgspec.Struct, frozen=True):
    """A JWK set, as issuers publish it."""

    keys: list[dict[str, Any]]


def read_callers(options: Sequence[str]) -> tuple[CallerRule, ...]:
    """Return the rules that the values of ``--caller`` say; anybody, where there is none.

    Raises:
        ConfigurationError: a value, a file or a rule is malformed, or the rules contradict one another.
    """
    rules = tuple(_read(option) for option in options) or (AnonymousCallers(),)
    if failed := judge_callers(rules):
        lines = "; ".join(f"{one.claim}: expected {one.expected}, got {one.got}" for one in failed)
        raise ConfigurationError(f"--caller: {lines}")
    return rules


def _read(option: str) -> CallerRule:
    kind, _, rest = option.partition(":")
    if option == "anonymous":
        return AnonymousCallers()
    if kind == "key" and "=" in rest:
        return _read_key(rest)
    if kind == "jwt" and rest:
        return _read_tokens(Path(rest))
    raise ConfigurationError(
        f"--caller: expected anonymous, key:NAME=FILE.pub[,ROLE…] or jwt:FILE.toml, got {option[:80]!r}"
    )


def _read_key(text: str) -> KeyCaller:
    """Read ``NAME=FILE.pub``, with the caller's roles behind it where they are others than inference."""
    name, _, rest = text.partition("=")
    path, *roles = rest.split(",")
    if stray := [role for role in roles if role not in get_args(Role)]:
        raise ConfigurationError(
            f"--caller: expected roles of {', '.join(get_args(Role))}, got {stray[0][:40]!r}"
        )
    key = str(read_verify_key(Path(path)))
    chosen = {"roles": tuple(roles)} if roles else {}
    return KeyCaller(name=check_name(name, what="--caller"), key=key, **chosen)  # type: ignore[arg-type]  # looked at


def _read_tokens(path: Path) -> TokenCallers:
    try:
        text = read_limited(path, limit_bytes=_LIMIT_BYTES, what="callers").decode()
        file = msgspec.convert(tomllib.loads(text), _TokenFile)
        fields: dict[str, object] = {
            "kind": "jwt",
            "name": file.name,
            "issuer": file.issuer,
            "audience": file.audience,
            "keys": _read_keys(path.parent / file.keys),
            "claims": [{"claim": claim, "values": values} for claim, values in file.claims.items()],
        }
        chosen = {"max_lifetime_s": file.max_lifetime_s, "roles": file.roles, "rate": file.rate}
        fields |= {name: value for name, value in chosen.items() if value is not None}
        return msgspec.convert(fields, TokenCallers)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError, ValidationError
        raise ConfigurationError(f"{path}: {error}") from error


def _read_keys(path: Path) -> list[dict[str, Any]]:
    """Return the signing keys of a JWK set, reduced to what a rule holds.

    Raises:
        ConfigurationError: it is no JWK set, or holds a key that cannot be used here, or a private one.
    """
    data = read_limited(path, limit_bytes=_LIMIT_BYTES, what="JWK set")
    try:
        found = msgspec.json.decode(data, type=_KeySet)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path}: expected a JWK set: {error}") from error
    return [_reduced(key, path) for key in found.keys if key.get("use") != "enc"]


def _reduced(key: Mapping[str, Any], path: Path) -> dict[str, Any]:
    kid, kty = key.get("kid"), key.get("kty")
    if key.keys() & _PRIVATE_MEMBERS:
        raise ConfigurationError(f"{path}: key {kid!r} is a private or a shared one: give public keys alone")
    if kty not in _MEMBERS:
        raise ConfigurationError(f"{path}: key {kid!r}: expected kty OKP, EC or RSA, got {kty!r}")
    algorithm = key.get("alg", _ALGORITHMS.get(kty))
    if algorithm is None:
        raise ConfigurationError(f"{path}: key {kid!r}: says no alg: add RS256 or PS256, whichever it is for")
    return {
        "kty": kty,
        "kid": kid,
        "alg": algorithm,
        **{name: key[name] for name in _MEMBERS[kty] if name in key},
    }
