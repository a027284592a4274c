"""The host's table of certificates: read, or rejected with a documented error."""

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.attestation import EvidenceMalformedError
from s3ml.attestation.generate.certificate_table import (
    ARK_GUID,
    ASK_GUID,
    CRL_GUID,
    ENTRIES_LIMIT,
    TABLE_LIMIT_BYTES,
    VCEK_GUID,
    VLEK_GUID,
    CertificateTable,
    parse_certificate_table,
)
from s3ml.attestation.pem import encode_pem
from s3ml.attestation.simulated.snp_pki import SimulatedSnpPKI
from tests.attestation.attestation_world import NOW
from tests.attestation.fakes.certificate_tables import encode_entry, encode_table
from tests.attestation.fakes.snp_vendor import snp_pki

STRANGER = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.fixture(scope="module")
def pki() -> SimulatedSnpPKI:
    return snp_pki()


@pytest.fixture(scope="module")
def der(pki: SimulatedSnpPKI) -> bytes:
    return pki.endorsement.certificate


class TestTable:
    """Every entry that is known is taken, whatever its form."""

    def test_all_of_them(self, pki: SimulatedSnpPKI) -> None:
        ders = [
            authority.certificate
            for authority in (pki.endorsement, snp_pki("VLEK").endorsement, pki.authority, pki.ark)
        ]
        crl = pki.crl(NOW)
        guids = (VCEK_GUID, VLEK_GUID, ASK_GUID, ARK_GUID)
        table = encode_table([*zip(guids, ders, strict=True), (CRL_GUID, crl)])
        assert parse_certificate_table(table) == CertificateTable(
            vcek=ders[0], vlek=ders[1], ask=ders[2], ark=ders[3], crl=crl
        )

    @pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
    def test_pem_means_the_same(self, pki: SimulatedSnpPKI, ending: str) -> None:
        pem = encode_pem(pki.ark.certificate)
        assert pem == pki.root_pem.decode("ascii")
        content = (pem.rstrip() if not ending else pem.replace("\n", ending)).encode()
        assert parse_certificate_table(encode_table([(ARK_GUID, content)])).ark == pki.ark.certificate

    @pytest.mark.parametrize("table", [b"", bytes(24), bytes(4096)])
    def test_an_empty_one(self, table: bytes) -> None:
        assert parse_certificate_table(table) == CertificateTable()

    def test_what_is_not_known_is_passed_over(self, der: bytes) -> None:
        table = encode_table([(STRANGER, b"anything"), (VCEK_GUID, der), (STRANGER, b"")])
        assert parse_certificate_table(table) == CertificateTable(vcek=der)

    def test_guids_stand_as_they_are_written(self) -> None:
        assert encode_table([(VCEK_GUID, b"")])[:4].hex() == "63da758d"
        assert CertificateTable() == parse_certificate_table(
            encode_table([(uuid.UUID(bytes_le=VCEK_GUID.bytes), b"not looked at")])
        )

    def test_padding_behind_the_last_one(self, der: bytes) -> None:
        table = encode_table([(VCEK_GUID, der)])
        assert parse_certificate_table(table + bytes(4096)).vcek == der


class TestLies:
    """Each breaks one rule of the format."""

    def test_too_large(self) -> None:
        with pytest.raises(EvidenceMalformedError, match="expected at most 32768 bytes, got 32769"):
            parse_certificate_table(bytes(TABLE_LIMIT_BYTES + 1))

    @pytest.mark.parametrize("size", [1, 23, 24, 40])
    def test_no_end(self, size: int) -> None:
        with pytest.raises(EvidenceMalformedError, match="an entry of zeros at its end, got none"):
            parse_certificate_table(encode_entry(STRANGER, 48, 0).ljust(48, b"\1")[:size])

    def test_too_many(self) -> None:
        assert parse_certificate_table(encode_table([(STRANGER, b"")] * ENTRIES_LIMIT))
        with pytest.raises(EvidenceMalformedError, match="expected at most 16 entries, got more"):
            parse_certificate_table(encode_table([(STRANGER, b"")] * (ENTRIES_LIMIT + 1)))

    def test_one_twice(self, der: bytes) -> None:
        with pytest.raises(EvidenceMalformedError, match="expected one VCEK, got two"):
            parse_certificate_table(encode_table([(VCEK_GUID, der), (VCEK_GUID, der)]))

    @pytest.mark.parametrize(
        ("offset", "size"), [(47, 1), (0, 24), (48, 9), (57, 0), (2**32 - 1, 1), (48, 2**32 - 1)]
    )
    @pytest.mark.parametrize("guid", [VCEK_GUID, STRANGER])
    def test_outside_of_the_table_or_in_its_head(self, guid: uuid.UUID, offset: int, size: int) -> None:
        table = encode_entry(guid, offset, size) + bytes(24) + bytes(8)
        with pytest.raises(EvidenceMalformedError, match=f"within 48 to 56, got {offset} \\+ {size}"):
            parse_certificate_table(table)

    def test_two_certificates_in_one_entry(self, pki: SimulatedSnpPKI, der: bytes) -> None:
        for content in (pki.root_pem * 2, der * 2):
            with pytest.raises(EvidenceMalformedError, match="ASK: expected exactly one certificate"):
                parse_certificate_table(encode_table([(ASK_GUID, content)]))

    @pytest.mark.parametrize(
        "content", [b"", b"no certificate", b"-----BEGIN \xff", b"-----BEGIN CERTIFICATE-----\n"]
    )
    def test_no_certificate(self, content: bytes) -> None:
        with pytest.raises(EvidenceMalformedError, match="ARK: expected exactly one certificate"):
            parse_certificate_table(encode_table([(ARK_GUID, content)]))

    def test_a_certificate_too_large(self) -> None:
        with pytest.raises(EvidenceMalformedError, match="VLEK: expected at most 8192 bytes, got 8193"):
            parse_certificate_table(encode_table([(VLEK_GUID, bytes(8193))]))

    def test_no_revocation_list(self, der: bytes) -> None:
        with pytest.raises(EvidenceMalformedError, match="CRL: expected a revocation list, DER"):
            parse_certificate_table(encode_table([(CRL_GUID, der)]))

    def test_a_revocation_list_too_large(self) -> None:
        with pytest.raises(EvidenceMalformedError, match="CRL: expected at most 16384 bytes, got 16385"):
            parse_certificate_table(encode_table([(CRL_GUID, bytes(16385))]))


class TestFuzz:
    """Accepted, or rejected with the documented error."""

    @given(st.binary(max_size=200))
    def test_bytes(self, data: bytes) -> None:
        self.read(data)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([VCEK_GUID, VLEK_GUID, ASK_GUID, ARK_GUID, CRL_GUID, STRANGER]),
                st.binary(max_size=40),
            ),
            max_size=18,
        ),
        st.binary(max_size=10),
    )
    def test_tables(self, entries: list[tuple[uuid.UUID, bytes]], rest: bytes) -> None:
        self.read(encode_table(entries) + rest)

    @staticmethod
    def read(data: bytes) -> None:
        try:
            table = parse_certificate_table(data)
        except EvidenceMalformedError as error:
            assert re.match(r"certificate table of the host: ([A-Z]+: )?expected", str(error))
        else:
            assert isinstance(table, CertificateTable)
