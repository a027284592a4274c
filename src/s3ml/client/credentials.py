"""Who a client says it is: a token, or a key that signs each request. Neither ever leaves outside the seal.

What a service asks for is in its verified rules: nothing is handed to one that does not ask for it.

Source: docs/spec/callers.md.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from s3ml.client.errors import CredentialsRefusedError
from s3ml.keyservice.client import VerifiedService
from s3ml.keyservice.documents import AnonymousCallers, CallerRule, KeyCaller, TokenCallers
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import SigningKey
from s3ml.primitives.units import KIB
from s3ml.wire.sealed import AUTHORIZATION, InnerRequest, RequestSigner

TOKEN_LIMIT_BYTES = 8 * KIB
# RFC 6750, section 2.1: b64token.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)


class Token:
    """A bearer token (JWT); its `repr` says nothing.

    Args:
        text: As its issuer gave it; white space around it does not count.

    Raises:
        ConfigurationError: it is empty, longer than 8 KiB, or no token.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        text = text.strip()
        if len(text) > TOKEN_LIMIT_BYTES or not _TOKEN.fullmatch(text):
            raise ConfigurationError(f"token: expected at most {TOKEN_LIMIT_BYTES} characters of a JWT")
        self._text = text

    def reveal(self) -> str:
        """Return the token itself; the call says that a secret leaves here."""
        return self._text

    def __repr__(self) -> str:
        return "Token(redacted)"


@dataclass(frozen=True, slots=True)
class CallerKey:
    """A key whose public half a service names among its callers."""

    key: SigningKey


Credentials = Token | CallerKey | Callable[[], str | Token]


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorised:
    """A request as it is to be sealed.

    Args:
        request: With its token, where that is what the service asks for.
        signer: What signs it while it is sealed, where the service asks for a key.
    """

    request: InnerRequest
    signer: RequestSigner | None = None


def is_asked_for(credentials: Credentials | None, verified: VerifiedService) -> bool:
    """Tell whether `credentials` are to be presented to a verified service, which admits such ones.

    Raises:
        CredentialsRefusedError: it asks for credentials, and not for these: none, or another kind or key.
    """
    rules = verified.callers
    if any(isinstance(rule, AnonymousCallers) for rule in rules):
        return False
    if credentials is None:
        got = "none: pass credentials="
    elif isinstance(credentials, CallerKey):
        keys = {rule.key for rule in rules if isinstance(rule, KeyCaller)}
        if str(credentials.key.public) in keys:
            return True
        got = f"the key {credentials.key.public}, which it does not name"
    elif any(isinstance(rule, TokenCallers) for rule in rules):
        return True
    else:
        got = "a token"
    raise CredentialsRefusedError(f"service {verified.service!r}: expected {_expected(rules)}, got {got}")


def authorise(
    request: InnerRequest, credentials: Credentials | None, verified: VerifiedService
) -> Authorised:
    """Add what a verified service asks for; calls `credentials` where it is a function.

    Raises:
        CredentialsRefusedError: it asks for other credentials; see `is_asked_for`.
        ConfigurationError: the function returned no token.
    """
    if not is_asked_for(credentials, verified) or credentials is None:
        return Authorised(request=request)
    if isinstance(credentials, CallerKey):
        signer = RequestSigner(key=credentials.key, deployment=verified.deployment, service=verified.service)
        return Authorised(request=request, signer=signer)
    given = credentials if isinstance(credentials, Token) else credentials()
    token = given if isinstance(given, Token) else Token(given)
    field = (AUTHORIZATION, f"Bearer {token.reveal()}")
    return Authorised(request=replace(request, fields=(*request.fields, field)))


def _expected(rules: tuple[CallerRule, ...]) -> str:
    issuers = sorted({rule.issuer for rule in rules if isinstance(rule, TokenCallers)})
    kinds = [f"a token of {', '.join(issuers)}"] if issuers else []
    if any(isinstance(rule, KeyCaller) for rule in rules):
        kinds.append("the key of a caller that it names")
    return " or ".join(kinds)
