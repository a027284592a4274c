"""SEV-SNP: honest guests are accepted, and each rule, broken exactly once, is named."""

import base64
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from s3ml.attestation import (
    Alternative,
    AppraisalPolicy,
    Evidence,
    EvidenceMalformedError,
    EvidenceRejectedError,
    SnpCertificates,
    SnpTcb,
    Technology,
    Tee,
    encode_evidence,
    parse_evidence,
)
from s3ml.attestation.policy.alternative import EndorsementKey
from s3ml.attestation.simulated.quoter import measurement_of_image
from s3ml.attestation.simulated.snp import join_report, sign_report
from s3ml.attestation.simulated.snp_certificate import AUTHORITY, Extension, key_info, name
from s3ml.attestation.simulated.snp_pki import SimulatedSnpPKI, SnpKeys, encode_pem
from s3ml.attestation.simulated.snp_quoter import SnpQuoter
from s3ml.attestation.verify import SnpClaims, verify_evidence
from s3ml.attestation.verify.amd.certificate import OID_KEY_USAGE
from s3ml.attestation.verify.amd.certificates import read_chain
from s3ml.attestation.verify.amd.product import GENOA, PRODUCTS, TURIN, Product
from s3ml.attestation.verify.amd.report import P384_ORDER, VERSIONS, parse_report
from s3ml.attestation.verify.amd.roots import PINNED
from s3ml.attestation.verify.amd.snp import examine_snp
from s3ml.attestation.verify.cache import VerdictCache
from tests.attestation.attestation_world import CREATED, ISSUED, NOW, World
from tests.attestation.fakes.snp_vendor import snp_keys
from tests.attestation.snp_world import MEASUREMENT, SnpWorld

Lie = Callable[[SnpWorld], SnpWorld]
DAY = timedelta(days=1)
NO_SIGNING = Extension(name=OID_KEY_USAGE, value=b"\x03\x02\x07\x80", is_critical=True)
CERTIFICATES_ALONE = Extension(name=OID_KEY_USAGE, value=b"\x03\x02\x02\x04", is_critical=True)
KINDS: tuple[EndorsementKey, ...] = ("VCEK", "VLEK")
UNPROVEN = ["measurement"]


@pytest.fixture
def world() -> SnpWorld:
    return SnpWorld.honest()


def report(**changes: Any) -> Lie:
    return lambda world: world.with_report(**changes)


def policy_bits(bits: int) -> Lie:
    return lambda world: world.with_report(policy=1 << 17 | bits)


def higher(world: SnpWorld, **changes: int) -> SnpTcb:
    tcb = world.report.tcb
    parts = {part: getattr(tcb, part) for part in ("bootloader", "tee", "snp", "microcode", "fmc")}
    return SnpTcb(**{part: value + changes.get(part, 0) for part, value in parts.items()})


def stranger() -> SimulatedSnpPKI:
    """Return another vendor: root and authority have changed places."""
    keys = snp_keys()
    swapped = SnpKeys(ark=keys.authority, authority=keys.ark, endorsement=keys.endorsement)
    return SimulatedSnpPKI.create(CREATED, keys=swapped)


class TestHonestGuest:
    """What is honest is accepted, and proven."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
    def test_of_each_line_and_key(self, product: Product, kind: EndorsementKey) -> None:
        enclave = SnpWorld.honest(product, kind).verify()
        claims = enclave.claims
        assert isinstance(claims, SnpClaims)
        assert (enclave.measurement, enclave.is_simulated) == (MEASUREMENT.hex(), True)
        assert (claims.product, claims.endorsement_key, claims.has_crl) == (product.name, kind, True)
        assert all(step.holds for step in enclave.steps)
        assert "SIMULATED" in enclave.steps[0].detail

    @pytest.mark.parametrize("version", VERSIONS)
    def test_of_each_version(self, version: int) -> None:
        assert SnpWorld.honest(version=version).rejected_claims() == []

    def test_a_report_of_version_2_from_turin(self) -> None:
        assert SnpWorld.honest(TURIN, version=2).rejected_claims() == []

    def test_evidence_travels(self, world: SnpWorld) -> None:
        travelled = parse_evidence(encode_evidence(world.evidence))
        assert travelled == world.evidence

    def test_what_is_dated(self, world: SnpWorld) -> None:
        enclave = world.verify()
        assert (enclave.collateral_issued_at, enclave.signed_at) == (ISSUED, ISSUED)
        bare = world.without_crl().with_policy(require_crl=False).verify()
        assert (bare.collateral_issued_at, bare.signed_at) == (None, CREATED)

    def test_a_guest_may_ask_for_more_than_it_must(self, world: SnpWorld) -> None:
        """Single socket, CXL, AES-256-XTS, no RAPL, ciphertext hiding, no page swaps, firmware 1.51."""
        bits = sum(1 << bit for bit in (20, 21, 22, 23, 24, 25)) | 0x0133
        assert policy_bits(bits)(world).rejected_claims() == []

    def test_firmware_may_be_ahead_of_what_is_committed_and_reported(self, world: SnpWorld) -> None:
        ahead, further = higher(world, snp=1), higher(world, snp=2, microcode=1)
        changed = world.with_report(committed_tcb=ahead, current_tcb=further, current_firmware=(1, 59, 0))
        assert changed.rejected_claims() == []

    def test_siena_is_of_genoas_line(self) -> None:
        world = SnpWorld.honest(GENOA)
        siena = world.with_endorsement(replace(world.platform, product_name="Siena"))
        assert siena.with_report(cpuid=(0x19, 0xA0, 2)).rejected_claims() == []


# name: (what is told, the claims that it breaks)
LIES: dict[str, tuple[Lie, list[str]]] = {
    "no certificates": (lambda w: w.with_(certificates=None), ["certificates", *UNPROVEN, "crl"]),
    "two certificates": (
        lambda w: w.with_(
            certificates=SnpCertificates(
                chain=encode_pem(w.pki.endorsement.certificate) + encode_pem(w.pki.root_der)
            )
        ),
        ["certificate_chain", *UNPROVEN, "crl"],
    ),
    "no revocation list": (lambda w: w.without_crl(), ["crl"]),
    "a root that nobody trusts": (
        lambda w: w.with_(
            certificates=stranger().certificates(ISSUED),
            quote=sign_report(stranger().endorsement.key, w.report.encode()),
        ),
        ["root", "chip_id", *UNPROVEN],
    ),
    "a root that has expired": (
        lambda w: w.with_ark(not_after=NOW - DAY),
        ["root_validity", *UNPROVEN],
    ),
    "a root that is not valid yet": (
        lambda w: w.with_ark(not_before=NOW + DAY),
        ["root_validity", *UNPROVEN],
    ),
    "a root by another name": (
        lambda w: (
            w.with_ark(subject=name("S3ML simulated ARK-Rome"), issuer=name("S3ML simulated ARK-Rome"))
            .with_authority()
            .with_crl()
        ),
        ["certificate_role", *UNPROVEN],
    ),
    "a root without the simulation's name": (
        lambda w: w.with_ark(subject=name("ARK-Milan"), issuer=name("ARK-Milan")).with_authority().with_crl(),
        ["certificate_role", *UNPROVEN],
    ),
    "a root that is no authority": (
        lambda w: w.with_ark(extensions=(Extension(name=b"\x55\x1d\x0e", value=b"\x04\x00"),)),
        ["certificate_role", "revocation", *UNPROVEN],
    ),
    "a root that another signed": (
        lambda w: w.with_ark(issuer=name("S3ML simulated ARK-Genoa")),
        ["certificate_chain", *UNPROVEN],
    ),
    "an authority that has expired": (
        lambda w: w.with_authority(not_after=NOW - DAY),
        ["certificate_validity", *UNPROVEN],
    ),
    "an authority that may sign no certificates": (
        lambda w: w.with_authority(extensions=(AUTHORITY[0], NO_SIGNING)),
        ["certificate_role", *UNPROVEN],
    ),
    "an authority of another line": (
        lambda w: w.with_authority(subject=name("S3ML simulated SEV-Genoa")).with_endorsement(),
        ["certificate_role", *UNPROVEN],
    ),
    "an ASVK over a VCEK": (
        lambda w: w.with_authority(subject=name("S3ML simulated SEV-VLEK-Milan")).with_endorsement(),
        ["certificate_role", *UNPROVEN],
    ),
    "an authority that another root signed": (
        lambda w: w.with_pki(authority=replace(w.pki.authority, certificate=forged_authority(w))),
        ["certificate_chain", *UNPROVEN],
    ),
    "an endorsement key that has expired": (
        lambda w: w.with_endorsement(not_after=NOW - DAY),
        ["certificate_validity", *UNPROVEN],
    ),
    "an endorsement key that is not valid yet": (
        lambda w: w.with_endorsement(not_before=NOW + DAY),
        ["certificate_validity", *UNPROVEN],
    ),
    "an endorsement key by another name": (
        lambda w: w.with_endorsement(subject=name("S3ML simulated SEV-VLEK")),
        ["certificate_role", *UNPROVEN],
    ),
    "an endorsement key that is an authority": (
        lambda w: w.with_endorsement(extensions=(*w.platform.extensions, AUTHORITY[0])),
        ["certificate_role", *UNPROVEN],
    ),
    "an endorsement key issued by another name": (
        lambda w: w.with_endorsement().with_authority(subject=name("S3ML simulated SEV-Milan", "another")),
        ["certificate_chain", *UNPROVEN],
    ),
    "a VLEK where the report says VCEK": (
        lambda w: (
            SnpWorld.honest(kind="VLEK").with_report(signing_key="VCEK").with_policy(endorsement_keys=KINDS)
        ),
        ["certificate_role", *UNPROVEN],
    ),
    "a revocation list that has expired": (
        lambda w: w.with_crl(expires=NOW - DAY),
        ["collateral_validity"],
    ),
    "a revocation list at the end of its time": (lambda w: w.with_crl(expires=NOW), ["collateral_validity"]),
    "a revocation list of tomorrow": (
        lambda w: w.with_crl(issued=NOW + DAY),
        ["collateral_validity"],
    ),
    "a revocation list that another signed": (
        lambda w: w.with_crl(signer=stranger()),
        ["revocation", *UNPROVEN],
    ),
    "a revocation list of another's": (
        lambda w: w.with_crl(issuer=name("S3ML simulated ARK-Genoa")),
        ["revocation", *UNPROVEN],
    ),
    "a root that may sign no revocation lists": (
        lambda w: w.with_ark(extensions=(AUTHORITY[0], CERTIFICATES_ALONE)),
        ["revocation", *UNPROVEN],
    ),
    "an authority that is revoked": (lambda w: w.with_crl(serials=(5, 0x10001)), ["revocation", *UNPROVEN]),
    "an endorsement key that is revoked": (lambda w: w.with_crl(serials=(0,)), ["revocation", *UNPROVEN]),
    "a certificate of another line": (
        lambda w: w.with_endorsement(replace(w.platform, product_name="Genoa")),
        ["product"],
    ),
    "a report of another line": (report(cpuid=(0x19, 0x11, 1)), ["product"]),
    "a report of an unknown line": (report(cpuid=(0x17, 0x31, 0)), ["product"]),
    "the VCEK of another chip": (report(chip_id=bytes(range(64))), ["chip_id"]),
    "a masked chip under a VCEK": (report(chip_id=bytes(64)), ["chip_id"]),
    "a TCB that is rolled back": (lambda w: w.with_report(tcb=higher(w, snp=-1)), ["tcb_version"]),
    "a TCB that is ahead of its certificate": (
        lambda w: w.with_report(tcb=higher(w, microcode=1)),
        ["tcb_version"],
    ),
    "reported above committed": (lambda w: w.with_report(committed_tcb=higher(w, tee=-1)), ["tcb_version"]),
    "committed above current": (
        lambda w: w.with_report(current_tcb=higher(w, microcode=-1)),
        ["tcb_version"],
    ),
    "committed firmware above current": (report(committed_firmware=(1, 58, 4)), ["tcb_version"]),
    "a signature of another processor": (
        lambda w: w.with_(quote=sign_report(ec.generate_private_key(ec.SECP384R1()), w.report.encode())),
        ["quote_signature", *UNPROVEN],
    ),
    "a guest with a debugger": (policy_bits(1 << 19), ["guest_policy"]),
    "a guest without bit 17": (report(policy=0), ["guest_policy"]),
    "a guest with a reserved bit": (policy_bits(1 << 26), ["guest_policy"]),
    "a guest with the highest bit": (policy_bits(1 << 63), ["guest_policy"]),
    "a guest that needs newer firmware": (policy_bits(0x013B), ["guest_policy"]),
    "a guest with an agent that it may not have": (report(report_id_ma=bytes(32)), ["guest_policy"]),
    "a platform with SMT": (report(platform_info=1), ["guest_policy"]),
    "a report for the hypervisor": (
        lambda w: w.with_report(vmpl=0xFFFF_FFFF).with_policy(max_vmpl=3),
        ["vmpl", "vmpl"],
    ),
    "another request's answer": (lambda w: w.with_(report_data=bytes(64)), ["report_data"]),
    "a guest that may run with SMT": (policy_bits(1 << 16), ["guest_policy"]),
    "a guest that may be migrated": (policy_bits(1 << 18), ["guest_policy"]),
    "a less privileged level": (report(vmpl=1), ["vmpl"]),
    "another measurement": (report(measurement=b"m" * 48), ["measurement"]),
}


def forged_authority(world: SnpWorld) -> bytes:
    """Return an ASK's certificate that the endorsement's authority signed for itself in the ARK's name."""
    pki = replace(world.pki, ark=replace(world.pki.ark, key=world.pki.authority.key))
    return replace(world, pki=pki).with_authority().pki.authority.certificate


class TestLies:
    """Each rule, broken exactly once, is the one that is named."""

    @pytest.mark.parametrize(("lie", "claims"), LIES.values(), ids=LIES)
    def test_it_is_rejected(self, lie: Lie, claims: list[str], world: SnpWorld) -> None:
        told = lie(world)
        assert told.rejected_claims() == claims
        cache = VerdictCache()
        world.verify(cache)
        assert told.rejected_claims(cache) == claims

    @pytest.mark.parametrize("version", [2, 3, 4])
    def test_page_swaps_are_known_from_version_5_on(self, version: int) -> None:
        world = SnpWorld.honest(version=version)
        assert policy_bits(1 << 25)(world).rejected_claims() == ["guest_policy"]

    def test_all_that_is_broken_is_named(self, world: SnpWorld) -> None:
        broken = world.with_report(policy=1 << 17 | 1 << 19, vmpl=2, chip_id=bytes(64)).with_crl(serials=(0,))
        quote = bytearray(broken.quote)
        quote[0x90] ^= 1
        assert broken.with_(quote=bytes(quote)).rejected_claims() == [
            "revocation",
            "chip_id",
            "quote_signature",
            "guest_policy",
            "measurement",
            "vmpl",
        ]

    @pytest.mark.parametrize("claim", ["collateral", "event_log"])
    def test_what_snp_has_no_use_for(
        self, claim: str, world: SnpWorld, request: pytest.FixtureRequest
    ) -> None:
        intel = World.honest(request.getfixturevalue("pki"))
        parts: dict[str, Any] = {"collateral": intel.collateral, "event_log": b"log"}
        honest = world.evidence
        evidence = Evidence(
            tee=honest.tee,
            simulates=honest.simulates,
            quote=honest.quote,
            certificates=honest.certificates,
            **{claim: parts[claim]},
        )
        with pytest.raises(EvidenceRejectedError) as rejected:
            verify_evidence(evidence, world.policy, report_data=world.report_data, now=world.now)
        assert [mismatch.claim for mismatch in rejected.value.mismatches] == [claim]

    def test_a_reserved_byte_of_a_tcb_is_malformed(self, world: SnpWorld) -> None:
        for at in (0x3A, 0x182, 0x1E3, 0x1F5):
            with pytest.raises(EvidenceMalformedError, match="where Milan reserves bytes"):
                world.with_body(at, b"\x01").verify()

    def test_an_authority_without_an_rsa_key_is_malformed(self, world: SnpWorld) -> None:
        with pytest.raises(EvidenceMalformedError, match="expected a key of RSA-4096, got P-384"):
            world.with_authority(key=key_info(world.pki.endorsement.key)).verify()

    def test_nobody_vouches_for_a_report_of_an_unknown_line(self) -> None:
        world = SnpWorld.honest(version=2).with_(certificates=None).with_policy(require_crl=False)
        with pytest.raises(EvidenceRejectedError) as rejected:
            world.verify()
        assert [m.claim for m in rejected.value.mismatches] == ["certificates", "measurement", "products"]
        assert rejected.value.mismatches[-1].got == "unknown"

    def test_a_chip_id_of_turin_is_padded_with_zeros(self) -> None:
        world = SnpWorld.honest(TURIN)
        padded = world.report.chip_id[:8] + bytes(55) + b"\x01"
        assert world.with_report(chip_id=padded).rejected_claims() == ["chip_id"]

    def test_simulated_evidence_is_not_amds(self, world: SnpWorld) -> None:
        """Under AMD's own roots, the simulated names and the simulated root are wrong."""
        real = Alternative(tee=Tee.SEV_SNP, measurements=(MEASUREMENT.hex(),))
        claimed = world.with_(tee=Tee.SEV_SNP, policy=AppraisalPolicy(accept=(real,)))
        assert set(claimed.rejected_claims()) == {"root", "certificate_role", "measurement"}


SIGNED = {"signer": b"s" * 48, "family_id": b"f" * 16, "image_id": b"i" * 16, "svn": 7}
SIGNED_POLICY: dict[str, Any] = {
    "measurements": None,
    "signer": (b"s" * 48).hex(),
    "family_id": (b"f" * 16).hex(),
    "image_id": (b"i" * 16).hex(),
    "min_svn": 7,
}


class TestPolicy:
    """Each field of an alternative decides, and nothing else does."""

    def test_a_signed_image_is_accepted(self, world: SnpWorld) -> None:
        signed = world.with_report(**SIGNED).with_policy(**SIGNED_POLICY)
        assert signed.rejected_claims() == []
        assert signed.with_report(svn=8, measurement=b"x" * 48).rejected_claims() == []

    @pytest.mark.parametrize(
        ("changes", "claim"),
        [
            ({"signer": b"S" * 48}, "signer"),
            ({"family_id": b"F" * 16}, "family_id"),
            ({"image_id": b"I" * 16}, "image_id"),
            ({"svn": 6}, "svn"),
        ],
    )
    def test_another_image_is_not(self, changes: dict[str, Any], claim: str, world: SnpWorld) -> None:
        signed = world.with_report(**SIGNED | changes).with_policy(**SIGNED_POLICY)
        assert signed.rejected_claims() == [claim]

    def test_an_unsigned_image_is_not(self, world: SnpWorld) -> None:
        claims = world.with_policy(**SIGNED_POLICY).rejected_claims()
        assert claims == ["signer", "family_id", "image_id", "svn"]

    @pytest.mark.parametrize(
        ("honest", "other", "fields", "claim"),
        [
            ({"author": b"a" * 48}, {"author": bytes(48)}, {"author": (b"a" * 48).hex()}, "author"),
            (
                {"host_data": b"h" * 32},
                {"host_data": bytes(32)},
                {"host_data": ((b"h" * 32).hex(),)},
                "host_data",
            ),
            ({"policy": 3 << 16}, {"policy": 1 << 17 | 1 << 19}, {"allow_smt": True}, "guest_policy"),
            ({"policy": 6 << 16}, {"policy": 3 << 16}, {"allow_migration_agent": True}, "guest_policy"),
            ({"vmpl": 2}, {"vmpl": 3}, {"max_vmpl": 2}, "vmpl"),
        ],
    )
    def test_of_the_guest(
        self, honest: Any, other: Any, fields: dict[str, Any], claim: str, world: SnpWorld
    ) -> None:
        strict = world.with_policy(**fields)
        assert strict.with_report(**honest).rejected_claims() == []
        assert strict.with_report(**other).rejected_claims() == [claim]

    def test_an_agent_where_it_is_allowed(self, world: SnpWorld) -> None:
        migrated = world.with_report(policy=6 << 16, report_id_ma=b"m" * 32)
        assert migrated.with_policy(allow_migration_agent=True).rejected_claims() == []

    @pytest.mark.parametrize(
        ("fields", "claim"),
        [
            ({"products": ("Genoa", "Turin")}, "products"),
            ({"endorsement_keys": ("VLEK",)}, "endorsement_key"),
            ({"chip_ids": ("ab" * 64,)}, "chip_ids"),
            ({"max_collateral_age_s": 60}, "collateral_age"),
        ],
    )
    def test_of_the_platform(self, fields: dict[str, Any], claim: str, world: SnpWorld) -> None:
        assert world.with_policy(**fields).rejected_claims() == [claim]

    @pytest.mark.parametrize(
        "least",
        [SnpTcb(bootloader=5), SnpTcb(tee=2), SnpTcb(snp=25), SnpTcb(microcode=220), SnpTcb(fmc=1)],
    )
    def test_of_its_versions(self, least: SnpTcb, world: SnpWorld) -> None:
        """A TCB that is too old now and was so at launch is said to be both."""
        assert world.with_policy(min_tcb=least).rejected_claims() == ["min_tcb", "min_tcb"]

    def test_of_its_versions_now(self, world: SnpWorld) -> None:
        """What was new enough at launch does not help what no longer is."""
        newer = world.with_report(launch_tcb=higher(world, snp=1)).with_policy(min_tcb=SnpTcb(snp=25))
        (mismatch,) = newer.mismatches()
        assert mismatch.claim == "min_tcb"
        assert "at launch" not in str(mismatch)

    @pytest.mark.parametrize("component", ["bootloader", "tee", "snp", "microcode"])
    def test_of_its_versions_at_launch(self, component: str, world: SnpWorld) -> None:
        """Firmware that is newer now proves nothing of a guest that older firmware launched."""
        least = world.report.tcb
        old = world.with_report(launch_tcb=higher(world, **{component: -1}))
        assert old.rejected_claims() == []
        (mismatch,) = old.with_policy(min_tcb=least).mismatches()
        assert mismatch.claim == "min_tcb"
        assert "at launch" in mismatch.expected
        assert f"{component} {getattr(least, component) - 1}" in mismatch.got
        assert mismatch.got.endswith(" at launch")

    def test_what_an_agent_brought_counts_as_it_is_now(self, world: SnpWorld) -> None:
        """Both have to say that the guest may be migrated: its own policy, and that of the verifier."""
        fields: dict[str, Any] = {"min_tcb": world.report.tcb, "allow_migration_agent": True}
        old = world.with_report(launch_tcb=SnpTcb())
        migrated = old.with_report(policy=6 << 16)
        assert migrated.with_policy(**fields).rejected_claims() == []
        assert old.with_policy(**fields).rejected_claims() == ["min_tcb"]
        refused = migrated.with_policy(min_tcb=world.report.tcb).rejected_claims()
        assert refused == ["guest_policy", "min_tcb"]

    def test_the_platform_as_it_is(self, world: SnpWorld) -> None:
        exact: dict[str, Any] = {
            "products": ("Milan",),
            "chip_ids": (world.report.chip_id.hex(),),
            "min_tcb": world.report.tcb,
        }
        assert world.with_policy(**exact).rejected_claims() == []

    def test_a_list_may_be_missing_where_the_policy_says_so(self, world: SnpWorld) -> None:
        assert world.without_crl().with_policy(require_crl=False).rejected_claims() == []

    def test_a_list_counts_although_it_may_be_missing(self, world: SnpWorld) -> None:
        revoked = world.with_crl(serials=(0x10001,)).with_policy(require_crl=False)
        assert revoked.rejected_claims() == ["revocation", "measurement"]


class TestQuoter:
    """A platform's quoter says what an image measures, with a revocation list that is young."""

    def test_its_evidence_is_accepted(self, world: SnpWorld) -> None:
        quoter = SnpQuoter(world.pki)
        image = "ab" * 32
        made = [
            quoter.evidence(image, "model-server", world.report_data, now=NOW + timedelta(minutes=minutes))
            for minutes in (0, 14, 15)
        ]
        measured = (measurement_of_image(image, Technology.SEV_SNP),)
        policy = world.with_policy(measurements=measured, max_collateral_age_s=3600).policy
        for evidence in made:
            verify_evidence(evidence, policy, report_data=world.report_data, now=NOW + timedelta(minutes=15))
        assert made[0].certificates == made[1].certificates
        assert made[1].certificates != made[2].certificates


class TestCache:
    """What was proved is remembered by what proves it."""

    def test_a_malleated_signature_has_the_same_verdict(self, world: SnpWorld) -> None:
        cache = VerdictCache()
        first = world.verify(cache)
        read = parse_report(world.quote)
        twin = world.with_(quote=join_report(read.signed, read.signature[0], P384_ORDER - read.signature[1]))
        assert twin.quote != world.quote
        assert twin.verify(cache).claims is first.claims
        assert (len(cache.platforms), len(cache.wholes)) == (1, 1)

    def test_a_platform_is_remembered_for_other_reports(self, world: SnpWorld) -> None:
        cache = VerdictCache()
        world.verify(cache)
        world.with_report(svn=1).verify(cache)
        assert (len(cache.platforms), len(cache.wholes)) == (1, 2)

    def test_nothing_is_remembered_beyond_its_time(self, world: SnpWorld) -> None:
        cache = VerdictCache()
        world.verify(cache)
        later = world.with_(now=ISSUED + timedelta(days=365)).with_policy(max_collateral_age_s=3650 * 86400)
        assert later.rejected_claims(cache) == ["collateral_validity"]

    def test_what_is_broken_is_not_remembered(self, world: SnpWorld) -> None:
        cache = VerdictCache()
        assert world.with_report(chip_id=bytes(64)).rejected_claims(cache) == ["chip_id"]
        assert (len(cache.platforms), len(cache.wholes)) == (0, 0)


MILAN_MEASUREMENT = (
    "b07af9620f3b839b47996422ddec6058338951d984e312115131ea82705eaf5b6bdf8a9ece31a5a608eb0cf2e4872b01"
)
WITHIN = datetime(2026, 1, 1, tzinfo=UTC)  # the VCEK's certificate is valid from September 2022 to 2029


@pytest.fixture
def folder() -> Path:
    named = os.environ.get("S3ML_FIXTURES")
    if not named:
        pytest.skip("S3ML_FIXTURES names no folder with snp/attestation.bin and its certificates")
    return Path(named) / "snp"


@pytest.fixture
def real(folder: Path) -> Evidence:
    """Evidence of a real Milan machine whose guest has a debugger; no revocation list."""
    leaf = base64.encodebytes((folder / "vcek.der").read_bytes()).decode("ascii")
    chain = f"-----BEGIN CERTIFICATE-----\n{leaf}-----END CERTIFICATE-----\n"
    return Evidence(
        tee=Tee.SEV_SNP,
        quote=(folder / "attestation.bin").read_bytes(),
        certificates=SnpCertificates(chain=chain + (folder / "ask_ark_milan.pem").read_text()),
    )


class TestRealProcessor:
    """AMD's own signatures verify; a guest with a debugger is accepted by nobody."""

    def test_a_real_report(self, real: Evidence) -> None:
        examination = examine_snp(real, None, now=WITHIN)
        assert [str(m) for m in examination.mismatches] == [
            "guest_policy: expected no DEBUG, got 0x00000000000b0000"
        ]
        assert examination.doubt is None
        assert examination.claims.measurement == MILAN_MEASUREMENT
        assert isinstance(examination.claims, SnpClaims)
        assert examination.claims.tcb == SnpTcb(bootloader=2, tee=0, snp=5, microcode=68)

    def test_a_policy_cannot_allow_the_debugger(self, real: Evidence) -> None:
        alternative = Alternative(
            tee=Tee.SEV_SNP, measurements=(MILAN_MEASUREMENT,), allow_smt=True, require_crl=False
        )
        with pytest.raises(EvidenceRejectedError) as rejected:
            verify_evidence(
                real,
                AppraisalPolicy(accept=(alternative,)),
                report_data=bytes((1, 2, 3, 4, 5)).ljust(64, b"\x00"),
                now=WITHIN,
            )
        assert [m.claim for m in rejected.value.mismatches] == ["guest_policy"]

    def test_a_flipped_bit(self, real: Evidence) -> None:
        quote = bytearray(real.quote)
        quote[0x90] ^= 1
        changed = Evidence(tee=real.tee, quote=bytes(quote), certificates=real.certificates)
        examination = examine_snp(changed, None, now=WITHIN)
        assert [m.claim for m in examination.mismatches] == ["quote_signature", "guest_policy"]

    @pytest.mark.parametrize("year", [2022, 2030])
    def test_outside_its_time(self, year: int, real: Evidence) -> None:
        examination = examine_snp(real, None, now=datetime(year, 1, 1, tzinfo=UTC))
        assert [m.claim for m in examination.mismatches] == ["certificate_validity", "guest_policy"]

    def test_the_chain_of_another_line(self, real: Evidence, folder: Path) -> None:
        assert real.certificates is not None
        leaf = real.certificates.chain.partition("-----END CERTIFICATE-----\n")
        chain = "".join(leaf[:2]) + (folder / "ask_ark_genoa.pem").read_text()
        changed = Evidence(tee=real.tee, quote=real.quote, certificates=SnpCertificates(chain=chain))
        examination = examine_snp(changed, None, now=WITHIN)
        assert [m.claim for m in examination.mismatches] == ["certificate_chain", "product", "guest_policy"]

    def test_the_pinned_roots_are_amds(self, folder: Path) -> None:
        files = {"Milan": "ask_ark_milan", "Genoa": "ask_ark_genoa", "Turin": "ask_ark_turin_vcek"}
        for line, file in files.items():
            authority, ark = read_chain((folder / f"{file}.pem").read_text())
            assert ark.common_name == f"ARK-{line}"
            assert authority.common_name == f"SEV-{line}"
            assert ark.is_authority
            assert ark.signs_revocation_lists
            assert PINNED[hashlib.sha256(ark.der).hexdigest()] == line


class TestRoots:
    """AMD's roots are pinned, one for each processor line."""

    def test_each_line_has_one(self) -> None:
        assert sorted(PINNED.values()) == sorted(PRODUCTS)
