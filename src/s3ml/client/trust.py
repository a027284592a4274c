"""The trust file: what a client pins, given to it by the deployment's owners and never by the gateway.

Strict: an unknown field, an empty policy or a simulated policy without `allow_simulated` rejects.

Source: docs/spec/trust-file.md.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import msgspec

from s3ml.attestation.policy import AppraisalPolicy, policy_from_table, policy_to_table
from s3ml.keyservice.client import TrustAnchor
from s3ml.primitives.encoding import SHA256_BYTES, from_hex
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited, write_atomically
from s3ml.primitives.names import DIGEST_PATTERN, check_name
from s3ml.primitives.units import DAY_S, MIB

TRUST_FILE_LIMIT_BYTES = MIB
# Ten minutes: how long revoked code can still be sent requests, against how often clients verify.
DEFAULT_MAX_AGE_S = 600
MAX_AGE_LIMIT_S = DAY_S


class _PolicyTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    policy: dict[str, Any]


class _KeyServiceTable(_PolicyTable, frozen=True, kw_only=True, forbid_unknown_fields=True):
    follow: Literal["owners"] | None = None


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1]
    deployment: Annotated[str, msgspec.Meta(pattern=DIGEST_PATTERN)]
    key_service: _KeyServiceTable
    allow_simulated: bool = False
    max_age_s: Annotated[int, msgspec.Meta(ge=1, le=MAX_AGE_LIMIT_S)] = DEFAULT_MAX_AGE_S
    follow: Literal["owners"] | None = None
    services: dict[str, _PolicyTable] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What a client accepts.

    Args:
        deployment: The deployment's id, 64 hexadecimal digits.
        key_service_policy: Which enclaves may speak for the deployment.
        allow_simulated: Whether a simulated TEE, which protects nothing, may appear anywhere.
        max_age_s: For how long one verification of a service holds, at most; 1 to 86,400.
        follow: ``"owners"`` accepts any policy of a service that the owners signed.
        services: By service: accept only a policy that is at most as wide as this one.
        follow_key_service: ``"owners"`` accepts whatever code the owners signed for the key service since,
            instead of `key_service_policy` alone.

    Raises:
        ConfigurationError: a malformed value, a simulated policy that is not allowed, or services that no
            policy covers.
    """

    deployment: str
    key_service_policy: AppraisalPolicy
    allow_simulated: bool = False
    max_age_s: int = DEFAULT_MAX_AGE_S
    follow: Literal["owners"] | None = None
    services: Mapping[str, AppraisalPolicy] = field(default_factory=lambda: MappingProxyType({}))
    follow_key_service: Literal["owners"] | None = None

    def __post_init__(self) -> None:
        from_hex(self.deployment, what="trust: deployment", size_bytes=SHA256_BYTES)
        if not 1 <= self.max_age_s <= MAX_AGE_LIMIT_S:
            raise ConfigurationError(
                f"trust: max_age_s: expected 1 to {MAX_AGE_LIMIT_S} seconds, got {self.max_age_s}"
            )
        if not self.services and self.follow is None:
            raise ConfigurationError(
                'trust: expected a policy under [services.NAME.policy], or follow = "owners"; got neither'
            )
        policies = {"key_service": self.key_service_policy}
        for service, policy in self.services.items():
            check_name(service, what="trust: services")
            policies[f"services.{service}"] = policy
        for name, policy in policies.items():
            if policy.is_simulated and not self.allow_simulated:
                raise ConfigurationError(
                    f"trust: {name}.policy: accepts a SIMULATED TEE, which protects nothing: "
                    "expected allow_simulated = true beside it"
                )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a trust file's content, at most 1 MiB of TOML.

        Raises:
            ConfigurationError: no TOML, an unknown or missing field, or a value that cannot be.
        """
        if len(data) > TRUST_FILE_LIMIT_BYTES:
            raise ConfigurationError(f"trust: expected at most {TRUST_FILE_LIMIT_BYTES} bytes")
        try:
            file = msgspec.convert(tomllib.loads(data.decode()), _File)
        except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError, ValidationError
            raise ConfigurationError(f"trust: {error}") from error
        return cls(
            deployment=file.deployment,
            key_service_policy=_policy(file.key_service, "key_service"),
            allow_simulated=file.allow_simulated,
            max_age_s=file.max_age_s,
            follow=file.follow,
            follow_key_service=file.key_service.follow,
            services=MappingProxyType(
                {name: _policy(table, f"services.{name}") for name, table in file.services.items()}
            ),
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a trust file.

        Raises:
            ConfigurationError: it cannot be read, or is no trust file.
        """
        data = read_limited(path, limit_bytes=TRUST_FILE_LIMIT_BYTES, what="trust file")
        try:
            return cls.parse(data)
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from error

    def to_toml(self) -> bytes:
        """Return the file's content: TOML that people can read and `parse` reads back."""
        policies = {"key_service": self.key_service_policy}
        policies |= {f"services.{name}": policy for name, policy in sorted(self.services.items())}
        lines = ["# What this client trusts. It comes from the deployment's owners, never from the gateway."]
        if self.allow_simulated:
            lines.append("# SIMULATED: a simulated TEE protects nothing.")
        lines += [
            "version = 1",
            f"deployment = {_toml(self.deployment)}",
            f"allow_simulated = {_toml(self.allow_simulated)}",
            f"max_age_s = {_toml(self.max_age_s)}",
        ]
        if self.follow:
            lines.append(f"follow = {_toml(self.follow)}")
        if self.follow_key_service:
            lines += ["", "[key_service]", f"follow = {_toml(self.follow_key_service)}"]
        for name, policy in policies.items():
            table = policy_to_table(policy)
            alternatives = table.pop("accept")
            lines += ["", f"[{name}.policy]", *_fields(table)]
            for alternative in alternatives:
                lines += ["", f"[[{name}.policy.accept]]", *_fields(alternative)]
        return ("\n".join(lines) + "\n").encode()

    def write(self, path: Path) -> None:
        """Put the trust file at `path`, whole.

        Raises:
            ConfigurationError: the folder is missing or not writable.
        """
        write_atomically(path, self.to_toml())

    def anchor(self, service: str, *, known: tuple[int, bytes] | None = None) -> TrustAnchor:
        """Return what `service` is verified against.

        Args:
            service: The service that is about to be verified.
            known: Size and root of the newest log that was verified before.

        Raises:
            ConfigurationError: nothing here says what to accept for `service`.
        """
        if service not in self.services and self.follow is None:
            raise ConfigurationError(
                f"trust: nothing says what to accept for service {service!r}: "
                f'expected [services.{service}.policy], or follow = "owners"'
            )
        return TrustAnchor(
            deployment=self.deployment,
            key_service_policy=self.key_service_policy,
            allow_simulated=self.allow_simulated,
            service_policies=self.services,
            follow_owners=self.follow == "owners",
            follow_key_service=self.follow_key_service == "owners",
            max_age_s=self.max_age_s,
            known=known,
        )


def _policy(table: _PolicyTable, name: str) -> AppraisalPolicy:
    try:
        return policy_from_table(table.policy)
    except ConfigurationError as error:
        raise ConfigurationError(f"trust: {name}: {error}") from error


def _fields(table: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_toml(value)}" for name, value in table.items() if value is not None]


def _toml(value: object) -> str:
    """Render text, numbers, truth (JSON's form of each is TOML's too), lists and tables of them."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(_fields(value))} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False)
