"""Secrets of a service as owners govern them: what a change must satisfy, and which versions live.

Two versions live at a time: the one that stands, and the one before it, so that what lies under it can be
written anew. Each keeps the policy that it was signed with. Pure: documents and policies alone, no value.

Source: docs/spec/secrets.md.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from s3ml.attestation import AppraisalPolicy
from s3ml.keyservice.control import BODY_LIMIT_BYTES
from s3ml.keyservice.documents import Mismatch, SecretDocument, SecretKind, SymmetricKeyDocument
from s3ml.keyservice.errors import RefusedError, mismatch
from s3ml.keyservice.parsing import parse_document

# Two versions each of 64 KiB, in base64 three times over: what fits into a release beside its models.
SECRETS_LIMIT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretTerms:
    """A secret's document, checked, with the policy that it names as that stood."""

    document: SecretDocument
    policy: AppraisalPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class LivingVersion:
    """One version of a secret that is kept."""

    version: int
    terms: SecretTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernedSecret:
    """A secret as it stands, and the version before it."""

    current: LivingVersion
    previous: LivingVersion | None = None

    @property
    def living(self) -> tuple[LivingVersion, ...]:
        """The versions that are kept, the newest first."""
        return (self.current,) if self.previous is None else (self.current, self.previous)

    def followed_by(self, version: int, terms: SecretTerms) -> "GovernedSecret":
        """Return the secret once `version` stands."""
        return GovernedSecret(current=LivingVersion(version=version, terms=terms), previous=self.current)


def read_secret(body: bytes) -> SecretDocument:
    """Return the document in `body`.

    Raises:
        ConfigurationError: malformed.
    """
    return parse_document(body, SecretDocument, what="secret", limit_bytes=BODY_LIMIT_BYTES)  # type: ignore[arg-type]  # a union of documents


def kind_of(document: SecretDocument) -> SecretKind:
    """Return the kind that `document` says."""
    return "symmetric-key" if isinstance(document, SymmetricKeyDocument) else "opaque"


def judge_secret(
    name: str,
    document: SecretDocument,
    *,
    policy: tuple[AppraisalPolicy, str] | None,
    services: Collection[str],
    secrets: Mapping[str, GovernedSecret],
) -> SecretTerms:
    """Return the terms of the secret `name`.

    1. The document names itself.
    2. Its service exists.
    3. Its policy exists, with the digest that it names.
    4. A later version is of the same kind, for the same service.
    5. The service has at most 12 secrets.

    Args:
        name: The resource's.
        document: The resource's new body.
        policy: The policy that the document names, with its digest; None where there is none.
        services: The names of those that stand.
        secrets: Those that stand, by name.

    Raises:
        RefusedError: a rule fails; all mismatches are listed.
    """
    found = "none of that name" if policy is None else policy[1]
    failed = _differences(
        ("secret", name, document.secret),  # (1)
        (f"policy {document.policy}", document.policy_sha256, found),  # (3)
    )
    if document.service not in services:  # (2)
        failed.append(mismatch("service", expected="one that stands", got=document.service))
    if name in secrets:  # (4)
        standing = secrets[name].current.terms.document
        failed += _differences(
            ("service of the version before", standing.service, document.service),
            ("kind of the version before", kind_of(standing), kind_of(document)),
        )
    others = [
        one for one, secret in secrets.items() if secret.current.terms.document.service == document.service
    ]
    if len({*others, name}) > SECRETS_LIMIT:  # (5)
        failed.append(mismatch("secrets of the service", expected=f"at most {SECRETS_LIMIT}", got="more"))
    if failed or policy is None:
        raise RefusedError(f"secret {name}", failed)
    return SecretTerms(document=document, policy=policy[0])


def secrets_of(service: str, secrets: Mapping[str, GovernedSecret]) -> list[str]:
    """Return the names of the secrets of `service`, in order."""
    return sorted(name for name, one in secrets.items() if one.current.terms.document.service == service)


def _differences(*claims: tuple[str, str, str]) -> list[Mismatch]:
    return [mismatch(claim, expected=a, got=b) for claim, a, b in claims if a != b]
