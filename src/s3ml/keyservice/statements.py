"""What the key service tells clients of a service: statements, and bundles that prove them.

Source: docs/spec/trust-bundle.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from s3ml.keyservice.bindings import batch_leaf
from s3ml.keyservice.documents import (
    STATEMENT_TYPE,
    ModelSummary,
    ProvenEntry,
    TrustBundle,
    TrustBundleRequest,
    TrustStatement,
)
from s3ml.keyservice.epochs import NO_EPOCHS, EpochState
from s3ml.keyservice.errors import GenerationMissingError
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.releases import served
from s3ml.keyservice.replaying import View, prove_history
from s3ml.primitives.encoding import sha256
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import S3MLError
from s3ml.primitives.signing import SigningKey
from s3ml.transparency.merkle import Tree, leaf_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """A signed statement about a service, with the entries that prove it."""

    statement: Envelope
    genesis: ProvenEntry
    authority: tuple[ProvenEntry, ...]
    policy: ProvenEntry
    service: ProvenEntry
    epoch: ProvenEntry


def state_service(view: View, name: str, key: SigningKey, now: datetime) -> Stated:
    """Sign what holds of the service `name` at `view`.

    Raises:
        NotFoundError: there is no such service, or no deployment.
        ConflictError: its policy was replaced since it was signed.
        GenerationMissingError: it has no active keys yet.
    """
    found, authority = served(view, name), view.authority
    epoch = view.state.epochs.get(name, NO_EPOCHS).at(EpochState.ACTIVE)
    if epoch is None:
        raise GenerationMissingError(f"service {name}: has no active keys yet", retry_after_s=1.0)
    terms = found.service.terms
    statement = TrustStatement(
        deployment=authority.deployment,
        service=name,
        policy=found.policy.place.body,
        callers=terms.document.callers,
        models=tuple(
            ModelSummary(
                model=manifest.model,
                model_version=manifest.model_version,
                manifest_sha256=sha256(envelope.payload).hex(),
            )
            for manifest, envelope in zip(terms.manifests, terms.document.models, strict=True)
        ),
        key_configs=epoch.key_configs,
        issued_at=now,
        not_after=now + timedelta(seconds=terms.document.times.bundle_s),
        log_size=view.size,
        log_root=view.root,
        is_simulated=authority.is_simulated,
        is_fork_protected=authority.is_fork_protected,
    )
    envelope = Envelope(payload_type=STATEMENT_TYPE, payload=encode_document(statement))
    return Stated(
        statement=envelope.with_signature(key),
        genesis=_prove(view, 0, authority.genesis.entry),
        authority=tuple(_prove(view, index, data) for index, data in authority.chain),
        policy=_prove(view, found.policy.place.index, found.policy.place.data),
        service=_prove(view, found.service.place.index, found.service.place.data),
        epoch=_prove(view, epoch.index, epoch.data),
    )


class Batch:
    """The questions of one batch that can be answered, and the tree over their nonces.

    Args:
        view: What the answers are about.
        requests: From untrusted clients.
        key: Signs the statements.
        now: Aware UTC.

    Attributes:
        errors: Why a request cannot be answered, by its position.
    """

    def __init__(
        self, view: View, requests: Sequence[TrustBundleRequest], key: SigningKey, now: datetime
    ) -> None:
        self._view = view
        self._requests = requests
        self.errors: dict[int, S3MLError] = {}
        self._stated: dict[str, Stated] = {}
        self._leaves: dict[int, int] = {}
        self._tree = Tree()
        for position, request in enumerate(requests):
            try:
                stated = self._state(request, key, now)
            except S3MLError as error:
                self.errors[position] = error
                continue
            self._leaves[position] = len(self._tree)
            self._tree.append(leaf_hash(batch_leaf(request.nonce, stated.statement.payload)))

    @property
    def leaves(self) -> Mapping[int, int]:
        """The leaf of each request that can be answered, by the request's position."""
        return self._leaves

    @property
    def root(self) -> bytes:
        """What the quote binds as the verifier's nonce."""
        return self._tree.root()

    def bundle(self, position: int, *, evidence: bytes, attester_nonce: bytes) -> bytes:
        """Return the trust bundle that answers the request at `position`."""
        request, leaf = self._requests[position], self._leaves[position]
        stated = self._stated[request.service]
        view = self._view
        return encode_document(
            TrustBundle(
                evidence=evidence,
                attester_nonce=attester_nonce,
                batch_index=leaf,
                batch_size=len(self._tree),
                batch_path=self._tree.inclusion(leaf, len(self._tree)),
                statement=stated.statement,
                checkpoint=view.checkpoint,
                consistency=prove_history(view, request.known_size),
                genesis=stated.genesis,
                authority=stated.authority,
                policy=stated.policy,
                service=stated.service,
                epoch=stated.epoch,
            )
        )

    def _state(self, request: TrustBundleRequest, key: SigningKey, now: datetime) -> Stated:
        view = self._view
        prove_history(view, request.known_size)
        if request.service not in self._stated:
            self._stated[request.service] = state_service(view, request.service, key, now)
        return self._stated[request.service]


def _prove(view: View, index: int, entry: bytes) -> ProvenEntry:
    return ProvenEntry(index=index, entry=entry, proof=view.tree.inclusion(index, view.size))
