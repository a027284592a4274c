"""Lies about certificates, collateral and platform that Intel's two TEEs have in common."""

from tests.attestation.attestation_world import CREATED, ISSUED, NOW, World
from tests.attestation.corpus.intel_edits import (
    DAY,
    SECOND,
    STRANGER,
    both,
    by_a_stranger,
    chain,
    chain_under_a_stranger,
    collateral_by_a_stranger,
    crl,
    edited,
    forged_attestation_key,
    forged_quoting_enclave,
    forged_signature,
    issue_pck,
    issued_at,
    pck_crl_of_another_ca,
    policy,
    qe,
    qe_identity,
    quote_by_a_stranger_under_our_root,
    quoted,
    quoted_under,
    reissued_ca,
    reissued_pck,
    reissued_signer,
    revoked,
    signature_flipped,
    signed_by,
    signed_by_role,
    swapped,
    tampered,
    tcb,
    tcb_info,
    trusting,
    unused_report_data,
)
from tests.attestation.corpus.intel_layout import QuoteLayout
from tests.attestation.corpus.lie import Lie, Tell, rejected, unproven

LATE, EARLY = "2026-03-01T12:00:01Z", "2026-03-01T11:59:59Z"
THIS_SECOND = "2026-03-01T12:00:00Z"
LONG_AGO = "2026-02-20T00:00:00Z"
ADVISORY = "INTEL-SA-00001"


def quote_chain(*order: str) -> Tell:
    """Put the quote's certificates in another order, or leave some out."""

    def tell(world: World) -> World:
        pem = "".join(getattr(world.pki, role).pem for role in order).encode()
        return world.with_(quote=QuoteLayout.of(world).with_chain(world.quote, pem))

    return tell


def pck_issued_by_the_root(world: World) -> World:
    return world.with_pki(pck=issue_pck(world, issuer=world.pki.root))


REQUEST: tuple[Lie, ...] = (
    rejected("replayed-quote", quoted(report_data=b"an older challenge".ljust(64)), "report_data"),
    rejected("empty-report-data", quoted(report_data=bytes(64)), "report_data"),
)

SIGNATURES: tuple[Lie, ...] = (
    unproven("signature-of-another-quote", forged_signature, "quote_signature"),
    unproven("attestation-key-forged", forged_attestation_key, "quote_signature"),
    unproven("quoting-enclave-forged", forged_quoting_enclave, "quote_signature"),
    unproven("attestation-key-not-endorsed", qe(report_data=bytes(64)), "quote_signature"),
    rejected("quoting-enclave-with-unused-report-data", unused_report_data, "qe_report_data"),
)

ROOTS: tuple[Lie, ...] = (
    unproven("everything-by-a-stranger", by_a_stranger, "root", "certificate_chain", "revocation"),
    unproven("quote-by-a-stranger-under-the-root", quote_by_a_stranger_under_our_root, "certificate_chain"),
    unproven("collateral-by-a-stranger", collateral_by_a_stranger, "root", "certificate_chain", "revocation"),
    rejected("root-expired", quoted_under(CREATED, DAY), "root_validity", given=trusting(CREATED, DAY)),
    rejected(
        "root-of-the-future", quoted_under(NOW + DAY, DAY), "root_validity", given=trusting(NOW + DAY, DAY)
    ),
    rejected(
        "pck-crl-chain-under-a-stranger", chain_under_a_stranger("pck_crl_issuer_chain", "pck_ca"), "root"
    ),
    rejected(
        "tcb-info-chain-under-a-stranger",
        chain_under_a_stranger("tcb_info_issuer_chain", "tcb_signing"),
        "root",
    ),
    rejected(
        "qe-identity-chain-under-a-stranger",
        chain_under_a_stranger("qe_identity_issuer_chain", "tcb_signing"),
        "root",
    ),
)

CHAINS: tuple[Lie, ...] = (
    unproven("pck-certificate-expired", reissued_pck(lifetime=DAY), "certificate_validity"),
    unproven("pck-certificate-of-the-future", reissued_pck(start=NOW + DAY), "certificate_validity"),
    unproven("pck-ca-expired", reissued_ca(CREATED, DAY), "certificate_validity"),
    unproven("pck-ca-of-the-future", reissued_ca(NOW + DAY, DAY), "certificate_validity"),
    unproven("tcb-signer-expired", reissued_signer(CREATED, DAY), "certificate_validity"),
    unproven("tcb-signer-of-the-future", reissued_signer(NOW + DAY, DAY), "certificate_validity"),
    unproven("pck-certificate-without-extension", reissued_pck(has_extension=False), "certificate_chain"),
    rejected("pck-certificate-of-another-role", reissued_pck("SGX PCK Thing"), "certificate_role"),
    rejected("pck-certificate-issued-by-the-root", pck_issued_by_the_root, "certificate_chain"),
    unproven("quote-chain-without-ca", quote_chain("pck", "root"), "certificate_chain"),
    rejected("quote-chain-without-root", quote_chain("pck", "pck_ca"), "root", "certificate_chain"),
    unproven(
        "quote-chain-reordered",
        quote_chain("pck_ca", "pck", "root"),
        "certificate_role",
        "certificate_chain",
        "quote_signature",
    ),
    unproven(
        "quote-signed-by-the-tcb-signer",
        quote_chain("tcb_signing", "pck_ca", "root"),
        "certificate_role",
        "certificate_chain",
        "quote_signature",
    ),
    unproven("quote-chain-of-the-root-alone", quote_chain("root"), "certificate_chain"),
    unproven("tcb-info-chain-without-signer", chain("tcb_info_issuer_chain", "root"), "certificate_chain"),
    unproven(
        "qe-identity-chain-without-signer", chain("qe_identity_issuer_chain", "root"), "certificate_chain"
    ),
    rejected("pck-crl-chain-of-another-ca", pck_crl_of_another_ca, "certificate_chain"),
    rejected("pck-crl-chain-without-ca", chain("pck_crl_issuer_chain", "root"), "certificate_chain"),
    rejected(
        "pck-crl-chain-by-the-tcb-signer",
        chain("pck_crl_issuer_chain", "tcb_signing", "root"),
        "certificate_role",
        "certificate_chain",
    ),
    rejected(
        "tcb-info-chain-of-three",
        chain("tcb_info_issuer_chain", "tcb_signing", "pck_ca", "root"),
        "certificate_chain",
    ),
    rejected(
        "qe-identity-chain-of-three",
        chain("qe_identity_issuer_chain", "tcb_signing", "pck_ca", "root"),
        "certificate_chain",
    ),
)

SIGNERS: tuple[Lie, ...] = (
    rejected(
        "tcb-info-signed-by-another-role", signed_by_role("tcb_info", "SGX Logo Signing"), "certificate_role"
    ),
    rejected(
        "qe-identity-signed-by-another-role",
        signed_by_role("qe_identity", "SGX Logo Signing"),
        "certificate_role",
    ),
    unproven(
        "tcb-info-signed-by-the-platform",
        signed_by("tcb_info", "pck"),
        "certificate_role",
        "certificate_chain",
    ),
    unproven("tcb-info-signed-by-the-pck-ca", signed_by("tcb_info", "pck_ca"), "certificate_role"),
    unproven("tcb-info-signed-by-the-root", signed_by("tcb_info", "root"), "certificate_role"),
    unproven(
        "tcb-info-signed-by-a-stranger",
        signed_by("tcb_info", "tcb_signing", by=STRANGER),
        "certificate_chain",
    ),
    unproven(
        "qe-identity-signed-by-the-platform",
        signed_by("qe_identity", "pck"),
        "certificate_role",
        "certificate_chain",
    ),
    unproven(
        "qe-identity-signed-by-a-stranger",
        signed_by("qe_identity", "tcb_signing", by=STRANGER),
        "certificate_chain",
    ),
)

REVOCATION: tuple[Lie, ...] = (
    unproven("pck-certificate-revoked", revoked("pck_crl", "pck_ca", "pck"), "revocation"),
    unproven("pck-ca-revoked", revoked("root_ca_crl", "root", "pck_ca"), "revocation"),
    unproven("tcb-signer-revoked", revoked("root_ca_crl", "root", "tcb_signing"), "revocation"),
    unproven("pck-crl-by-the-root", crl("pck_crl", "root"), "revocation"),
    unproven("pck-crl-by-a-stranger", crl("pck_crl", "pck_ca", by=STRANGER), "revocation"),
    unproven("root-crl-by-a-stranger", crl("root_ca_crl", "root", by=STRANGER), "revocation"),
    unproven("pck-crl-with-a-flipped-signature", signature_flipped("pck_crl"), "revocation"),
    unproven("root-crl-with-a-flipped-signature", signature_flipped("root_ca_crl"), "revocation"),
    unproven("crls-swapped", swapped("pck_crl", "root_ca_crl"), "revocation"),
)

VALIDITY: tuple[Lie, ...] = (
    unproven("tcb-info-expired", tcb_info(nextUpdate=EARLY), "collateral_validity"),
    rejected("tcb-info-expired-this-second", tcb_info(nextUpdate=THIS_SECOND), "collateral_validity"),
    unproven("tcb-info-of-the-future", tcb_info(issueDate=LATE), "collateral_validity"),
    unproven("qe-identity-expired", qe_identity(nextUpdate=EARLY), "collateral_validity"),
    rejected("qe-identity-expired-this-second", qe_identity(nextUpdate=THIS_SECOND), "collateral_validity"),
    unproven("qe-identity-of-the-future", qe_identity(issueDate=LATE), "collateral_validity"),
    unproven("pck-crl-expired", crl("pck_crl", "pck_ca", start=NOW - 30 * DAY), "collateral_validity"),
    rejected("pck-crl-of-the-future", crl("pck_crl", "pck_ca", start=NOW + SECOND), "collateral_validity"),
    unproven("root-crl-expired", crl("root_ca_crl", "root", start=NOW - 30 * DAY), "collateral_validity"),
    rejected("root-crl-of-the-future", crl("root_ca_crl", "root", start=NOW + SECOND), "collateral_validity"),
)

DOCUMENTS: tuple[Lie, ...] = (
    unproven("tcb-info-tampered-with", tampered("tcb_info"), "tcb_info"),
    unproven("tcb-info-with-a-flipped-signature", signature_flipped("tcb_info_signature"), "tcb_info"),
    rejected("tcb-info-of-version-4", tcb_info(version=4), "tcb_info"),
    rejected("tcb-info-of-type-1", tcb_info(tcbType=1), "tcb_info"),
    unproven("tcb-info-of-another-platform", tcb_info(fmspc="000000000001"), "fmspc"),
    unproven("platform-of-another-family", reissued_pck(fmspc=b"\x00\x00\x00\x00\x00\x01"), "fmspc"),
    rejected("tcb-info-for-another-pce", tcb_info(pceId="0001"), "pce_id"),
    rejected("platform-with-another-pce", reissued_pck(pce_id=b"\x00\x01"), "pce_id"),
    unproven("qe-identity-tampered-with", tampered("qe_identity"), "qe_identity"),
    unproven(
        "qe-identity-with-a-flipped-signature", signature_flipped("qe_identity_signature"), "qe_identity"
    ),
    unproven("quoting-enclave-of-another-signer", qe(signer=bytes(32)), "qe_identity"),
    unproven("quoting-enclave-of-another-product", qe(product_id=9), "qe_identity"),
    unproven("quoting-enclave-of-an-unknown-version", qe(svn=1), "qe_identity"),
    unproven("quoting-enclave-in-debug-mode", qe(flags=0x17), "qe_identity"),
    unproven("quoting-enclave-with-other-attributes", qe(flags=0x35), "qe_identity"),
    unproven("quoting-enclave-with-other-miscselect", qe_identity(miscselect="01000000"), "qe_identity"),
    unproven("qe-identity-of-a-short-signer", qe_identity(mrsigner="00"), "qe_identity"),
)

PLATFORM: tuple[Lie, ...] = (
    rejected("platform-out-of-date", tcb(status="OutOfDate"), "tcb_status"),
    rejected("platform-needs-hardening", tcb(status="SWHardeningNeeded"), "tcb_status"),
    rejected("platform-needs-configuration", tcb(status="ConfigurationNeeded"), "tcb_status"),
    rejected("platform-needs-both", tcb(status="ConfigurationAndSWHardeningNeeded"), "tcb_status"),
    rejected(
        "platform-out-of-date-and-misconfigured", tcb(status="OutOfDateConfigurationNeeded"), "tcb_status"
    ),
    unproven("platform-revoked", tcb(status="Revoked"), "tcb_status"),
    rejected("quoting-enclave-out-of-date", tcb(qe_status="OutOfDate"), "tcb_status"),
    unproven("quoting-enclave-revoked", tcb(qe_status="Revoked"), "tcb_status"),
    unproven(
        "platform-below-every-level",
        edited("tcb_info", lambda d: d["tcbLevels"][0]["tcb"]["sgxtcbcomponents"][0].update(svn=200)),
        "tcb_status",
    ),
    unproven("platform-rolled-back", reissued_pck(cpu_svn=bytes(16)), "tcb_status"),
    unproven("pce-rolled-back", reissued_pck(pce_svn=1), "tcb_status"),
    rejected("open-advisory", tcb(advisories=(ADVISORY,)), "advisories"),
    rejected("open-advisory-on-the-quoting-enclave", tcb(qe_advisories=(ADVISORY,)), "advisories"),
    rejected(
        "open-advisory-besides-a-tolerated-one",
        tcb(advisories=(ADVISORY, "INTEL-SA-00002")),
        "advisories",
        given=policy(advisories=(ADVISORY,)),
    ),
)

AGE: tuple[Lie, ...] = (
    rejected(
        "evaluation-of-an-earlier-recovery",
        tcb(evaluation_data_number=1),
        "tcb_evaluation_data_number",
        given=both(tcb(evaluation_data_number=2), policy(min_tcb_evaluation_data_number=2)),
    ),
    rejected(
        "tcb-info-of-an-earlier-recovery",
        tcb_info(tcbEvaluationDataNumber=1),
        "tcb_evaluation_data_number",
        given=both(tcb(evaluation_data_number=2), policy(min_tcb_evaluation_data_number=2)),
    ),
    rejected(
        "qe-identity-of-an-earlier-recovery",
        qe_identity(tcbEvaluationDataNumber=1),
        "tcb_evaluation_data_number",
        given=both(tcb(evaluation_data_number=2), policy(min_tcb_evaluation_data_number=2)),
    ),
    rejected(
        "collateral-a-second-too-old",
        issued_at(ISSUED - SECOND),
        "collateral_age",
        given=policy(max_collateral_age_s=3600),
    ),
    rejected(
        "tcb-info-too-old",
        tcb_info(issueDate=LONG_AGO),
        "collateral_age",
        given=policy(max_collateral_age_s=3600),
    ),
    rejected(
        "qe-identity-too-old",
        qe_identity(issueDate=LONG_AGO),
        "collateral_age",
        given=policy(max_collateral_age_s=3600),
    ),
    rejected(
        "pck-crl-too-old",
        crl("pck_crl", "pck_ca", start=NOW - DAY),
        "collateral_age",
        given=policy(max_collateral_age_s=3600),
    ),
)

LIES: tuple[Lie, ...] = (
    *REQUEST,
    *SIGNATURES,
    *ROOTS,
    *CHAINS,
    *SIGNERS,
    *REVOCATION,
    *VALIDITY,
    *DOCUMENTS,
    *PLATFORM,
    *AGE,
)
