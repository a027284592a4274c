"""The signature rules of control messages, which the key service and every client apply alike.

Source: docs/spec/control-message.md.
"""

import hashlib

from s3ml.keyservice.authority import Authority
from s3ml.keyservice.documents import CONTROL_TYPE, MANIFEST_TYPE, ControlStatement, ModelManifest
from s3ml.keyservice.errors import RefusedError, mismatch
from s3ml.keyservice.fields import REQUEST_LIMIT_BYTES
from s3ml.keyservice.parsing import parse_document
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import MIB

BODY_LIMIT_BYTES = MIB


def open_control(statement: Envelope, body: bytes, authority: Authority) -> ControlStatement:
    """Return what a control message changes, once its signatures and its body hold.

    1. The body is at most 1 MiB.
    2. k of n owners signed the statement's bytes.
    3. The statement is for this deployment.
    4. The body is the one that the statement names.

    Not checked here: the resource's version, the nonce, and what the body says.

    Args:
        statement: From an untrusted peer.
        body: From an untrusted peer.
        authority: Names the owners and the threshold.

    Raises:
        ConfigurationError: (1) fails, or what was signed is no statement.
        SignatureError: (2) fails.
        RefusedError: (3) or (4) fails; all mismatches are listed.
    """
    if len(body) > BODY_LIMIT_BYTES:  # (1)
        raise ConfigurationError(f"body: expected at most {BODY_LIMIT_BYTES} bytes, got {len(body)}")
    payload = statement.verify(  # (2)
        authority.owner_keys, threshold=authority.threshold, payload_type=CONTROL_TYPE
    )
    opened = parse_document(
        payload, ControlStatement, what="control statement", limit_bytes=REQUEST_LIMIT_BYTES
    )
    mismatches = []
    if opened.deployment != authority.deployment:  # (3)
        mismatches.append(mismatch("deployment", expected=authority.deployment, got=opened.deployment))
    digest = hashlib.sha256(body).hexdigest()
    if opened.body_sha256 != digest:  # (4)
        mismatches.append(mismatch("body_sha256", expected=opened.body_sha256, got=digest))
    if mismatches:
        raise RefusedError("control message", mismatches)
    return opened


def read_manifest(envelope: Envelope) -> ModelManifest:
    """Return what a model owner's manifest says; its signature is not judged.

    Raises:
        ConfigurationError: it is no manifest.
    """
    if envelope.payload_type != MANIFEST_TYPE:
        raise ConfigurationError(f"manifest: expected {MANIFEST_TYPE}, got {envelope.payload_type[:100]}")
    return parse_document(
        envelope.payload, ModelManifest, what="model manifest", limit_bytes=REQUEST_LIMIT_BYTES
    )
