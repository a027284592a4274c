"""A simulated vendor, platform and enclave, honest until a test replaces one piece."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from s3ml.attestation import (
    Alternative,
    AppraisalPolicy,
    Collateral,
    Evidence,
    EvidenceRejectedError,
    Tee,
    VerifiedEnclave,
    verify_evidence,
)
from s3ml.attestation.simulated.collateral import (
    QE_MEASUREMENT,
    QE_PRODUCT_ID,
    QE_SIGNER,
    QE_SVN,
    Authority,
    TcbState,
    encode_signed,
    sign_raw,
)
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.simulated.quote import (
    AUTHENTICATION_DATA,
    EnclaveReport,
    assemble_quote,
    encode_header,
    public_point,
)
from s3ml.attestation.verify.intel.sgx_report import FLAG_INIT, FLAG_MODE64BIT, FLAG_PROVISION_KEY

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ISSUED = NOW - timedelta(hours=1)
MEASUREMENT = hashlib.sha256(b"the code").digest()
SIGNER = hashlib.sha256(b"the signer").digest()
REPORT_DATA = hashlib.sha512(b"the request").digest()

Edit = Callable[[dict[str, Any]], object]


def honest_report(**changes: Any) -> EnclaveReport:
    report = EnclaveReport(
        measurement=MEASUREMENT, signer=SIGNER, product_id=7, svn=5, report_data=REPORT_DATA
    )
    return replace(report, **changes)


def honest_quoting_enclave(attestation_key: ec.EllipticCurvePrivateKey, **changes: Any) -> EnclaveReport:
    endorsement = hashlib.sha256(public_point(attestation_key) + AUTHENTICATION_DATA).digest()
    report = EnclaveReport(
        measurement=QE_MEASUREMENT,
        signer=QE_SIGNER,
        product_id=QE_PRODUCT_ID,
        svn=QE_SVN,
        report_data=endorsement + bytes(32),
        flags=FLAG_INIT | FLAG_MODE64BIT | FLAG_PROVISION_KEY,
    )
    return replace(report, **changes)


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything that evidence, its verifier and the time consist of; `with_` replaces some of it."""

    pki: SimulatedPKI
    quote: bytes
    collateral: Collateral | None
    tee: Tee = Tee.SIMULATED
    event_log: bytes | None = None
    policy: AppraisalPolicy
    report_data: bytes = REPORT_DATA
    now: datetime = NOW

    @classmethod
    def honest(cls, pki: SimulatedPKI) -> "World":
        return cls(
            pki=pki,
            quote=quoted(pki),
            collateral=pki.collateral(ISSUED),
            policy=AppraisalPolicy(
                accept=(Alternative(tee=Tee.SIMULATED, root=pki.root_der, measurements=(MEASUREMENT.hex(),)),)
            ),
        )

    @property
    def evidence(self) -> Evidence:
        return Evidence(tee=self.tee, quote=self.quote, collateral=self.collateral, event_log=self.event_log)

    def with_(self, **changes: Any) -> "World":
        return replace(self, **changes)

    def with_policy(self, **changes: Any) -> "World":
        """Change the policy's only alternative."""
        alternative = msgspec.structs.replace(self.policy.accept[0], **changes)
        return self.with_(policy=AppraisalPolicy(accept=(alternative,)))

    def with_quote(self, **changes: Any) -> "World":
        """Have the platform quote something else (see `quoted`)."""
        return self.with_(quote=quoted(self.pki, **changes))

    def with_collateral(self, **changes: Any) -> "World":
        """Replace parts of the collateral as they are."""
        assert self.collateral is not None
        return self.with_(collateral=msgspec.structs.replace(self.collateral, **changes))

    def with_tcb(self, tcb: TcbState) -> "World":
        """Have the vendor say something else of the platform."""
        return self.with_(collateral=self.pki.collateral(ISSUED, tcb))

    def with_document(self, name: str, edit: Edit, *, signer: Authority | None = None) -> "World":
        """Edit the TCB info or the QE identity and have `signer` (the right one by default) sign it."""
        document = json.loads(getattr(self.collateral, name))
        edit(document)
        text = encode_signed(document)
        signer = signer or self.pki.tcb_signing
        changes: dict[str, Any] = {
            name: text,
            f"{name}_signature": sign_raw(signer.key, text.encode()),
            f"{name}_issuer_chain": signer.pem + self.pki.root.pem,
        }
        return self.with_collateral(**changes)

    def with_pki(self, **changes: Any) -> "World":
        """Replace authorities of the vendor, and make everything afresh with them; the policy stays."""
        pki = replace(self.pki, **changes)
        return self.with_(pki=pki, quote=quoted(pki), collateral=pki.collateral(ISSUED))

    def verify(self) -> VerifiedEnclave:
        return verify_evidence(self.evidence, self.policy, report_data=self.report_data, now=self.now)

    def rejected_claims(self) -> list[str]:
        """Return the claims of all mismatches; [] when the evidence is accepted."""
        try:
            self.verify()
        except EvidenceRejectedError as rejected:
            return [mismatch.claim for mismatch in rejected.mismatches]
        return []


def quoted(
    pki: SimulatedPKI,
    *,
    header: bytes | None = None,
    quoting_enclave: dict[str, Any] | None = None,
    **report: Any,
) -> bytes:
    """Return a quote of the honest report with `report` changed, by a quoting enclave changed likewise."""
    return assemble_quote(
        pki,
        header=header or encode_header(),
        report=honest_report(**report),
        quoting_enclave=honest_quoting_enclave(pki.attestation_key, **(quoting_enclave or {})),
    )
