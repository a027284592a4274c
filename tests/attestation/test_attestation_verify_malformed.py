"""Quotes and collateral that cannot be read are malformed; nothing else ever comes out of bytes."""

import warnings
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.attestation import EvidenceMalformedError, EvidenceRejectedError
from s3ml.attestation.simulated.collateral import render_crl
from tests.attestation.attestation_world import CREATED, World
from tests.attestation.corpus import intel_layout

LAYOUT = intel_layout.QuoteLayout(signed=48 + 384, wrapping=0)
SHARED = settings(max_examples=60, deadline=None, derandomize=True)


def pem(der: bytes) -> str:
    return intel_layout.pem(der).decode()


def certificate(
    *names: str,
    subject: x509.Name | None = None,
    issuer: x509.Name | None = None,
    key: ec.EllipticCurvePrivateKey | None = None,
    signer: ec.EllipticCurvePrivateKey | None = None,
    curve: bytes | None = None,
) -> bytes:
    """Return a certificate, with these common names, or with its curve's identifier overwritten.

    It is signed by itself, or by `signer`.
    """
    private = key or ec.generate_private_key(ec.SECP256R1())
    subject = subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text) for text in names])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer or subject)
    builder = builder.public_key(private.public_key()).serial_number(1)
    builder = builder.not_valid_before(CREATED).not_valid_after(CREATED + timedelta(days=365))
    der = builder.sign(signer or private, hashes.SHA256()).public_bytes(Encoding.DER)
    p256 = bytes.fromhex("2a8648ce3d030107")
    assert p256 in der
    return der.replace(p256, curve) if curve else der


def elements(data: bytes) -> list[bytes]:
    """Split a run of DER elements."""
    found = []
    while data:
        size, start = data[1], 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(data[2:start], "big")
        found.append(data[: start + size])
        data = data[start + size :]
    return found


def contents(element: bytes) -> bytes:
    """Return what is inside a DER element."""
    return element[2 + (element[1] & 0x7F if element[1] & 0x80 else 0) :]


def sequence(*parts: bytes) -> bytes:
    """Return a DER SEQUENCE with a long length."""
    content = b"".join(parts)
    form = 0x81 if len(content) < 0x100 else 0x82
    return bytes((0x30, form)) + len(content).to_bytes(form & 0x0F, "big") + content


class TestQuote:
    """What cannot be read is named."""

    def test_what_is_missing_is_named(self, world: World) -> None:
        with pytest.raises(EvidenceMalformedError, match="quote: enclave report: expected 384 bytes, got 10"):
            world.with_(quote=world.quote[:58]).verify()

    @pytest.mark.parametrize("names", [(), ("a", "b"), ("evil\n\x1b[2J",)])
    def test_a_certificate_has_one_name(self, world: World, names: tuple[str, ...]) -> None:
        chain = (pem(certificate(*names)) * 3).encode()
        with pytest.raises(EvidenceMalformedError, match="quote's chain: expected DER certificates with one"):
            world.with_(quote=LAYOUT.with_chain(world.quote, chain)).verify()


class TestCollateral:
    """So are the parts of the collateral."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("tcb_info", "{}"),
            ("tcb_info", "[1]"),
            ("tcb_info", "nothing"),
            ("qe_identity", '{"id":"QE"}'),
            ("root_ca_crl", b"nothing"),
            ("pck_crl", b"\x30\x00"),
            ("tcb_info_issuer_chain", "nothing"),
            ("qe_identity_issuer_chain", pem(b"nothing") * 2),
            ("pck_crl_issuer_chain", pem(certificate("a", "b")) * 2),
        ],
    )
    def test_what_cannot_be_read_is_malformed(self, world: World, name: str, value: object) -> None:
        with pytest.raises(EvidenceMalformedError):
            world.with_collateral(**{name: value}).verify()

    def test_a_time_without_a_zone_is_malformed(self, world: World) -> None:
        lie = world.with_document(
            "tcb_info", lambda document: document.update(issueDate="2026-03-01T11:00:00")
        )
        with pytest.raises(EvidenceMalformedError, match="TCB info"):
            lie.verify()

    def test_a_revocation_list_without_a_next_update_is_malformed(self, world: World) -> None:
        """RFC 5280 demands the field; DER leaves it optional."""
        assert world.collateral is not None
        body, algorithm, signature = elements(contents(world.collateral.pck_crl))
        fields = elements(contents(body))
        assert fields[4].startswith(b"\x17\x0d")  # version, algorithm, issuer, this update, next update
        shorter = sequence(sequence(*fields[:4], *fields[5:]), algorithm, signature)
        with pytest.raises(EvidenceMalformedError, match="PCK CRL: expected a next update, got none"):
            world.with_collateral(pck_crl=shorter).verify()

    def test_a_ca_whose_key_cannot_be_read_is_malformed(self, world: World) -> None:
        unknown_curve = bytes.fromhex("2a8648ce3d030177")
        twin = certificate(subject=world.pki.pck_ca.certificate.subject, curve=unknown_curve)
        with pytest.raises(EvidenceMalformedError, match="SGX PCK Platform CA: expected a P-256 public key"):
            world.with_collateral(pck_crl_issuer_chain=pem(twin) + world.pki.root.pem).verify()

    @pytest.mark.parametrize("is_same_key", [True, False])
    def test_the_ca_is_its_name_and_its_key(self, world: World, *, is_same_key: bool) -> None:
        """Either alone makes another CA."""
        ca, root = world.pki.pck_ca, world.pki.root.certificate.subject
        if is_same_key:
            twin = certificate("SGX PCK Platform CA", issuer=root, key=ca.key)
        else:
            twin = certificate(subject=ca.certificate.subject, issuer=root)
        with pytest.raises(EvidenceRejectedError) as rejected:
            world.with_collateral(pck_crl_issuer_chain=pem(twin) + world.pki.root.pem).verify()
        assert [m.got for m in rejected.value.mismatches] == ["another CA"]

    def test_a_renewed_certificate_of_the_same_ca_is_accepted(self, world: World) -> None:
        """The vendor may have renewed the CA's certificate since the platform was provisioned."""
        twin = certificate(
            subject=world.pki.pck_ca.certificate.subject,
            issuer=world.pki.root.certificate.subject,
            key=world.pki.pck_ca.key,
            signer=world.pki.root.key,
        )
        renewed = world.with_collateral(pck_crl_issuer_chain=pem(twin) + world.pki.root.pem)
        assert renewed.rejected_claims() == []

    @pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
    def test_a_deeply_nested_document_is_malformed(self, world: World, name: str) -> None:
        with pytest.raises(EvidenceMalformedError):
            world.with_collateral(**{name: '{"x":' + "[" * 20000}).verify()

    def test_an_unreadable_revoked_entry_is_malformed(self, world: World) -> None:
        """The list is read to its end before it is believed."""
        revoked = render_crl(
            world.pki.pck_ca, CREATED, timedelta(days=365), revoked=[world.pki.pck.certificate]
        )
        serial = world.pki.pck.certificate.serial_number
        size = serial.bit_length() // 8 + 1
        entry = bytes((2, size)) + serial.to_bytes(size, "big")
        assert entry in revoked
        with pytest.raises(EvidenceMalformedError, match="PCK CRL: expected a DER revocation list"):
            world.with_collateral(pck_crl=revoked.replace(entry, b"\x04" + entry[1:])).verify()

    def test_a_serial_number_that_is_not_positive_is_malformed(self, world: World) -> None:
        der = certificate("S3ML simulated SGX TCB Signing")
        assert der.count(b"\xa0\x03\x02\x01\x02\x02\x01\x01") == 1  # version 3, serial number 1
        zero = der.replace(b"\xa0\x03\x02\x01\x02\x02\x01\x01", b"\xa0\x03\x02\x01\x02\x02\x01\x00")
        chain = pem(zero) + world.pki.root.pem
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(EvidenceMalformedError, match="expected positive serial numbers"):
                world.with_collateral(tcb_info_issuer_chain=chain).verify()

    def test_a_certificate_of_an_unknown_version_is_malformed(self, world: World) -> None:
        der = certificate("S3ML simulated SGX TCB Signing")
        chain = pem(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x22")) + world.pki.root.pem
        with pytest.raises(EvidenceMalformedError, match="TCB info's chain: expected DER certificates"):
            world.with_collateral(tcb_info_issuer_chain=chain).verify()


class TestAnyBytes:
    """Whatever comes in, evidence is accepted, malformed or rejected; never anything else."""

    @given(chain=st.binary(max_size=200))
    @SHARED
    def test_any_certificate(self, world: World, chain: bytes) -> None:
        text = "".join(pem(chain) for _ in range(3)).encode()
        with pytest.raises((EvidenceMalformedError, EvidenceRejectedError)):
            world.with_(quote=LAYOUT.with_chain(world.quote, text)).verify()

    @given(data=st.data())
    @SHARED
    def test_a_changed_byte_of_a_certificate_or_list(self, world: World, data: st.DataObject) -> None:
        """Whatever the parser of certificates raises, it is one of our errors."""
        assert world.collateral is not None
        name = data.draw(st.sampled_from(("pck", "tcb_signing", "root_ca_crl", "pck_crl")))
        if name.endswith("crl"):
            der = getattr(world.collateral, name)
        else:
            der = getattr(world.pki, name).certificate.public_bytes(Encoding.DER)
        offset, mask = data.draw(st.integers(0, len(der) - 1)), data.draw(st.integers(1, 255))
        changed = der[:offset] + bytes((der[offset] ^ mask,)) + der[offset + 1 :]
        match name:
            case "pck":
                chain = pem(changed) + world.pki.pck_ca.pem + world.pki.root.pem
                lie = world.with_(quote=LAYOUT.with_chain(world.quote, chain.encode()))
            case "tcb_signing":
                lie = world.with_collateral(tcb_info_issuer_chain=pem(changed) + world.pki.root.pem)
            case _:
                lie = world.with_collateral(**{name: changed})
        with pytest.raises((EvidenceMalformedError, EvidenceRejectedError)):
            lie.verify()

    @given(data=st.data())
    @SHARED
    def test_a_flipped_bit_of_the_chain(self, world: World, data: st.DataObject) -> None:
        """Line ends apart, every bit of the certificates counts, the root's included."""
        offset = data.draw(st.integers(LAYOUT.kind, len(world.quote) - 1))
        flipped = world.quote[offset] ^ 1 << data.draw(st.integers(0, 7))
        if world.quote[offset : offset + 1].isspace() or chr(flipped).isspace():
            return
        assert rejects_flip(world, offset, (flipped ^ world.quote[offset]).bit_length() - 1)


def rejects_flip(world: World, offset: int, bit: int) -> bool:
    quote = bytearray(world.quote)
    quote[offset] ^= 1 << bit
    try:
        world.with_(quote=bytes(quote)).verify()
    except (EvidenceMalformedError, EvidenceRejectedError):
        return True
    return False
