"""SGX: quotes of real processors, under Intel's root and no other.

The root is compiled in twice, here and in dcap-qvl, and both must agree; nothing configures it.

Source: Intel SGX Root CA, as published at certificates.trustedservices.intel.com.
"""

import base64
from collections.abc import Sequence
from datetime import datetime

from dcap_qvl import QuoteVerifier

from s3ml.attestation.evidence import Evidence
from s3ml.attestation.policy import Alternative
from s3ml.attestation.verify.certificates import ChainReader, root_of_trust
from s3ml.attestation.verify.enclave import verify_under_root
from s3ml.attestation.verify.result import VerifiedEnclave
from s3ml.attestation.verify.sgx_quote import parse_sgx_quote

INTEL_ROOT_DER = base64.b64decode(
    "MIICjzCCAjSgAwIBAgIUImUM1lqdNInzg7SVUr9QGzknBqwwCgYIKoZIzj0EAwIwaDEaMBgGA1UEAwwRSW50ZWwgU0dY"
    "IFJvb3QgQ0ExGjAYBgNVBAoMEUludGVsIENvcnBvcmF0aW9uMRQwEgYDVQQHDAtTYW50YSBDbGFyYTELMAkGA1UECAwC"
    "Q0ExCzAJBgNVBAYTAlVTMB4XDTE4MDUyMTEwNDUxMFoXDTQ5MTIzMTIzNTk1OVowaDEaMBgGA1UEAwwRSW50ZWwgU0dY"
    "IFJvb3QgQ0ExGjAYBgNVBAoMEUludGVsIENvcnBvcmF0aW9uMRQwEgYDVQQHDAtTYW50YSBDbGFyYTELMAkGA1UECAwC"
    "Q0ExCzAJBgNVBAYTAlVTMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEC6nEwMDIYZOj/iPWsCzaEKi71OiOSLRFhWGj"
    "bnBVJfVnkY4u3IjkDYYL0MxO4mqsyYjlBalTVYxFP2sJBK5zlKOBuzCBuDAfBgNVHSMEGDAWgBQiZQzWWp00ifODtJVS"
    "v1AbOScGrDBSBgNVHR8ESzBJMEegRaBDhkFodHRwczovL2NlcnRpZmljYXRlcy50cnVzdGVkc2VydmljZXMuaW50ZWwu"
    "Y29tL0ludGVsU0dYUm9vdENBLmRlcjAdBgNVHQ4EFgQUImUM1lqdNInzg7SVUr9QGzknBqwwDgYDVR0PAQH/BAQDAgEG"
    "MBIGA1UdEwEB/wQIMAYBAf8CAQEwCgYIKoZIzj0EAwIDSQAwRgIhAOW/5QkR+S9CiSDcNoowLuPRLsWGf/Yi7GSX94Bg"
    "wTwgAiEA4J0lrHoMs+Xo5o/sX6O9QWxHRAvZUGOdRQ7cvqRXaqI="
)
_VERIFIER = QuoteVerifier(None)


def verify_sgx(
    evidence: Evidence, alternatives: Sequence[Alternative], *, report_data: bytes, now: datetime
) -> VerifiedEnclave:
    """Verify SGX evidence under Intel's root; arguments and errors are those of `verify_evidence`."""
    return verify_under_root(
        evidence,
        parse_sgx_quote(evidence.quote),
        alternatives,
        chains=ChainReader(),
        root=root_of_trust(INTEL_ROOT_DER),
        verifier=_VERIFIER,
        report_data=report_data,
        now=now,
    )
