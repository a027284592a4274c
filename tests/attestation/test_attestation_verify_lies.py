"""Each rule, broken exactly once: the evidence is rejected and the mismatch names the rule.

`unproven` are the lies after which dcap-qvl vouches for nothing: the measurement is then listed as well, as
a mere claim.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from s3ml.attestation import EvidenceRejectedError
from s3ml.attestation.simulated.collateral import CPU_SVN, FMSPC, PCE_ID, PCE_SVN, TcbState, render_crl
from s3ml.attestation.simulated.pki import SimulatedPKI, issue_certificate
from s3ml.attestation.simulated.quote import encode_header
from s3ml.attestation.simulated.sgx_extension import PlatformIdentity, sgx_extension
from tests.attestation.attestation_world import (
    CREATED,
    ISSUED,
    MEASUREMENT,
    NOW,
    World,
    honest_quoting_enclave,
    quoted,
)

Lie = Callable[[World], World]
DAY = timedelta(days=1)
STRANGER = SimulatedPKI.create(CREATED)


def pck(world: World, **identity: Any) -> dict[str, Any]:
    """Return what a PCK certificate of the world's CA takes, its identity changed."""
    honest = PlatformIdentity(
        ppid=bytes(16), cpu_svn=CPU_SVN, pce_svn=PCE_SVN, pce_id=PCE_ID, fmspc=FMSPC, instance_id=bytes(16)
    )
    return {"issuer": world.pki.pck_ca, "extension": sgx_extension(replace(honest, **identity))}


def qe(**changes: Any) -> Lie:
    return lambda world: world.with_quote(quoting_enclave=changes)


def flags(bits: int) -> Lie:
    return lambda world: world.with_quote(flags=bits)


def tcb_info(**fields: Any) -> Lie:
    return lambda world: world.with_document("tcb_info", lambda document: document.update(fields))


def qe_identity(**fields: Any) -> Lie:
    return lambda world: world.with_document("qe_identity", lambda document: document.update(fields))


def signed_by(name: str, role: str) -> Lie:
    return lambda world: world.with_document(name, lambda _: None, signer=getattr(world.pki, role))


def tampered(name: str) -> Lie:
    def lie(world: World) -> World:
        text = getattr(world.collateral, name)
        edited = text.replace('"tcbEvaluationDataNumber":1', '"tcbEvaluationDataNumber":9')
        assert edited != text
        return world.with_collateral(**{name: edited})

    return lie


def crl(name: str, issuer: str, *, start: Any = ISSUED, by: SimulatedPKI | None = None) -> Lie:
    return lambda world: world.with_collateral(
        **{name: render_crl(getattr(by or world.pki, issuer), start, 30 * DAY)}
    )


def revoked(name: str, issuer: str, victim: str) -> Lie:
    def lie(world: World) -> World:
        certificate = getattr(world.pki, victim).certificate
        revocations = render_crl(getattr(world.pki, issuer), ISSUED, DAY, revoked=[certificate])
        return world.with_collateral(**{name: revocations})

    return lie


def forged_attestation_key(world: World) -> World:
    """Sign with an attestation key that the quoting enclave never endorsed."""
    endorsed = honest_quoting_enclave(world.pki.attestation_key).report_data
    forger = replace(world.pki, attestation_key=STRANGER.attestation_key)
    return world.with_(quote=quoted(forger, quoting_enclave={"report_data": endorsed}))


def forged_quoting_enclave(world: World) -> World:
    """Sign the quoting enclave's report with a key that is not the platform's."""
    pck = replace(world.pki.pck, key=STRANGER.pck.key)
    return world.with_(quote=quoted(replace(world.pki, pck=pck)))


def stranger_everything(world: World) -> World:
    return world.with_(quote=quoted(STRANGER), collateral=STRANGER.collateral(ISSUED))


def stranger_quote_under_our_root(world: World) -> World:
    """Append the pinned root to a stranger's chain."""
    return world.with_(quote=quoted(replace(STRANGER, root=world.pki.root)))


def quote_chain(*order: str) -> Lie:
    """Put the quote's certificates in another order, or leave some out."""

    def lie(world: World) -> World:
        pki = world.pki
        pem = "".join(getattr(pki, name).pem for name in order).encode()
        head = world.quote[: 48 + 384 + 4 + 584 + 32 - 4]
        size = len(head) - 436 + 4 + len(pem)
        return world.with_(
            quote=head[:432] + size.to_bytes(4, "little") + head[436:] + len(pem).to_bytes(4, "little") + pem
        )

    return lie


def collateral_chain(name: str, *order: str) -> Lie:
    return lambda world: world.with_collateral(
        **{name: "".join(getattr(world.pki, role).pem for role in order)}
    )


def pck_crl_of_another_ca(world: World) -> World:
    """A CA of the right role under the right root, which did not issue the platform's certificate."""
    other = issue_certificate("SGX PCK Platform CA", CREATED, issuer=world.pki.root, is_authority=True)
    return world.with_collateral(pck_crl_issuer_chain=other.pem + world.pki.root.pem)


def short_root(start: Any, lifetime: timedelta) -> Lie:
    """A vendor whose root is not valid now, and the policy that names it."""

    def lie(world: World) -> World:
        root = issue_certificate("SGX Root CA", start, is_authority=True, lifetime=lifetime)
        ca = issue_certificate("SGX PCK Platform CA", CREATED, issuer=root, is_authority=True)
        changes = {
            "root": root,
            "pck_ca": ca,
            "pck": issue_certificate("SGX PCK Certificate", CREATED, **{**pck(world), "issuer": ca}),
            "tcb_signing": issue_certificate("SGX TCB Signing", CREATED, issuer=root),
        }
        changed = world.with_pki(**changes)
        return changed.with_policy(root=changed.pki.root_der)

    return lie


def high_level(document: dict[str, Any]) -> None:
    document["tcbLevels"][0]["tcb"]["sgxtcbcomponents"][0]["svn"] = 200


PROVEN: dict[str, tuple[Lie, list[str]]] = {
    "measurement": (lambda w: w.with_quote(measurement=bytes(32)), ["measurement"]),
    "report data": (lambda w: w.with_quote(report_data=bytes(64)), ["report_data"]),
    "report data of another request": (lambda w: w.with_(report_data=bytes(64)), ["report_data"]),
    "signer": (
        lambda w: w.with_policy(measurements=None, signer="cd" * 32, product_id=7, min_svn=5),
        ["signer"],
    ),
    "product": (
        lambda w: w.with_policy(measurements=None, signer=w.verify().signer, product_id=8, min_svn=5),
        ["product_id"],
    ),
    "svn": (
        lambda w: w.with_policy(measurements=None, signer=w.verify().signer, product_id=7, min_svn=6),
        ["svn"],
    ),
    "not initialised": (flags(0x04), ["attributes"]),
    "32-bit": (flags(0x01), ["attributes"]),
    "reserved attribute": (flags(0x0D), ["attributes"]),
    "provision key": (flags(0x15), ["attributes"]),
    "launch token key": (flags(0x25), ["attributes"]),
    "key separation and sharing": (flags(0x85), ["attributes"]),
    "unknown attribute": (flags(0x05 | 1 << 63), ["attributes"]),
    "quoting enclave's report data": (
        lambda w: w.with_quote(
            quoting_enclave={
                "report_data": honest_quoting_enclave(w.pki.attestation_key).report_data[:63] + b"\x01"
            }
        ),
        ["qe_report_data"],
    ),
    "PCEID of TCB info": (tcb_info(pceId="0001"), ["pce_id"]),
    "PCEID of the platform": (
        lambda w: w.with_pki(
            pck=issue_certificate("SGX PCK Certificate", CREATED, **pck(w, pce_id=b"\x00\x01"))
        ),
        ["pce_id"],
    ),
    "TCB info of type 1": (tcb_info(tcbType=1), ["tcb_info"]),
    "TCB info version 2": (tcb_info(version=2), ["tcb_info"]),
    "TCB info version 4": (tcb_info(version=4), ["tcb_info"]),
    "TCB info that expires this second": (
        tcb_info(nextUpdate="2026-03-01T12:00:00Z"),
        ["collateral_validity"],
    ),
    "QE identity that expires this second": (
        qe_identity(nextUpdate="2026-03-01T12:00:00Z"),
        ["collateral_validity"],
    ),
    "PCK CRL of the future": (
        crl("pck_crl", "pck_ca", start=NOW + timedelta(seconds=1)),
        ["collateral_validity"],
    ),
    "root CRL of the future": (
        crl("root_ca_crl", "root", start=NOW + timedelta(seconds=1)),
        ["collateral_validity"],
    ),
    "expired root": (short_root(CREATED, DAY), ["root_validity"]),
    "root of the future": (short_root(NOW + DAY, DAY), ["root_validity"]),
    "PCK certificate of another role": (
        lambda w: w.with_pki(pck=issue_certificate("SGX PCK Thing", CREATED, **pck(w))),
        ["certificate_role"],
    ),
    "TCB info signed by another role": (
        lambda w: w.with_document(
            "tcb_info",
            lambda _: None,
            signer=issue_certificate("SGX Logo Signing", CREATED, issuer=w.pki.root),
        ),
        ["certificate_role"],
    ),
    "QE identity signed by another role": (
        lambda w: w.with_document(
            "qe_identity",
            lambda _: None,
            signer=issue_certificate("SGX Logo Signing", CREATED, issuer=w.pki.root),
        ),
        ["certificate_role"],
    ),
    "PCK certificate issued by the root": (
        lambda w: w.with_pki(
            pck=issue_certificate("SGX PCK Certificate", CREATED, **{**pck(w), "issuer": w.pki.root})
        ),
        ["certificate_chain"],
    ),
    "PCK CRL of another CA's chain": (pck_crl_of_another_ca, ["certificate_chain"]),
    "PCK CRL's chain without a CA": (
        collateral_chain("pck_crl_issuer_chain", "root"),
        ["certificate_chain"],
    ),
    "PCK CRL's chain by the TCB signer": (
        collateral_chain("pck_crl_issuer_chain", "tcb_signing", "root"),
        ["certificate_role", "certificate_chain"],
    ),
    "PCK CRL's chain under a stranger's root": (
        lambda w: w.with_collateral(pck_crl_issuer_chain=w.pki.pck_ca.pem + STRANGER.root.pem),
        ["root"],
    ),
    "TCB info's chain under a stranger's root": (
        lambda w: w.with_collateral(tcb_info_issuer_chain=w.pki.tcb_signing.pem + STRANGER.root.pem),
        ["root"],
    ),
    "TCB info's chain with a certificate too many": (
        collateral_chain("tcb_info_issuer_chain", "tcb_signing", "pck_ca", "root"),
        ["certificate_chain"],
    ),
    "event log": (lambda w: w.with_(event_log=b"log"), ["event_log"]),
    "status out of date": (lambda w: w.with_tcb(TcbState(status="OutOfDate")), ["tcb_status"]),
    "quoting enclave out of date": (
        lambda w: w.with_document("qe_identity", lambda d: d["tcbLevels"][0].update(tcbStatus="OutOfDate")),
        ["tcb_status"],
    ),
    "advisory on the quoting enclave": (
        lambda w: w.with_document(
            "qe_identity", lambda d: d["tcbLevels"][0].update(advisoryIDs=["INTEL-SA-00001"])
        ),
        ["advisories"],
    ),
    "status hardening needed": (
        lambda w: w.with_tcb(TcbState(status="SWHardeningNeeded")),
        ["tcb_status"],
    ),
    "advisory": (lambda w: w.with_tcb(TcbState(advisories=("INTEL-SA-00001",))), ["advisories"]),
    "advisory besides a tolerated one": (
        lambda w: w.with_tcb(TcbState(advisories=("INTEL-SA-00001", "INTEL-SA-00002"))).with_policy(
            advisories=("INTEL-SA-00001",)
        ),
        ["advisories"],
    ),
    "evaluation data number": (
        lambda w: w.with_policy(min_tcb_evaluation_data_number=2),
        ["tcb_evaluation_data_number"],
    ),
    "evaluation data number of TCB info alone": (
        lambda w: (
            w.with_tcb(TcbState(evaluation_data_number=2))
            .with_document("tcb_info", lambda document: document.update(tcbEvaluationDataNumber=1))
            .with_policy(min_tcb_evaluation_data_number=2)
        ),
        ["tcb_evaluation_data_number"],
    ),
    "evaluation data number of QE identity alone": (
        lambda w: (
            w.with_tcb(TcbState(evaluation_data_number=2))
            .with_document("qe_identity", lambda document: document.update(tcbEvaluationDataNumber=1))
            .with_policy(min_tcb_evaluation_data_number=2)
        ),
        ["tcb_evaluation_data_number"],
    ),
    "age of the collateral": (lambda w: w.with_policy(max_collateral_age_s=3599), ["collateral_age"]),
    "age of TCB info alone": (
        lambda w: tcb_info(issueDate="2026-02-20T00:00:00Z")(w).with_policy(max_collateral_age_s=3600),
        ["collateral_age"],
    ),
    "age of QE identity alone": (
        lambda w: qe_identity(issueDate="2026-02-20T00:00:00Z")(w).with_policy(max_collateral_age_s=3600),
        ["collateral_age"],
    ),
    "age of the PCK CRL alone": (
        lambda w: crl("pck_crl", "pck_ca", start=NOW - DAY)(w).with_policy(max_collateral_age_s=3600),
        ["collateral_age"],
    ),
    "SVN of the quoting enclave": (
        lambda w: w.with_quote(header=encode_header(qe_svn=7)).with_policy(min_qe_svn=8),
        ["qe_svn"],
    ),
    "SVN of the certification enclave": (
        lambda w: w.with_quote(header=encode_header(pce_svn=12)).with_policy(min_pce_svn=13),
        ["pce_svn"],
    ),
    "root that the policy does not name": (
        lambda w: w.with_policy(root=STRANGER.root_der),
        ["root", "revocation", "measurement"],
    ),
}

UNPROVEN: dict[str, tuple[Lie, list[str]]] = {
    "forged attestation key": (forged_attestation_key, ["quote_signature"]),
    "forged quoting enclave": (forged_quoting_enclave, ["quote_signature"]),
    "unendorsed attestation key": (qe(report_data=bytes(64)), ["quote_signature"]),
    "everything by a stranger": (stranger_everything, ["root", "revocation"]),
    "stranger's quote under our root": (
        stranger_quote_under_our_root,
        ["certificate_chain"],
    ),
    "collateral by a stranger": (
        lambda w: w.with_(collateral=STRANGER.collateral(ISSUED)),
        ["root", "certificate_chain", "revocation"],
    ),
    "debug": (flags(0x07), ["attributes"]),
    "quoting enclave's signer": (qe(signer=bytes(32)), ["qe_identity"]),
    "quoting enclave's product": (qe(product_id=2), ["qe_identity"]),
    "quoting enclave's version": (qe(svn=7), ["qe_identity"]),
    "quoting enclave in debug mode": (qe(flags=0x17), ["qe_identity"]),
    "TCB info of TDX": (tcb_info(id="TDX"), ["tcb_info"]),
    "TCB info of another platform": (tcb_info(fmspc="000000000001"), ["fmspc"]),
    "TCB info tampered with": (tampered("tcb_info"), ["tcb_info"]),
    "TCB info signed by the PCK": (
        signed_by("tcb_info", "pck"),
        ["certificate_role", "certificate_chain"],
    ),
    "TCB info signed by the PCK CA": (signed_by("tcb_info", "pck_ca"), ["certificate_role"]),
    "TCB info signed by the root": (signed_by("tcb_info", "root"), ["certificate_role"]),
    "TCB info signed by a stranger": (
        lambda w: w.with_document("tcb_info", lambda _: None, signer=STRANGER.tcb_signing),
        ["certificate_chain"],
    ),
    "QE identity of TDX": (qe_identity(id="TD_QE"), ["qe_identity"]),
    "QE identity version 3": (qe_identity(version=3), ["qe_identity"]),
    "QE identity tampered with": (tampered("qe_identity"), ["qe_identity"]),
    "QE identity signed by the PCK": (
        signed_by("qe_identity", "pck"),
        ["certificate_role", "certificate_chain"],
    ),
    "expired TCB info": (tcb_info(nextUpdate="2026-03-01T11:59:59Z"), ["collateral_validity"]),
    "TCB info of the future": (tcb_info(issueDate="2026-03-01T12:00:01Z"), ["collateral_validity"]),
    "expired QE identity": (qe_identity(nextUpdate="2026-03-01T11:59:59Z"), ["collateral_validity"]),
    "QE identity of the future": (
        qe_identity(issueDate="2026-03-01T12:00:01Z"),
        ["collateral_validity"],
    ),
    "expired root CRL": (crl("root_ca_crl", "root", start=NOW - 30 * DAY), ["collateral_validity"]),
    "expired PCK CRL": (crl("pck_crl", "pck_ca", start=NOW - 30 * DAY), ["collateral_validity"]),
    "PCK CRL by the root": (crl("pck_crl", "root"), ["certificate_chain"]),
    "PCK CRL by a stranger": (crl("pck_crl", "pck_ca", by=STRANGER), ["certificate_chain"]),
    "root CRL by a stranger": (crl("root_ca_crl", "root", by=STRANGER), ["revocation"]),
    "revoked PCK": (revoked("pck_crl", "pck_ca", "pck"), ["revocation"]),
    "revoked PCK CA": (revoked("root_ca_crl", "root", "pck_ca"), ["revocation"]),
    "revoked TCB signer": (revoked("root_ca_crl", "root", "tcb_signing"), ["revocation"]),
    "revoked TCB level": (
        lambda w: w.with_document("tcb_info", lambda d: d["tcbLevels"][0].update(tcbStatus="Revoked")),
        ["tcb_status"],
    ),
    "revoked quoting enclave": (
        lambda w: w.with_document("qe_identity", lambda d: d["tcbLevels"][0].update(tcbStatus="Revoked")),
        ["tcb_status"],
    ),
    "no TCB level low enough": (lambda w: w.with_document("tcb_info", high_level), ["tcb_status"]),
    "platform below every TCB level": (
        lambda w: w.with_pki(
            pck=issue_certificate("SGX PCK Certificate", CREATED, **pck(w, cpu_svn=bytes(16)))
        ),
        ["tcb_status"],
    ),
    "expired PCK certificate": (
        lambda w: w.with_pki(pck=issue_certificate("SGX PCK Certificate", CREATED, lifetime=DAY, **pck(w))),
        ["certificate_validity"],
    ),
    "PCK certificate of the future": (
        lambda w: w.with_pki(pck=issue_certificate("SGX PCK Certificate", NOW + DAY, **pck(w))),
        ["certificate_validity"],
    ),
    "expired TCB signer": (
        lambda w: w.with_pki(
            tcb_signing=issue_certificate("SGX TCB Signing", CREATED, issuer=w.pki.root, lifetime=DAY)
        ),
        ["certificate_validity"],
    ),
    "PCK certificate without Intel's extension": (
        lambda w: w.with_pki(pck=issue_certificate("SGX PCK Certificate", CREATED, issuer=w.pki.pck_ca)),
        ["certificate_chain"],
    ),
    "quote's chain without the CA": (quote_chain("pck", "root"), ["certificate_chain"]),
    "quote's chain in another order": (
        quote_chain("pck_ca", "pck", "root"),
        ["certificate_role", "certificate_chain"],
    ),
    "quote signed by the TCB signer": (
        quote_chain("tcb_signing", "pck_ca", "root"),
        ["certificate_role", "certificate_chain"],
    ),
}


class TestRules:
    """A lie of one kind is one mismatch, named."""

    @pytest.mark.parametrize("lie", PROVEN)
    def test_a_broken_rule_is_named(self, world: World, lie: str) -> None:
        tell, claims = PROVEN[lie]
        assert list(dict.fromkeys(tell(world).rejected_claims())) == claims

    @pytest.mark.parametrize("lie", UNPROVEN)
    def test_without_proof_the_measurement_is_a_claim(self, world: World, lie: str) -> None:
        tell, claims = UNPROVEN[lie]
        with pytest.raises(EvidenceRejectedError) as rejected:
            tell(world).verify()
        *found, measurement = rejected.value.mismatches
        assert list(dict.fromkeys(mismatch.claim for mismatch in found)) == claims
        assert measurement.claim == "measurement"
        assert measurement.got.startswith(f"{MEASUREMENT.hex()} claimed by a quote ")

    def test_without_collateral_nothing_is_proven(self, world: World) -> None:
        claims = world.with_(collateral=None).with_quote(report_data=bytes(64)).rejected_claims()
        assert claims == ["collateral", "measurement", "report_data"]

    def test_a_signer_is_a_claim_too(self, world: World) -> None:
        signed = world.with_policy(measurements=None, signer=world.verify().signer, product_id=7, min_svn=5)
        assert forged_attestation_key(signed).rejected_claims() == ["quote_signature", "signer"]
