"""What a service asks of its callers, and a request with it.

What a service asks for is in its verified rules: nothing is handed to one that does not ask for it.

Source: docs/spec/callers.md.
"""

from dataclasses import dataclass, replace

from s3ml.client.credentials import CallerKey, Credentials, Token
from s3ml.client.errors import CredentialsRefusedError
from s3ml.keyservice.client import VerifiedService
from s3ml.keyservice.documents import AnonymousCallers, CallerRule, KeyCaller, TokenCallers
from s3ml.wire.sealed import AUTHORIZATION, InnerRequest, RequestSigner


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
        got = "none: pass credentials=, on the command line --token-file or --caller-key"
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
