"""Where the host gives the certificate of the key that signed a report, AMD is asked for the rest."""

import hashlib

import msgspec
import pytest

from s3ml.attestation import SnpCertificates
from s3ml.attestation.collateral import AmdService, CollateralUnavailableError, Freshness
from s3ml.attestation.collateral.assembly import collect_certificates
from s3ml.attestation.collateral.item import Inquiry, Item, Proof, Proven
from s3ml.attestation.pem import encode_pem
from s3ml.attestation.policy.alternative import EndorsementKey
from s3ml.attestation.simulated.snp import guest_report, render_report
from tests.attestation.attestation_world import ISSUED, NOW
from tests.attestation.fakes.snp_vendor import snp_pki

KEYS: tuple[EndorsementKey, ...] = ("VCEK", "VLEK")


class Amd:
    """Gives the authorities of one platform and their list; knows no leaf."""

    def __init__(self, kind: EndorsementKey) -> None:
        self.pki = snp_pki(kind)
        self.crl = self.pki.crl(ISSUED)
        self.asked: list[str] = []

    def __call__(self, inquiry: Inquiry) -> Proven:
        what = inquiry.name.rpartition("-")[2]
        self.asked.append(what)
        item = Item(name=inquiry.name, confirmed_at=NOW, source="https://kds", der=self.crl)
        if what == "authorities":
            above = encode_pem(self.pki.authority.certificate) + encode_pem(self.pki.ark.certificate)
            item = msgspec.structs.replace(item, chain=above, der=b"")
        return Proven(item=item, proof=Proof(issued_at=ISSUED, valid_until=NOW))

    def certificates(self, leaf: bytes) -> SnpCertificates:
        report = guest_report(
            self.pki,
            measurement=hashlib.sha384(b"the guest").digest(),
            report_data=hashlib.sha512(b"the request").digest(),
        )
        service = AmdService(endpoints=("https://kds",), root=self.pki.root_der)
        signed = render_report(self.pki, report)
        return collect_certificates(self, signed, leaf=leaf, service=service, freshness=Freshness())


class TestLeaf:
    @pytest.mark.parametrize("kind", KEYS)
    def test_it_is_not_asked_for(self, kind: EndorsementKey) -> None:
        amd = Amd(kind)
        found = amd.certificates(amd.pki.endorsement.certificate)
        assert found == SnpCertificates(chain=amd.pki.chain, crl=amd.crl)
        assert amd.asked == ["authorities", "crl"]

    @pytest.mark.parametrize("kind", KEYS)
    def test_one_of_another_authority_is_refused(self, kind: EndorsementKey) -> None:
        other = snp_pki("VLEK" if kind == "VCEK" else "VCEK").endorsement.certificate
        with pytest.raises(CollateralUnavailableError, match="certificate of the host: expected one issued"):
            Amd(kind).certificates(other)

    def test_what_is_no_certificate_is_refused(self) -> None:
        with pytest.raises(CollateralUnavailableError, match="certificate: "):
            Amd("VCEK").certificates(b"no certificate")
