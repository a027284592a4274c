"""What the report data binds."""

from dataclasses import replace
from typing import Any

import pytest

from s3ml.attestation import Binding
from s3ml.primitives.encoding import tagged
from s3ml.primitives.errors import ConfigurationError

BINDING = Binding(
    purpose="release",
    deployment=b"\x01" * 32,
    role="model-server",
    verifier_nonce=b"\x02" * 32,
    attester_nonce=b"\x03" * 32,
    public_key=b"\x04" * 1216,
    service="tumours",
    policy_digest=b"\x05" * 32,
    log_head=b"\x06" * 32,
)

OTHER: dict[str, Any] = {
    "purpose": "statement",
    "deployment": b"\x09" * 32,
    "role": "key-service",
    "verifier_nonce": b"\x09" * 32,
    "attester_nonce": b"\x09" * 32,
    "public_key": b"\x04" * 1215,
    "service": "tumour",
    "policy_digest": b"",
    "log_head": b"",
}


class TestReportData:
    """Every field counts, and none can pass for another."""

    def test_it_is_64_bytes(self) -> None:
        assert len(BINDING.report_data()) == 64

    def test_the_encoding_is_tagged(self) -> None:
        assert BINDING.encode().startswith(tagged("S3ML report data v1", b"release", b"\x01" * 32))

    @pytest.mark.parametrize("field", OTHER)
    def test_every_field_is_bound(self, field: str) -> None:
        assert replace(BINDING, **{field: OTHER[field]}).report_data() != BINDING.report_data()

    def test_the_nonces_do_not_swap(self) -> None:
        swapped = replace(
            BINDING, verifier_nonce=BINDING.attester_nonce, attester_nonce=BINDING.verifier_nonce
        )
        assert swapped.report_data() != BINDING.report_data()

    def test_empty_fields_keep_their_places(self) -> None:
        only_policy = replace(BINDING, policy_digest=b"\x05" * 32, log_head=b"")
        only_head = replace(BINDING, policy_digest=b"", log_head=b"\x05" * 32)
        assert only_policy.report_data() != only_head.report_data()


class TestForm:
    """A field of another form is refused where the binding is made."""

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("purpose", "login"),
            ("deployment", b""),
            ("deployment", b"\x01" * 31),
            ("role", ""),
            ("role", "Model Server"),
            ("verifier_nonce", b""),
            ("attester_nonce", b"\x03" * 33),
            ("public_key", b"\x04" * 4097),
            ("service", "a/b"),
            ("policy_digest", b"\x05" * 64),
            ("log_head", b"\x06"),
        ],
    )
    def test_wrong_values_reject(self, field: str, value: Any) -> None:
        with pytest.raises(ConfigurationError, match=f"binding: {field}: expected"):
            replace(BINDING, **{field: value})

    @pytest.mark.parametrize(
        ("field", "value"),
        [("public_key", b""), ("service", ""), ("policy_digest", b""), ("log_head", b"")],
    )
    def test_what_an_exchange_lacks_is_empty(self, field: str, value: Any) -> None:
        assert len(replace(BINDING, **{field: value}).report_data()) == 64
