"""What governs a deployment at one point of its log: owners, witnesses, the key service's policy and keys.

It begins as genesis says, and changes by entries that k of n owners signed. The key service and every client
follow the same chain by the same rules, as in TUF: new owners are signed by enough of the old and of the new.

Pure.

Source: docs/spec/control-message.md, section "The deployment itself"; TUF specification, section 5.3.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

import msgspec

from s3ml.attestation import AppraisalPolicy, is_narrower_or_equal
from s3ml.keyservice.documents import (
    ACKNOWLEDGEMENT_TYPE,
    CONTROL_TYPE,
    Acknowledgement,
    ControlStatement,
    DeploymentKeys,
    KeysEntry,
    KeyServiceDocument,
    Owner,
    OwnersDocument,
    WitnessesDocument,
)
from s3ml.keyservice.errors import ConflictError, RefusedError, mismatch
from s3ml.keyservice.fields import REQUEST_LIMIT_BYTES
from s3ml.keyservice.genesis import Genesis, check_owners, read_witnesses
from s3ml.keyservice.parsing import parse_document, read_policy
from s3ml.keyservice.versions import expect_next
from s3ml.primitives.encoding import sha256
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import UntrustedPeerError
from s3ml.primitives.signing import VerifyKey
from s3ml.transparency.cosignature import WitnessKey

KIND = "deployment"
_D = TypeVar("_D", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """What governs a deployment, and how many times each part of it was changed.

    Args:
        genesis: How it began.
        owners: Who decides.
        threshold: How many of them.
        witnesses: Whose cosignatures make a head committed.
        quorum: How many of them; 0 where there are none.
        policy_body: The key service's policy, as the owners signed it.
        policy: The same, parsed.
        keys: The deployment's public keys.
        keys_number: 1 for the keys of genesis, then counting.
        awaits_keys: Whether the policy changed and the entry of the new keys is to follow at once.
        versions: The version and body digest of each part that was changed since genesis.
        chain: Every entry that led here since genesis: its index and bytes.
    """

    genesis: Genesis
    owners: tuple[Owner, ...]
    threshold: int
    witnesses: tuple[WitnessKey, ...]
    quorum: int
    policy_body: bytes
    policy: AppraisalPolicy
    keys: DeploymentKeys
    keys_number: int = 1
    awaits_keys: bool = False
    versions: Mapping[str, tuple[int, str]] = field(default_factory=lambda: MappingProxyType({}))
    chain: tuple[tuple[int, bytes], ...] = ()

    @classmethod
    def of(cls, genesis: Genesis) -> "Authority":
        """Return what governs a deployment that has just begun."""
        proposal = genesis.proposal
        return cls(
            genesis=genesis,
            owners=proposal.owners,
            threshold=proposal.threshold,
            witnesses=genesis.witnesses,
            quorum=proposal.witness_quorum,
            policy_body=proposal.key_service_policy,
            policy=genesis.policy,
            keys=genesis.keys,
        )

    @property
    def deployment(self) -> str:
        """The deployment's id."""
        return self.genesis.deployment

    @property
    def owner_keys(self) -> tuple[VerifyKey, ...]:
        """The owners' public keys."""
        return tuple(VerifyKey.parse(owner.key) for owner in self.owners)

    @property
    def checkpoint_key(self) -> VerifyKey:
        """The key that signs the log's heads."""
        return VerifyKey.parse(self.keys.checkpoint)

    @property
    def statement_key(self) -> VerifyKey:
        """The key that signs statements and releases."""
        return VerifyKey.parse(self.keys.statement)

    @property
    def policy_digest(self) -> bytes:
        """The SHA-256 of the key service's policy as the owners signed it."""
        return sha256(self.policy_body)

    @property
    def is_simulated(self) -> bool:
        """Whether the owners allow a simulated platform, which protects nothing."""
        return self.genesis.is_simulated

    @property
    def is_fork_protected(self) -> bool:
        """Whether witnesses keep the log from being shown differently to different people."""
        return self.quorum > 0

    def change(self, statement: ControlStatement, envelope: Envelope, body: bytes) -> "Authority":
        """Return what governs after a change whose signatures and body digest hold already.

        1. It is the next version of its part, and replaces the body that stands.
        2. The body is what its part demands.

        Raises:
            ConflictError: (1) fails.
            RefusedError: a simulated platform where the deployment allows none, or the other way round.
            ConfigurationError: the body is malformed.
            SignatureError: too few of the new owners signed.
        """
        part = statement.resource.partition("/")[2]
        version, standing = self.versions.get(part, (0, ""))
        expect_next(statement, version=version, sha256=standing)  # (1)
        changed = _PARTS[part](self, envelope, body) if part in _PARTS else self  # (2)
        digest = sha256(body).hex()
        versions = {**self.versions, part: (statement.resource_version, digest)}
        return replace(changed, versions=MappingProxyType(versions))

    def acknowledge(
        self, envelope: Envelope, *, nonce: bytes, log_size: int
    ) -> tuple[Acknowledgement, "Authority"]:
        """Return what k of n owners acknowledge, when it is this nonce and this head, and what governs then.

        Raises:
            SignatureError: too few owners signed it.
            ConfigurationError: malformed, or the successors of the witnesses make no sense.
            ConflictError: it is for another deployment, another process, or another head.
        """
        payload = envelope.verify(
            self.owner_keys, threshold=self.threshold, payload_type=ACKNOWLEDGEMENT_TYPE
        )
        found = _read(payload, Acknowledgement)
        if (found.deployment, found.nonce, found.log_size) != (self.deployment, nonce, log_size):
            raise ConflictError(
                "acknowledgement: is for another deployment, process or head: sign what it shows now"
            )
        if found.successors is None:
            return found, self
        witnesses = read_witnesses(found.successors.witnesses, found.successors.witness_quorum)
        return found, replace(self, witnesses=witnesses, quorum=found.successors.witness_quorum)

    def renew(self, entry: KeysEntry) -> "Authority":
        """Return what governs once the keys that a change of policy awaits are there.

        Raises:
            UntrustedPeerError: no change awaits keys, or these are for another one.
        """
        expected = (self.keys_number + 1, self.policy_digest.hex())
        if not self.awaits_keys or (entry.number, entry.policy_sha256) != expected:
            raise UntrustedPeerError("keys of the deployment: do not follow from a change of its policy")
        return replace(self, keys=entry.keys, keys_number=entry.number, awaits_keys=False)

    def linked(self, index: int, data: bytes) -> "Authority":
        """Return this authority, with the entry that led to it."""
        return replace(self, chain=(*self.chain, (index, data)))

    def keeps_faith(self, older: "Authority") -> bool:
        """Tell whether the key service's policy still accepts everything that it accepted at `older`."""
        return is_narrower_or_equal(older.policy, self.policy)


def _change_owners(authority: Authority, envelope: Envelope, body: bytes) -> Authority:
    document = _read(body, OwnersDocument)
    keys = check_owners(document.owners, document.threshold)
    envelope.verify(keys, threshold=document.threshold, payload_type=CONTROL_TYPE)
    return replace(authority, owners=document.owners, threshold=document.threshold)


def _change_witnesses(authority: Authority, _: Envelope, body: bytes) -> Authority:
    document = _read(body, WitnessesDocument)
    witnesses = read_witnesses(document.witnesses, document.witness_quorum)
    _expect_overlap(authority, witnesses, document.witness_quorum)
    return replace(authority, witnesses=witnesses, quorum=document.witness_quorum)


def _expect_overlap(authority: Authority, witnesses: Sequence[WitnessKey], quorum: int) -> None:
    """Check that every quorum before a change and every one after it share a witness.

    Otherwise a host could have one head committed by those before and another by those after, each by itself:
    whoever reads the later one counts those after alone. From or to no witnesses nothing is protected anyway.

    Raises:
        RefusedError: they need not.
    """
    everybody = len({witness.key for witness in (*authority.witnesses, *witnesses)})
    together = authority.quorum + quorum
    if authority.quorum and quorum and together <= everybody:
        expected = f"a quorum before and one after that share a witness: together more than {everybody}"
        got = f"{authority.quorum} and {quorum}: add or remove witnesses one at a time"
        raise RefusedError("witnesses", [mismatch("quorums", expected=expected, got=got)])


def _change_policy(authority: Authority, _: Envelope, body: bytes) -> Authority:
    document = _read(body, KeyServiceDocument)
    policy = read_policy(document.policy)
    if policy.is_simulated != authority.is_simulated:
        raise RefusedError(
            "key-service policy",
            [mismatch("is_simulated", expected=authority.is_simulated, got=policy.is_simulated)],
        )
    return replace(authority, policy_body=document.policy, policy=policy, awaits_keys=True)


_PARTS: Mapping[str, Callable[[Authority, Envelope, bytes], Authority]] = MappingProxyType(
    {"owners": _change_owners, "witnesses": _change_witnesses, "key-service": _change_policy}
)


def _read(body: bytes, kind: type[_D]) -> _D:
    return parse_document(body, kind, what="body", limit_bytes=REQUEST_LIMIT_BYTES)
