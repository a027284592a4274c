"""What owners sign about the deployment itself, and about keys on demand: bodies of control messages.

Source: docs/spec/control-message.md.
"""

from typing import Annotated, Literal

import msgspec

from s3ml.keyservice.documents.document import Document
from s3ml.keyservice.documents.governance import Owners, PolicyBytes, Quorum, Threshold, Witnesses
from s3ml.keyservice.fields import Digest, Hash, Instant, Name, Nonce, Version1

ACKNOWLEDGEMENT_TYPE = "application/vnd.s3ml.acknowledgement.v1+json"


class OwnersDocument(Document, frozen=True, kw_only=True):
    """The body of ``PUT deployment/owners``: who decides from now on; signed by old and new owners alike."""

    version: Version1 = 1
    owners: Owners
    threshold: Threshold


class WitnessesDocument(Document, frozen=True, kw_only=True):
    """The body of ``PUT deployment/witnesses``: whose cosignatures make a head committed."""

    version: Version1 = 1
    witnesses: Witnesses
    witness_quorum: Quorum


class KeyServiceDocument(Document, frozen=True, kw_only=True):
    """The body of ``PUT deployment/key-service``: which code may be the key service from now on."""

    version: Version1 = 1
    policy: PolicyBytes


class RotationDocument(Document, frozen=True, kw_only=True):
    """The body of ``PUT rotations/{service}``: new keys, now.

    ``drain`` lets what was sealed to the old keys be answered; ``discard`` retires them at once.
    """

    version: Version1 = 1
    service: Name
    retire: Literal["drain", "discard"]


class Acknowledgement(Document, frozen=True, kw_only=True):
    """What k of n owners sign: this head is the newest, and this process may serve it (DSSE payload).

    With `successors` it also names the witnesses from now on, whose quorum alone counts for the head that it
    begins: where those before are lost for good, or know a newer log that is lost.
    """

    version: Version1 = 1
    deployment: Digest
    nonce: Nonce
    log_size: Annotated[int, msgspec.Meta(ge=1)]
    log_root: Hash
    created_at: Instant
    successors: WitnessesDocument | None = None
