"""The published JSON Schema says what the parser does."""

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.attestation import Alternative, policy_from_table
from s3ml.attestation.evidence import Technology
from s3ml.attestation.policy.schema import DIALECT, encode_policy_schema, policy_schema
from s3ml.primitives.errors import ConfigurationError
from tests.attestation.json_schema import is_valid
from tests.attestation.policy_world import CODES, IDS, LONG_CODES, ROOTS, policies

PUBLISHED = Path(__file__).parents[2] / "docs/spec/policy.schema.json"
SCHEMA = policy_schema()
ROOT = base64.b64encode(ROOTS[0]).decode()
SGX: dict[str, Any] = {"tee": "sgx", "measurements": [CODES[0]]}
TDX: dict[str, Any] = {"tee": "tdx", "measurements": [LONG_CODES[0]]}
SNP: dict[str, Any] = {"tee": "sev-snp", "measurements": [LONG_CODES[0]]}
SIGNED: dict[str, Any] = {"tee": "sgx", "signer": CODES[0], "product_id": 1, "min_svn": 2}
SNP_SIGNED: dict[str, Any] = {
    "tee": "sev-snp", "signer": LONG_CODES[0], "family_id": IDS[0], "image_id": IDS[1], "min_svn": 2,
}  # fmt: skip
EVENT = {"register": 1, "digest": LONG_CODES[0]}

ACCEPTED: tuple[dict[str, Any], ...] = (
    SGX,
    TDX,
    SNP,
    SIGNED,
    SNP_SIGNED,
    {**SGX, "tee": "simulated", "root": ROOT},
    {**SGX, "tee": "simulated", "root": ROOT, "simulates": None},
    {**SGX, "tee": "simulated", "root": ROOT, "simulates": "sgx"},
    {**TDX, "tee": "simulated", "root": ROOT, "simulates": "tdx"},
    {**SGX, "signer": None, "root": None, "simulates": None, "rtmr1": None},
    {**SGX, "products": ["Milan", "Genoa", "Turin"], "min_tcb": {}, "events": [], "require_crl": True},
    {**SGX, "advisories": ["INTEL-SA-00615"], "min_qe_svn": 65535},
    {**SIGNED, "min_svn": 65535},
    {**SNP_SIGNED, "min_svn": 0xFFFF_FFFF, "author": LONG_CODES[1]},
    {**TDX, "events": [EVENT], "rtmr1": list(LONG_CODES), "config_ids": [LONG_CODES[0]]},
    {**SNP, "min_tcb": {"snp": 255}, "max_vmpl": 3, "endorsement_keys": ["VLEK"]},
)

REFUSED: tuple[dict[str, Any], ...] = (
    {},
    {"tee": "sgx"},
    {"tee": "nitro", "measurements": [CODES[0]]},
    {"measurements": [CODES[0]]},
    {**SGX, "colour": "blue"},
    {**SGX, "$schema": DIALECT},
    {**SGX, "measurements": []},
    {**SGX, "measurements": [CODES[0], CODES[0]]},
    {**SGX, "measurements": [LONG_CODES[0]]},
    {**SGX, "measurements": [CODES[0].upper()]},
    {**SGX, "measurements": [CODES[0] + "\n"]},
    {**SGX, "measurements": None},
    {**SGX, "signer": CODES[0]},
    {**SGX, "min_svn": 0},
    {**SGX, **SIGNED},
    {**SGX, "root": ROOT},
    {**SGX, "simulates": "sgx"},
    {**SGX, "tee": "simulated"},
    {**SGX, "tee": "simulated", "root": None},
    {**SGX, "tee": "simulated", "root": ROOT, "simulates": "tdx"},
    {**SGX, "rtmr1": [LONG_CODES[0]]},
    {**SGX, "products": ["Milan"]},
    {**SGX, "min_tcb": {"snp": 1}},
    {**SGX, "events": [EVENT]},
    {**SGX, "tcb_statuses": ["Revoked"]},
    {**SGX, "tcb_statuses": ["UpToDate", "UpToDate"]},
    {**SGX, "max_collateral_age_s": 0},
    {**SGX, "max_collateral_age_s": True},
    {**SGX, "max_collateral_age_s": None},
    {**SGX, "min_qe_svn": 65536},
    {**SGX, "min_pce_svn": "1"},
    {**SIGNED, "signer": LONG_CODES[0]},
    {**SIGNED, "min_svn": 65536},
    {**SIGNED, "product_id": None},
    {**SIGNED, "family_id": IDS[0]},
    {**TDX, "measurements": [CODES[0]]},
    {**TDX, "signer": LONG_CODES[0]},
    {**TDX, "events": [EVENT, EVENT]},
    {**TDX, "events": [{"register": 4, "digest": LONG_CODES[0]}]},
    {**TDX, "rtmr1": []},
    {**TDX, "require_crl": False},
    {**SNP, "tcb_statuses": ["OutOfDate"]},
    {**SNP, "tcb_statuses": ["UpToDate", "OutOfDate"]},
    {**SNP, "min_tcb": {"colour": 1}},
    {**SNP, "max_vmpl": 4},
    {**SNP, "products": ["Rome"]},
    {**SNP_SIGNED, "image_id": IDS[0] + "0"},
)  # fmt: skip


def is_parsed(alternative: Any) -> bool:
    try:
        policy_from_table({"accept": [alternative]})
    except ConfigurationError:
        return False
    return True


def is_in_schema(alternative: Any) -> bool:
    return is_valid({"accept": [alternative]}, SCHEMA)


class TestPublished:
    def test_the_file_is_what_the_code_says(self) -> None:
        """To renew it: ``s3ml policy schema > docs/spec/policy.schema.json``."""
        assert PUBLISHED.read_bytes() == encode_policy_schema()

    def test_it_names_its_dialect(self) -> None:
        assert json.loads(PUBLISHED.read_bytes())["$schema"] == DIALECT

    def test_every_property_of_an_alternative_is_described(self) -> None:
        properties = SCHEMA["$defs"]["Alternative"]["properties"]
        assert properties.keys() == set(Alternative.__struct_fields__)
        assert all(schema["description"] for schema in properties.values())


class TestAgreement:
    """What the schema accepts the parser accepts, and the other way round."""

    @pytest.mark.parametrize("alternative", ACCEPTED, ids=range(len(ACCEPTED)))
    def test_both_accept(self, alternative: dict[str, Any]) -> None:
        assert is_parsed(alternative)
        assert is_in_schema(alternative)

    @pytest.mark.parametrize("alternative", REFUSED, ids=range(len(REFUSED)))
    def test_both_refuse(self, alternative: dict[str, Any]) -> None:
        assert not is_parsed(alternative)
        assert not is_in_schema(alternative)

    @pytest.mark.parametrize(
        "policy",
        [
            {},
            [],
            {"accept": []},
            {"accept": [SGX] * 33},
            {"accept": [SGX], "version": 2},
            {"accept": [SGX], "$schema": DIALECT},
        ],
        ids=lambda policy: str(policy)[:40],
    )
    def test_both_refuse_a_whole(self, policy: Any) -> None:
        with pytest.raises(ConfigurationError):
            policy_from_table(policy)
        assert not is_valid(policy, SCHEMA)

    @settings(deadline=None, max_examples=40)
    @given(data=st.data(), technology=st.sampled_from(list(Technology)))
    def test_every_policy_is_in_the_schema(self, data: st.DataObject, technology: Technology) -> None:
        assert is_valid(json.loads(msgspec.json.encode(data.draw(policies(technology)))), SCHEMA)

    @settings(deadline=None, max_examples=300)
    @given(data=st.data())
    def test_any_mixture_of_fields(self, data: st.DataObject) -> None:
        """Take fields from policies that are accepted and refused, in any mixture."""
        mixed = dict(data.draw(st.sampled_from(ACCEPTED)))
        donors = [donor for donor in (*ACCEPTED, *REFUSED) if donor]
        for donor in data.draw(st.lists(st.sampled_from(donors), max_size=2)):
            name = data.draw(st.sampled_from(sorted(donor)))
            mixed[name] = donor[name]
        if data.draw(st.booleans()):
            mixed.pop(data.draw(st.sampled_from(sorted(mixed))))
        assert is_parsed(mixed) == is_in_schema(mixed)
