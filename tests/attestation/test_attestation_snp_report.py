"""SEV-SNP reports: what is honest is read exactly, and everything that a version reserves rejects."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.attestation import EvidenceMalformedError, SnpTcb
from s3ml.attestation.simulated.snp import GuestReport, guest_report, join_report, sign_report
from s3ml.attestation.verify.amd.product import (
    GENOA,
    MILAN,
    PRODUCTS,
    TURIN,
    Product,
    product_of_certificate,
    product_of_cpuid,
)
from s3ml.attestation.verify.amd.report import (
    P384_ORDER,
    REPORT_BYTES,
    SIGNED_BYTES,
    VERSIONS,
    Cpuid,
    SnpReport,
    parse_report,
)
from s3ml.attestation.verify.amd.signature import is_signed_by_processor
from s3ml.primitives.errors import ConfigurationError
from tests.attestation.attestation_world import REPORT_DATA
from tests.attestation.fakes.snp_vendor import snp_pki
from tests.attestation.snp_world import MEASUREMENT

KEY = ec.derive_private_key(0x5341, ec.SECP384R1())
TCB = SnpTcb(bootloader=1, tee=2, snp=3, microcode=4, fmc=5)


def report(version: int = 5, product: Product = MILAN, **changes: object) -> GuestReport:
    fields: dict[str, object] = {
        "measurement": MEASUREMENT,
        "report_data": REPORT_DATA,
        "product": product,
        "chip_id": bytes(range(64)),
        "tcb": TCB,
        "version": version,
    }
    return GuestReport(**fields | changes)  # type: ignore[arg-type]


def signed(version: int = 5, **changes: object) -> bytes:
    return sign_report(KEY, report(version, **changes).encode())  # type: ignore[arg-type]


def patched(at: int, content: bytes, version: int = 5) -> bytes:
    data = bytearray(signed(version))
    data[at : at + len(content)] = content
    return bytes(data)


class TestHonestReport:
    """Every field is where AMD puts it."""

    @pytest.mark.parametrize("version", VERSIONS)
    def test_it_says_what_was_written(self, version: int) -> None:
        data = signed(
            version,
            svn=7,
            family_id=b"f" * 16,
            image_id=b"i" * 16,
            vmpl=2,
            host_data=b"h" * 32,
            signer=b"s" * 48,
            author=b"a" * 48,
            report_id_ma=b"m" * 32,
            signing_key="VLEK",
            current_firmware=(1, 58, 3),
            committed_firmware=(1, 57, 2),
        )
        read = parse_report(data)
        assert (read.version, read.svn, read.vmpl, read.policy) == (version, 7, 2, 1 << 17)
        assert (read.family_id, read.image_id, read.host_data) == (b"f" * 16, b"i" * 16, b"h" * 32)
        assert (read.signer, read.author, read.report_id_ma) == (b"s" * 48, b"a" * 48, b"m" * 32)
        assert (read.measurement, read.report_data, read.chip_id) == (
            MEASUREMENT,
            REPORT_DATA,
            bytes(range(64)),
        )
        assert (read.current_firmware, read.committed_firmware) == ((1, 58, 3), (1, 57, 2))
        assert read.signing_key == "VLEK"
        assert read.signed == data[:SIGNED_BYTES]

    def test_version_3_adds_the_cpuid_and_version_5_the_mitigations(self) -> None:
        cpuid = Cpuid(family=0x19, model=1, stepping=1)
        read = {version: parse_report(signed(version)) for version in VERSIONS}
        assert [read[version].cpuid for version in VERSIONS] == [None, cpuid, cpuid, cpuid]
        assert [read[version].current_mitigations for version in VERSIONS] == [0, 0, 0, 3]
        assert [read[version].launch_mitigations for version in VERSIONS] == [0, 0, 0, 3]

    @pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
    def test_a_tcb_is_laid_out_after_the_processor_line(self, product: Product) -> None:
        read = parse_report(signed(product=product))
        expected = TCB if product is TURIN else SnpTcb(bootloader=1, tee=2, snp=3, microcode=4)
        raw = b"\x05\x01\x02\x03\x00\x00\x00\x04" if product is TURIN else b"\x01\x02\x00\x00\x00\x00\x03\x04"
        assert read.reported_tcb == read.committed_tcb == read.current_tcb == read.launch_tcb == raw
        assert product.read_tcb(raw, "TCB") == expected

    @pytest.mark.parametrize(("product", "at"), [(MILAN, 2), (MILAN, 5), (GENOA, 3), (TURIN, 4), (TURIN, 6)])
    def test_a_reserved_byte_of_a_tcb_is_zero(self, product: Product, at: int) -> None:
        raw = bytearray(8)
        raw[at] = 1
        with pytest.raises(EvidenceMalformedError, match="expected zeros where"):
            product.read_tcb(bytes(raw), "TCB")


class TestProduct:
    """Processor lines are known by their CPUID and by what certificates call them."""

    @pytest.mark.parametrize(
        ("family", "model", "product"),
        [
            (0x19, 0x00, MILAN),
            (0x19, 0x0F, MILAN),
            (0x19, 0x10, GENOA),
            (0x19, 0xA0, GENOA),
            (0x19, 0x20, None),
            (0x1A, 0x02, TURIN),
            (0x1A, 0x11, TURIN),
            (0x1A, 0x12, None),
            (0x17, 0x31, None),
        ],
    )
    def test_cpuid(self, family: int, model: int, product: Product | None) -> None:
        assert product_of_cpuid(family, model) is product

    @pytest.mark.parametrize(
        ("name", "product"),
        [
            ("Milan-B0", MILAN),
            ("Milan", MILAN),
            ("Genoa", GENOA),
            ("Siena", GENOA),
            ("Turin", TURIN),
            ("Rome", None),
        ],
    )
    def test_certificate(self, name: str, product: Product | None) -> None:
        assert product_of_certificate(name) is product


RESERVED = [
    *((at, version) for version in VERSIONS for at in (0x4C, 0x4F, 0x18B, 0x19F, 0x1EB, 0x1EF, 0x208, 0x29F)),
    *((at, 2) for at in (0x188, 0x189, 0x18A)),
    *((at, version) for version in (2, 3, 4) for at in (0x1F8, 0x1FF, 0x200, 0x207)),
    *((at, 5) for at in (0x330, 0x400, 0x49F)),
]


class TestReserved:
    """What a version reserves is zero, what it does not know rejects."""

    @pytest.mark.parametrize(("at", "version"), RESERVED)
    def test_bytes(self, at: int, version: int) -> None:
        with pytest.raises(EvidenceMalformedError, match=f"zeros where version {version} reserves"):
            parse_report(patched(at, b"\x01", version))

    @pytest.mark.parametrize("version", [0, 1, 6, 2**31])
    def test_versions(self, version: int) -> None:
        with pytest.raises(EvidenceMalformedError, match="version: expected 2 to 5"):
            parse_report(patched(0, version.to_bytes(4, "little")))

    @pytest.mark.parametrize("algorithm", [0, 2])
    def test_algorithms(self, algorithm: int) -> None:
        with pytest.raises(EvidenceMalformedError, match="signature algorithm: expected 1"):
            parse_report(signed(algorithm=algorithm))

    @pytest.mark.parametrize("size", [0, REPORT_BYTES - 1, REPORT_BYTES + 1])
    def test_sizes(self, size: int) -> None:
        with pytest.raises(EvidenceMalformedError, match=f"expected {REPORT_BYTES} bytes, got {size}"):
            parse_report(signed().ljust(size, b"\x00")[:size])

    @pytest.mark.parametrize(
        ("version", "bit", "is_known"),
        [
            (2, 4, True),
            (2, 5, False),
            (3, 5, True),
            (4, 7, False),
            (5, 7, True),
            (5, 6, False),
            (5, 8, False),
        ],
    )
    def test_bits_of_the_platform(self, version: int, bit: int, *, is_known: bool) -> None:
        data = signed(version, platform_info=1 << bit)
        if is_known:
            assert parse_report(data).platform_info == 1 << bit
        else:
            with pytest.raises(EvidenceMalformedError, match="platform info"):
                parse_report(data)


class TestKeyInfo:
    """What a report says of keys does not contradict itself."""

    @pytest.mark.parametrize(
        ("key_info", "reason"),
        [
            (1 << 5, "no reserved bit"),
            (2 << 2, "signing key: expected 0"),
            (7 << 2, "signing key: expected 0"),
            (0b10, "no VCEK where the host masks it"),
        ],
    )
    def test_what_rejects(self, key_info: int, reason: str) -> None:
        with pytest.raises(EvidenceMalformedError, match=reason):
            parse_report(signed(key_info=key_info))

    def test_a_vlek_signs_where_the_host_masks_the_vcek(self) -> None:
        assert parse_report(signed(key_info=0b110)).signing_key == "VLEK"

    def test_an_author_without_its_flag_rejects(self) -> None:
        with pytest.raises(EvidenceMalformedError, match="author key: expected zeros"):
            parse_report(signed(author=b"a" * 48, key_info=0))


class TestSignature:
    """The signature is in range, and covers each bit of the first 672 bytes."""

    @pytest.mark.parametrize(
        ("r", "s", "which"),
        [
            (0, 1, "r"),
            (1, 0, "s"),
            (P384_ORDER, 1, "r"),
            (1, P384_ORDER, "s"),
            (1 << 384, 1, "r"),
            (1, 1 << 575, "s"),
        ],
    )
    def test_out_of_range(self, r: int, s: int, which: str) -> None:
        with pytest.raises(EvidenceMalformedError, match=f"signature: expected {which} from 1"):
            parse_report(join_report(report().encode(), r, s))

    def test_the_largest_scalars_are_in_range(self) -> None:
        read = parse_report(join_report(report().encode(), P384_ORDER - 1, P384_ORDER - 1))
        assert not is_signed_by_processor(KEY.public_key(), read.signature, read.signed)

    def test_both_values_of_s_have_one_canonical_form(self) -> None:
        read = parse_report(signed())
        r, s = read.signature
        twin = parse_report(join_report(read.signed, r, P384_ORDER - s))
        assert is_signed_by_processor(KEY.public_key(), twin.signature, twin.signed)
        assert twin.signature != read.signature
        assert twin.canonical_signature == read.canonical_signature

    def test_every_flipped_bit_breaks_it(self) -> None:
        read = parse_report(signed())
        key = KEY.public_key()
        assert is_signed_by_processor(key, read.signature, read.signed)
        for bit in range(SIGNED_BYTES * 8):
            flipped = bytearray(read.signed)
            flipped[bit // 8] ^= 1 << bit % 8
            assert not is_signed_by_processor(key, read.signature, bytes(flipped)), bit


class TestFuzz:
    """Whatever arrives is read, or rejected with a documented error."""

    @given(st.binary(max_size=2 * REPORT_BYTES))
    @settings(max_examples=100, deadline=None)
    def test_anything(self, data: bytes) -> None:
        with pytest.raises(EvidenceMalformedError):
            parse_report(data)

    @given(st.integers(0, REPORT_BYTES - 1), st.binary(min_size=1, max_size=8))
    @settings(max_examples=300, deadline=None)
    def test_nearly_a_report(self, at: int, content: bytes) -> None:
        data = patched(at, content)[:REPORT_BYTES]
        try:
            read = parse_report(data)
        except EvidenceMalformedError:
            return
        assert isinstance(read, SnpReport)
        assert read.signed == data[:SIGNED_BYTES]


class TestGuestReport:
    """The simulated report says what its caller wants, in fields of the right size."""

    def test_a_field_of_another_size_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="host_data: expected 32 bytes, got 31"):
            report(host_data=bytes(31))

    def test_a_guest_under_a_vlek_hides_its_chip(self) -> None:
        made = guest_report(snp_pki("VLEK"), measurement=MEASUREMENT, report_data=REPORT_DATA)
        assert (made.signing_key, made.chip_id) == ("VLEK", bytes(64))
