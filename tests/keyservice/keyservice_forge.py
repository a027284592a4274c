"""Makes trust bundles that are wrong in exactly one thing."""

from collections.abc import Callable
from typing import Any

import msgspec

from s3ml.attestation import encode_evidence
from s3ml.keyservice.bindings import batch_leaf, statement_binding
from s3ml.keyservice.documents import (
    STATEMENT_TYPE,
    ControlEntry,
    EpochEntry,
    LogEntry,
    ProvenEntry,
    TrustBundle,
    TrustStatement,
)
from s3ml.keyservice.log import parse_entry
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.signing import SigningKey
from s3ml.transparency.checkpoint import Checkpoint, sign_checkpoint
from s3ml.transparency.merkle import Tree, leaf_hash
from tests.keyservice.keyservice_world import (
    KEY_SERVICE_CODE,
    NONCE,
    InProcessAttester,
    World,
)

Edit = Callable[[Any], Any]


class Forge:
    """Makes bundles with the deployment's own keys and an honest TEE, but with one thing changed.

    What it makes holds in every other step, so that a rejection is due to that one thing.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.keys = world.keyring.deployment
        self.entries = [parse_entry(data) for data in world.storage.entries(0, 100)]
        self.data = world.storage.entries(0, 100)

    def entry(self, index: int, edit: Edit) -> None:
        entry: LogEntry = edit(self.entries[index])
        self.data[index] = encode_document(entry)

    def body(self, index: int, edit: Edit) -> None:
        self.entry(index, lambda entry: msgspec.structs.replace(entry, body=edit(entry.body)))

    def make(
        self,
        *,
        statement: Edit = lambda found: found,
        bundle: Edit = lambda found: found,
        checkpoint: Edit = lambda found: found,
        statement_key: SigningKey | None = None,
        statement_type: str = STATEMENT_TYPE,
        order: tuple[int, int, int, int] = (0, 1, 2, 3),
        attester: InProcessAttester | None = None,
    ) -> bytes:
        tree = Tree(leaf_hash(data) for data in self.data)
        size, root, world = len(tree), tree.root(), self.world
        policy, service, epoch = (parse_entry(self.data[i]).body for i in (1, 2, 3))
        assert isinstance(policy, ControlEntry)
        assert isinstance(service, ControlEntry)
        real = msgspec.json.decode(self.original().statement.payload, type=TrustStatement)
        honest = msgspec.structs.replace(
            real,
            log_size=size,
            log_root=root,
            policy=policy.body,
            key_configs=epoch.key_configs if isinstance(epoch, EpochEntry) else real.key_configs,
        )
        payload = encode_document(statement(honest))
        envelope = Envelope(payload_type=statement_type, payload=payload).with_signature(
            statement_key or self.keys.statement
        )
        batch = Tree([leaf_hash(batch_leaf(NONCE, payload))])
        genesis = world.genesis
        log_root = msgspec.json.decode(payload, type=TrustStatement).log_root
        report = statement_binding(
            world.view.authority, batch_root=batch.root(), attester_nonce=bytes(32), log_root=log_root
        ).report_data()
        evidence = (attester or InProcessAttester(KEY_SERVICE_CODE)).quote(report)
        head = checkpoint(Checkpoint(origin=genesis.origin, size=size, root=root))
        proven = [
            ProvenEntry(index=index, entry=self.data[index], proof=tree.inclusion(index, size))
            for index in order
        ]
        made = TrustBundle(
            evidence=encode_evidence(evidence),
            attester_nonce=bytes(32),
            batch_index=0,
            batch_size=1,
            batch_path=(),
            statement=envelope,
            checkpoint=sign_checkpoint(head, self.keys.checkpoint),
            genesis=proven[0],
            policy=proven[1],
            service=proven[2],
            epoch=proven[3],
        )
        return encode_document(bundle(made))

    def original(self) -> TrustBundle:
        return msgspec.json.decode(self.bundle_bytes, type=TrustBundle)

    bundle_bytes: bytes = b""
