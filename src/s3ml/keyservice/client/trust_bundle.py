"""Verify a trust bundle: from what a client pinned to what it may seal to.

Source: docs/spec/trust-bundle.md, section "Verification".
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from s3ml.attestation import (
    AppraisalPolicy,
    EvidenceRejectedError,
    VerifiedEnclave,
    parse_evidence,
    verify_evidence,
    widenings,
)
from s3ml.keyservice.bindings import batch_leaf, statement_binding
from s3ml.keyservice.client.anchor import Step, TrustAnchor, TrustBundleRejectedError, VerifiedService
from s3ml.keyservice.control import open_control, read_manifest
from s3ml.keyservice.documents import (
    STATEMENT_TYPE,
    ControlEntry,
    EpochEntry,
    Mismatch,
    ModelSummary,
    ProvenEntry,
    ServiceDocument,
    TrustBundle,
    TrustStatement,
)
from s3ml.keyservice.errors import RefusedError, mismatch
from s3ml.keyservice.fields import BUNDLE_LIMIT_BYTES, REPLY_LIMIT_BYTES
from s3ml.keyservice.following import follow
from s3ml.keyservice.genesis import identify_genesis
from s3ml.keyservice.log import deployment_id, parse_entry
from s3ml.keyservice.parsing import parse_document, read_policy
from s3ml.primitives.encoding import sha256
from s3ml.primitives.errors import S3MLError, UntrustedPeerError
from s3ml.transparency.checkpoint import open_checkpoint
from s3ml.transparency.cosignature import require_quorum
from s3ml.transparency.merkle import inclusion_root, leaf_hash, verify_consistency, verify_inclusion

SIMULATED = "SIMULATED: protects nothing"
NOT_FORK_PROTECTED = "NOT FORK-PROTECTED: no witnesses are named"


def verify_trust_bundle(
    bundle: bytes,
    *,
    anchor: TrustAnchor,
    service: str,
    nonce: bytes,
    requested_at: datetime,
    now: datetime,
) -> VerifiedService:
    """Verify `bundle` against `anchor` and return what may be sealed to.

    Pure: no network, clock or randomness.

    1. It is a bundle, and its statement is about `service`.
    2. Its genesis entry has the pinned deployment id.
    3. Enough owners signed the proposal in that entry, and every change of what governs since.
    4. Evidence that answers `nonce` and this very statement satisfies the pinned key-service policy.
    5. The deployment's statement key signed the statement.
    6. The deployment's checkpoint key signed the log's head, which is the statement's, and a quorum of the
       witnesses that govern cosigned it.
    7. Genesis, every change of what governs, policy, service and epoch are entries of that log.
    8. That log extends the newest one that was seen before.
    9. The entries say what the statement says, and enough owners signed policy and service.
    10. The service's policy is at most as wide as the client's own, or the client follows the owners.
    11. Nothing is simulated, unless the anchor allows it.
    12. It holds at `now`; it expires at the earlier of the statement's end and the anchor's age.

    Not checked: the model owners' signatures on the manifests (the attested key service checked them, and
    the deployment's owners signed the result), and whether the replicas hold the policy now (they received
    the keys only because they did).

    Args:
        bundle: From an untrusted peer, at most 4 MiB.
        anchor: What the client pins.
        service: The service that was asked for.
        nonce: The 32 fresh random bytes that were sent.
        requested_at: When `nonce` was made, by the client's own clock; aware UTC.
        now: Aware UTC.

    Raises:
        TrustBundleRejectedError: a step failed; it says which, and what was expected and got.
    """
    verification = _Verification(bundle, anchor, service, nonce)
    return verification.run(requested_at=requested_at, now=now)


class _Verification:
    """One run through the steps; each leaves its result for those after it."""

    def __init__(self, bundle: bytes, anchor: TrustAnchor, service: str, nonce: bytes) -> None:
        self._data = bundle
        self._anchor = anchor
        self._service = service
        self._nonce = nonce
        self._steps: list[Step] = []

    def run(self, *, requested_at: datetime, now: datetime) -> VerifiedService:
        self._step(1, "trust bundle", self._parse)
        self._step(2, "deployment", self._check_deployment)
        self._step(3, "owners of the deployment", self._check_owners)
        self._step(4, "evidence of the key service", lambda: self._check_evidence(now))
        self._step(5, "statement", self._check_statement)
        self._step(6, "checkpoint of the log", self._check_checkpoint)
        self._step(7, "entries of the log", self._check_inclusion)
        self._step(8, "history of the log", self._check_history)
        self._step(9, "policy, service and keys", self._check_entries)
        self._step(10, "policy of the service", self._check_policy)
        self._step(11, "platform", self._check_simulation)
        self._step(12, "validity", lambda: self._check_validity(requested_at, now))
        return VerifiedService(
            service=self._service,
            deployment=self._genesis.deployment,
            models=self._statement.models,
            callers=self._statement.callers,
            key_configs=self._statement.key_configs,
            expires_at=self._expires_at,
            is_simulated=self._is_simulated,
            is_fork_protected=self._authority.is_fork_protected,
            policy=self._policy,
            enclave=self._enclave,
            log_size=self._statement.log_size,
            log_root=self._statement.log_root,
            steps=tuple(self._steps),
        )

    def _step(self, number: int, title: str, check: Callable[[], str]) -> None:
        try:
            detail = check()
        except S3MLError as error:
            raise TrustBundleRejectedError(
                number=number,
                title=title,
                reason=str(error),
                mismatches=_mismatches(error),
                passed=tuple(self._steps),
            ) from error
        self._steps.append(Step(number=number, title=title, detail=detail))

    def _parse(self) -> str:  # (1)
        self._bundle = parse_document(
            self._data, TrustBundle, what="trust bundle", limit_bytes=BUNDLE_LIMIT_BYTES
        )
        self._statement = parse_document(
            self._bundle.statement.payload, TrustStatement, what="statement", limit_bytes=BUNDLE_LIMIT_BYTES
        )
        _expect("service", self._service, self._statement.service)
        return f"{len(self._data):,} bytes about service {self._service}"

    def _check_deployment(self) -> str:  # (2)
        got = deployment_id(self._bundle.genesis.entry)
        _expect("deployment", self._anchor.deployment, got)
        _expect("deployment of the statement", self._anchor.deployment, self._statement.deployment)
        return got

    def _check_owners(self) -> str:  # (3)
        self._genesis = identify_genesis(self._bundle.genesis.entry)
        chain = [proven.entry for proven in self._bundle.authority]
        self._authority = authority = follow(self._genesis, chain)
        names = ", ".join(owner.name for owner in authority.owners)
        said = f"{authority.threshold} of {len(authority.owners)} decide: {names}"
        return f"{said}; {len(chain)} change(s) since genesis" if chain else said

    def _check_evidence(self, now: datetime) -> str:  # (4)
        bundle = self._bundle
        root = inclusion_root(
            bundle.batch_index,
            bundle.batch_size,
            leaf_hash(batch_leaf(self._nonce, bundle.statement.payload)),
            bundle.batch_path,
        )
        binding = statement_binding(
            self._authority,
            batch_root=root,
            attester_nonce=bundle.attester_nonce,
            log_root=self._statement.log_root,
        )
        policy = self._anchor.key_service_policy
        self._enclave: VerifiedEnclave = verify_evidence(
            parse_evidence(bundle.evidence),
            self._authority.policy if self._anchor.follow_key_service else policy,
            report_data=binding.report_data(),
            now=now,
        )
        enclave = self._enclave
        detail = f"{enclave.tee}, measurement {enclave.measurement}, {enclave.platform}, answers our nonce"
        return f"{detail}; {SIMULATED}" if enclave.is_simulated else detail

    def _check_statement(self) -> str:  # (5)
        key = self._authority.statement_key
        self._bundle.statement.verify([key], threshold=1, payload_type=STATEMENT_TYPE)
        return f"signed by {key}"

    def _check_checkpoint(self) -> str:  # (6)
        authority, statement = self._authority, self._statement
        checkpoint = open_checkpoint(
            self._bundle.checkpoint, origin=authority.genesis.origin, key=authority.checkpoint_key
        )
        _expect("log size", checkpoint.size, statement.log_size)
        _expect("log root", checkpoint.root.hex(), statement.log_root.hex())
        _expect("is_fork_protected", authority.is_fork_protected, statement.is_fork_protected)
        cosigned = require_quorum(self._bundle.checkpoint, authority.witnesses, authority.quorum)
        protection = f"cosigned by {', '.join(cosigned)}" if authority.quorum else NOT_FORK_PROTECTED
        return f"size {checkpoint.size}, root {checkpoint.root.hex()}; {protection}"

    def _check_inclusion(self) -> str:  # (7)
        bundle = self._bundle
        _expect("index of genesis", 0, bundle.genesis.index)
        proven = (bundle.genesis, bundle.policy, bundle.service, bundle.epoch)
        for one in (*bundle.authority, *proven):
            verify_inclusion(
                one.index,
                self._statement.log_size,
                leaf_hash(one.entry),
                one.proof,
                self._statement.log_root,
            )
        return "genesis, policy, service and epoch are entries " + ", ".join(str(one.index) for one in proven)

    def _check_history(self) -> str:  # (8)
        if self._anchor.known is None:
            return "no log was seen before: this one is remembered from now on"
        size, root = self._anchor.known
        statement = self._statement
        verify_consistency(size, root, statement.log_size, statement.log_root, self._bundle.consistency)
        return f"extends the log of size {size} that was seen before"

    def _check_entries(self) -> str:  # (9)
        statement = self._statement
        policy_name, policy = self._signed("policies", self._bundle.policy)
        service_name, body = self._signed("services", self._bundle.service)
        service = parse_document(body, ServiceDocument, what="service", limit_bytes=REPLY_LIMIT_BYTES)
        epoch = self._entry_body(self._bundle.epoch)
        if not isinstance(epoch, EpochEntry):
            raise UntrustedPeerError("epoch: expected an epoch entry, got another one")
        manifests = [(envelope, read_manifest(envelope)) for envelope in service.models]
        models = tuple(
            ModelSummary(
                model=manifest.model,
                model_version=manifest.model_version,
                manifest_sha256=sha256(envelope.payload).hex(),
            )
            for envelope, manifest in manifests
        )
        digest = sha256(policy).hex()
        _expect_all(
            ("name of the service entry", self._service, service_name),
            ("name in the service", self._service, service.service),
            ("name of the policy entry", service.policy, policy_name),
            ("policy of the statement", digest, sha256(statement.policy).hex()),
            ("policy of the service", digest, service.policy_sha256),
            ("callers", service.callers, statement.callers),
            ("models", models, statement.models),
            ("service of the epoch", self._service, epoch.service),
            ("policy of the epoch", digest, epoch.policy_sha256),
            ("key configurations", sha256(epoch.key_configs).hex(), sha256(statement.key_configs).hex()),
            ("is_simulated", self._genesis.is_simulated, statement.is_simulated),
        )
        self._policy: AppraisalPolicy = read_policy(policy)
        return f"owners signed policy {policy_name} and {len(models)} model version(s); epoch {epoch.epoch}"

    def _signed(self, kind: str, proven: ProvenEntry) -> tuple[str, bytes]:
        """Return name and body of a resource of `kind` that enough owners signed."""
        body = self._entry_body(proven)
        if not isinstance(body, ControlEntry):
            raise UntrustedPeerError(f"{kind}: expected a control entry, got another one")
        chain = [one.entry for one in self._bundle.authority]
        authority = follow(self._genesis, chain, before=proven.index)
        control = open_control(body.statement, body.body, authority)
        resource_kind, _, name = control.resource.partition("/")
        _expect(f"kind of entry {proven.index}", kind, resource_kind)
        return name, body.body

    def _entry_body(self, proven: ProvenEntry) -> object:
        entry = parse_entry(proven.entry)
        _expect("index of the entry", proven.index, entry.index)
        _expect("deployment of the entry", self._genesis.deployment, entry.deployment)
        return entry.body

    def _check_policy(self) -> str:  # (10)
        own = self._anchor.service_policies.get(self._service)
        if own is None:
            if not self._anchor.follow_owners:
                raise UntrustedPeerError(
                    f"expected our own policy for {self._service}, or to follow the owners, got neither"
                )
            return "follows whatever the deployment's owners signed"
        excess = widenings(self._policy, own)
        if excess:
            raise RefusedError(
                "wider than our own",
                [mismatch("service policy", expected="at most our own policy", got=line) for line in excess],
            )
        return "at most as wide as our own"

    def _check_simulation(self) -> str:  # (11)
        self._is_simulated = (
            self._genesis.is_simulated or self._enclave.is_simulated or self._policy.is_simulated
        )
        if self._is_simulated and not self._anchor.allow_simulated:
            raise UntrustedPeerError("expected a real TEE, got a simulated one, which protects nothing")
        return SIMULATED if self._is_simulated else f"{self._enclave.tee}, nothing simulated"

    def _check_validity(self, requested_at: datetime, now: datetime) -> str:  # (12)
        limit = requested_at + timedelta(seconds=self._anchor.max_age_s)
        self._expires_at = min(self._statement.not_after, limit)
        if self._expires_at <= now:
            raise UntrustedPeerError(
                f"expected to hold at {now:%Y-%m-%dT%H:%M:%SZ}, got an end at "
                f"{self._expires_at:%Y-%m-%dT%H:%M:%SZ}: compare the clocks"
            )
        return f"until {self._expires_at:%Y-%m-%dT%H:%M:%SZ}"


def _expect(claim: str, expected: object, got: object) -> None:
    _expect_all((claim, expected, got))


def _expect_all(*claims: tuple[str, object, object]) -> None:
    failed = [mismatch(claim, expected=a, got=b) for claim, a, b in claims if a != b]
    if failed:
        raise RefusedError("does not agree", failed)


def _mismatches(error: S3MLError) -> tuple[Mismatch, ...]:
    if isinstance(error, RefusedError):
        return error.mismatches
    if isinstance(error, EvidenceRejectedError):
        return tuple(mismatch(m.claim, expected=m.expected, got=m.got) for m in error.mismatches)
    return ()
