"""What Intel did not sign is not believed, wherever it comes from: each rule is broken alone."""

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from s3ml.attestation import Collateral
from s3ml.attestation.collateral import CollateralRejectedError, Freshness, IntelService
from s3ml.attestation.collateral.intel import IntelInquiries, ask_intel, read_platform
from s3ml.attestation.collateral.item import Item, Proof
from s3ml.attestation.collateral.revocation import prove_crl
from s3ml.attestation.simulated.collateral import Authority, render_crl, sign_raw
from s3ml.attestation.simulated.pki import SimulatedPKI, issue_certificate
from tests.attestation.attestation_world import CREATED, ISSUED, NOW, World

LIFETIME = timedelta(days=30)


@pytest.fixture(scope="module")
def asked(pki: SimulatedPKI, world: World) -> IntelInquiries:
    service = IntelService(endpoints=(), root=pki.root_der)
    return ask_intel(service, read_platform(world.quote), Freshness())


@pytest.fixture(scope="module")
def honest(pki: SimulatedPKI) -> Collateral:
    return pki.collateral(ISSUED)


def item(**parts: Any) -> Item:
    return Item(name="any", confirmed_at=NOW, source="here", **parts)


def tcb_info(
    honest: Collateral, *, text: str | None = None, chain: str | None = None, signer: Authority | None = None
) -> Item:
    text = honest.tcb_info if text is None else text
    signature = sign_raw(signer.key, text.encode()) if signer else honest.tcb_info_signature
    return item(text=text, signature=signature, chain=chain or honest.tcb_info_issuer_chain)


class TestHonestItems:
    """What the vendor signed is proved, with its dates and its number."""

    def test_all_four_are(self, pki: SimulatedPKI, asked: IntelInquiries, honest: Collateral) -> None:
        issued = ISSUED.replace(microsecond=0)
        proofs = [
            asked.tcb_info.prove(tcb_info(honest), NOW),
            asked.qe_identity.prove(
                item(
                    text=honest.qe_identity,
                    signature=honest.qe_identity_signature,
                    chain=honest.qe_identity_issuer_chain,
                ),
                NOW,
            ),
            asked.pck_crl.prove(item(der=honest.pck_crl, chain=honest.pck_crl_issuer_chain), NOW),
        ]
        assert [(one.issued_at, one.valid_until) for one in proofs] == [(issued, issued + LIFETIME)] * 3
        assert [one.evaluation_data_number for one in proofs] == [1, 1, 0]
        root = asked.root_crl.prove(item(der=honest.root_ca_crl), NOW)
        assert root == Proof(issued_at=issued, valid_until=issued + timedelta(days=365))

    def test_a_proof_ends_with_the_certificate_under_it(
        self, pki: SimulatedPKI, asked: IntelInquiries, honest: Collateral
    ) -> None:
        brief = issue_certificate("SGX TCB Signing", ISSUED, issuer=pki.root, lifetime=timedelta(days=2))
        proof = asked.tcb_info.prove(tcb_info(honest, chain=brief.pem + pki.root.pem, signer=brief), NOW)
        assert proof.valid_until == ISSUED + timedelta(days=2)


class TestDocuments:
    """TCB info and QE identity count only with the right signer, id, version, type and platform."""

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('"id":"SGX"', '"id":"TDX"'),
            ('"version":3', '"version":2'),
            ('"tcbType":0', '"tcbType":1'),
            ("53334D4C0000", "53334D4C0001"),
        ],
    )
    def test_another_document_is_rejected(
        self, pki: SimulatedPKI, asked: IntelInquiries, honest: Collateral, *, old: str, new: str
    ) -> None:
        text = honest.tcb_info.replace(old, new)
        with pytest.raises(CollateralRejectedError, match="expected id SGX, version 3, FMSPC"):
            asked.tcb_info.prove(tcb_info(honest, text=text, signer=pki.tcb_signing), NOW)

    def test_the_identity_of_another_enclave_is_rejected(
        self, pki: SimulatedPKI, asked: IntelInquiries, honest: Collateral
    ) -> None:
        text = honest.qe_identity.replace('"id":"QE"', '"id":"TD_QE"')
        with pytest.raises(CollateralRejectedError, match="expected id QE, version 2, got id TD_QE"):
            asked.qe_identity.prove(tcb_info(honest, text=text, signer=pki.tcb_signing), NOW)

    @pytest.mark.parametrize("text", ["{}", "{", "[" * 10_000, '{"id":"SGX"}'])
    def test_what_is_no_document_is_rejected(
        self, pki: SimulatedPKI, asked: IntelInquiries, honest: Collateral, text: str
    ) -> None:
        with pytest.raises(CollateralRejectedError, match="expected TCB info or a QE identity"):
            asked.tcb_info.prove(tcb_info(honest, text=text, signer=pki.tcb_signing), NOW)

    def test_a_changed_text_is_rejected(self, asked: IntelInquiries, honest: Collateral) -> None:
        text = honest.tcb_info.replace("UpToDate", "Uptodate")
        with pytest.raises(CollateralRejectedError, match="signature of the TCB signing certificate"):
            asked.tcb_info.prove(tcb_info(honest, text=text), NOW)

    @pytest.mark.parametrize("signature", [b"", bytes(64), b"\xff" * 64])
    def test_no_signature_is_rejected(
        self, asked: IntelInquiries, honest: Collateral, signature: bytes
    ) -> None:
        unsigned = item(text=honest.tcb_info, signature=signature, chain=honest.tcb_info_issuer_chain)
        with pytest.raises(CollateralRejectedError, match="signature of the TCB signing certificate"):
            asked.tcb_info.prove(unsigned, NOW)

    def test_another_role_under_the_root_is_rejected(
        self, pki: SimulatedPKI, asked: IntelInquiries, honest: Collateral
    ) -> None:
        chain = pki.pck_ca.pem + pki.root.pem
        with pytest.raises(CollateralRejectedError, match="certificate_role: expected SGX TCB Signing"):
            asked.tcb_info.prove(tcb_info(honest, chain=chain, signer=pki.pck_ca), NOW)

    def test_a_signer_that_the_root_did_not_certify_is_rejected(
        self, pki: SimulatedPKI, asked: IntelInquiries, honest: Collateral
    ) -> None:
        stranger = SimulatedPKI.create(CREATED).tcb_signing
        chain = stranger.pem + pki.root.pem
        with pytest.raises(CollateralRejectedError, match="issuer chain signed by the root"):
            asked.tcb_info.prove(tcb_info(honest, chain=chain, signer=stranger), NOW)

    def test_another_root_is_rejected(self, asked: IntelInquiries) -> None:
        stranger = SimulatedPKI.create(CREATED)
        with pytest.raises(CollateralRejectedError, match="root: expected the root with SHA-256"):
            asked.tcb_info.prove(tcb_info(stranger.collateral(ISSUED)), NOW)

    def test_an_expired_signer_is_rejected(
        self, pki: SimulatedPKI, asked: IntelInquiries, honest: Collateral
    ) -> None:
        old = issue_certificate("SGX TCB Signing", CREATED, issuer=pki.root, lifetime=timedelta(days=1))
        chain = old.pem + pki.root.pem
        with pytest.raises(CollateralRejectedError, match="certificate_validity"):
            asked.tcb_info.prove(tcb_info(honest, chain=chain, signer=old), NOW)

    @pytest.mark.parametrize(
        "chain", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"]
    )
    def test_no_chain_is_rejected(self, asked: IntelInquiries, honest: Collateral, chain: str) -> None:
        broken = item(text=honest.tcb_info, signature=honest.tcb_info_signature, chain=chain)
        with pytest.raises(CollateralRejectedError):
            asked.tcb_info.prove(broken, NOW)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
            lambda: ec.generate_private_key(ec.SECP384R1()),
        ],
        ids=["RSA", "P-384"],
    )
    def test_a_signer_with_another_kind_of_key_is_rejected(
        self, pki: SimulatedPKI, asked: IntelInquiries, honest: Collateral, make: Callable[[], Any]
    ) -> None:
        template = pki.tcb_signing.certificate
        certificate = (
            x509.CertificateBuilder()
            .subject_name(template.subject)
            .issuer_name(template.issuer)
            .public_key(make().public_key())
            .serial_number(1)
            .not_valid_before(template.not_valid_before_utc)
            .not_valid_after(template.not_valid_after_utc)
            .sign(pki.root.key, hashes.SHA256())
        )
        chain = certificate.public_bytes(Encoding.PEM).decode() + pki.root.pem
        with pytest.raises(CollateralRejectedError, match="with a P-256 key"):
            asked.tcb_info.prove(tcb_info(honest, chain=chain), NOW)


class TestRevocationLists:
    """A list counts only where its own authority signed it."""

    def test_revoked_serials_are_told(self, pki: SimulatedPKI, asked: IntelInquiries) -> None:
        der = render_crl(pki.root, ISSUED, LIFETIME, revoked=[pki.pck.certificate])
        proof = asked.root_crl.prove(item(der=der), NOW)
        assert proof.revoked == {pki.pck.certificate.serial_number}

    def test_another_authoritys_list_is_rejected(
        self, pki: SimulatedPKI, asked: IntelInquiries, honest: Collateral
    ) -> None:
        with pytest.raises(CollateralRejectedError, match="signed by its authority"):
            asked.root_crl.prove(item(der=honest.pck_crl), NOW)
        with pytest.raises(CollateralRejectedError, match="signed by its authority"):
            asked.pck_crl.prove(item(der=honest.root_ca_crl, chain=honest.pck_crl_issuer_chain), NOW)

    def test_the_right_key_under_another_name_is_rejected(
        self, pki: SimulatedPKI, asked: IntelInquiries
    ) -> None:
        renamed = dataclasses.replace(pki.root, certificate=pki.pck_ca.certificate)
        with pytest.raises(CollateralRejectedError, match="signed by its authority"):
            asked.root_crl.prove(item(der=render_crl(renamed, ISSUED, LIFETIME)), NOW)

    def test_the_other_authoritys_chain_is_rejected(self, pki: SimulatedPKI, asked: IntelInquiries) -> None:
        other = issue_certificate("SGX PCK Processor CA", CREATED, issuer=pki.root, is_authority=True)
        crl = item(der=render_crl(other, ISSUED, LIFETIME), chain=other.pem + pki.root.pem)
        with pytest.raises(CollateralRejectedError, match="expected SGX PCK Platform CA"):
            asked.pck_crl.prove(crl, NOW)

    def test_what_is_no_list_is_rejected(self, asked: IntelInquiries) -> None:
        with pytest.raises(CollateralRejectedError, match="expected a DER revocation list"):
            asked.root_crl.prove(item(der=b"\x30\x00"), NOW)

    def test_a_list_that_never_ends_is_rejected(
        self, pki: SimulatedPKI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Endless:
            last_update_utc = ISSUED
            next_update_utc = None
            issuer = pki.root.certificate.subject

            def is_signature_valid(self, _: object) -> bool:
                return True

            def __iter__(self) -> Any:
                return iter(())

        monkeypatch.setattr(x509, "load_der_x509_crl", lambda _: Endless())
        with pytest.raises(CollateralRejectedError, match="next update"):
            prove_crl(b"", pki.root_der)
