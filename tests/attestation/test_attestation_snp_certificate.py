"""AMD's certificates and revocation lists are read strictly; general readers agree where they can."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.attestation import EvidenceMalformedError
from s3ml.attestation.simulated import der as encoding
from s3ml.attestation.simulated.snp_certificate import (
    AUTHORITY,
    CertificateFields,
    Extension,
    RevocationFields,
    join_document,
    key_info,
    name,
    sign_document,
)
from s3ml.attestation.simulated.snp_pki import EndorsedPlatform, SimulatedSnpPKI
from s3ml.attestation.verify.amd.certificate import (
    OID_BASIC_CONSTRAINTS,
    OID_KEY_USAGE,
    parse_certificate,
)
from s3ml.attestation.verify.amd.der import (
    BIT_STRING,
    BOOLEAN,
    IA5_STRING,
    INTEGER,
    OCTET_STRING,
    PRINTABLE_STRING,
    SEQUENCE,
    SET,
    UTC_TIME,
    DerReader,
)
from s3ml.attestation.verify.amd.endorsement import (
    AMD_ARC,
    CSP_ID,
    HARDWARE_ID,
    PRODUCT_NAME,
    STRUCT_VERSION,
    read_endorsement,
)
from s3ml.attestation.verify.amd.product import GENOA, MILAN, TURIN
from s3ml.attestation.verify.amd.revocation import parse_revocation_list
from s3ml.attestation.verify.amd.signature import PSS_ALGORITHM, is_signed_by_authority
from s3ml.primitives.errors import ConfigurationError
from tests.attestation.attestation_world import CREATED, ISSUED
from tests.attestation.fakes.snp_vendor import snp_keys, snp_pki

SKI = Extension(name=b"\x55\x1d\x0e", value=b"\x04\x01\x00")
UNKNOWN = Extension(name=b"\x55\x1d\x24", value=b"\x30\x00", is_critical=True)
P256 = ec.derive_private_key(7, ec.SECP256R1())
RSA_1024 = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
HARD_PLATFORM = EndorsedPlatform.of(MILAN)


def fields(**changes: Any) -> CertificateFields:
    keys = snp_keys()
    honest = CertificateFields(
        subject=name("S3ML simulated SEV-VCEK"),
        issuer=name("S3ML simulated SEV-Milan"),
        key=key_info(keys.endorsement),
        serial=0,
        not_before=CREATED,
        not_after=CREATED + timedelta(days=1),
        extensions=HARD_PLATFORM.extensions,
    )
    return replace(honest, **changes)


def issued(**changes: Any) -> bytes:
    return sign_document(fields(**changes), snp_keys().authority)


def rebuilt(edit: Callable[[bytes], bytes]) -> bytes:
    """Return a certificate whose signed part is edited before it is signed."""
    honest = fields()
    return join_document(edit(honest.encode()), honest.algorithm, snp_keys().authority)


def without(extension: bytes) -> tuple[Extension, ...]:
    return tuple(one for one in HARD_PLATFORM.extensions if one.name != extension)


def with_value(extension: bytes, value: bytes) -> tuple[Extension, ...]:
    return (*without(extension), Extension(name=extension, value=value))


class TestDer:
    """Everything has one encoding."""

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "tag 0x30"),
            (b"\x31\x00", "tag 0x30"),
            (b"\x30", "a length"),
            (b"\x30\x01", "1 bytes"),
            (b"\x30\x80", "shortest form"),
            (b"\x30\x81\x7f" + bytes(127), "shortest form"),
            (b"\x30\x82\x00\x80" + bytes(128), "shortest form"),
            (b"\x30\x82\x01", "shortest form"),
            (b"\x30\x84\x01\x00\x00\x00", "shortest form"),
        ],
    )
    def test_elements(self, data: bytes, reason: str) -> None:
        with pytest.raises(EvidenceMalformedError, match=reason):
            DerReader(data, "x").take(SEQUENCE)

    @pytest.mark.parametrize("content", [b"", b"\x80", b"\x00\x7f", b"\x01\x00"])
    def test_numbers(self, content: bytes) -> None:
        with pytest.raises(EvidenceMalformedError, match="an INTEGER"):
            DerReader(encoding.element(INTEGER, content), "x").take_unsigned(1)

    @pytest.mark.parametrize(("content", "value"), [(b"\x00", 0), (b"\x7f", 127), (b"\x00\x80", 128)])
    def test_numbers_in_their_shortest_form(self, content: bytes, value: int) -> None:
        assert DerReader(encoding.element(INTEGER, content), "x").take_unsigned(1) == value

    @pytest.mark.parametrize("content", [b"\x00", b"\x01", b"", b"\xff\xff"])
    def test_truth(self, content: bytes) -> None:
        with pytest.raises(EvidenceMalformedError, match="TRUE, or nothing"):
            DerReader(encoding.element(BOOLEAN, content), "x").take_true()

    @pytest.mark.parametrize("content", [b"", b"\x01\x80"])
    def test_bits(self, content: bytes) -> None:
        with pytest.raises(EvidenceMalformedError, match="whole bytes"):
            DerReader(encoding.element(BIT_STRING, content), "x").take_bits()

    @pytest.mark.parametrize(
        ("tag", "text"),
        [
            (UTC_TIME, b"260101000000"),
            (UTC_TIME, b"2601010000Z"),
            (UTC_TIME, b"260101000000+0100"),
            (UTC_TIME, b"261301000000Z"),
            (UTC_TIME, "26010100000²Z".encode("latin-1")),
            (UTC_TIME, b"260101000000z"),
            (0x18, b"260101000000Z"),
            (0x18, b"20260101000000.5Z"),
        ],
    )
    def test_times(self, tag: int, text: bytes) -> None:
        with pytest.raises(EvidenceMalformedError, match="a time"):
            DerReader(encoding.element(tag, text), "x").take_time()

    @pytest.mark.parametrize("year", [1950, 1999, 2000, 2049, 2050, 2400])
    def test_times_of_both_kinds(self, year: int) -> None:
        instant = datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC)
        text = instant.strftime("%Y%m%d%H%M%SZ").encode()
        is_short = year < 2050
        data = encoding.element(UTC_TIME if is_short else 0x18, text[2:] if is_short else text)
        assert DerReader(data, "x").take_time() == instant
        if year >= 2000:
            assert encoding.time(instant) == data

    @pytest.mark.parametrize("number", [0, 1, 127, 128, 255, 256, 2**64, -1, -128, -129])
    def test_numbers_are_written_as_they_are_read(self, number: int) -> None:
        data = encoding.integer(number)
        assert int.from_bytes(data[2:], "big", signed=True) == number


class TestCertificate:
    """What AMD's profile does not have rejects."""

    def test_an_honest_one(self) -> None:
        read = parse_certificate(issued())
        assert (read.serial, read.common_name) == (0, "S3ML simulated SEV-VCEK")
        assert (read.not_before, read.not_after) == (CREATED, CREATED + timedelta(days=1))
        assert (read.is_authority, read.signs_revocation_lists) == (False, False)
        assert is_signed_by_authority(snp_keys().authority.public_key(), read.signature, read.signed)
        assert not is_signed_by_authority(snp_keys().ark.public_key(), read.signature, read.signed)

    @pytest.mark.parametrize("algorithm", [PSS_ALGORITHM, fields().algorithm])
    def test_both_ways_to_write_the_algorithm(self, algorithm: bytes) -> None:
        assert parse_certificate(issued(algorithm=algorithm)).serial == 0

    def test_another_library_reads_the_same(self) -> None:
        """`cryptography` warns of the serial number 0, and cannot be relied on to read it."""
        made = issued(algorithm=PSS_ALGORITHM, serial=0x1234, extensions=AUTHORITY)
        read, other = parse_certificate(made), x509.load_der_x509_certificate(made)
        assert other.version is x509.Version.v3
        assert read.serial == other.serial_number
        assert (read.not_before, read.not_after) == (other.not_valid_before_utc, other.not_valid_after_utc)
        assert read.signed == other.tbs_certificate_bytes
        assert read.signature == other.signature
        assert read.subject == other.subject.public_bytes()
        assert read.issuer == other.issuer.public_bytes()
        info = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert read.key.public_bytes(*info) == other.public_key().public_bytes(*info)
        assert other.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert other.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign

    @pytest.mark.parametrize(
        ("extensions", "is_authority", "signs_lists"),
        [
            (AUTHORITY, True, True),
            (AUTHORITY[:1], True, True),
            (AUTHORITY[1:], False, False),
            ((AUTHORITY[0], Extension(name=OID_KEY_USAGE, value=b"\x03\x02\x02\x04")), True, False),
            ((AUTHORITY[0], Extension(name=OID_KEY_USAGE, value=b"\x03\x02\x01\x02")), False, True),
            ((AUTHORITY[0], Extension(name=OID_KEY_USAGE, value=b"\x03\x01\x00")), False, False),
            ((Extension(name=OID_BASIC_CONSTRAINTS, value=b"\x30\x00"),), False, False),
        ],
    )
    def test_what_it_may_sign(
        self, extensions: tuple[Extension, ...], *, is_authority: bool, signs_lists: bool
    ) -> None:
        read = parse_certificate(issued(extensions=extensions))
        assert (read.is_authority, read.signs_revocation_lists) == (is_authority, signs_lists)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"version": 1}, "version 3"),
            ({"serial": -1}, "not negative"),
            ({"serial": 1 << 160}, "at most 20 bytes"),
            ({"algorithm": bytes.fromhex("300d06092a864886f70d01010c0500")}, "RSASSA-PSS"),
            ({"algorithm": PSS_ALGORITHM.replace(b"\x02\x01\x30", b"\x02\x01\x20")}, "RSASSA-PSS"),
            ({"key": key_info(P256)}, "RSA-4096 with exponent 65537, or P-384"),
            ({"key": key_info(RSA_1024)}, "RSA-4096 with exponent 65537, or P-384"),
            ({"key": b"\x30\x00"}, "expected a public key"),
            ({"extensions": (SKI, SKI)}, "each once"),
            ({"extensions": (UNKNOWN,)}, "known extensions"),
            ({"extensions": ()}, "tag 0x30"),
            ({"subject": encoding.element(SEQUENCE)}, "one common name in ASCII, got 0"),
            ({"subject": name("ä")}, "one common name in ASCII"),
            ({"subject": name("SEV-VCEK\nverified")}, r"a printable common name, got 'SEV-VCEK\\nverified'$"),
            ({"subject": name("SEV-VCEK\x1b[2J")}, r"a printable common name, got 'SEV-VCEK\\x1b\[2J'$"),
            ({"subject": name("SEV-VCEK\x7f")}, "a printable common name"),
        ],
    )
    def test_what_rejects(self, changes: dict[str, Any], reason: str) -> None:
        with pytest.raises(EvidenceMalformedError, match=reason):
            parse_certificate(issued(**changes))

    def test_two_common_names_reject(self) -> None:
        part = encoding.element(
            SET,
            encoding.element(
                SEQUENCE, encoding.object_id("2.5.4.3"), encoding.element(PRINTABLE_STRING, b"SEV-VCEK")
            ),
        )
        assert parse_certificate(issued(subject=encoding.element(SEQUENCE, part))).common_name == "SEV-VCEK"
        with pytest.raises(EvidenceMalformedError, match="got 2"):
            parse_certificate(issued(subject=encoding.element(SEQUENCE, part, part)))

    def test_another_algorithm_beside_the_signed_part_rejects(self) -> None:
        made = join_document(fields().encode(), PSS_ALGORITHM, snp_keys().authority)
        with pytest.raises(EvidenceMalformedError, match="RSASSA-PSS"):
            parse_certificate(made)

    @pytest.mark.parametrize("extra", [b"\x00", b"\x05\x00"])
    def test_something_behind_it_rejects(self, extra: bytes) -> None:
        with pytest.raises(EvidenceMalformedError, match="an end at byte"):
            parse_certificate(issued() + extra)

    @pytest.mark.parametrize("index", [0, 1], ids=["BasicConstraints", "KeyUsage"])
    @pytest.mark.parametrize("extra", [b"\x00", b"\x05\x00"])
    def test_something_behind_what_it_may_sign_rejects(self, index: int, extra: bytes) -> None:
        extensions = list(AUTHORITY)
        extensions[index] = replace(AUTHORITY[index], value=AUTHORITY[index].value + extra)
        with pytest.raises(EvidenceMalformedError, match="an end at byte"):
            parse_certificate(issued(extensions=tuple(extensions)))

    def test_something_in_its_signed_part_rejects(self) -> None:
        def lengthen(signed: bytes) -> bytes:
            return encoding.element(SEQUENCE, DerReader(signed, "x").take(SEQUENCE), b"\x05\x00")

        with pytest.raises(EvidenceMalformedError, match="an end at byte"):
            parse_certificate(rebuilt(lengthen))

    def test_an_exponent_of_three_rejects(self) -> None:
        numbers = rsa.RSAPublicNumbers(3, snp_keys().ark.public_key().public_numbers().n)
        info = numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        with pytest.raises(EvidenceMalformedError, match="exponent 65537"):
            parse_certificate(issued(key=info))


class TestEndorsement:
    """What AMD says of a processor is there once, in its form, and nothing else is."""

    @pytest.mark.parametrize("product", [MILAN, GENOA, TURIN])
    def test_honest_ones(self, product: Any) -> None:
        platform = EndorsedPlatform.of(product)
        read = read_endorsement(issued(extensions=platform.extensions))
        assert (read.product, read.kind, read.tcb) == (product, "VCEK", platform.tcb)
        assert read.chip_id == platform.hardware_id.ljust(64, b"\x00")
        cloud = read_endorsement(issued(extensions=EndorsedPlatform.of(product, "VLEK").extensions))
        assert (cloud.kind, cloud.chip_id) == ("VLEK", None)

    @pytest.mark.parametrize("missing", [one.name for one in HARD_PLATFORM.extensions])
    def test_a_missing_extension_rejects(self, missing: bytes) -> None:
        with pytest.raises(EvidenceMalformedError, match="expected the extension 2b06"):
            read_endorsement(issued(extensions=without(missing)))

    @pytest.mark.parametrize(
        ("extensions", "reason"),
        [
            (with_value(PRODUCT_NAME, encoding.element(IA5_STRING, b"Rome-B0")), "Milan, Genoa or Turin"),
            (with_value(PRODUCT_NAME, encoding.element(OCTET_STRING, b"Milan")), "tag 0x16"),
            (with_value(PRODUCT_NAME, encoding.element(IA5_STRING, b"")), "text in ASCII"),
            (with_value(PRODUCT_NAME, encoding.element(IA5_STRING, b"Milan\xe4")), "text in ASCII"),
            (with_value(PRODUCT_NAME, encoding.element(IA5_STRING, b"Milan-\x1b[2J")), "printable text"),
            (with_value(PRODUCT_NAME, encoding.element(IA5_STRING, b"Milan-\n")), "printable text"),
            (with_value(PRODUCT_NAME, encoding.element(IA5_STRING, b"Milan") + b"\x00"), "an end"),
            (with_value(STRUCT_VERSION, encoding.integer(1)), "structVersion 0 with Milan"),
            (with_value(AMD_ARC + b"\x03\x01", encoding.integer(256)), "at most 1 bytes"),
            (with_value(AMD_ARC + b"\x03\x01", encoding.integer(-1)), "not negative"),
            (with_value(AMD_ARC + b"\x03\x01", encoding.integer(1) + b"\x00"), "an end"),
            (with_value(AMD_ARC + b"\x03\x04", encoding.integer(1)), "zero where SPLs are reserved"),
            (with_value(HARDWARE_ID, bytes(63)), "a hwID of 64 bytes with Milan, got 63"),
            (with_value(CSP_ID, encoding.element(IA5_STRING, b"cloud")), "no further extension"),
            (with_value(AMD_ARC + b"\x03\x09", encoding.integer(1)), "no further extension"),
            (with_value(AMD_ARC + b"\x06", encoding.integer(1)), "no further extension"),
        ],
    )
    def test_what_rejects(self, extensions: tuple[Extension, ...], reason: str) -> None:
        with pytest.raises(EvidenceMalformedError, match=reason):
            read_endorsement(issued(extensions=extensions))

    def test_an_rsa_key_rejects(self) -> None:
        with pytest.raises(EvidenceMalformedError, match="a P-384 key"):
            read_endorsement(issued(key=key_info(snp_keys().ark)))


def listed(**changes: Any) -> bytes:
    honest = RevocationFields(
        issuer=name("S3ML simulated ARK-Milan"),
        issued=ISSUED,
        expires=ISSUED + timedelta(days=1),
        serials=(1, 0x10001),
    )
    return sign_document(replace(honest, **changes), snp_keys().ark)


def listed_with_entry(*extensions: Extension, tail: bytes = b"") -> bytes:
    """Return a list with one entry that has `extensions`."""
    entry = encoding.element(
        SEQUENCE,
        encoding.integer(9),
        encoding.time(ISSUED),
        encoding.element(SEQUENCE, *(one.encode() for one in extensions)),
        tail,
    )
    honest = RevocationFields(issuer=name("x"), issued=ISSUED, expires=ISSUED + timedelta(days=1))
    signed = encoding.element(
        SEQUENCE,
        encoding.integer(1),
        honest.algorithm,
        honest.issuer,
        encoding.time(honest.issued),
        encoding.time(honest.expires),
        encoding.element(SEQUENCE, entry),
    )
    return join_document(signed, honest.algorithm, snp_keys().ark)


class TestRevocationList:
    """A list is of version 2, dated, and for everything that its issuer signed."""

    def test_an_honest_one(self) -> None:
        read = parse_revocation_list(listed())
        assert (read.issued, read.expires) == (ISSUED, ISSUED + timedelta(days=1))
        assert read.serials == {1, 0x10001}
        other = x509.load_der_x509_crl(listed(algorithm=PSS_ALGORITHM))
        assert {entry.serial_number for entry in other} == read.serials

    def test_an_empty_one(self) -> None:
        assert parse_revocation_list(listed(serials=(), extensions=())).serials == frozenset()

    def test_reasons_are_passed_over(self) -> None:
        reason = Extension(name=bytes.fromhex("551d15"), value=b"\x0a\x01\x01")
        assert parse_revocation_list(listed_with_entry(reason)).serials == {9}

    def test_entries_of_another_issuer_reject(self) -> None:
        issuer = Extension(name=bytes.fromhex("551d1d"), value=b"\x30\x00", is_critical=True)
        with pytest.raises(EvidenceMalformedError, match="known extensions"):
            parse_revocation_list(listed_with_entry(issuer))

    def test_something_behind_an_entry_rejects(self) -> None:
        with pytest.raises(EvidenceMalformedError, match="an end at byte"):
            parse_revocation_list(listed_with_entry(SKI, tail=b"\x05\x00"))

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"version": 0}, "version 2"),
            ({"algorithm": bytes.fromhex("300d06092a864886f70d01010c0500")}, "RSASSA-PSS"),
            ({"extensions": (UNKNOWN,)}, "known extensions"),
            ({"serials": (-1,)}, "not negative"),
        ],
    )
    def test_what_rejects(self, changes: dict[str, Any], reason: str) -> None:
        with pytest.raises(EvidenceMalformedError, match=reason):
            parse_revocation_list(listed(**changes))


class TestFuzz:
    """Whatever arrives is read, or rejected with a documented error."""

    @pytest.mark.parametrize("parse", [parse_certificate, read_endorsement, parse_revocation_list])
    @given(data=st.binary(max_size=64))
    @settings(max_examples=100, deadline=None)
    def test_anything(self, parse: Callable[[bytes], object], data: bytes) -> None:
        with pytest.raises(EvidenceMalformedError):
            parse(data)

    @pytest.mark.parametrize("parse", [parse_certificate, read_endorsement, parse_revocation_list])
    @given(at=st.integers(0, 2000), content=st.binary(min_size=1, max_size=4))
    @settings(max_examples=150, deadline=None)
    def test_nearly_a_document(self, parse: Callable[[bytes], object], at: int, content: bytes) -> None:
        honest = _HONEST_LIST if parse is parse_revocation_list else _HONEST_CERTIFICATE
        data = bytearray(honest)
        place = at % len(data)
        data[place : place + len(content)] = content
        try:
            parse(bytes(data))
        except EvidenceMalformedError as error:
            assert str(error)


_HONEST_CERTIFICATE = issued()
_HONEST_LIST = listed()


class TestSimulatedPki:
    """Keys and certificates survive a restart, and are shown to nobody."""

    @pytest.mark.parametrize("pki", [snp_pki(), snp_pki("VLEK", TURIN)])
    def test_it_is_restored(self, pki: SimulatedSnpPKI) -> None:
        restored = SimulatedSnpPKI.from_bytes(pki.to_bytes())
        assert restored.to_bytes() == pki.to_bytes()
        assert restored.chain == pki.chain
        assert (restored.platform.product, restored.platform.kind) == (
            pki.platform.product,
            pki.platform.kind,
        )

    def test_its_root_is_shown_as_pem(self) -> None:
        with warnings.catch_warnings(action="error"):
            loaded = x509.load_pem_x509_certificate(snp_pki().root_pem)
        assert loaded.public_bytes(Encoding.DER) == snp_pki().root_der

    def test_keys_are_not_shown(self) -> None:
        assert repr(snp_pki()) == "SimulatedSnpPKI(redacted)"
        assert "key" not in repr(snp_pki().ark).lower().replace("object", "")

    @pytest.mark.parametrize("data", [b"", b"{}", b"[]"])
    def test_something_else_is_refused(self, data: bytes) -> None:
        with pytest.raises(ConfigurationError, match="its saved keys for SEV-SNP"):
            SimulatedSnpPKI.from_bytes(data)

    def test_keys_of_another_kind_are_refused(self) -> None:
        pki = snp_pki()
        rsa_authority, endorsement = pki.ark, pki.endorsement
        for mixed in (
            replace(pki, ark=endorsement),  # type: ignore[arg-type]
            replace(pki, endorsement=rsa_authority),  # type: ignore[arg-type]
        ):
            with pytest.raises(ConfigurationError, match="its saved keys for SEV-SNP"):
                SimulatedSnpPKI.from_bytes(mixed.to_bytes())
