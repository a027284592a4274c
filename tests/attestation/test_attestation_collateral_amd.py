"""Certificates of AMD's: asked for as a report says, believed only under the pinned ARK."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from s3ml.attestation import EvidenceMalformedError, SnpCertificates
from s3ml.attestation.collateral import (
    AmdService,
    CollateralClient,
    CollateralFiles,
    CollateralRejectedError,
    CollateralUnavailableError,
    Transport,
)
from s3ml.attestation.collateral.amd import Signer, ask_authorities, ask_leaf, read_signer
from s3ml.attestation.collateral.amd_proof import prove_amd_crl, prove_authorities, read_authorities_of
from s3ml.attestation.collateral.amd_reply import read_amd_crl, read_authorities, read_certificate
from s3ml.attestation.collateral.item import Item, Reply
from s3ml.attestation.pem import encode_pem
from s3ml.attestation.policy.alternative import EndorsementKey
from s3ml.attestation.simulated.snp import guest_report, render_report
from s3ml.attestation.simulated.snp_pki import EndorsedPlatform, SimulatedSnpPKI, issue_ark, issue_authority
from s3ml.attestation.verify.amd.product import GENOA, MILAN, PRODUCTS, TURIN, Product
from s3ml.attestation.verify.amd.report import parse_report
from s3ml.primitives.errors import ConfigurationError
from tests.attestation.attestation_world import CREATED, ISSUED, NOW
from tests.attestation.collateral_world import FRESHNESS, SetClock
from tests.attestation.fakes.provisioning import ProvisioningServer, garbage, kds_answers, serving, status
from tests.attestation.fakes.snp_vendor import snp_keys

FIXTURES = os.environ.get("S3ML_FIXTURES")
needs_fixtures = pytest.mark.skipif(not FIXTURES, reason="S3ML_FIXTURES names no folder with a real report")
AT = datetime(2025, 1, 1, tzinfo=UTC)


@cache
def vendor(kind: EndorsementKey = "VCEK", line: str = "Milan") -> SimulatedSnpPKI:
    return SimulatedSnpPKI.create(CREATED, EndorsedPlatform.of(PRODUCTS[line], kind), keys=snp_keys())


def reported(pki: SimulatedSnpPKI, version: int = 5, **changes: object) -> bytes:
    report = guest_report(
        pki,
        measurement=hashlib.sha384(b"the guest").digest(),
        report_data=hashlib.sha512(b"the request").digest(),
        version=version,
    )
    return render_report(pki, replace(report, **changes))  # type: ignore[arg-type]


def leaf_of(pki: SimulatedSnpPKI) -> str:
    """Return where the leaf is, written down as AMD documents it."""
    platform = pki.platform
    tcb = platform.tcb
    query = (
        f"blSPL={tcb.bootloader:02d}&teeSPL={tcb.tee:02d}&snpSPL={tcb.snp:02d}&ucodeSPL={tcb.microcode:02d}"
    )
    if platform.product is TURIN:
        query += f"&fmcSPL={tcb.fmc:02d}"
    chip = platform.chip_id or b""
    return f"{chip[:8].hex() if platform.product is TURIN else chip.hex() or 'cert'}?{query}"


@contextmanager
def kds(pki: SimulatedSnpPKI, key: str = "vcek") -> Iterator[ProvisioningServer]:
    name = pki.platform.product.name
    with serving(kds_answers(pki, ISSUED, product=name, leaf=leaf_of(pki), key=key)) as server:
        yield server


@contextmanager
def amd_client(
    pki: SimulatedSnpPKI,
    *servers: ProvisioningServer,
    clock: SetClock | None = None,
    folder: Path | None = None,
) -> Iterator[CollateralClient]:
    clock = clock or SetClock()
    service = AmdService(endpoints=tuple(one.url for one in servers), root=pki.root_der)
    with CollateralClient(
        amd=service, freshness=FRESHNESS, folder=folder, transport=Transport(clock=clock), clock=clock
    ) as client:
        yield client


def authorities_item(*ders: bytes) -> Item:
    return Item(name="any", confirmed_at=NOW, source="here", chain="".join(encode_pem(der) for der in ders))


def der_item(der: bytes) -> Item:
    return Item(name="any", confirmed_at=NOW, source="here", der=der)


class TestWhatIsFetched:
    """A report's own words find its certificates."""

    @pytest.mark.parametrize("product", [MILAN, GENOA, TURIN], ids=lambda product: product.name)
    def test_the_chips_own_key(self, product: Product) -> None:
        pki = vendor("VCEK", product.name)
        with kds(pki) as server, amd_client(pki, server) as client:
            got = client.for_report(reported(pki))
        assert got == SnpCertificates(chain=pki.chain, crl=got.crl)
        assert got.crl == server.answers[f"/vcek/v1/{product.name}/crl"].body

    def test_the_clouds_key_where_a_relay_has_it(self) -> None:
        pki = vendor("VLEK")
        with kds(pki, "vlek") as server, amd_client(pki, server) as client:
            assert client.for_report(reported(pki)).chain == pki.chain

    def test_the_clouds_key_is_given_to_the_cloud_alone(self) -> None:
        pki = vendor("VLEK")
        with kds(pki, "vlek") as server, amd_client(pki, server) as client:
            del server.answers[f"/vlek/v1/Milan/{leaf_of(pki)}"]
            with pytest.raises(
                CollateralUnavailableError, match=r"VLEK of a Milan processor: .* answered 404"
            ):
                client.for_report(reported(pki))

    def test_a_report_without_its_line_is_tried_in_order(self) -> None:
        pki = vendor("VCEK", "Genoa")
        with kds(pki) as server, amd_client(pki, server) as client:
            assert client.for_report(reported(pki, version=2)).chain == pki.chain
        assert server.paths[:2] == ["/vcek/v1/Milan/cert_chain", "/vcek/v1/Genoa/cert_chain"]

    def test_where_no_line_has_it_all_are_told(self) -> None:
        pki = vendor("VCEK", "Genoa")
        with (
            serving({}) as server,
            amd_client(pki, server) as client,
            pytest.raises(CollateralUnavailableError) as refused,
        ):
            client.for_report(reported(pki, version=2))
        assert [
            f"authorities of {line} VCEKs" in str(refused.value) for line in ("Milan", "Genoa", "Turin")
        ] == [True] * 3

    def test_certificates_are_never_asked_for_again(self) -> None:
        pki = vendor()
        clock = SetClock()
        with kds(pki) as server, amd_client(pki, server, clock=clock) as client:
            client.for_report(reported(pki))
            clock.advance(20 * 86400)
            client.for_report(reported(pki))
            assert server.arrived.acquire(timeout=5)
        assert [path for path in server.paths[3:] if not path.endswith("/crl")] == []

    def test_garbage_falls_over_to_the_next(self) -> None:
        pki = vendor()
        with kds(pki) as server, kds(pki) as second, amd_client(pki, server, second) as client:
            server.fault = garbage
            assert client.for_report(reported(pki)).chain == pki.chain

    def test_files_do_without_the_service(self, tmp_path: Path) -> None:
        pki = vendor()
        with kds(pki) as server, amd_client(pki, server, folder=tmp_path) as client:
            fetched = client.for_report(reported(pki))
        files = CollateralFiles(
            tmp_path, amd=AmdService(endpoints=(), root=pki.root_der), freshness=FRESHNESS, clock=SetClock()
        )
        assert files.for_report(reported(pki)) == fetched
        assert files.for_report(reported(pki), leaf=pki.endorsement.certificate) == fetched

    def test_an_outage_is_told(self) -> None:
        pki = vendor()
        with kds(pki) as server, amd_client(pki, server) as client:
            server.fault = status(429, Retry_After="10")
            with pytest.raises(CollateralUnavailableError, match="answered 429") as refused:
                client.for_report(reported(pki))
        assert refused.value.retry_after_s == 10


class TestReports:
    """A report says which processor it is of, or it cannot be helped."""

    def test_a_masked_chip_cannot_be_asked_for(self) -> None:
        pki = vendor()
        with pytest.raises(EvidenceMalformedError, match="masked"):
            read_signer(parse_report(reported(pki, chip_id=bytes(64))))

    def test_another_processor_is_refused(self) -> None:
        pki = vendor()
        with amd_client(pki) as client, pytest.raises(EvidenceMalformedError, match="family 0x17, model 0x1"):
            client.for_report(reported(pki, cpuid=(0x17, 0x01, 0)))

    def test_no_report_is_refused(self) -> None:
        with amd_client(vendor()) as client, pytest.raises(EvidenceMalformedError):
            client.for_report(b"no report")


class TestService:
    """A service has lines that exist, and a root that is a certificate."""

    @pytest.mark.parametrize("products", [(), ("Rome",)])
    def test_other_lines_are_refused(self, products: tuple[str, ...]) -> None:
        with pytest.raises(ConfigurationError, match="expected some of Milan, Genoa, Turin"):
            AmdService(endpoints=(), products=products)  # type: ignore[arg-type]

    def test_a_root_that_is_none_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="root certificate"):
            AmdService(endpoints=(), root=b"no certificate")

    def test_addresses_are_checked(self) -> None:
        with pytest.raises(ConfigurationError, match="KDS"):
            AmdService(endpoints=("kds",))

    def test_what_another_root_signed_never_has_amds_names(self) -> None:
        own = ask_authorities(AmdService(endpoints=()), "VCEK", MILAN)
        other = ask_authorities(AmdService(endpoints=(), root=vendor().root_der), "VCEK", MILAN)
        assert own.name == "amd-vcek-milan-authorities"
        assert other.name.startswith("simulated-")


class TestReplies:
    """Limits come first."""

    @pytest.mark.parametrize("body", [b"\xff", b"x" * 8193])
    def test_authorities_are_short_ascii(self, body: bytes) -> None:
        with pytest.raises(CollateralRejectedError, match="PEM of at most 8192"):
            read_authorities(Reply(url="", status=200, fields={}, body=body))

    def test_a_certificate_is_short(self) -> None:
        with pytest.raises(CollateralRejectedError, match="at most 16384"):
            read_certificate(Reply(url="", status=200, fields={}, body=bytes(16_385)))

    def test_a_revocation_list_is_one(self) -> None:
        with pytest.raises(CollateralRejectedError, match="revocation list"):
            read_amd_crl(Reply(url="", status=200, fields={}, body=b"none"))


class TestAuthorities:
    """Authorities are the pinned ARK, and what it certified for this very line and kind of key."""

    def prove(self, item: Item, key: EndorsementKey = "VCEK", now: datetime = NOW) -> None:
        prove_authorities(item, now, key=key, product=MILAN, root=vendor().root_der)

    def test_honest_ones_are_proved(self) -> None:
        pki = vendor()
        self.prove(authorities_item(pki.authority.certificate, pki.ark.certificate))

    def test_another_root_is_rejected(self) -> None:
        other = vendor("VCEK", "Genoa")
        with pytest.raises(CollateralRejectedError, match="expected the ARK with SHA-256"):
            self.prove(authorities_item(other.authority.certificate, other.ark.certificate))

    def test_the_real_ones_are_pinned_by_line(self) -> None:
        pki = vendor()
        item = authorities_item(pki.authority.certificate, pki.ark.certificate)
        with pytest.raises(CollateralRejectedError, match="expected the ARK with SHA-256 69d063b4"):
            prove_authorities(item, NOW, key="VCEK", product=MILAN, root=None)

    def test_the_authority_of_the_other_kind_is_rejected(self) -> None:
        pki = vendor()
        with pytest.raises(CollateralRejectedError, match="expected the authority SEV-VLEK-Milan"):
            self.prove(authorities_item(pki.authority.certificate, pki.ark.certificate), key="VLEK")

    def test_an_authority_that_the_root_did_not_sign_is_rejected(self) -> None:
        pki = vendor()
        impostor = replace(pki.ark, key=pki.authority.key)
        forged = issue_authority(snp_keys().authority, CREATED, EndorsedPlatform.of(MILAN), issuer=impostor)
        with pytest.raises(CollateralRejectedError, match="expected a certificate signed by"):
            self.prove(authorities_item(forged.certificate, pki.ark.certificate))

    def test_a_root_of_another_name_is_no_issuer(self) -> None:
        pki = vendor()
        other = issue_ark(snp_keys().ark, CREATED, GENOA)
        item = authorities_item(pki.authority.certificate, other.certificate)
        with pytest.raises(CollateralRejectedError, match="expected a certificate signed by"):
            prove_authorities(item, NOW, key="VCEK", product=MILAN, root=other.certificate)

    def test_expired_ones_are_rejected(self) -> None:
        pki = vendor()
        item = authorities_item(pki.authority.certificate, pki.ark.certificate)
        with pytest.raises(CollateralRejectedError, match="expected certificates valid at"):
            self.prove(item, now=NOW + timedelta(days=30 * 365))

    def test_another_number_of_them_is_rejected(self) -> None:
        pki = vendor()
        with pytest.raises(CollateralRejectedError, match="2 authorities, got 1"):
            self.prove(authorities_item(pki.ark.certificate))

    def test_no_pem_is_rejected(self) -> None:
        with pytest.raises(CollateralRejectedError, match="PEM"):
            read_authorities_of(der_item(b""))


class TestLeaves:
    """A leaf is for this kind of key, this chip and these firmware versions, and its authority signed it."""

    def prove(
        self, pki: SimulatedSnpPKI, der: bytes, *, signer: Signer | None = None, product: Product = MILAN
    ) -> None:
        signer = signer or read_signer(parse_report(reported(vendor())))
        above = authorities_item(pki.authority.certificate, pki.ark.certificate)
        asked = ask_leaf(AmdService(endpoints=()), product, signer, authorities=read_authorities_of(above))
        asked.prove(der_item(der), NOW)

    def test_an_honest_one_is_proved(self) -> None:
        self.prove(vendor(), vendor().endorsement.certificate)

    def test_what_is_no_certificate_is_rejected(self) -> None:
        with pytest.raises(CollateralRejectedError):
            self.prove(vendor(), b"none")

    def test_one_that_another_authority_signed_is_rejected(self) -> None:
        with pytest.raises(CollateralRejectedError, match="expected a certificate signed by"):
            self.prove(vendor("VCEK", "Genoa"), vendor().endorsement.certificate)

    def test_one_of_another_kind_is_rejected(self) -> None:
        pki = vendor("VLEK")
        with pytest.raises(CollateralRejectedError, match="expected a VCEK of Milan, got a VLEK of Milan"):
            self.prove(pki, pki.endorsement.certificate)

    def test_one_for_other_versions_is_rejected(self) -> None:
        signer = replace(read_signer(parse_report(reported(vendor()))), tcb=bytes(8))
        with pytest.raises(CollateralRejectedError, match="expected a VCEK for bootloader 0"):
            self.prove(vendor(), vendor().endorsement.certificate, signer=signer)

    def test_one_of_another_chip_is_rejected(self) -> None:
        signer = replace(read_signer(parse_report(reported(vendor()))), chip_id=b"\x01" * 64)
        with pytest.raises(CollateralRejectedError, match="this very chip"):
            self.prove(vendor(), vendor().endorsement.certificate, signer=signer)

    def test_a_tcb_that_the_line_does_not_have_is_malformed(self) -> None:
        signer = replace(read_signer(parse_report(reported(vendor()))), tcb=b"\xff" * 8)
        with pytest.raises(EvidenceMalformedError, match="reserves bytes"):
            self.prove(vendor(), vendor().endorsement.certificate, signer=signer)


class TestRevocationLists:
    """A list counts only where the ARK signed it."""

    def test_an_honest_one_is_proved(self) -> None:
        pki = vendor()
        proof = prove_amd_crl(der_item(pki.crl(ISSUED, 7)), NOW, root=pki.ark.read)
        assert (proof.issued_at, proof.revoked) == (ISSUED, frozenset({7}))

    def test_another_authoritys_is_rejected(self) -> None:
        pki = vendor()
        with pytest.raises(CollateralRejectedError, match="signed by the ARK"):
            prove_amd_crl(der_item(vendor("VCEK", "Genoa").crl(ISSUED)), NOW, root=pki.ark.read)

    def test_another_signature_is_rejected(self) -> None:
        pki = vendor()
        der = bytearray(pki.crl(ISSUED))
        der[-1] ^= 1
        with pytest.raises(CollateralRejectedError, match="signed by the ARK"):
            prove_amd_crl(der_item(bytes(der)), NOW, root=pki.ark.read)

    def test_what_is_none_is_rejected(self) -> None:
        with pytest.raises(CollateralRejectedError):
            prove_amd_crl(der_item(b"none"), NOW, root=vendor().ark.read)


@needs_fixtures
class TestRealCertificates:
    """AMD's own certificates are proved under the pinned ARKs."""

    @pytest.mark.parametrize(
        ("product", "file"),
        [(MILAN, "milan"), (GENOA, "genoa"), (TURIN, "turin_vcek")],
        ids=["Milan", "Genoa", "Turin"],
    )
    def test_authorities(self, product: Product, file: str) -> None:
        body = (Path(str(FIXTURES)) / "snp" / f"ask_ark_{file}.pem").read_bytes()
        asked = ask_authorities(AmdService(endpoints=()), "VCEK", product)
        content = asked.read(Reply(url="", status=200, fields={}, body=body))
        item = Item(name="any", confirmed_at=AT, source="here", chain=content.chain)
        assert asked.prove(item, AT).valid_until > AT

    def test_the_leaf_of_a_real_report(self) -> None:
        folder = Path(str(FIXTURES)) / "snp"
        above = Item(
            name="any", confirmed_at=AT, source="here", chain=(folder / "ask_ark_milan.pem").read_text()
        )
        signer = read_signer(parse_report((folder / "attestation.bin").read_bytes()))
        asked = ask_leaf(
            AmdService(endpoints=("https://kds",)), MILAN, signer, authorities=read_authorities_of(above)
        )
        asked.prove(der_item((folder / "vcek.der").read_bytes()), AT)
        assert asked.targets[0].url.endswith("?blSPL=02&teeSPL=00&snpSPL=05&ucodeSPL=68")
