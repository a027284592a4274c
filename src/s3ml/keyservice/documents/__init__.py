"""Every document that the key service signs, stores or sends, as exact types.

JSON, UTF-8; bytes as standard base64, digests as 64 lower-case hexadecimal digits, instants as RFC 3339
in UTC. Unknown fields reject. What is hashed or signed is always the delivered bytes, never their
re-serialisation.

Source: docs/spec/log.md, docs/spec/control-message.md, docs/spec/release.md, docs/spec/trust-bundle.md.
"""

from s3ml.keyservice.documents.document import Document
from s3ml.keyservice.documents.entries import (
    AuditRecord,
    ControlEntry,
    EpochEntry,
    GenesisEntry,
    LogEntry,
    ReleasesEntry,
)
from s3ml.keyservice.documents.governance import (
    CONTROL_TYPE,
    MANIFEST_TYPE,
    PROPOSAL_TYPE,
    ControlMessage,
    ControlStatement,
    DeploymentKeys,
    ModelManifest,
    Owner,
    Proposal,
    ServiceDocument,
)
from s3ml.keyservice.documents.release import (
    RELEASE_TYPE,
    ChallengeReply,
    ChallengeRequest,
    Release,
    ReleasedEpoch,
    ReleasedKey,
    ReleasedModel,
    ReleaseReply,
    ReleaseRequest,
)
from s3ml.keyservice.documents.replies import (
    ControlReply,
    DeploymentReply,
    EntriesReply,
    ErrorReply,
    GenesisReply,
    GenesisRequest,
    Mismatch,
    ResourceReply,
    ResourcesReply,
)
from s3ml.keyservice.documents.trust import (
    STATEMENT_TYPE,
    ModelSummary,
    ProvenEntry,
    TrustBundle,
    TrustBundleRequest,
    TrustStatement,
)

__all__ = [
    "CONTROL_TYPE",
    "MANIFEST_TYPE",
    "PROPOSAL_TYPE",
    "RELEASE_TYPE",
    "STATEMENT_TYPE",
    "AuditRecord",
    "ChallengeReply",
    "ChallengeRequest",
    "ControlEntry",
    "ControlMessage",
    "ControlReply",
    "ControlStatement",
    "DeploymentKeys",
    "DeploymentReply",
    "Document",
    "EntriesReply",
    "EpochEntry",
    "ErrorReply",
    "GenesisEntry",
    "GenesisReply",
    "GenesisRequest",
    "LogEntry",
    "Mismatch",
    "ModelManifest",
    "ModelSummary",
    "Owner",
    "Proposal",
    "ProvenEntry",
    "Release",
    "ReleaseReply",
    "ReleaseRequest",
    "ReleasedEpoch",
    "ReleasedKey",
    "ReleasedModel",
    "ReleasesEntry",
    "ResourceReply",
    "ResourcesReply",
    "ServiceDocument",
    "TrustBundle",
    "TrustBundleRequest",
    "TrustStatement",
]
