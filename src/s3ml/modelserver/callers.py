"""Who calls, and whether they may: decided in the TEE, once a request is open and before it is remembered.

The rules are those of the release: the owners signed them. Whoever is not admitted learns nothing but that:
one answer for a token that expired, another audience, a key that nobody knows and no credentials at all.

Source: docs/spec/callers.md.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from s3ml.keyservice.caller_rules import judge_callers
from s3ml.keyservice.documents import (
    AnonymousCallers,
    CallerRule,
    KeyCaller,
    RateLimit,
    Release,
    Role,
    TokenCallers,
)
from s3ml.keyservice.errors import RefusedError
from s3ml.modelserver.rates import RateLimiter
from s3ml.modelserver.tokens import TokenReader, is_admitted
from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import VerifyKey
from s3ml.wire.oip import Endpoint, encode_error
from s3ml.wire.sealed import (
    AUTHORIZATION,
    SCHEME,
    AnsweredError,
    Exchange,
    InnerRequest,
    InnerResponse,
    KeyRing,
    OpenedRequest,
    ReplayGuard,
    SealLimits,
    parse_proof,
    proof_message,
    unseal_request,
)

BEARER = "Bearer"
UNKNOWN = "caller: expected credentials that this service admits"
FORBIDDEN = "caller: is admitted, and lacks the role for this"
TOO_OFTEN = "caller: too many requests; retry later"
ANONYMOUS = ""

# Every other endpoint tells of the service and computes nothing: any role will do.
_NEEDED: Mapping[Endpoint, Role] = MappingProxyType(
    {Endpoint.INFER: "infer", Endpoint.MODEL_LOAD: "models", Endpoint.MODEL_UNLOAD: "models"}
)
_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY = 401, 403, 429
_IDENTITY_BYTES = 16


class CallerRefusedError(AnsweredError):
    """The caller is not admitted; the answer says so, and not why."""

    def __init__(
        self, message: str, *, exchange: Exchange, status: int, fields: Sequence[tuple[str, str]] = ()
    ) -> None:
        content, described = encode_error(message)
        response = InnerResponse(status=status, fields=(*described, *fields), content=content)
        super().__init__(message, exchange=exchange, response=response)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What one rule gives the caller.

    Args:
        rule: The rule's name; empty for anonymous callers.
        roles: What the caller may do.
        rate: How often, if that is limited.
    """

    rule: str
    roles: frozenset[Role]
    rate: RateLimit | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody whom the rules admit.

    Args:
        grants: Of each rule that admits them, in the rules' order; at least one.
        identity: Tells callers of one rule apart; 16 bytes that say nothing else.
    """

    grants: tuple[Grant, ...]
    identity: bytes


class Gate:
    """The rules of a release, ready to be held against requests. One without rules admits nobody.

    Args:
        rules: Of the release.
        deployment: Of the release.
        service: Of the release.
        issued_at: When the release was issued: no earlier time counts for tokens.

    Raises:
        ConfigurationError: the rules break a rule of their own; all mismatches are listed.
    """

    __slots__ = ("_anonymous", "_by_key", "_challenge", "_deployment", "_issued_at", "_service", "_tokens")

    def __init__(
        self, rules: Sequence[CallerRule], *, deployment: str, service: str, issued_at: datetime
    ) -> None:
        if failed := judge_callers(rules):
            raise ConfigurationError(str(RefusedError("release", failed)))
        self._deployment = deployment
        self._service = service
        self._issued_at = issued_at
        self._anonymous = next((_grant(rule) for rule in rules if isinstance(rule, AnonymousCallers)), None)
        self._by_key = {
            VerifyKey.parse(rule.key): _grant(rule) for rule in rules if isinstance(rule, KeyCaller)
        }
        of_issuers = [rule for rule in rules if isinstance(rule, TokenCallers)]
        self._tokens = _Tokens(of_issuers) if of_issuers else None
        schemes = ([BEARER] if of_issuers else []) + ([SCHEME] if self._by_key else [])
        self._challenge = (("www-authenticate", ", ".join(schemes)),) if schemes else ()

    @classmethod
    def of(cls, release: Release) -> "Gate":
        """Return the gate of a release.

        Raises:
            ConfigurationError: its rules break a rule; it is not to be served under.
        """
        return cls(
            release.callers,
            deployment=release.deployment,
            service=release.service,
            issued_at=release.issued_at,
        )

    def identify(self, request: InnerRequest, exchange: Exchange, *, now: datetime) -> Caller:
        """Return who makes `request`. Costs at most one verification of a signature; pure.

        Args:
            request: From an untrusted peer, opened.
            exchange: What it was sealed to, and the way back.
            now: Aware UTC; where it is before the release, that counts.

        Raises:
            CallerRefusedError: nobody whom the rules admit.
        """
        if self._anonymous is not None:
            return Caller(grants=(self._anonymous,), identity=b"")
        authorization = request.field(AUTHORIZATION) or ""
        scheme, _, credentials = authorization.partition(" ")
        caller = None
        if scheme.lower() == BEARER.lower() and self._tokens is not None:
            caller = self._tokens.identify(credentials, now_s=max(now, self._issued_at).timestamp())
        elif scheme == SCHEME:
            caller = self._prove(authorization, request, exchange)
        if caller is None:
            raise CallerRefusedError(UNKNOWN, exchange=exchange, status=_UNAUTHORIZED, fields=self._challenge)
        return caller

    def _prove(self, authorization: str, request: InnerRequest, exchange: Exchange) -> Caller | None:
        proof = parse_proof(authorization)
        grant = None if proof is None else self._by_key.get(proof.key)
        if proof is None or grant is None:
            return None
        message = proof_message(
            exchange.opened.channel, request, deployment=self._deployment, service=self._service
        )
        return Caller(grants=(grant,), identity=b"") if proof.is_of(message) else None


class _Tokens:
    """Rules about tokens."""

    __slots__ = ("_reader", "_rules")

    def __init__(self, rules: Sequence[TokenCallers]) -> None:
        self._rules = [(rule, _grant(rule)) for rule in rules]
        self._reader = TokenReader(rules)

    def identify(self, text: str, *, now_s: float) -> Caller | None:
        token = self._reader.read(text)
        if token is None:
            return None
        grants = tuple(grant for rule, grant in self._rules if is_admitted(token, rule, now_s=now_s))
        identity = hashlib.sha256(token.subject.encode("utf-8", "surrogatepass")).digest()[:_IDENTITY_BYTES]
        return Caller(grants=grants, identity=identity) if grants else None


def open_identified(
    ring: KeyRing,
    gate: Gate,
    body: bytes,
    *,
    limiter: RateLimiter,
    clock: Clock,
    replays: ReplayGuard,
    limits: SealLimits,
) -> OpenedRequest:
    """Open a sealed request of a caller who may make it; only then is it remembered against replays.

    Neither a stranger nor a caller who calls too often fills that memory. A replay counts as a call.

    Args:
        ring: The keys.
        gate: The rules that came with them.
        body: From an untrusted peer.
        limiter: Counts calls.
        clock: For dates, tokens and rates.
        replays: What was opened before.
        limits: How large the sealed messages may be.

    Raises:
        CallerRefusedError: the caller may not; answer sealed.
        S3MLError: what `open_request` raises.
    """
    now = clock.now()
    unsealed = unseal_request(ring, body, limits=limits)
    caller = gate.identify(unsealed.request, unsealed.exchange, now=now)
    endpoint = unsealed.route().endpoint
    admit(caller, endpoint, unsealed.exchange, limiter=limiter, now_s=clock.monotonic_s())
    return unsealed.admit(now=now, replays=replays)


def admit(
    caller: Caller, endpoint: Endpoint, exchange: Exchange, *, limiter: RateLimiter, now_s: float
) -> None:
    """Let an identified caller go on to `endpoint`, or not.

    1. A rule that admits the caller gives a role that the endpoint wants; the first of them counts.
    2. The caller has not called too often under that rule, or, where (1) fails, under the first one.

    Args:
        caller: Identified.
        endpoint: What is asked.
        exchange: The way back.
        limiter: Counts this call.
        now_s: Monotonic.

    Raises:
        CallerRefusedError: (1): 403; (2): 429, with the seconds after which to try again.
    """
    needed = _NEEDED.get(endpoint)
    granted = next((grant for grant in caller.grants if needed is None or needed in grant.roles), None)
    counted = granted or caller.grants[0]
    if counted.rate is not None:
        wait_s = limiter.take(counted.rule, caller.identity, counted.rate, now_s=now_s)  # (2)
        if wait_s is not None:
            retry = (("retry-after", str(math.ceil(wait_s))),)
            raise CallerRefusedError(TOO_OFTEN, exchange=exchange, status=_TOO_MANY, fields=retry)
    if granted is None:  # (1)
        raise CallerRefusedError(FORBIDDEN, exchange=exchange, status=_FORBIDDEN)


def rated(rules: Sequence[CallerRule]) -> list[str]:
    """Return the names of the rules that limit rates."""
    return [_grant(rule).rule for rule in rules if rule.rate is not None]


def _grant(rule: CallerRule) -> Grant:
    if isinstance(rule, AnonymousCallers):
        return Grant(rule=ANONYMOUS, roles=frozenset({"infer"}), rate=rule.rate)
    return Grant(rule=rule.name, roles=frozenset(rule.roles), rate=rule.rate)
