"""SGX under Intel's root: the root itself, and a quote of a real processor where one is at hand."""

import json
import os
from datetime import UTC, datetime
from importlib.metadata import files
from pathlib import Path

import pytest
from cryptography import x509

from s3ml.attestation import Alternative, AppraisalPolicy, Collateral, Evidence, EvidenceRejectedError, Tee
from s3ml.attestation.verify import SgxClaims, verify_evidence
from s3ml.attestation.verify.intel.root import INTEL_ROOT_DER

MEASUREMENT = "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"
REPORT_DATA = b"Hello, world!".ljust(64, b"\x00")
WITHIN = datetime(2025, 6, 20, 12, 0, tzinfo=UTC)
POLICY = AppraisalPolicy(
    accept=(
        Alternative(
            tee=Tee.SGX,
            measurements=(MEASUREMENT,),
            tcb_statuses=("ConfigurationAndSWHardeningNeeded",),
            advisories=("INTEL-SA-00289", "INTEL-SA-00615"),
        ),
    )
)


class TestIntelRoot:
    """The compiled-in root is Intel's."""

    def test_it_signed_itself(self) -> None:
        certificate = x509.load_der_x509_certificate(INTEL_ROOT_DER)
        certificate.verify_directly_issued_by(certificate)
        assert "CN=Intel SGX Root CA" in certificate.subject.rfc4514_string()

    def test_dcap_qvl_has_the_same(self) -> None:
        """The verifier's binary holds the certificate that this package compares chains with."""
        binaries = [file for file in files("dcap-qvl") or () if file.suffix == ".so"]
        assert len(binaries) == 1
        assert INTEL_ROOT_DER in Path(str(binaries[0].locate())).read_bytes()


@pytest.fixture
def real() -> Evidence:
    """Evidence of a real processor, of June 2025."""
    folder = os.environ.get("S3ML_FIXTURES")
    if not folder:
        pytest.skip("S3ML_FIXTURES names no folder with quotes/sgx_quote and its collateral")
    quotes = Path(folder) / "quotes"
    collateral = json.loads((quotes / "sgx_quote_collateral.json").read_text())
    for name in ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature"):
        collateral[name] = bytes.fromhex(collateral[name])
    quote = (quotes / "sgx_quote").read_bytes()
    return Evidence(tee=Tee.SGX, quote=quote, collateral=Collateral(**collateral))


class TestRealProcessor:
    """Intel's own signatures verify, and only within their time and the policy."""

    def test_a_real_quote(self, real: Evidence, subtests: pytest.Subtests) -> None:
        with subtests.test("it is accepted"):
            enclave = verify_evidence(real, POLICY, report_data=REPORT_DATA, now=WITHIN)
            assert (enclave.measurement, enclave.is_simulated) == (MEASUREMENT, False)
            assert isinstance(enclave.claims, SgxClaims)
            assert enclave.claims.tcb.evaluation_data_number == 17
        for year in (2024, 2027):
            now = datetime(year, 1, 1, tzinfo=UTC)
            with (
                subtests.test("it is rejected outside its time", year=year),
                pytest.raises(EvidenceRejectedError, match="collateral_validity"),
            ):
                verify_evidence(real, POLICY, report_data=REPORT_DATA, now=now)
        with subtests.test("its status is not tolerated by default"):
            strict = AppraisalPolicy(accept=(Alternative(tee=Tee.SGX, measurements=(MEASUREMENT,)),))
            with pytest.raises(EvidenceRejectedError) as rejected:
                verify_evidence(real, strict, report_data=REPORT_DATA, now=WITHIN)
            assert [m.claim for m in rejected.value.mismatches] == ["tcb_status", "advisories"]
