"""What lies about Intel's TEEs are made of: every function returns a change of an honest world."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from s3ml.attestation import AppraisalPolicy
from s3ml.attestation.simulated.collateral import (
    CPU_SVN,
    FMSPC,
    PCE_ID,
    PCE_SVN,
    UP_TO_DATE,
    TcbState,
    render_crl,
)
from s3ml.attestation.simulated.pki import SimulatedPKI, issue_certificate
from s3ml.attestation.simulated.quote import endorse
from s3ml.attestation.simulated.sgx_extension import PlatformIdentity, sgx_extension
from tests.attestation.attestation_world import CREATED, ISSUED, World
from tests.attestation.corpus.intel_layout import QuoteLayout
from tests.attestation.corpus.lie import Tell

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
STRANGER = SimulatedPKI.create(CREATED)


def quoted(**changes: Any) -> Tell:
    """Have the platform quote something else."""
    return lambda world: world.with_quote(**changes)


def qe(**changes: Any) -> Tell:
    """Have another quoting enclave quote."""
    return quoted(quoting_enclave=changes)


def policy(**changes: Any) -> Tell:
    """Have the verifier ask for something else."""
    return lambda world: world.with_policy(**changes)


def tcb(**changes: Any) -> Tell:
    """Have the vendor say something else of the platform."""
    return lambda world: world.with_tcb(TcbState(**changes))


def edited(name: str, edit: Callable[[dict[str, Any]], object]) -> Tell:
    """Edit a document and have the right authority sign it."""
    return lambda world: world.with_document(name, edit)


def tcb_info(**fields: Any) -> Tell:
    return edited("tcb_info", lambda document: document.update(fields))


def qe_identity(**fields: Any) -> Tell:
    return edited("qe_identity", lambda document: document.update(fields))


def level(name: str, **fields: Any) -> Tell:
    """Edit the first TCB level of a document."""
    return edited(name, lambda document: document["tcbLevels"][0].update(fields))


def signed_by(name: str, role: str, *, by: SimulatedPKI | None = None) -> Tell:
    """Have another authority sign a document, and say so."""
    return lambda world: world.with_document(name, lambda _: None, signer=getattr(by or world.pki, role))


def signed_by_role(name: str, role: str) -> Tell:
    """Have a certificate of another role, directly under the root, sign a document."""
    return lambda world: world.with_document(
        name, lambda _: None, signer=issue_certificate(role, CREATED, issuer=world.pki.root)
    )


def tampered(name: str) -> Tell:
    """Change a document after it was signed."""

    def tell(world: World) -> World:
        text = getattr(world.collateral, name)
        number = '"tcbEvaluationDataNumber":1'
        assert number in text
        return world.with_collateral(**{name: text.replace(number, number + "0")})

    return tell


def swapped(first: str, second: str) -> Tell:
    """Exchange two parts of the collateral."""
    return lambda world: world.with_collateral(
        **{first: getattr(world.collateral, second), second: getattr(world.collateral, first)}
    )


def issued_at(instant: datetime) -> Tell:
    """Have the vendor sign the collateral at another time."""
    return lambda world: world.with_(collateral=collateral_of(world, instant))


def collateral_of(world: World, instant: datetime, by: SimulatedPKI | None = None) -> Any:
    return (by or world.pki).collateral(instant, UP_TO_DATE, technology=world.evidence.technology)


def crl(
    name: str, issuer: str, *, start: datetime = ISSUED, days: int = 30, by: SimulatedPKI | None = None
) -> Tell:
    """Replace a revocation list by another one of `issuer`."""
    return lambda world: world.with_collateral(
        **{name: render_crl(getattr(by or world.pki, issuer), start, days * DAY)}
    )


def revoked(name: str, issuer: str, victim: str) -> Tell:
    """Have `issuer` revoke a certificate."""

    def tell(world: World) -> World:
        certificate = getattr(world.pki, victim).certificate
        revocations = render_crl(getattr(world.pki, issuer), ISSUED, 30 * DAY, revoked=[certificate])
        return world.with_collateral(**{name: revocations})

    return tell


def signature_flipped(name: str) -> Tell:
    """Flip the last bit of a part of the collateral that ends with a signature."""

    def tell(world: World) -> World:
        value = getattr(world.collateral, name)
        return world.with_collateral(**{name: value[:-1] + bytes((value[-1] ^ 1,))})

    return tell


def chain(name: str, *order: str) -> Tell:
    """Have other certificates in a chain of the collateral."""
    return lambda world: world.with_collateral(
        **{name: "".join(getattr(world.pki, role).pem for role in order)}
    )


def chain_under_a_stranger(name: str, leaf: str) -> Tell:
    """End a chain of the collateral with another root."""
    return lambda world: world.with_collateral(**{name: getattr(world.pki, leaf).pem + STRANGER.root.pem})


def reissued_signer(start: datetime, lifetime: timedelta) -> Tell:
    """Have a TCB signing certificate of another validity."""
    return lambda world: world.with_pki(
        tcb_signing=issue_certificate("SGX TCB Signing", start, issuer=world.pki.root, lifetime=lifetime)
    )


def reissued_ca(start: datetime, lifetime: timedelta) -> Tell:
    """Have a PCK CA of another validity, and a platform under it."""

    def tell(world: World) -> World:
        ca = issue_certificate(
            "SGX PCK Platform CA",
            start,
            issuer=world.pki.root,
            is_authority=True,
            lifetime=lifetime,
        )
        return world.with_pki(pck_ca=ca, pck=issue_pck(world, issuer=ca))

    return tell


def reissued_pck(role: str = "SGX PCK Certificate", **changes: Any) -> Tell:
    """Have another PCK certificate for the platform; the collateral stays."""

    def tell(world: World) -> World:
        collateral = world.collateral
        return world.with_pki(pck=issue_pck(world, role, **changes)).with_(collateral=collateral)

    return tell


def issue_pck(
    world: World,
    role: str = "SGX PCK Certificate",
    *,
    start: datetime = CREATED,
    lifetime: timedelta = 3650 * DAY,
    has_extension: bool = True,
    issuer: Any = None,
    **identity: Any,
) -> Any:
    honest = PlatformIdentity(
        ppid=bytes(16), cpu_svn=CPU_SVN, pce_svn=PCE_SVN, pce_id=PCE_ID, fmspc=FMSPC, instance_id=bytes(16)
    )
    return issue_certificate(
        role,
        start,
        issuer=issuer or world.pki.pck_ca,
        extension=sgx_extension(replace(honest, **identity)) if has_extension else None,
        lifetime=lifetime,
    )


def by_a_stranger(world: World) -> World:
    """Have another vendor make everything."""
    forged = world.with_pki(
        **{
            name: getattr(STRANGER, name)
            for name in ("root", "pck_ca", "pck", "tcb_signing", "attestation_key")
        }
    )
    return world.with_(quote=forged.quote, collateral=forged.collateral)


def quote_by_a_stranger_under_our_root(world: World) -> World:
    """Append the pinned root to a stranger's chain."""
    names = ("pck_ca", "pck", "attestation_key")
    forged = world.with_pki(**{name: getattr(STRANGER, name) for name in names})
    return world.with_(quote=forged.quote)


def collateral_by_a_stranger(world: World) -> World:
    return world.with_(collateral=collateral_of(world, ISSUED, by=STRANGER))


def pck_crl_of_another_ca(world: World) -> World:
    """A CA of the right role under the right root, which did not issue the platform's certificate."""
    other = issue_certificate("SGX PCK Platform CA", CREATED, issuer=world.pki.root, is_authority=True)
    return world.with_collateral(pck_crl_issuer_chain=other.pem + world.pki.root.pem)


def forged_attestation_key(world: Any) -> Any:
    """Sign with an attestation key that the quoting enclave never endorsed."""
    forger = world.with_pki(attestation_key=STRANGER.attestation_key)
    endorsed = {"report_data": endorse(world.pki)}
    return world.with_(quote=forger.with_quote(quoting_enclave=endorsed).quote)


def forged_quoting_enclave(world: World) -> World:
    """Sign the quoting enclave's report with a key that is not the platform's."""
    forged = world.with_pki(pck=replace(world.pki.pck, key=STRANGER.pck.key))
    return world.with_(quote=forged.quote)


def forged_signature(world: World) -> World:
    """Take the report of one quote and the signature of another."""
    other = world.with_quote(report_data=bytes(64)).quote
    start = QuoteLayout.of(world).signature
    return world.with_(quote=world.quote[:start] + other[start : start + 64] + world.quote[start + 64 :])


def unused_report_data(world: Any) -> Any:
    """Have the quoting enclave say something in the bytes that are unused."""
    report_data = endorse(world.pki)[:63] + b"\x01"
    return world.with_quote(quoting_enclave={"report_data": report_data})


@cache
def vendor_with_root(start: datetime, lifetime: timedelta) -> SimulatedPKI:
    """Return a vendor whose root has another validity than the rest."""
    root = issue_certificate("SGX Root CA", start, is_authority=True, lifetime=lifetime)
    ca = issue_certificate("SGX PCK Platform CA", CREATED, issuer=root, is_authority=True)
    honest = PlatformIdentity(
        ppid=bytes(16), cpu_svn=CPU_SVN, pce_svn=PCE_SVN, pce_id=PCE_ID, fmspc=FMSPC, instance_id=bytes(16)
    )
    return replace(
        STRANGER,
        root=root,
        pck_ca=ca,
        pck=issue_certificate("SGX PCK Certificate", CREATED, issuer=ca, extension=sgx_extension(honest)),
        tcb_signing=issue_certificate("SGX TCB Signing", CREATED, issuer=root),
    )


def trusting(start: datetime, lifetime: timedelta) -> Tell:
    """Have the policy name the root of that vendor, too."""

    def given(world: World) -> World:
        honest = world.policy.accept
        root = vendor_with_root(start, lifetime).root.certificate.public_bytes(Encoding.DER)
        return world.with_(
            policy=AppraisalPolicy(accept=(*honest, *world.with_policy(root=root).policy.accept))
        )

    return given


def quoted_under(start: datetime, lifetime: timedelta) -> Tell:
    """Have that vendor's platform make everything."""

    def tell(world: World) -> World:
        vendor = vendor_with_root(start, lifetime)
        names = ("root", "pck_ca", "pck", "tcb_signing", "attestation_key")
        changed = world.with_pki(**{name: getattr(vendor, name) for name in names})
        return world.with_(quote=changed.quote, collateral=changed.collateral)

    return tell


def both(first: Tell, second: Tell) -> Tell:
    """Do one after the other."""
    return lambda world: second(first(world))
