"""Report data against its vectors, and against the page that defines it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from s3ml.attestation import Binding

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "vectors" / "report-data.json").read_text()
)["vectors"]
TEXT = ("purpose", "role", "service")
ORDER = (
    "purpose",
    "deployment",
    "role",
    "verifier_nonce",
    "attester_nonce",
    "public_key",
    "service",
    "policy_digest",
    "log_head",
)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
class TestReportData:
    """docs/spec/report-data.md, the vectors and the package agree."""

    def test_the_package(self, vector: dict[str, Any]) -> None:
        fields: dict[str, Any] = {
            name: vector[name] if name in TEXT else bytes.fromhex(vector[name]) for name in ORDER
        }
        binding = Binding(**fields)
        assert hashlib.sha256(binding.encode()).hexdigest() == vector["encoded_sha256"]
        assert binding.report_data().hex() == vector["report_data"]

    def test_the_page(self, vector: dict[str, Any]) -> None:
        """Computed from the page alone, without the package."""
        encoded = b"S3ML report data v1\x00"
        for name in ORDER:
            value = vector[name].encode() if name in TEXT else bytes.fromhex(vector[name])
            encoded += len(value).to_bytes(4, "big") + value
        assert len(encoded) == vector["encoded_bytes"]
        assert hashlib.sha512(encoded).hexdigest() == vector["report_data"]
