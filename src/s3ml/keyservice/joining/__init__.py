"""How a fresh or restarted replica gets the secrets that live in replicas, from one that serves.

Both attest. Sans I/O; what the secrets are is not known here.

Source: docs/spec/join.md.
"""

from s3ml.keyservice.joining.endpoint import JoinEndpoint
from s3ml.keyservice.joining.session import JoinSession, OpenedJoin
from s3ml.keyservice.joining.source import (
    AdmittedJoiner,
    JoinSource,
    OpenOffer,
    SealedJoin,
    VerifiedJoiner,
    seal,
    verify_joiner,
)
from s3ml.keyservice.joining.standing import Reading, ServingStanding

__all__ = [
    "AdmittedJoiner",
    "JoinEndpoint",
    "JoinSession",
    "JoinSource",
    "OpenOffer",
    "OpenedJoin",
    "Reading",
    "SealedJoin",
    "ServingStanding",
    "VerifiedJoiner",
    "seal",
    "verify_joiner",
]
