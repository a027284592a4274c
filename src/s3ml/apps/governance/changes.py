"""Changes to what governs a deployment: drafted by one person, signed by k of n, then sent."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import msgspec

from s3ml.apps.governance.callers import describe_callers
from s3ml.keyservice.client import (
    Authority,
    Genesis,
    KeyServiceClient,
    control_message,
    follow,
    identify_genesis,
)
from s3ml.keyservice.documents import (
    CONTROL_TYPE,
    MANIFEST_TYPE,
    ControlMessage,
    ControlReply,
    ControlStatement,
    ModelManifest,
    OwnersDocument,
    ResourceReply,
    ServiceDocument,
    ServiceTimes,
)
from s3ml.primitives.envelope import ENVELOPE_LIMIT_BYTES, Envelope
from s3ml.primitives.errors import ConfigurationError, UntrustedPeerError
from s3ml.primitives.signing import SigningKey, VerifyKey

_NONCE_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A pinned deployment and the way to its key service, which is trusted with nothing.

    Args:
        authority: What governs it, followed link by link from the pinned genesis.
        client: Leads to the key service.
    """

    authority: Authority
    client: KeyServiceClient

    @property
    def genesis(self) -> Genesis:
        """How the deployment began."""
        return self.authority.genesis

    @classmethod
    def connect(cls, client: KeyServiceClient, *, deployment: str) -> "Deployment":
        """Fetch the genesis entry, hold it against the pinned id, and follow the owners' chain from it.

        Args:
            client: Leads to the key service.
            deployment: The pinned id, 64 hexadecimal digits, from a trust file.

        Raises:
            UntrustedPeerError: the key service serves another deployment, or owners did not sign its chain.
            ConfigurationError: the key service has no deployment yet.
            UnavailableError: the key service does not answer.
        """
        reply = client.deployment()
        if reply.genesis is None:
            raise ConfigurationError("key service: has no deployment yet: s3ml deployment init")
        genesis = identify_genesis(reply.genesis)
        if genesis.deployment != deployment:
            raise UntrustedPeerError(
                f"key service: serves another deployment: expected {deployment}, got {genesis.deployment}"
            )
        authority = follow(genesis, client.authority().entries)
        return cls(authority=authority, client=client)

    @property
    def owner_keys(self) -> tuple[VerifyKey, ...]:
        """The owners' public keys."""
        return self.authority.owner_keys

    def resource(self, name: str) -> ResourceReply | None:
        """Return a governed resource as the key service reports it, or nothing where there is none.

        Raises:
            UntrustedPeerError: its digest is not that of its body.
        """
        listed = self.client.resources().resources
        found = next((found for found in listed if found.resource == name), None)
        if found is not None and hashlib.sha256(found.body).hexdigest() != found.body_sha256:
            raise UntrustedPeerError(f"{name}: expected the digest of its body, got {found.body_sha256}")
        return found

    def governed_policy(self, name: str) -> ResourceReply:
        """Return a governed policy.

        Raises:
            ConfigurationError: the owners have signed none of that name.
        """
        found = self.resource(f"policies/{name}")
        if found is None:
            raise ConfigurationError(
                f"policy {name}: the owners have signed none of that name: s3ml policy sign"
            )
        return found

    def draft(
        self,
        resource: str,
        body: bytes,
        *,
        attachments: Sequence[bytes] = (),
        now: datetime,
        method: Literal["PUT", "DELETE"] = "PUT",
    ) -> ControlMessage:
        """Write an unsigned change that replaces `resource` as it stands now by `body`, or takes it away."""
        current = self.resource(resource)
        return control_message(
            deployment=self.genesis.deployment,
            resource=resource,
            resource_version=1 + (current.resource_version if current else self._deleted_version(resource)),
            previous_sha256=current.body_sha256 if current else "",
            body=body,
            nonce=secrets.token_bytes(_NONCE_BYTES),
            now=now,
            attachments=attachments,
            method=method,
        )

    def _deleted_version(self, name: str) -> int:
        """Return the version of a resource that was taken away, which goes on counting; 0 where none was."""
        deleted = self.client.resources().deleted
        return next((found.resource_version for found in deleted if found.resource == name), 0)

    def sign(self, message: ControlMessage, key: SigningKey) -> ControlMessage:
        """Add an owner's signature; those whom a change of the owners names sign it as well.

        Raises:
            ConfigurationError: the key is none of the owners', or the message is for another deployment, or
                its body is not the one that its statement names.
        """
        statement = read_statement(message)
        if statement.deployment != self.genesis.deployment:
            raise ConfigurationError(
                f"message: is for deployment {statement.deployment}, not for {self.genesis.deployment}"
            )
        if not any(key.public in keys for keys, _ in self._voters(message)):
            raise ConfigurationError("private key: is none of the deployment owners'")
        return msgspec.structs.replace(message, statement=message.statement.with_signature(key))

    def missing_signatures(self, message: ControlMessage) -> int:
        """Return how many more owners have to sign, at the least: one may count before and after."""
        return max(
            0, *(least - len(message.statement.signers(keys)) for keys, least in self._voters(message))
        )

    def _voters(self, message: ControlMessage) -> list[tuple[tuple[VerifyKey, ...], int]]:
        """Return whose signatures a change needs, and how many: of today's owners, and of its new ones."""
        found = [(self.owner_keys, self.authority.threshold)]
        if read_statement(message).resource == "deployment/owners":
            try:
                named = msgspec.json.decode(message.body, type=OwnersDocument)
            except msgspec.DecodeError as error:
                raise ConfigurationError(f"message: {error}") from error
            found.append((tuple(VerifyKey.parse(owner.key) for owner in named.owners), named.threshold))
        return found

    def submit(self, message: ControlMessage) -> ControlReply:
        """Send a change that enough owners signed.

        Raises:
            KeyServiceRefusedError: the key service refuses it and says why.
            UnavailableError: the key service does not answer.
        """
        return self.client.control(message)


def read_statement(message: ControlMessage) -> ControlStatement:
    """Read what a message changes, and check that it comes with the body that was signed.

    Raises:
        ConfigurationError: it is no control message, or has another body.
    """
    if message.statement.payload_type != CONTROL_TYPE:
        raise ConfigurationError(
            f"message: expected {CONTROL_TYPE}, got {message.statement.payload_type[:100]}"
        )
    try:
        statement = msgspec.json.decode(message.statement.payload, type=ControlStatement)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"message: {error}") from error
    if hashlib.sha256(message.body).hexdigest() != statement.body_sha256:
        raise ConfigurationError("message: its body is not the one that its statement names")
    return statement


def parse_message(data: bytes) -> ControlMessage | None:
    """Read a control message from a file's bytes; nothing where they are no such message.

    Raises:
        ConfigurationError: larger than 4 MiB.
    """
    if len(data) > ENVELOPE_LIMIT_BYTES:
        raise ConfigurationError(f"message: expected at most {ENVELOPE_LIMIT_BYTES} bytes, got {len(data)}")
    try:
        return msgspec.json.decode(data, type=ControlMessage)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def describe_service(document: ServiceDocument) -> list[str]:
    """Say in plain words what a service document means, a line each."""
    lines = [
        f"Service {document.service}:",
        *describe_callers(document.callers),
        f"Its replicas satisfy policy {document.policy} ({document.policy_sha256}).",
        describe_times(document.times),
        "Models may come from: " + ", ".join(document.model_owners),
    ]
    for envelope in document.models:
        manifest = read_manifest(envelope)
        lines.append(
            f"Model {manifest.model}, version {manifest.model_version}: {manifest.payload_bytes:,} encrypted "
            f"bytes with SHA-256 {manifest.payload_sha256}."
        )
    return lines


def describe_times(times: ServiceTimes) -> str:
    """Say in plain words how long the keys of a service are used."""
    return (
        f"Its keys rotate every {times.epoch_s:,} s; model servers hold them for {times.lease_s:,} s "
        f"without renewing, clients for {times.bundle_s:,} s."
    )


def read_manifest(envelope: Envelope) -> ModelManifest:
    """Read what a model owner signed, without judging the signature.

    Raises:
        ConfigurationError: it is no manifest.
    """
    if envelope.payload_type != MANIFEST_TYPE:
        raise ConfigurationError(f"manifest: expected {MANIFEST_TYPE}, got {envelope.payload_type[:100]}")
    try:
        return msgspec.json.decode(envelope.payload, type=ModelManifest)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"manifest: {error}") from error
