"""The names that others build on."""

from s3ml.keyservice import client


class TestNames:
    def test_they_are_these(self) -> None:
        assert client.__all__ == [
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
        assert all(hasattr(client, name) for name in client.__all__)
