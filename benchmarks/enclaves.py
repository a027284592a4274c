"""Enclaves that benchmarks play: the quoting key of a simulated platform, held in this process.

Their quotes are real SGX v3 quotes under a simulated root. How long a TEE takes for a quote can be added.
"""

import hashlib
import secrets
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from s3ml.attestation import Alternative, AppraisalPolicy, Evidence, Tee
from s3ml.attestation.simulated.collateral import CPU_SVN, FMSPC, PCE_ID, PCE_SVN
from s3ml.attestation.simulated.pki import SimulatedPKI, issue_certificate
from s3ml.attestation.simulated.quote import EnclaveReport, render_quote
from s3ml.attestation.simulated.sgx_extension import PlatformIdentity, sgx_extension
from s3ml.primitives.secret import SecretBytes

KEY_SERVICE, MODEL_SERVER = b"key service", b"model server"
AGE = timedelta(days=1)


def create_vendor() -> SimulatedPKI:
    """Make a simulated vendor's keys and one platform's, valid since yesterday."""
    return SimulatedPKI.create(datetime.now(UTC) - AGE)


def other_platform(pki: SimulatedPKI) -> SimulatedPKI:
    """Return another platform of the same vendor: a PCK certificate and an attestation key of its own."""
    identity = PlatformIdentity(
        ppid=secrets.token_bytes(16),
        cpu_svn=CPU_SVN,
        pce_svn=PCE_SVN,
        pce_id=PCE_ID,
        fmspc=FMSPC,
        instance_id=secrets.token_bytes(16),
    )
    pck = issue_certificate(
        "SGX PCK Certificate",
        datetime.now(UTC) - AGE,
        issuer=pki.pck_ca,
        extension=sgx_extension(identity),
    )
    return replace(pki, pck=pck, attestation_key=ec.generate_private_key(ec.SECP256R1()))


class PlayedEnclave:
    """An enclave that measures as `code`; satisfies `Attester`.

    Args:
        pki: Of its platform.
        code: What is measured.
        quote_s: What a quote takes beside its signature, in seconds.
    """

    tee = Tee.SIMULATED

    def __init__(self, pki: SimulatedPKI, code: bytes, *, quote_s: float = 0.0) -> None:
        self._pki = pki
        self._code = hashlib.sha256(code).digest()
        self._quote_s = quote_s
        self._collateral = pki.collateral(datetime.now(UTC) - timedelta(hours=1))

    @property
    def policy(self) -> AppraisalPolicy:
        """What accepts this enclave, on any platform of its vendor, and no other."""
        root, measurements = self._pki.root_der, (self._code.hex(),)
        return AppraisalPolicy(accept=(Alternative(tee=Tee.SIMULATED, root=root, measurements=measurements),))

    def quote(self, report_data: bytes) -> Evidence:
        """Return evidence over `report_data`."""
        if self._quote_s:
            time.sleep(self._quote_s)
        report = EnclaveReport(
            measurement=self._code, signer=bytes(32), product_id=1, svn=1, report_data=report_data
        )
        return Evidence(tee=Tee.SIMULATED, quote=render_quote(self._pki, report), collateral=self._collateral)

    def sealing_key(self) -> SecretBytes:
        """Return a key of this code."""
        return SecretBytes(hashlib.sha256(b"sealing" + self._code).digest())
