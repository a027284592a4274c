"""A certificate whose public key cannot be read rejects, and breaks nothing else."""

import base64

from cryptography.hazmat.primitives.serialization import Encoding

from tests.attestation.attestation_world import World

P256 = bytes.fromhex("06082a8648ce3d030107")
UNKNOWN_CURVE = bytes.fromhex("06082a8648ce3d03017f")


def pem(der: bytes) -> str:
    text = base64.b64encode(der).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""))


class TestUnreadableKey:
    def test_of_the_platforms_ca_in_both_chains(self, world: World) -> None:
        der = world.pki.pck_ca.certificate.public_bytes(Encoding.DER)
        assert der.count(P256) == 1
        broken = pem(der.replace(P256, UNKNOWN_CURVE))
        honest = world.pki.pck_ca.pem
        assert len(broken) == len(honest)
        changed = world.with_(quote=world.quote.replace(honest.encode(), broken.encode())).with_collateral(
            pck_crl_issuer_chain=broken + world.pki.root.pem
        )
        assert changed.quote != world.quote
        claims = changed.rejected_claims()
        assert {"certificate_chain", "revocation", "measurement"} <= set(claims)
