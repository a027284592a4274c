"""The simulated vendor and platform: what they make is what Intel's formats say."""

from datetime import timedelta
from typing import Any

import dcap_qvl
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from s3ml.attestation.simulated.collateral import CPU_SVN, FMSPC, PCE_ID, PCE_SVN
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.simulated.quote import EnclaveReport, encode_header, render_quote
from s3ml.attestation.simulated.sgx_extension import SGX_EXTENSION_OID, PlatformIdentity, sgx_extension
from s3ml.attestation.verify.intel.sgx_quote import parse_sgx_quote
from s3ml.primitives.errors import ConfigurationError
from tests.attestation.attestation_world import ISSUED, World, honest_report


class TestPKI:
    """The platform's keys survive on disk, and tell nobody."""

    def test_it_is_restored(self, pki: SimulatedPKI, world: World) -> None:
        restored = SimulatedPKI.from_bytes(pki.to_bytes())
        assert restored.root_der == pki.root_der
        quote = render_quote(restored, honest_report())
        evidence = world.with_(pki=restored, quote=quote, collateral=restored.collateral(ISSUED))
        assert evidence.rejected_claims() == []

    @pytest.mark.parametrize("data", [b"", b"{}", b"nothing"])
    def test_anything_else_is_refused(self, data: bytes) -> None:
        with pytest.raises(ConfigurationError, match="simulated platform: expected its saved keys"):
            SimulatedPKI.from_bytes(data)

    def test_damaged_keys_are_refused(self, pki: SimulatedPKI) -> None:
        stored: dict[str, Any] = msgspec.json.decode(pki.to_bytes())
        stored["attestation_key"] = stored["root"]["certificate"]
        with pytest.raises(ConfigurationError, match="simulated platform: expected its saved keys"):
            SimulatedPKI.from_bytes(msgspec.json.encode(stored))

    def test_keys_of_another_kind_are_refused(self, pki: SimulatedPKI) -> None:
        stored: dict[str, Any] = msgspec.json.decode(pki.to_bytes())
        other = ed25519.Ed25519PrivateKey.generate()
        der = other.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        stored["attestation_key"] = msgspec.to_builtins(der)
        with pytest.raises(ConfigurationError, match="simulated platform: expected its saved keys"):
            SimulatedPKI.from_bytes(msgspec.json.encode(stored))

    def test_neither_keys_nor_authorities_show_themselves(self, pki: SimulatedPKI) -> None:
        assert repr(pki) == "SimulatedPKI(redacted)"
        assert "key=" not in repr(pki.root)

    def test_the_root_is_also_given_to_people(self, pki: SimulatedPKI) -> None:
        assert pki.root_pem.decode() == pki.root.pem

    def test_quotes_outlive_the_collateral_they_were_made_with(self, world: World) -> None:
        later = ISSUED + timedelta(days=20)
        assert world.with_(collateral=world.pki.collateral(later), now=later).rejected_claims() == []


class TestExtension:
    """dcap-qvl reads the SGX extension as it was written."""

    def test_the_platforms_identity(self, pki: SimulatedPKI) -> None:
        extension = dcap_qvl.parse_pck_extension_from_pem(pki.pck.pem.encode())
        assert (extension.cpu_svn, extension.pce_svn) == (CPU_SVN, PCE_SVN)
        assert (extension.pce_id, extension.fmspc) == (PCE_ID, FMSPC)
        assert len(extension.ppid) == len(extension.platform_instance_id) == 16

    def test_high_versions_stay_positive(self) -> None:
        """An SVN of 128 or more has a leading zero octet in DER."""
        identity = PlatformIdentity(
            ppid=bytes(16),
            cpu_svn=bytes((127, 128, 255, *bytes(13))),
            pce_svn=300,
            pce_id=PCE_ID,
            fmspc=FMSPC,
            instance_id=bytes(16),
        )
        value = sgx_extension(identity).value
        assert b"\x02\x01\x7f" in value
        assert b"\x02\x02\x00\x80" in value
        assert b"\x02\x02\x00\xff" in value
        assert b"\x02\x02\x01\x2c" in value

    def test_its_identifier_is_intels(self) -> None:
        assert SGX_EXTENSION_OID == "1.2.840.113741.1.13.1"


class TestQuote:
    """Our reader and dcap-qvl's see the same quote."""

    def test_the_report(self, world: World) -> None:
        theirs, ours = dcap_qvl.parse_quote(world.quote), parse_sgx_quote(world.quote)
        assert ours.enclave.measurement == theirs.report.mr_enclave
        assert ours.enclave.signer == theirs.report.mr_signer
        assert ours.enclave.report_data == theirs.report.report_data
        assert ours.enclave.flags.to_bytes(8, "little") == theirs.report.attributes[:8]
        assert (ours.enclave.product_id, ours.enclave.svn) == (7, 5)
        certification = ours.certification
        assert (certification.qe_svn, certification.pce_svn) == (theirs.header.qe_svn, theirs.header.pce_svn)

    def test_a_rendered_quote_is_honest(self, world: World) -> None:
        assert world.with_(quote=render_quote(world.pki, honest_report())).rejected_claims() == []

    def test_the_header_is_48_bytes(self) -> None:
        assert len(encode_header()) == 48

    def test_the_report_is_384_bytes(self) -> None:
        assert len(honest_report().encode()) == 384

    @pytest.mark.parametrize("field", ["measurement", "signer", "report_data", "cpu_svn"])
    def test_a_field_of_another_length_is_refused(self, field: str) -> None:
        fields: dict[str, Any] = {
            "measurement": bytes(32),
            "signer": bytes(32),
            "product_id": 0,
            "svn": 0,
            "report_data": bytes(64),
            "cpu_svn": bytes(16),
            field: b"",
        }
        with pytest.raises(ConfigurationError, match=f"enclave report: {field}: expected"):
            EnclaveReport(**fields)
