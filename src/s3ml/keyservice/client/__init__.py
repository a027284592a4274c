"""What others use of the key service: verify its bundles and releases, write what it accepts, reach it.

Everything but `KeyServiceClient` is sans I/O.
"""

from s3ml.keyservice.authority import Authority
from s3ml.keyservice.client.anchor import Step, TrustAnchor, TrustBundleRejectedError, VerifiedService
from s3ml.keyservice.client.authoring import control_message, model_manifest, seal_identity
from s3ml.keyservice.client.exchange import KeyServiceRefusedError, KeyServiceUnavailableError
from s3ml.keyservice.client.genesis import verify_genesis_reply
from s3ml.keyservice.client.http import KeyServiceClient
from s3ml.keyservice.client.release import OpenedRelease, ReleaseSession
from s3ml.keyservice.client.secrets import SealedSecret, find_secret, is_committed, seal_secret
from s3ml.keyservice.client.trust_bundle import verify_trust_bundle
from s3ml.keyservice.following import follow
from s3ml.keyservice.genesis import Genesis, identify_genesis

__all__ = [
    "Authority",
    "Genesis",
    "KeyServiceClient",
    "KeyServiceRefusedError",
    "KeyServiceUnavailableError",
    "OpenedRelease",
    "ReleaseSession",
    "SealedSecret",
    "Step",
    "TrustAnchor",
    "TrustBundleRejectedError",
    "VerifiedService",
    "control_message",
    "find_secret",
    "follow",
    "identify_genesis",
    "is_committed",
    "model_manifest",
    "seal_identity",
    "seal_secret",
    "verify_genesis_reply",
    "verify_trust_bundle",
]
