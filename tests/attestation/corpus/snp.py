"""Lies about SEV-SNP guests, their processors and AMD."""

from s3ml.attestation import SnpTcb
from s3ml.attestation.simulated.der import element, integer
from s3ml.attestation.simulated.snp_certificate import AUTHORITY, Extension, name
from s3ml.attestation.simulated.snp_pki import AUTHORITY_SERIAL, ENDORSEMENT_SERIAL, TCB, EndorsedPlatform
from s3ml.attestation.verify.amd.der import IA5_STRING
from s3ml.attestation.verify.amd.endorsement import (
    AMD_ARC,
    HARDWARE_ID,
    PRODUCT_NAME,
    SPL_OF_COMPONENTS,
    SPL_RESERVED,
    STRUCT_VERSION,
)
from s3ml.attestation.verify.amd.product import MILAN
from s3ml.attestation.verify.amd.report import (
    P384_ORDER,
    POLICY_DEBUG,
    POLICY_MIGRATE_MA,
    POLICY_SMT,
)
from tests.attestation.attestation_world import CREATED, ISSUED, NOW
from tests.attestation.corpus.guest_world import (
    AUTHOR,
    FAMILY,
    GUEST_POLICY,
    HOST_DATA,
    IMAGE,
    SIGNER,
    platform_of_milan,
)
from tests.attestation.corpus.intel_edits import DAY, SECOND, policy
from tests.attestation.corpus.lie import Lie, malformed, rejected, unproven
from tests.attestation.corpus.snp_edits import (
    authority,
    authority_with_processors_key,
    by_a_stranger,
    by_a_stranger_under_our_root,
    chained,
    crl,
    crl_bytes,
    extended,
    extension,
    flipped,
    forged,
    genoa,
    leaf,
    leaf_bytes,
    leaf_of,
    leaf_with_rsa_key,
    moved,
    naming_another_issuer,
    older,
    one_more,
    patched,
    raw,
    rechained,
    reported,
    reported_by,
    signature,
    signature_of_another,
    trusting,
    vendor_with_root,
    vlek_called_vcek,
    with_another_algorithm,
)

OTHER_CHIP = b"\x01" * 64
OLDER_TCB = SnpTcb(bootloader=4, tee=1, snp=23, microcode=219)
BY_SIGNER = policy(
    measurements=None, signer=SIGNER.hex(), family_id=FAMILY.hex(), image_id=IMAGE.hex(), min_svn=5
)
DELTA_CRL = bytes.fromhex("551d1b")
SPL_SNP = SPL_OF_COMPONENTS[0]["snp"]
WITH_AUTHORITY = (*platform_of_milan().extensions, *AUTHORITY)
ROLE, CHAIN = "certificate_role", "certificate_chain"


def called(role: str) -> bytes:
    return name(f"S3ML simulated {role}")


REQUEST: tuple[Lie, ...] = (
    rejected("replayed-report", reported(report_data=b"an older challenge".ljust(64)), "report_data"),
    rejected("empty-report-data", reported(report_data=bytes(64)), "report_data"),
)

SIGNATURES: tuple[Lie, ...] = (
    unproven("report-forged", forged, "quote_signature"),
    unproven("signature-of-another-report", signature_of_another, "quote_signature"),
    unproven("signature-of-ones", signature(r=1, s=1), "quote_signature"),
    unproven("measurement-changed-after-signing", patched(0x90, bytes(8)), "quote_signature"),
    unproven("svn-changed-after-signing", patched(0x04, b"\x09"), "quote_signature"),
)

ROOTS: tuple[Lie, ...] = (
    unproven("everything-by-a-stranger", by_a_stranger, "root"),
    unproven("chain-by-a-stranger-under-the-root", by_a_stranger_under_our_root, "certificate_chain"),
    unproven(
        "root-expired",
        reported_by(lambda: vendor_with_root(CREATED, DAY)),
        "root_validity",
        given=trusting(lambda: vendor_with_root(CREATED, DAY)),
    ),
    unproven(
        "root-of-the-future",
        reported_by(lambda: vendor_with_root(NOW + DAY, DAY)),
        "root_validity",
        given=trusting(lambda: vendor_with_root(NOW + DAY, DAY)),
    ),
)

CHAINS: tuple[Lie, ...] = (
    unproven("vcek-expired", leaf(not_after=CREATED + DAY), "certificate_validity"),
    unproven("vcek-of-the-future", leaf(not_before=NOW + DAY), "certificate_validity"),
    unproven("ask-expired", authority(not_after=CREATED + DAY), "certificate_validity"),
    unproven("ask-of-the-future", authority(not_before=NOW + DAY), "certificate_validity"),
    unproven("vcek-of-another-role", leaf(subject=called("SEV-THING")), ROLE),
    unproven("vcek-called-vlek", leaf(subject=called("SEV-VLEK")), ROLE),
    unproven(
        "vcek-that-is-an-authority",
        leaf(extensions=WITH_AUTHORITY),
        ROLE,
    ),
    unproven("ask-of-the-cloud", authority(subject=called("SEV-VLEK-Milan")), ROLE),
    unproven("ask-of-another-line", authority(subject=called("SEV-Genoa")), ROLE),
    unproven("ask-that-is-no-authority", authority(extensions=AUTHORITY[1:]), ROLE),
    unproven("vcek-that-names-another-issuer", naming_another_issuer, CHAIN),
    unproven("vcek-with-a-flipped-signature", leaf_bytes(flipped), CHAIN),
    unproven("chain-without-ask", chained("endorsement", "ark"), CHAIN),
    unproven("chain-of-one", chained("endorsement"), CHAIN),
    unproven(
        "ask-twice",
        chained("endorsement", "authority", "authority"),
        "root",
        ROLE,
        CHAIN,
        "revocation",
    ),
    unproven("report-signed-by-a-vlek-that-says-vcek", vlek_called_vcek, ROLE),
)

REVOCATION: tuple[Lie, ...] = (
    unproven("ask-revoked", crl(AUTHORITY_SERIAL), "revocation"),
    unproven("vcek-revoked", crl(ENDORSEMENT_SERIAL), "revocation"),
    unproven("crl-by-the-ask", crl(by="authority"), "revocation"),
    unproven("crl-of-another-issuer", crl(issuer=called("ARK-Genoa")), "revocation"),
    unproven("crl-with-a-flipped-signature", crl_bytes(flipped), "revocation"),
    rejected("crl-expired", crl(issued=NOW - DAY, expires=NOW), "collateral_validity"),
    rejected("crl-of-the-future", crl(issued=NOW + SECOND), "collateral_validity"),
    rejected("crl-missing", lambda world: world.with_certificates(crl=None), "crl"),
    rejected(
        "crl-too-old",
        crl(issued=ISSUED - SECOND),
        "collateral_age",
        given=policy(max_collateral_age_s=3600),
    ),
)

PROCESSOR: tuple[Lie, ...] = (
    rejected("vcek-of-another-chip", leaf_of(hardware_id=OTHER_CHIP), "chip_id"),
    rejected("report-of-another-chip", reported(chip_id=OTHER_CHIP), "chip_id"),
    rejected("chip-masked", reported(chip_id=bytes(64)), "chip_id"),
    rejected("report-of-another-line", reported(cpuid=(0x19, 0x11, 1)), "product"),
    rejected("report-of-an-unknown-line", reported(cpuid=(0x17, 0x31, 0)), "product"),
    rejected("vcek-of-another-line", leaf_of(product_name="Genoa-B1"), "product"),
    *(
        rejected(f"rolled-back-{component}", older(**{component: value - 1}), "tcb_version")
        for component, value in (("bootloader", 4), ("tee", 1), ("snp", 24), ("microcode", 219))
    ),
    rejected("vcek-of-an-older-tcb", leaf_of(tcb=OLDER_TCB), "tcb_version"),
    rejected("committed-below-reported", reported(committed_tcb=OLDER_TCB), "tcb_version"),
    rejected("current-below-committed", reported(current_tcb=OLDER_TCB), "tcb_version"),
    rejected("firmware-below-committed", reported(current_firmware=(1, 57, 0)), "tcb_version"),
)

MODE: tuple[Lie, ...] = (
    rejected("debug", reported(policy=GUEST_POLICY | POLICY_DEBUG), "guest_policy"),
    rejected("policy-without-its-one", reported(policy=1 << 8), "guest_policy"),
    rejected("policy-with-a-reserved-bit", reported(policy=GUEST_POLICY | 1 << 26), "guest_policy"),
    rejected("policy-of-a-later-version", reported(version=3, policy=GUEST_POLICY | 1 << 25), "guest_policy"),
    rejected("firmware-too-old-for-the-policy", reported(policy=GUEST_POLICY | 2 << 8), "guest_policy"),
    rejected("migration-agent-against-the-policy", reported(report_id_ma=bytes(32)), "guest_policy"),
    rejected("multithreading-against-the-policy", reported(platform_info=0b101), "guest_policy"),
    rejected("migration-agent-allowed", reported(policy=GUEST_POLICY | POLICY_MIGRATE_MA), "guest_policy"),
    rejected("multithreading-allowed", reported(policy=GUEST_POLICY | POLICY_SMT), "guest_policy"),
    rejected("asked-by-a-lower-privilege", reported(vmpl=1), "vmpl"),
    rejected("asked-by-the-hypervisor", reported(vmpl=0xFFFF_FFFF), "vmpl"),
    rejected("asked-by-an-unknown-level", reported(vmpl=4), "vmpl", given=policy(max_vmpl=3)),
)

CODE: tuple[Lie, ...] = (
    rejected("other-code", reported(measurement=bytes(48)), "measurement"),
    rejected("other-signer", reported(signer=bytes(48)), "signer", given=BY_SIGNER),
    rejected("other-family", reported(family_id=bytes(16)), "family_id", given=BY_SIGNER),
    rejected("other-image", reported(image_id=bytes(16)), "image_id", given=BY_SIGNER),
    rejected("older-version", reported(svn=4), "svn", given=BY_SIGNER),
    rejected("other-author", reported(author=b"\x01" * 48), "author", given=policy(author=AUTHOR.hex())),
    rejected("without-an-author", reported(author=bytes(48)), "author", given=policy(author=AUTHOR.hex())),
    rejected(
        "other-host-data",
        reported(host_data=bytes(32)),
        "host_data",
        given=policy(host_data=(HOST_DATA.hex(),)),
    ),
)

PLATFORM: tuple[Lie, ...] = (
    rejected("platform-too-old", moved(tcb=OLDER_TCB), "min_tcb", given=policy(min_tcb=TCB)),
    rejected(
        "platform-too-old-at-launch", reported(launch_tcb=OLDER_TCB), "min_tcb", given=policy(min_tcb=TCB)
    ),
    rejected(
        "another-chip",
        moved(hardware_id=OTHER_CHIP),
        "chip_ids",
        given=policy(chip_ids=(platform_of_milan().hardware_id.hex(),)),
    ),
    rejected("another-line", reported_by(genoa), "products", given=trusting(genoa, products=("Milan",))),
    rejected(
        "signed-by-the-cloud",
        lambda world: world.with_platform(EndorsedPlatform.of(MILAN, "VLEK")),
        "endorsement_key",
    ),
)

REPORTS: tuple[Lie, ...] = (
    malformed("report-cut", lambda world: world.with_(quote=world.quote[:-1])),
    malformed("report-of-its-signed-part", lambda world: world.with_(quote=world.quote[:0x2A0])),
    malformed("report-with-a-byte-behind", lambda world: world.with_(quote=world.quote + b"\x00")),
    malformed("report-with-a-header", lambda world: world.with_(quote=bytes(32) + world.quote)),
    malformed("report-twice", lambda world: world.with_(quote=world.quote * 2)),
    malformed("version-1", raw(0, b"\x01")),
    malformed("version-6", raw(0, b"\x06")),
    malformed("signature-algorithm-unknown", raw(0x34, b"\x02")),
    malformed("reserved-after-key-info", raw(0x4C, b"\x01")),
    malformed("reserved-after-cpuid", raw(0x18B, b"\x01")),
    malformed("reserved-after-mitigations", raw(0x208, b"\x01")),
    malformed("reserved-after-signature", patched(0x330, b"\x01")),
    malformed("reserved-in-tcb", raw(0x180 + 2, b"\x01")),
    malformed("cpuid-in-version-2", reported(version=2, cpuid=(0x19, 0x01, 1))),
    malformed("mitigations-in-version-3", reported(version=3, launch_mitigations=1)),
    malformed("platform-info-of-a-later-version", reported(version=2, platform_info=1 << 5)),
    malformed("key-info-with-a-reserved-bit", reported(key_info=1 << 5)),
    malformed("signed-with-no-key", reported(key_info=7 << 2 | 1)),
    malformed("signed-with-a-masked-key", reported(key_info=0b11)),
    malformed("author-that-key-info-denies", reported(key_info=0)),
    malformed("signature-r-zero", signature(r=0)),
    malformed("signature-s-zero", signature(s=0)),
    malformed("signature-r-beyond-the-order", signature(r=P384_ORDER)),
    malformed("signature-s-beyond-the-order", signature(s=P384_ORDER)),
)

CERTIFICATES: tuple[Lie, ...] = (
    malformed("chain-that-is-no-pem", rechained(lambda _: "nothing")),
    malformed("chain-with-text-behind", rechained(lambda text: text + "end")),
    malformed("chain-with-text-before", rechained(lambda text: "#" + text)),
    malformed("chain-of-four", rechained(lambda text: text + text[: text.index("-----END") + 26])),
    malformed("chain-with-a-byte-behind-the-vcek", leaf_bytes(lambda der: der + b"\x00")),
    malformed("vcek-cut", leaf_bytes(lambda der: der[:-1])),
    malformed("vcek-of-a-long-length", leaf_bytes(lambda der: b"\x30\x83\x00" + der[2:])),
    malformed("vcek-signed-by-another-algorithm", with_another_algorithm),
    malformed("vcek-of-version-2", leaf(version=1)),
    malformed("vcek-with-an-rsa-key", leaf_with_rsa_key),
    malformed("ask-with-the-processors-key", authority_with_processors_key),
    malformed("vcek-with-an-extension-twice", extended(lambda honest: (*honest, honest[0]))),
    malformed(
        "vcek-with-an-unknown-critical-extension",
        one_more(name=b"\x2a\x03", value=b"\x05\x00", is_critical=True),
    ),
    malformed("vcek-with-an-unknown-extension-of-amds", one_more(name=AMD_ARC + b"\x63", value=integer(1))),
    malformed("vcek-without-its-processor", extended(lambda honest: honest[:-1])),
    malformed("vcek-without-its-line", extended(lambda honest: honest[1:])),
    malformed("vcek-of-an-unknown-line", extension(PRODUCT_NAME, element(IA5_STRING, b"Naples"))),
    malformed("vcek-of-another-structure", extension(STRUCT_VERSION, integer(1))),
    malformed("vcek-with-a-reserved-version", extension(SPL_RESERVED[0][0], integer(1))),
    malformed("vcek-with-a-short-processor-id", extension(HARDWARE_ID, bytes(8))),
    malformed("vcek-with-a-version-of-two-bytes", extension(SPL_SNP, integer(256))),
    malformed("crl-that-is-no-crl", lambda world: world.with_certificates(crl=b"nothing")),
    malformed("crl-with-a-byte-behind", crl_bytes(lambda der: der + b"\x00")),
    malformed("crl-of-version-1", crl(version=0)),
    malformed(
        "crl-of-changes-alone",
        crl(extensions=(Extension(name=DELTA_CRL, value=integer(1), is_critical=True),)),
    ),
)

LIES: tuple[Lie, ...] = (
    *REQUEST,
    *SIGNATURES,
    *ROOTS,
    *CHAINS,
    *REVOCATION,
    *PROCESSOR,
    *MODE,
    *CODE,
    *PLATFORM,
    *REPORTS,
    *CERTIFICATES,
)
