"""Evidence of a SEV-SNP guest: the report is the firmware's, its certificates the host's or AMD's."""

import hashlib
import uuid
from dataclasses import replace

import msgspec
import pytest

from s3ml.attestation import (
    Alternative,
    AppraisalPolicy,
    EvidenceMalformedError,
    SnpCertificates,
    Technology,
    Tee,
    verify_evidence,
)
from s3ml.attestation.generate import SnpAttester
from s3ml.attestation.generate.certificate_table import (
    ARK_GUID,
    ASK_GUID,
    CRL_GUID,
    VCEK_GUID,
    VLEK_GUID,
    CertificateTable,
)
from s3ml.attestation.generate.snp import leaf_of
from s3ml.attestation.policy.alternative import EndorsementKey
from s3ml.attestation.simulated.snp import guest_report, render_report
from s3ml.attestation.simulated.snp_certificate import name
from s3ml.attestation.simulated.snp_pki import issue_ark
from s3ml.attestation.verify.amd.product import MILAN
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from tests.attestation.attestation_world import ISSUED, NOW
from tests.attestation.fakes.certificate_tables import encode_table
from tests.attestation.fakes.snp_vendor import snp_pki
from tests.attestation.fakes.sources import FakeCollateral
from tests.attestation.fakes.tsm import FakeTsm

REPORT_DATA = hashlib.sha512(b"the request").digest()
MEASUREMENT = hashlib.sha384(b"the guest").digest()
FETCHED = SnpCertificates(chain="of AMD's service", crl=b"AMD's list")
KEYS: tuple[EndorsementKey, ...] = ("VCEK", "VLEK")
LEAVES = {"VCEK": VCEK_GUID, "VLEK": VLEK_GUID}


class Guest:
    """A guest, what its host hands over, and what AMD gives.

    Args:
        kind: Whose key signs its reports.
        without: What the host leaves out.
        fetched: What AMD gives; None where it does not answer.
        floor: The most privileged level that this guest has.
    """

    def __init__(
        self,
        kind: EndorsementKey = "VCEK",
        *,
        without: tuple[uuid.UUID, ...] = (),
        fetched: SnpCertificates | None = FETCHED,
        floor: int = 0,
    ) -> None:
        self.pki = snp_pki(kind)
        whole = {
            VCEK_GUID: snp_pki("VCEK").endorsement.certificate,
            VLEK_GUID: snp_pki("VLEK").endorsement.certificate,
            ASK_GUID: self.pki.authority.certificate,
            ARK_GUID: self.pki.ark.certificate,
            CRL_GUID: self.pki.crl(ISSUED),
        }
        self.table = {guid: content for guid, content in whole.items() if guid not in without}
        self.made: list[bytes] = []
        self.source = FakeCollateral(certificates=fetched)
        self.tsm = FakeTsm("sev_guest", self._report, table=encode_table(self.table.items()), floor=floor)
        self.attester = SnpAttester(self.tsm.root, self.source, pause=lambda _seconds: None)

    def _report(self, inblob: bytes, level: int) -> bytes:
        honest = guest_report(self.pki, measurement=MEASUREMENT, report_data=inblob)
        self.made.append(render_report(self.pki, replace(honest, vmpl=level)))
        return self.made[-1]

    def certificates(self) -> SnpCertificates:
        found = self.attester.quote(REPORT_DATA).certificates
        assert found is not None
        return found


class TestQuote:
    """Evidence is this guest's, at the most privileged level that it has."""

    @pytest.mark.parametrize("kind", KEYS)
    def test_the_verifier_accepts_it(self, kind: EndorsementKey) -> None:
        guest = Guest(kind, fetched=None)
        evidence = guest.attester.quote(REPORT_DATA)
        assert (guest.attester.tee, evidence.tee, evidence.quote) == (Tee.SEV_SNP, Tee.SEV_SNP, guest.made[0])
        policy = AppraisalPolicy(
            accept=(
                Alternative(
                    tee=Tee.SIMULATED,
                    simulates=Technology.SEV_SNP,
                    root=guest.pki.root_der,
                    measurements=(MEASUREMENT.hex(),),
                    products=("Milan",),
                    endorsement_keys=(kind,),
                ),
            )
        )
        simulated = msgspec.structs.replace(evidence, tee=Tee.SIMULATED, simulates=Technology.SEV_SNP)
        assert verify_evidence(simulated, policy, report_data=REPORT_DATA, now=NOW).is_simulated

    @pytest.mark.parametrize("floor", [0, 2])
    def test_it_claims_the_level_that_it_has(self, floor: int) -> None:
        evidence = Guest(floor=floor).attester.quote(REPORT_DATA)
        assert int.from_bytes(evidence.quote[0x30:0x34], "little") == floor
        assert evidence.quote[0x50:0x90] == REPORT_DATA
        assert (evidence.collateral, evidence.event_log) == (None, None)

    def test_a_trust_domain_is_refused(self) -> None:
        guest = Guest()
        guest.tsm.provider = "tdx_guest"
        with pytest.raises(ConfigurationError, match="expected sev_guest"):
            guest.attester.quote(REPORT_DATA)

    @pytest.mark.parametrize("size", [1183, 1185])
    def test_a_report_of_another_size_is_refused(self, size: int) -> None:
        guest = Guest()
        guest.tsm.reporting = lambda _inblob, _level: bytes(size)
        with pytest.raises(UnavailableError, match=f"SEV-SNP: report: expected 1184 bytes, got {size}"):
            guest.attester.quote(REPORT_DATA)

    def test_a_report_for_another_request_is_refused(self) -> None:
        guest = Guest()
        guest.tsm.reporting = lambda _inblob, level: guest._report(bytes(64), level)
        with pytest.raises(
            UnavailableError, match="SEV-SNP: report: expected the report data that were asked"
        ):
            guest.attester.quote(REPORT_DATA)

    def test_certificates_that_no_evidence_holds_are_refused(self) -> None:
        guest = Guest(fetched=None)
        long = issue_ark(guest.pki.ark.key, ISSUED, MILAN, subject=name("A" * 6500)).certificate
        guest.table.update({VCEK_GUID: long, ASK_GUID: long, ARK_GUID: long})
        guest.tsm.table = encode_table(guest.table.items())
        with pytest.raises(
            UnavailableError, match="the host's certificates: expected at most 16384 characters"
        ):
            guest.certificates()

    def test_there_is_no_sealing_key(self) -> None:
        with pytest.raises(UnavailableError, match="SEV-SNP: expected a sealing key, got none"):
            Guest().attester.sealing_key()


class TestCertificates:
    """The host's are taken as far as they go, the rest is asked of AMD."""

    @pytest.mark.parametrize("kind", KEYS)
    def test_a_whole_table_is_enough(self, kind: EndorsementKey) -> None:
        guest = Guest(kind, fetched=None)
        assert guest.certificates() == SnpCertificates(chain=guest.pki.chain, crl=guest.table[CRL_GUID])
        assert guest.source.reports == []

    def test_the_list_alone_is_asked_for(self) -> None:
        guest = Guest(without=(CRL_GUID,))
        assert guest.certificates() == SnpCertificates(chain=guest.pki.chain, crl=FETCHED.crl)
        assert guest.source.reports == [(guest.made[0], guest.table[VCEK_GUID])]

    @pytest.mark.parametrize("failure", [UnavailableError("no"), EvidenceMalformedError("no")])
    def test_without_a_list_there_still_is_evidence(self, failure: Exception) -> None:
        guest = Guest(without=(CRL_GUID,), fetched=None)
        guest.source.failure = failure
        assert guest.certificates().crl is None

    @pytest.mark.parametrize("absent", [ASK_GUID, ARK_GUID])
    @pytest.mark.parametrize("kind", KEYS)
    def test_authorities_are_asked_for_with_the_leaf(self, absent: uuid.UUID, kind: EndorsementKey) -> None:
        guest = Guest(kind, without=(absent,))
        assert guest.certificates() == FETCHED
        assert guest.source.reports == [(guest.made[0], guest.table[LEAVES[kind]])]

    def test_an_empty_table_leaves_all_to_amd(self) -> None:
        guest = Guest()
        guest.tsm.table = b""
        assert guest.certificates() == FETCHED
        assert guest.source.reports == [(guest.made[0], None)]

    @pytest.mark.parametrize("kind", KEYS)
    def test_the_leaf_of_another_key_is_no_leaf(self, kind: EndorsementKey) -> None:
        guest = Guest(kind, without=(LEAVES[kind],))
        assert guest.certificates() == FETCHED
        assert guest.source.reports == [(guest.made[0], None)]

    @pytest.mark.parametrize("signing_key", range(2, 8))
    def test_a_report_of_no_key_has_no_leaf(self, signing_key: int) -> None:
        report = bytes(0x48) + bytes([signing_key << 2]) + bytes(1184 - 0x49)
        assert leaf_of(report, CertificateTable(vcek=b"vcek", vlek=b"vlek")) is None

    def test_nobody_has_any(self) -> None:
        guest = Guest(fetched=None)
        guest.tsm.table = b""
        with pytest.raises(UnavailableError, match="no endpoint answers"):
            guest.attester.quote(REPORT_DATA)

    def test_a_report_that_nobody_can_read_is_unavailable(self) -> None:
        guest = Guest(without=(ASK_GUID,), fetched=None)
        guest.source.failure = EvidenceMalformedError("report: expected a chip id")
        with pytest.raises(UnavailableError, match=r"^SEV-SNP: report: expected a chip id$"):
            guest.attester.quote(REPORT_DATA)

    def test_a_table_that_cannot_be_read_is_unavailable(self) -> None:
        guest = Guest()
        guest.tsm.table = encode_table([(ARK_GUID, b"no certificate")])
        with pytest.raises(UnavailableError, match="SEV-SNP: certificate table of the host: ARK: expected"):
            guest.attester.quote(REPORT_DATA)
