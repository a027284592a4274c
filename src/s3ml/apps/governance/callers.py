"""Rules about callers, in plain words."""

from collections.abc import Sequence

from s3ml.keyservice.documents import AnonymousCallers, CallerRule, KeyCaller, RateLimit, TokenCallers

ANYBODY = "Anybody may call it: it asks nobody who they are."


def describe_callers(rules: Sequence[CallerRule]) -> list[str]:
    """Say in plain words who may call, a line for each rule."""
    return [_describe(rule) for rule in rules]


def name_callers(rules: Sequence[CallerRule]) -> str:
    """Name the rules on one line, such as ``ada (key), staff (jwt)``."""
    return ", ".join(_name(rule) for rule in rules)


def _name(rule: CallerRule) -> str:
    if isinstance(rule, AnonymousCallers):
        return "anonymous"
    return f"{rule.name} ({'key' if isinstance(rule, KeyCaller) else 'jwt'})"


def _describe(rule: CallerRule) -> str:
    if isinstance(rule, AnonymousCallers):
        return ANYBODY + _describe_rate(rule.rate, "all of them together")
    if isinstance(rule, KeyCaller):
        who = f"Caller {rule.name} may {_describe_roles(rule.roles)}: whoever signs with {rule.key}."
        return who + _describe_rate(rule.rate, "it")
    return _describe_tokens(rule)


def _describe_tokens(rule: TokenCallers) -> str:
    claims = "".join(
        f", with {claim.claim} one of {', '.join(claim.values)}"
        if len(claim.values) > 1
        else f", with {claim.claim} {claim.values[0]}"
        for claim in rule.claims
    )
    keys = ", ".join(f"{key.kid} ({key.alg})" for key in rule.keys)
    return (
        f"Callers {rule.name} may {_describe_roles(rule.roles)}: whoever bears a token of {rule.issuer} for "
        f"{rule.audience}{claims}, valid for at most {rule.max_lifetime_s} s, signed with {keys}."
        + _describe_rate(rule.rate, "each subject")
    )


def _describe_roles(roles: Sequence[str]) -> str:
    words = {"infer": "infer", "models": "load and unload models"}
    return " and ".join(words[role] for role in roles)


def _describe_rate(rate: RateLimit | None, who: str) -> str:
    if rate is None:
        return ""
    return f" At most {rate.per_s:g} calls a second from {who} at each replica, {rate.burst} at once."
