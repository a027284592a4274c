"""Policies as people write them."""

import base64
import contextlib
import json
import time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.attestation import (
    Alternative,
    AppraisalPolicy,
    Tee,
    encode_policy,
    parse_policy,
    policy_from_table,
    policy_to_table,
)
from s3ml.attestation.evidence import Technology
from s3ml.attestation.policy import POLICY_LIMIT_BYTES
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.verify.verifier import EXAMINERS
from s3ml.primitives.errors import ConfigurationError
from tests.attestation.attestation_world import CREATED, World
from tests.attestation.policy_world import policies

UNHURRIED = settings(deadline=None)
# Far more processor time than a linear parser takes anywhere, and less than a quadratic one takes here.
QUADRATIC_S = 20
CODE = "ab" * 32
SGX: dict[str, Any] = {"tee": "sgx", "measurements": [CODE]}
SIGNED: dict[str, Any] = {"tee": "sgx", "signer": CODE, "product_id": 1, "min_svn": 2}

SIMULATED_SNP: dict[str, Any] = {
    "tee": Tee.SIMULATED,
    "simulates": Technology.SEV_SNP,
    "measurements": ("ab" * 48,),
}


def table(**changes: object) -> dict[str, Any]:
    return {"version": 1, "accept": [{**SGX, **changes}]}


def certificate_of(public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> bytes:
    signer = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(public_key)
    builder = builder.serial_number(1).not_valid_before(CREATED).not_valid_after(CREATED)
    return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.DER)


def rsa_public_key(bits: int) -> rsa.RSAPublicKey:
    """Return a key of that size; nobody has its private half."""
    return rsa.RSAPublicNumbers(e=65537, n=(1 << bits - 1) | 1).public_key()


class TestReading:
    """TOML and JSON say the same."""

    def test_toml(self) -> None:
        policy = parse_policy(f'version = 1\n[[accept]]\ntee = "sgx"\nmeasurements = ["{CODE}"]\n'.encode())
        assert policy == AppraisalPolicy(accept=(Alternative(tee=Tee.SGX, measurements=(CODE,)),))

    def test_json(self) -> None:
        assert parse_policy(b" \n" + json.dumps(table()).encode()) == policy_from_table(table())

    def test_a_signer_with_product_and_version(self) -> None:
        (alternative,) = policy_from_table({"version": 1, "accept": [SIGNED]}).accept
        assert (alternative.signer, alternative.product_id, alternative.min_svn) == (CODE, 1, 2)

    def test_defaults_are_the_strictest_that_work(self) -> None:
        (alternative,) = policy_from_table(table()).accept
        assert alternative.tcb_statuses == ("UpToDate",)
        assert alternative.advisories == ()
        assert alternative.max_collateral_age_s == 2_592_000

    def test_written_toml_reads_back(self, world: World) -> None:
        policy = AppraisalPolicy(
            accept=(
                *world.policy.accept,
                *policy_from_table({"version": 1, "accept": [SIGNED]}).accept,
                *policy_from_table(table(advisories=["INTEL-SA-00615"], max_collateral_age_s=60)).accept,
            )
        )
        assert parse_policy(encode_policy(policy)) == policy

    @UNHURRIED
    @given(data=st.data(), technology=st.sampled_from(list(Technology)))
    def test_any_policy_that_is_written_reads_back(self, data: st.DataObject, technology: Technology) -> None:
        policy = data.draw(policies(technology))
        assert parse_policy(encode_policy(policy)) == policy
        assert policy_from_table(json.loads(json.dumps(policy_to_table(policy)))) == policy

    def test_written_toml_says_simulated(self, world: World) -> None:
        assert b"# SIMULATED: this platform protects nothing." in encode_policy(world.policy)

    def test_tables_read_back(self, world: World) -> None:
        assert policy_from_table(policy_to_table(world.policy)) == world.policy
        assert parse_policy(json.dumps(policy_to_table(world.policy)).encode()) == world.policy

    def test_simulated_is_seen_anywhere_in_the_list(self, world: World) -> None:
        sgx = policy_from_table(table())
        assert not sgx.is_simulated
        assert AppraisalPolicy(accept=(*sgx.accept, *world.policy.accept)).is_simulated


class TestStrictness:
    """A policy that is not exactly understood accepts nothing: it does not exist."""

    @pytest.mark.parametrize(
        "changes",
        [
            {"measurement": CODE},
            {"measurements": []},
            {"measurements": [CODE.upper()]},
            {"measurements": [CODE[:-1]]},
            {"measurements": [CODE + "\n"]},
            {"measurements": CODE},
            {"tcb_statuses": []},
            {"tcb_statuses": ["Revoked"]},
            {"tcb_statuses": ["uptodate"]},
            {"advisories": ["intel sa"]},
            {"min_tcb_evaluation_data_number": -1},
            {"min_tcb_evaluation_data_number": "1"},
            {"min_tcb_evaluation_data_number": True},
            {"max_collateral_age_s": 0},
            {"max_collateral_age_s": 1.5},
            {"max_collateral_age_s": 10**12},
            {"min_qe_svn": 65536},
            {"min_pce_svn": -1},
            {"signer": CODE},
            {"min_svn": 1},
            {"root": base64.b64encode(b"root").decode()},
            {"tee": "SGX"},
        ],
        ids=str,
    )
    def test_wrong_fields_reject(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match=r"\Apolicy: "):
            parse_policy(json.dumps(table(**changes)).encode())

    @pytest.mark.parametrize("missing", ["signer", "product_id", "min_svn"])
    def test_a_signer_needs_product_and_version(self, missing: str) -> None:
        alternative = {name: value for name, value in SIGNED.items() if name != missing}
        with pytest.raises(ConfigurationError, match="either measurements, or signer, product_id, min_svn"):
            policy_from_table({"version": 1, "accept": [alternative]})

    @pytest.mark.parametrize("accept", [[], None, {}, [{}]])
    def test_an_empty_policy_rejects(self, accept: object) -> None:
        with pytest.raises(ConfigurationError, match=r"\Apolicy: "):
            policy_from_table({"version": 1, "accept": accept})

    @pytest.mark.parametrize("version", [0, 2, "1", None])
    def test_another_version_rejects(self, version: object) -> None:
        with pytest.raises(ConfigurationError, match=r"\Apolicy: "):
            policy_from_table({**table(), "version": version})

    def test_an_unknown_field_is_named(self) -> None:
        with pytest.raises(ConfigurationError, match="colour"):
            policy_from_table({**table(), "colour": "blue"})

    def test_every_technology_that_a_policy_names_has_a_verifier(self) -> None:
        assert set(EXAMINERS) == set(Technology)

    @pytest.mark.parametrize("field", ["measurements", "tcb_statuses"])
    def test_empty_lists_reject_in_code_too(self, field: str) -> None:
        fields: dict[str, Any] = {"tee": Tee.SGX, "measurements": (CODE,), field: ()}
        with pytest.raises(ConfigurationError, match=f"policy: {field}: expected at least one"):
            Alternative(**fields)

    def test_an_empty_policy_rejects_in_code_too(self) -> None:
        with pytest.raises(ConfigurationError, match="policy: accept: expected at least one"):
            AppraisalPolicy(accept=())


class TestRoot:
    """Only a simulated TEE has a root in the policy, and always has one."""

    def test_sgx_has_none(self, world: World) -> None:
        root = base64.b64encode(world.pki.root_der).decode()
        with pytest.raises(ConfigurationError, match="root: expected none with tee = sgx"):
            policy_from_table(table(root=root))

    def test_simulated_needs_one(self) -> None:
        with pytest.raises(ConfigurationError, match="root: expected the simulation root"):
            policy_from_table(table(tee="simulated"))

    def test_it_is_a_certificate(self) -> None:
        with pytest.raises(ConfigurationError, match="root: expected a DER certificate"):
            policy_from_table(table(tee="simulated", root=base64.b64encode(b"no certificate").decode()))

    def test_it_is_of_p256(self) -> None:
        with pytest.raises(ConfigurationError, match="root: expected a certificate of a P-256 key"):
            Alternative(
                tee=Tee.SIMULATED,
                measurements=(CODE,),
                root=certificate_of(ec.generate_private_key(ec.SECP384R1()).public_key()),
            )

    @pytest.mark.parametrize("bits", [None, 2048, 3072])
    def test_it_is_of_rsa_4096_with_sev_snp(self, bits: int | None) -> None:
        key = rsa_public_key(bits) if bits else ec.generate_private_key(ec.SECP256R1()).public_key()
        with pytest.raises(
            ConfigurationError, match="root: expected a certificate of an RSA key of 4096 bits"
        ):
            Alternative(**SIMULATED_SNP, root=certificate_of(key))

    def test_one_of_rsa_4096_is_for_sev_snp_alone(self) -> None:
        root = certificate_of(rsa_public_key(4096))
        assert Alternative(**SIMULATED_SNP, root=root).root == root
        with pytest.raises(ConfigurationError, match="root: expected a certificate of a P-256 key"):
            Alternative(tee=Tee.SIMULATED, measurements=(CODE,), root=root)


class TestBytes:
    """Any bytes are a policy or a configuration error."""

    def test_too_large_rejects(self) -> None:
        with pytest.raises(ConfigurationError, match="policy: expected at most 65536 bytes, got 65537"):
            parse_policy(b"#" * (POLICY_LIMIT_BYTES + 1))

    @pytest.mark.parametrize(
        "data", [b"", b"\xff", b"{", b"version = ", b"[" * 2000, b'{"a":' * 8000, b"version = 1"]
    )
    def test_no_policy_at_all_rejects(self, data: bytes) -> None:
        with pytest.raises(ConfigurationError, match=r"\Apolicy: "):
            parse_policy(data)

    def test_a_repeated_field_rejects(self) -> None:
        text = json.dumps(table()).replace('"version": 1', '"version": 1, "version": 1')
        with pytest.raises(ConfigurationError, match="a field is repeated"):
            parse_policy(text.encode())

    @pytest.mark.parametrize(
        "part",
        ["a.", "a . ", '"a".', r'"\"".', "'a' .\t", '"#".'],
        ids=["bare", "spaced", "quoted", "escaped", "literal", "hash"],
    )
    @pytest.mark.parametrize("form", ["{}a = 1", "[{}a]", "[[{}a]]", "x = {{ {}a = 1 }}", "x = 1 # {}a"])
    def test_a_key_of_thousands_of_parts_rejects_at_once(self, part: str, form: str) -> None:
        text = form.format(part * (60_000 // len(part)))
        began = time.process_time()
        with pytest.raises(ConfigurationError, match="a key has more than 8 parts"):
            parse_policy(text.encode())
        assert time.process_time() - began < QUADRATIC_S

    def test_keys_of_two_parts_are_fine(self) -> None:
        text = 'version = 1\n[[accept]]\ntee = "sev-snp"\nmin_tcb.snp = 8\nmin_tcb . microcode = 115\n'
        (alternative,) = parse_policy(f'{text}measurements = ["{"ab" * 48}"]\n'.encode()).accept
        assert (alternative.min_tcb.snp, alternative.min_tcb.microcode) == (8, 115)

    @UNHURRIED
    @given(data=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
    def test_any_bytes(self, data: bytes) -> None:
        with contextlib.suppress(ConfigurationError):
            parse_policy(data)

    @UNHURRIED
    @given(
        changes=st.dictionaries(
            st.sampled_from(sorted(Alternative.__struct_fields__)),
            st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=8)),
        )
    )
    def test_any_fields(self, changes: dict[str, Any]) -> None:
        with contextlib.suppress(ConfigurationError):
            policy_from_table(table(**changes))


class TestRepresentation:
    """A simulated world is made once, whatever its keys."""

    def test_two_simulations_have_two_roots(self) -> None:
        assert SimulatedPKI.create(CREATED).root_der != SimulatedPKI.create(CREATED).root_der
