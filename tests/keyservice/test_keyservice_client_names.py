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
            "Step",
            "TrustAnchor",
            "TrustBundleRejectedError",
            "VerifiedService",
            "control_message",
            "follow",
            "identify_genesis",
            "model_manifest",
            "seal_identity",
            "verify_genesis_reply",
            "verify_trust_bundle",
        ]
        assert all(hasattr(client, name) for name in client.__all__)
