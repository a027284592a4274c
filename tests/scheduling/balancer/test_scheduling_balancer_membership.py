"""The file that names replicas and agents: whole, checked, limited."""

import json
from pathlib import Path
from typing import Any

import pytest

from s3ml.primitives.errors import ConfigurationError
from s3ml.scheduling.balancer.membership import (
    LIMIT_BYTES,
    Member,
    Membership,
    decode_membership,
    read_membership,
    write_membership,
)

MEMBER = {"name": "a", "node": "n1", "address": "127.0.0.1:1"}


def document(**changes: Any) -> bytes:
    return json.dumps(
        {"services": {"tumours": [MEMBER | changes]}, "agents": {"n1": "http://127.0.0.1:9"}}
    ).encode()


class TestRoundTrip:
    def test_what_was_written_is_read(self, tmp_path: Path) -> None:
        there = Membership(
            services={"tumours": (Member(name="a", node="n1", address="[::1]:80"),)},
            agents={"n1": "http://127.0.0.1:9"},
        )
        write_membership(tmp_path / "m.json", there)
        assert read_membership(tmp_path / "m.json") == there


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "told"),
        [
            (b"", "membership: "),
            (b"\xff", "membership: "),
            (b"[]", "membership: Expected `object`"),
            (b'{"services": {}, "more": 1}', "unknown field"),
            (document(name="A"), "replica: expected 1 to 63"),
            (document(node=""), "node: expected 1 to 63"),
            (document(address="localhost:80"), "address: expected ip:port"),
            (document(address="127.0.0.1:0"), "address: expected ip:port"),
            (document(address="127.0.0.1:65536"), "address: expected ip:port"),
            (document(address="127.0.0.1"), "address: expected ip:port"),
            (document(port=1), "unknown field"),
            (b'{"services": {"X": []}}', "service: expected 1 to 63"),
            (b'{"services": {}, "agents": {"n1": "ftp://x"}}', "agent of n1: expected http://"),
            (b'{"services": {}, "agents": {"N": "http://x"}}', "node: expected 1 to 63"),
            (json.dumps({"services": {"s": [MEMBER, MEMBER]}}).encode(), "expected different names"),
            (
                json.dumps({"services": {"s": [MEMBER, MEMBER | {"name": "b"}]}}).encode(),
                "expected different addresses",
            ),
            (json.dumps({"services": {"s": [MEMBER] * 1025}}).encode(), "expected at most 1024 replicas"),
        ],
    )
    def test_each_is_one_clear_line(self, data: bytes, told: str) -> None:
        with pytest.raises(ConfigurationError, match=told) as refused:
            decode_membership(data)
        assert "\n" not in str(refused.value)

    def test_a_file_that_is_too_large(self, tmp_path: Path) -> None:
        (tmp_path / "m.json").write_bytes(b" " * (LIMIT_BYTES + 1))
        with pytest.raises(ConfigurationError, match="expected at most"):
            read_membership(tmp_path / "m.json")

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="No such file"):
            read_membership(tmp_path / "m.json")
