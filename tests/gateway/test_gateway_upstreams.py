"""What Envoy says of its clusters, parsed: exact where it is right, one error where it is not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.gateway import Upstream, decode_upstreams
from s3ml.primitives.errors import UnavailableError


def host(port: int, *, address: str = "127.0.0.1", **changes: Any) -> dict[str, Any]:
    stats = [
        {"name": "rq_active", "type": "GAUGE", "value": "3"},
        {"name": "rq_error", "value": "2"},
        {"name": "rq_success", "value": 40},
        {"name": "rq_total", "value": "45"},
        {"name": "cx_total"},
    ]
    found = {
        "address": {"socket_address": {"address": address, "port_value": port}},
        "stats": stats,
        "health_status": {"eds_health_status": "HEALTHY"},
    }
    return found | changes


def document(*hosts: dict[str, Any]) -> bytes:
    return json.dumps({"cluster_statuses": [{"name": "c", "host_statuses": hosts}]}).encode()


class TestParsing:
    def test_counters_of_each(self) -> None:
        assert decode_upstreams(document(host(2), host(1, stats=[])))["c"] == (
            Upstream(address="127.0.0.1:1", is_healthy=True, requests=0),
            Upstream(
                address="127.0.0.1:2", is_healthy=True, requests=45, in_flight=3, succeeded=40, failed=2
            ),
        )

    def test_an_ipv6_address(self) -> None:
        assert decode_upstreams(document(host(1, address="::1")))["c"][0].address == "[::1]:1"

    @pytest.mark.parametrize(
        "health",
        [
            {"failed_active_health_check": True},
            {"failed_outlier_check": True},
            {"pending_active_hc": True},
            {"eds_health_status": "DRAINING"},
        ],
    )
    def test_who_is_unhealthy(self, health: dict[str, Any]) -> None:
        assert not decode_upstreams(document(host(1, health_status=health)))["c"][0].is_healthy

    def test_what_listens_on_a_unix_socket_is_no_replica(self) -> None:
        found = host(1) | {"address": {"pipe": {"path": "x"}}}
        assert decode_upstreams(document(found))["c"] == ()

    def test_no_clusters(self) -> None:
        assert decode_upstreams(b"{}") == {}


class TestNonsense:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\xff",
            b"[]",
            b'{"cluster_statuses": 1}',
            document({"stats": []}),
            document(host(1, stats=[{"name": "rq_total", "value": "many"}])),
        ],
    )
    def test_it_is_one_error(self, body: bytes) -> None:
        with pytest.raises(UnavailableError, match="expected Envoy's clusters"):
            decode_upstreams(body)

    @given(st.binary(max_size=100))
    def test_anything_parses_or_is_that_error(self, body: bytes) -> None:
        try:
            decode_upstreams(body)
        except UnavailableError:
            return
