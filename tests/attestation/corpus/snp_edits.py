"""What lies about SEV-SNP guests are made of: every function returns a change of an honest world."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from s3ml.attestation import AppraisalPolicy, SnpTcb
from s3ml.attestation.simulated.snp import join_report, sign_report
from s3ml.attestation.simulated.snp_certificate import Extension, RevocationFields, name, sign_document
from s3ml.attestation.simulated.snp_pki import (
    CRL_LIFETIME,
    EndorsedPlatform,
    SimulatedSnpPKI,
    SnpKeys,
    encode_pem,
    issue_ark,
    issue_authority,
    issue_endorsement,
)
from s3ml.attestation.verify.amd.product import GENOA, MILAN
from s3ml.attestation.verify.amd.report import SIGNED_BYTES
from tests.attestation.attestation_world import CREATED, ISSUED
from tests.attestation.corpus.guest_world import GuestWorld, honest_guest, platform_of_milan
from tests.attestation.corpus.intel_layout import patch
from tests.attestation.corpus.lie import Tell
from tests.attestation.fakes.snp_vendor import snp_keys


def reported(**changes: Any) -> Tell:
    """Have the processor report something else."""
    return lambda world: world.with_quote(**changes)


def older(**components: int) -> Tell:
    """Have the processor report an older version of a component; the rest of the report stays."""

    def tell(world: GuestWorld) -> GuestWorld:
        tcb = world.report.tcb
        lower = SnpTcb(**{**{f: getattr(tcb, f) for f in tcb.__struct_fields__}, **components})
        return world.with_quote(tcb=lower, committed_tcb=tcb, current_tcb=tcb, launch_tcb=tcb)

    return tell


def raw(offset: int, value: bytes) -> Tell:
    """Overwrite bytes of the report and have the processor sign it so."""
    return lambda world: world.with_body(offset, value)


def patched(offset: int, value: bytes) -> Tell:
    """Overwrite bytes of the report after it was signed."""
    return lambda world: world.with_(quote=patch(world.quote, offset, value))


def signature(r: int | None = None, s: int | None = None) -> Tell:
    """Write other numbers as the signature."""

    def tell(world: GuestWorld) -> GuestWorld:
        body, tail = world.quote[:SIGNED_BYTES], world.quote[SIGNED_BYTES:]
        honest = (int.from_bytes(tail[:72], "little"), int.from_bytes(tail[72:144], "little"))
        return world.with_(
            quote=join_report(body, honest[0] if r is None else r, honest[1] if s is None else s)
        )

    return tell


def forged(world: GuestWorld) -> GuestWorld:
    """Sign the report with another key."""
    key = ec.generate_private_key(ec.SECP384R1())
    return world.with_(quote=sign_report(key, world.quote[:SIGNED_BYTES]))


def signature_of_another(world: GuestWorld) -> GuestWorld:
    other = world.with_quote(report_data=bytes(64)).quote
    return world.with_(quote=world.quote[:SIGNED_BYTES] + other[SIGNED_BYTES:])


def leaf(**changes: Any) -> Tell:
    """Have the vendor certify the same key otherwise."""
    return lambda world: world.with_endorsement(**changes)


def leaf_of(**changes: Any) -> Tell:
    """Have the vendor certify the same key for another state of the processor."""
    return lambda world: world.with_endorsement(replace(world.platform, **changes))


def authority(**changes: Any) -> Tell:
    """Have the ARK issue the ASK otherwise, and the ASK the rest."""
    return lambda world: world.with_authority(**changes).with_endorsement()


def chained(*order: str) -> Tell:
    """Have other certificates in the chain."""
    return lambda world: world.with_certificates(
        chain="".join(encode_pem(getattr(world.pki, name).certificate) for name in order)
    )


def rechained(change: Callable[[str], str]) -> Tell:
    """Change the text of the chain."""
    return lambda world: world.with_certificates(chain=change(world.certificates.chain))


def leaf_bytes(change: Callable[[bytes], bytes]) -> Tell:
    """Change the leaf's certificate after it was signed."""
    return lambda world: world.with_certificates(
        chain="".join(
            encode_pem(der)
            for der in (
                change(world.pki.endorsement.certificate),
                world.pki.authority.certificate,
                world.pki.ark.certificate,
            )
        )
    )


def moved(**changes: Any) -> Tell:
    """Run the guest on another processor of the line, whose report and certificate say so."""
    return lambda world: world.with_platform(platform_of_milan(**changes))


def extended(change: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Tell:
    """Have the leaf's certificate say other extensions."""
    return lambda world: world.with_endorsement(extensions=change(world.platform.extensions))


def crl(*serials: int, issued: datetime = ISSUED, by: str = "ark", **changes: Any) -> Tell:
    """Replace the revocation list."""

    def tell(world: GuestWorld) -> GuestWorld:
        fields = RevocationFields(
            issuer=world.pki.ark.read.subject,
            issued=issued,
            expires=issued + CRL_LIFETIME,
            serials=serials,
        )
        signed = sign_document(replace(fields, **changes), getattr(world.pki, by).key)
        return world.with_certificates(crl=signed)

    return tell


def crl_bytes(change: Callable[[bytes], bytes]) -> Tell:
    """Change the revocation list after it was signed."""
    return lambda world: world.with_certificates(crl=change(world.certificates.crl))


def flipped(data: bytes) -> bytes:
    """Flip the last bit, which is one of the signature."""
    return data[:-1] + bytes((data[-1] ^ 1,))


@cache
def stranger() -> SimulatedSnpPKI:
    """Return another vendor with a processor of the same name; its keys are ours in other roles."""
    keys = snp_keys()
    swapped = SnpKeys(ark=keys.authority, authority=keys.ark, endorsement=keys.endorsement)
    return SimulatedSnpPKI.create(CREATED, platform_of_milan(), keys=swapped)


def by_a_stranger(world: GuestWorld) -> GuestWorld:
    """Have another vendor make everything."""
    return world.with_vendor(stranger())


def by_a_stranger_under_our_root(world: GuestWorld) -> GuestWorld:
    """Append the pinned root to a stranger's chain."""
    other = stranger()
    return world.with_pki(authority=other.authority, endorsement=other.endorsement)


@cache
def vendor_with_root(start: datetime, lifetime: timedelta) -> SimulatedSnpPKI:
    """Return a vendor whose root has another validity than the rest."""
    keys, platform = snp_keys(), platform_of_milan()
    ark = issue_ark(keys.ark, start, MILAN, not_after=start + lifetime)
    ask = issue_authority(keys.authority, CREATED, platform, issuer=ark)
    vcek = issue_endorsement(keys.endorsement, CREATED, platform, issuer=ask)
    return SimulatedSnpPKI(ark=ark, authority=ask, endorsement=vcek)


@cache
def genoa() -> SimulatedSnpPKI:
    """Return a vendor of another processor line, with its own root."""
    return SimulatedSnpPKI.create(CREATED, EndorsedPlatform.of(GENOA), keys=snp_keys())


def trusting(vendor: Callable[[], SimulatedSnpPKI], **policy: Any) -> Tell:
    """Have the policy name that vendor's root, too."""

    def given(world: GuestWorld) -> GuestWorld:
        asked = world.with_policy(**policy)
        other = asked.with_policy(root=vendor().root_der)
        return world.with_(policy=AppraisalPolicy(accept=(*asked.policy.accept, *other.policy.accept)))

    return given


def reported_by(vendor: Callable[[], SimulatedSnpPKI]) -> Tell:
    """Have that vendor's processor make everything."""
    return lambda world: world.with_(report=honest_guest(vendor())).with_vendor(vendor())


def with_another_algorithm(world: GuestWorld) -> GuestWorld:
    """Have the ASK name RSASSA-PKCS1-v1_5 in the leaf's certificate."""
    return world.with_endorsement(algorithm=bytes.fromhex("300d06092a864886f70d01010c0500"))


def naming_another_issuer(world: GuestWorld) -> GuestWorld:
    """Have the leaf's certificate name another issuer, whose key is the same."""
    subject = name("S3ML simulated SEV-Genoa")
    other = issue_authority(
        world.pki.authority.key, CREATED, world.platform, issuer=world.pki.ark, subject=subject
    )
    key = world.pki.endorsement.key
    return world.with_pki(endorsement=issue_endorsement(key, CREATED, world.platform, issuer=other))


def leaf_with_rsa_key(world: GuestWorld) -> GuestWorld:
    """Have the ASK certify an RSA key for the processor."""
    key: Any = world.pki.ark.key
    made = issue_endorsement(key, CREATED, world.platform, issuer=world.pki.authority)
    return world.with_pki(endorsement=replace(made, key=world.pki.endorsement.key))


def authority_with_processors_key(world: GuestWorld) -> GuestWorld:
    """Have the ARK certify a P-384 key for the ASK."""
    key: Any = world.pki.endorsement.key
    made = issue_authority(key, CREATED, world.platform, issuer=world.pki.ark)
    return world.with_pki(authority=replace(made, key=world.pki.authority.key))


def vlek_called_vcek(world: GuestWorld) -> GuestWorld:
    """Have a VLEK sign a report that says that the VCEK did."""
    cloud = world.with_platform(EndorsedPlatform.of(MILAN, "VLEK"))
    return cloud.with_quote(signing_key="VCEK")


def extension(name: bytes, value: bytes) -> Tell:
    """Have the leaf's certificate say something else in an extension."""
    return extended(
        lambda honest: tuple(replace(one, value=value) if one.name == name else one for one in honest)
    )


def one_more(**fields: Any) -> Tell:
    """Have the leaf's certificate say something more."""
    return extended(lambda honest: (*honest, Extension(**fields)))
