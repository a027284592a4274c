"""The document of a node agent: what goes in comes out, and everything else is refused."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.primitives.errors import ConfigurationError
from s3ml.tee_memory import Confidence, Kind, NodeReadings, Reading, ReadingsMalformedError, decode
from s3ml.tee_memory.readings import (
    READINGS_LIMIT_BYTES,
    SERVERS_LIMIT,
    AgedReading,
    ServerReadings,
    check_monitored_name,
    provenance,
)

READING = Reading(
    kind=Kind.EMULATED,
    source="emulated EPC n1",
    taken_at_s=100.0,
    span_s=1.0,
    capacity_bytes=64 * 2**20,
    resident_bytes=60 * 2**20,
    evicted_bytes=4096,
    page_ins_per_s=12.5,
    page_outs_per_s=3.0,
    pressure=0.25,
    confidence=Confidence.COUNTED,
)


def document(**changes: Any) -> bytes:
    """Return a document with fields changed at its top."""
    aged = AgedReading.of(READING, now_s=100.5)
    node = NodeReadings(
        node="n1",
        kind=Kind.EMULATED,
        source="emulated EPC n1",
        is_simulated=False,
        is_emulated=True,
        interval_s=1.0,
        reading=aged,
        servers=(ServerReadings(name="a", reading=aged), ServerReadings(name="b", reading=None)),
    )
    return json.dumps(json.loads(node.encode()) | changes).encode()


def reading(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(document())["reading"] | changes
    return found


class TestAges:
    """Instants stay on the clock of whoever has them; ages travel."""

    def test_a_reading_comes_out_on_the_receivers_clock(self) -> None:
        received = decode(document()).received(7.0)

        assert received == replace(READING, taken_at_s=6.5)

    def test_no_instant_is_in_it(self) -> None:
        assert b"taken_at" not in document()

    def test_servers_without_a_reading_are_left_out(self) -> None:
        assert decode(document()).servers_received(7.0) == {"a": replace(READING, taken_at_s=6.5)}

    def test_a_node_without_a_reading_has_none(self) -> None:
        assert decode(document(reading=None)).received(7.0) is None


class TestRefusals:
    """What breaks a rule is refused, and says which."""

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"node": ""}, "node"),
            ({"node": "a b"}, "node"),
            ({"node": "n1\n"}, "node"),
            ({"node": "x" * 254}, "node"),
            ({"kind": "quantum"}, "kind"),
            ({"source": ""}, "source"),
            ({"source": "x" * 129}, "source"),
            ({"interval_s": -1}, "interval_s"),
            ({"error": "x" * 301}, "error"),
            ({"is_emulated": False}, "contradicts"),
            ({"is_simulated": True}, "contradicts"),
            ({"kind": "sgx", "is_emulated": False}, "every reading"),
            ({"servers": [{"name": "a", "reading": None}] * 2}, "unique"),
            ({"servers": [{"name": str(n), "reading": None} for n in range(SERVERS_LIMIT + 1)]}, "servers"),
            ({"servers": [{"name": "a", "reading": None, "reading ": 1}, {"name": "-"}]}, "servers"),
        ],
    )
    def test_of_the_node(self, changes: dict[str, Any], reason: str) -> None:
        with pytest.raises(ReadingsMalformedError, match=reason):
            decode(document(**changes))

    @pytest.mark.parametrize(
        "changes",
        [
            {"age_s": -0.1},
            {"age_s": None},
            {"span_s": 2e9},
            {"capacity_bytes": -1},
            {"resident_bytes": 0.5},
            {"evicted_bytes": 2**61},
            {"page_ins_per_s": -1},
            {"page_outs_per_s": 2e9},
            {"pressure": 1.1},
            {"confidence": "sure"},
            {"guests": -1},
            {"source": ""},
            {"page_ins_per_s": "12"},
        ],
    )
    def test_of_a_reading(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ReadingsMalformedError):
            decode(document(reading=reading(**changes)))

    @pytest.mark.parametrize(
        "data", [b"", b"null", b"[]", b"{}", b"\xff", b'{"node":', document()[:-1], document() + b"x"]
    )
    def test_of_what_is_no_document(self, data: bytes) -> None:
        with pytest.raises(ReadingsMalformedError):
            decode(data)

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
    def test_of_numbers_that_are_none(self, number: str) -> None:
        text = document().decode().replace('"page_ins_per_s": 12.5', f'"page_ins_per_s": {number}')

        assert number in text
        with pytest.raises(ReadingsMalformedError):
            decode(text.encode())

    def test_of_what_is_too_long(self) -> None:
        with pytest.raises(ReadingsMalformedError, match="at most"):
            decode(document() + b" " * READINGS_LIMIT_BYTES)

    @given(st.binary(max_size=400))
    def test_any_bytes_are_refused_or_read(self, data: bytes) -> None:
        with pytest.raises(ReadingsMalformedError):
            decode(data)


class TestGrowth:
    """An agent may be newer than its readers, and the largest document fits."""

    def test_unknown_fields_are_ignored(self) -> None:
        assert decode(document(weather="fine")) == decode(document())

    def test_the_largest_document_is_within_the_limit(self) -> None:
        aged = reading(source="x" * 128, capacity_bytes=2**60, resident_bytes=2**60, evicted_bytes=2**60)
        servers = [{"name": f"{n:0>253}", "reading": aged} for n in range(SERVERS_LIMIT)]
        largest = json.dumps(
            json.loads(document(servers=servers, error="e" * 300)), separators=(",", ":")
        ).encode()

        assert len(decode(largest).servers) == SERVERS_LIMIT


class TestNames:
    """Names of nodes and servers, and what a kind is."""

    @pytest.mark.parametrize("name", ["n1", "localhost:8080", "pod_1.example.com", "A" * 253])
    def test_these_may_be(self, name: str) -> None:
        assert check_monitored_name(name, what="--node") == name

    @pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "a\n", "é", "a" * 254])
    def test_these_may_not(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="--node: expected 1 to 253"):
            check_monitored_name(name, what="--node")

    @pytest.mark.parametrize("kind", list(Kind))
    def test_a_kind_says_what_is_not_real(self, kind: Kind) -> None:
        assert provenance(kind) == (kind is Kind.SIMULATED, kind is Kind.EMULATED)
