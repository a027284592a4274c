"""The PCK CRL's issuer is the quote's CA, signed by the root itself: dcap-qvl does not look at that chain."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from s3ml.attestation.simulated.collateral import Authority, render_crl
from s3ml.attestation.simulated.pki import SimulatedPKI
from tests.attestation.attestation_world import CREATED, ISSUED, World

STRANGER = SimulatedPKI.create(CREATED)


def reissued(world: World, signer: Authority) -> x509.Certificate:
    """Return another certificate over the CA's own name and key."""
    honest = world.pki.pck_ca.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(honest.subject)
        .issuer_name(honest.issuer)
        .public_key(honest.public_key())
        .serial_number(4711)
        .not_valid_before(CREATED)
        .not_valid_after(CREATED + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    return builder.sign(signer.key, hashes.SHA256())


def with_issuer(world: World, issuer: x509.Certificate) -> World:
    pem = issuer.public_bytes(Encoding.PEM).decode("ascii")
    return world.with_collateral(pck_crl_issuer_chain=pem + world.pki.root.pem)


class TestIssuerOfThePckCrl:
    def test_a_certificate_that_the_root_reissued_is_accepted(self, world: World) -> None:
        assert with_issuer(world, reissued(world, world.pki.root)).rejected_claims() == []

    def test_one_that_a_stranger_signed_is_rejected(self, world: World) -> None:
        lie = with_issuer(world, reissued(world, STRANGER.root))
        assert lie.rejected_claims() == ["certificate_chain"]

    def test_one_that_the_root_revoked_is_rejected(self, world: World) -> None:
        other = reissued(world, world.pki.root)
        revocations = render_crl(world.pki.root, ISSUED, timedelta(days=30), revoked=[other])
        lie = with_issuer(world, other).with_collateral(root_ca_crl=revocations)
        assert lie.rejected_claims() == ["revocation"]

    @pytest.mark.parametrize("offset", range(1, 64, 7))
    def test_a_flip_in_its_signature_is_rejected(self, world: World, offset: int) -> None:
        der = bytearray(world.pki.pck_ca.certificate.public_bytes(Encoding.DER))
        der[-offset] ^= 1
        flipped = x509.load_der_x509_certificate(bytes(der))
        assert "certificate_chain" in with_issuer(world, flipped).rejected_claims()
