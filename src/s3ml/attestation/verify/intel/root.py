"""The root of trust of a quote: Intel's, or a simulated one that the caller's own policy names.

Intel's is compiled in twice, here and in dcap-qvl, and both must agree; nothing configures it.

Source: Intel SGX Root CA, as published at certificates.trustedservices.intel.com.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from dcap_qvl import QuoteVerifier

from s3ml.attestation.verify.certificates import RootOfTrust, root_of_trust

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A root of trust, and dcap-qvl's verifier for it."""

    root: RootOfTrust
    verifier: QuoteVerifier


def choose_anchor(claimed: bytes, simulated: Sequence[bytes] | None) -> Anchor:
    """Return the root that a quote has to verify under.

    Args:
        claimed: The root of the quote's own chain, DER. It only picks among `simulated`; where it is none of
            them, the first of those is used, and rejects.
        simulated: The simulation roots that the caller's policy names, DER, at least one; None for Intel's.
    """
    if simulated is None:
        return _INTEL
    return _anchor(claimed if claimed in simulated else simulated[0])


@lru_cache(maxsize=32)
def _anchor(root: bytes) -> Anchor:
    return Anchor(root=root_of_trust(root), verifier=QuoteVerifier(root))


_INTEL = Anchor(root=root_of_trust(INTEL_ROOT_DER), verifier=QuoteVerifier(None))
