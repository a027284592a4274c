"""Evidence of a SEV-SNP guest: the report is the firmware's, its certificates the host's or AMD's."""

import hashlib
import uuid
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from s3ml.attestation import EvidenceMalformedError, SnpCertificates, Tee
from s3ml.attestation.generate import SnpAttester
from s3ml.attestation.generate.certificate_table import (
    ARK_GUID,
    ASK_GUID,
    CRL_GUID,
    VCEK_GUID,
    VLEK_GUID,
)
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from tests.attestation.attestation_world import CREATED
from tests.attestation.fakes.certificate_tables import encode_table
from tests.attestation.fakes.sources import FakeCollateral
from tests.attestation.fakes.tsm import FakeTsm

REPORT_DATA = hashlib.sha512(b"the request").digest()
FETCHED = SnpCertificates(chain="of AMD's service", crl=b"AMD's list")
VCEK, VLEK, NEITHER = 0, 1, 7

Table = dict[uuid.UUID, bytes]


def report(report_data: bytes, level: int, *, signing_key: int = VCEK) -> bytes:
    """The fields of a report that making evidence looks at; the verifier's tests have whole ones."""
    parts = bytearray(1184)
    parts[0x30:0x34] = level.to_bytes(4, "little")
    parts[0x48:0x4C] = (signing_key << 2 | 0b10).to_bytes(4, "little")
    parts[0x50:0x90] = report_data
    return bytes(parts)


@pytest.fixture(scope="module")
def table(pki: SimulatedPKI) -> Table:
    """Everything that a generous host hands over; certificates of any vendor do here."""
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(pki.root.certificate.subject)
        .last_update(CREATED)
        .next_update(CREATED + timedelta(days=30))
        .sign(pki.root.key, hashes.SHA256())
    )
    certificates = {
        VCEK_GUID: pki.pck,
        VLEK_GUID: pki.tcb_signing,
        ASK_GUID: pki.pck_ca,
        ARK_GUID: pki.root,
    }
    ders = {guid: one.certificate.public_bytes(Encoding.DER) for guid, one in certificates.items()}
    return {**ders, CRL_GUID: crl.public_bytes(Encoding.DER)}


def without(table: Table, *guids: uuid.UUID) -> Table:
    return {guid: content for guid, content in table.items() if guid not in guids}


class Guest:
    """A guest, and what its host and AMD give it."""

    def __init__(
        self, table: Table, *, fetched: SnpCertificates | None = FETCHED, signing_key: int = VCEK, **more: Any
    ) -> None:
        self.source = FakeCollateral(certificates=fetched)
        self.tsm = FakeTsm(
            "sev_guest",
            lambda inblob, level: report(inblob, level, signing_key=signing_key),
            table=encode_table(table.items()),
            **more,
        )
        self.attester = SnpAttester(self.tsm.root, self.source, pause=lambda _seconds: None)

    def certificates(self) -> SnpCertificates:
        found = self.attester.quote(REPORT_DATA).certificates
        assert found is not None
        return found


class TestQuote:
    """Evidence is this guest's, at the most privileged level that it has."""

    @pytest.mark.parametrize("floor", [0, 2])
    def test_the_report_is_the_kernels(self, table: Table, floor: int) -> None:
        guest = Guest(table, floor=floor)
        evidence = guest.attester.quote(REPORT_DATA)
        assert (guest.attester.tee, evidence.tee) == (Tee.SEV_SNP, Tee.SEV_SNP)
        assert evidence.quote == report(REPORT_DATA, floor)
        assert (evidence.collateral, evidence.event_log) == (None, None)

    def test_a_trust_domain_is_refused(self, table: Table) -> None:
        guest = Guest(table)
        guest.tsm.provider = "tdx_guest"
        with pytest.raises(ConfigurationError, match="expected sev_guest"):
            guest.attester.quote(REPORT_DATA)

    @pytest.mark.parametrize("size", [1183, 1185])
    def test_a_report_of_another_size_is_refused(self, table: Table, size: int) -> None:
        guest = Guest(table)
        guest.tsm.reporting = lambda _inblob, _level: bytes(size)
        with pytest.raises(UnavailableError, match=f"SEV-SNP: report: expected 1184 bytes, got {size}"):
            guest.attester.quote(REPORT_DATA)

    def test_there_is_no_sealing_key(self, table: Table) -> None:
        with pytest.raises(UnavailableError, match="SEV-SNP: expected a sealing key, got none"):
            Guest(table).attester.sealing_key()


class TestCertificates:
    """The host's are taken as far as they go, the rest is asked of AMD."""

    @pytest.mark.parametrize("signing_key", [VCEK, VLEK])
    def test_a_whole_table_is_enough(self, table: Table, pki: SimulatedPKI, signing_key: int) -> None:
        guest = Guest(table, fetched=None, signing_key=signing_key)
        leaf = pki.pck if signing_key == VCEK else pki.tcb_signing
        chain = leaf.pem + pki.pck_ca.pem + pki.root.pem
        assert guest.certificates() == SnpCertificates(chain=chain, crl=table[CRL_GUID])
        assert guest.source.reports == []

    def test_the_list_alone_is_asked_for(self, table: Table, pki: SimulatedPKI) -> None:
        guest = Guest(without(table, CRL_GUID))
        assert guest.certificates() == SnpCertificates(
            chain=pki.pck.pem + pki.pck_ca.pem + pki.root.pem, crl=FETCHED.crl
        )
        assert guest.source.reports == [(report(REPORT_DATA, 0), table[VCEK_GUID])]

    @pytest.mark.parametrize("failure", [UnavailableError("no"), EvidenceMalformedError("no")])
    def test_without_a_list_there_still_is_evidence(self, table: Table, failure: Exception) -> None:
        guest = Guest(without(table, CRL_GUID), fetched=None)
        guest.source.failure = failure
        assert guest.certificates().crl is None

    @pytest.mark.parametrize("absent", [ASK_GUID, ARK_GUID])
    @pytest.mark.parametrize("signing_key", [VCEK, VLEK])
    def test_authorities_are_asked_for_with_the_leaf(
        self, table: Table, absent: uuid.UUID, signing_key: int
    ) -> None:
        guest = Guest(without(table, absent), signing_key=signing_key)
        assert guest.certificates() == FETCHED
        leaf = table[VCEK_GUID if signing_key == VCEK else VLEK_GUID]
        assert guest.source.reports == [(report(REPORT_DATA, 0, signing_key=signing_key), leaf)]

    def test_an_empty_table_leaves_all_to_amd(self) -> None:
        guest = Guest({})
        assert guest.certificates() == FETCHED
        assert guest.source.reports == [(report(REPORT_DATA, 0), None)]

    @pytest.mark.parametrize(
        ("signing_key", "absent"), [(VCEK, VCEK_GUID), (VLEK, VLEK_GUID), (NEITHER, CRL_GUID)]
    )
    def test_a_leaf_of_another_key_is_no_leaf(
        self, table: Table, signing_key: int, absent: uuid.UUID
    ) -> None:
        guest = Guest(without(table, absent), signing_key=signing_key)
        assert guest.certificates() == FETCHED
        assert guest.source.reports[0][1] is None

    def test_nobody_has_any(self) -> None:
        with pytest.raises(UnavailableError, match="no endpoint answers"):
            Guest({}, fetched=None).attester.quote(REPORT_DATA)

    def test_a_report_that_nobody_can_read_is_unavailable(self) -> None:
        guest = Guest({}, fetched=None)
        guest.source.failure = EvidenceMalformedError("report: expected a chip id")
        with pytest.raises(UnavailableError, match=r"^SEV-SNP: report: expected a chip id$"):
            guest.attester.quote(REPORT_DATA)

    def test_a_table_that_cannot_be_read_is_unavailable(self, table: Table) -> None:
        guest = Guest({**table, ARK_GUID: b"no certificate"})
        with pytest.raises(UnavailableError, match="SEV-SNP: certificate table of the host: ARK: expected"):
            guest.attester.quote(REPORT_DATA)
