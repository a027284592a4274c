"""Names in certificates are found where they lie, and said in one way."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from s3ml.attestation.verify.names import common_name, locate_names
from tests.attestation.attestation_world import CREATED

ORGANIZATION = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "S3ML")


def named(*values: str, kind: _ASN1Type = _ASN1Type.UTF8String) -> x509.Name:
    return x509.Name(
        [ORGANIZATION, *(x509.NameAttribute(NameOID.COMMON_NAME, value, kind) for value in values)]
    )


class TestPlaces:
    """Issuer and subject are cut out as they stand."""

    @pytest.mark.parametrize("length", [1, 60])
    def test_both_names(self, length: int) -> None:
        subject, issuer = named("s" * length), named("i" * length, "j" * length)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(2**150 + 1)
            .not_valid_before(CREATED)
            .not_valid_after(CREATED + timedelta(days=1))
            .sign(key, SHA256())
        )
        expected = issuer.public_bytes(), subject.public_bytes()
        assert locate_names(certificate.tbs_certificate_bytes) == expected

    def test_a_certificate_of_version_1_does_not_name_its_version(self) -> None:
        issuer, subject = named("issuer").public_bytes(), named("subject").public_bytes()
        fields = b"\x02\x01\x07" + b"\x30\x00" + issuer + b"\x30\x00" + subject + b"\x30\x00"
        assert locate_names(b"\x30\x81" + bytes([len(fields)]) + fields) == (issuer, subject)


class TestCommonName:
    """A name has one common name, in a text that is known."""

    @pytest.mark.parametrize("kind", [_ASN1Type.UTF8String, _ASN1Type.PrintableString, _ASN1Type.IA5String])
    def test_it_is_read(self, kind: _ASN1Type) -> None:
        assert common_name(named("SGX Root CA", kind=kind).public_bytes()) == "SGX Root CA"

    @pytest.mark.parametrize("values", [(), ("one", "two"), ("same", "same")])
    def test_none_or_two_are_refused(self, values: tuple[str, ...]) -> None:
        with pytest.raises(ValueError, match="values to unpack"):
            common_name(named(*values).public_bytes())

    def test_another_kind_of_text_is_refused(self) -> None:
        with pytest.raises(ValueError, match="expected a UTF8String, PrintableString or IA5String"):
            common_name(named("SGX Root CA", kind=_ASN1Type.T61String).public_bytes())

    @pytest.mark.parametrize("text", ["\n", "\x1b[2J", "\x7f", "\x9b2J", "\u202e", "\u2028"])
    def test_what_is_not_printable_is_refused(self, text: str) -> None:
        """A terminal or a log would take it for an order, or for another line."""
        with pytest.raises(ValueError, match=r"\Aexpected a printable common name\Z"):
            common_name(named(f"SGX Root CA{text}").public_bytes())

    def test_what_is_no_utf_8_is_refused(self) -> None:
        name = named("abc").public_bytes().replace(b"abc", b"a\xff\xfe")
        with pytest.raises(ValueError, match="utf-8"):
            common_name(name)
