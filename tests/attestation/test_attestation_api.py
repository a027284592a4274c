"""What the package offers by name."""

import subprocess
import sys

import s3ml.attestation
import s3ml.attestation.generate
import s3ml.attestation.verify


class TestNames:
    """The names that others import are these, and all of them exist."""

    def test_attestation(self) -> None:
        assert set(s3ml.attestation.__all__) == {
            "MEDIA_TYPE",
            "Alternative",
            "AppraisalPolicy",
            "Attester",
            "Binding",
            "Collateral",
            "Evidence",
            "EvidenceMalformedError",
            "EvidenceRejectedError",
            "Mismatch",
            "RuntimeEvent",
            "SnpCertificates",
            "SnpTcb",
            "Step",
            "Technology",
            "Tee",
            "VerdictCache",
            "VerifiedEnclave",
            "Verifier",
            "encode_evidence",
            "encode_policy",
            "is_narrower_or_equal",
            "parse_evidence",
            "parse_policy",
            "policy_from_table",
            "policy_to_table",
            "verify_evidence",
            "widenings",
        }
        assert all(hasattr(s3ml.attestation, name) for name in s3ml.attestation.__all__)

    def test_verify(self) -> None:
        assert s3ml.attestation.verify.__all__ == [
            "IntelTcb",
            "SgxClaims",
            "SnpClaims",
            "Step",
            "TdxClaims",
            "VerdictCache",
            "VerifiedEnclave",
            "Verifier",
            "verify_evidence",
        ]

    def test_generate(self) -> None:
        assert s3ml.attestation.generate.__all__ == [
            "Attester",
            "CollateralSource",
            "Directory",
            "GramineAttester",
            "SealingAbsentError",
            "SnpAttester",
            "TdxAttester",
        ]


class TestProductionImage:
    """A production image leaves the simulation out."""

    def test_verification_works_without_it(self) -> None:
        program = "import sys; sys.modules['s3ml.attestation.simulated'] = None; import s3ml.attestation"
        subprocess.run([sys.executable, "-c", program], check=True, timeout=300)
