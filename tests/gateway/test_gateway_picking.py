"""Envoy's configuration with a picker and with weights: Envoy itself accepts it."""

import json
import subprocess
from dataclasses import replace
from typing import Any

import pytest

from s3ml.gateway import Endpoint, GatewayConfig, Picker, bootstrap, endpoints, envoy_binary, write_endpoints
from s3ml.primitives.errors import ConfigurationError

PICKER = Picker(address="127.0.0.1:9002")


def filters(rendered: dict[str, Any]) -> list[dict[str, Any]]:
    chain = rendered["static_resources"]["listeners"][0]["filter_chains"][0]
    found: list[dict[str, Any]] = chain["filters"][0]["typed_config"]["http_filters"]
    return found


@pytest.fixture
def picked(config: GatewayConfig) -> GatewayConfig:
    return replace(config, picker=PICKER)


class TestPickerConfiguration:
    @pytest.mark.integration
    def test_envoy_accepts_it(self, picked: GatewayConfig) -> None:
        picked.endpoints_folder.mkdir(parents=True)
        rendered = bootstrap(picked)
        for cluster in rendered["static_resources"]["clusters"]:
            if cluster["type"] == "EDS":
                write_endpoints(picked.endpoints_folder, cluster["name"], [])
        path = picked.folder / "bootstrap.json"
        path.write_text(json.dumps(rendered))
        done = subprocess.run(
            [envoy_binary(), "--mode", "validate", "-c", path], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def test_headers_alone_are_sent(self, picked: GatewayConfig) -> None:
        (asked,) = [item for item in filters(bootstrap(picked)) if "ext_proc" in item["name"]]
        mode = asked["typed_config"]["processing_mode"]
        assert {mode["request_body_mode"], mode["response_body_mode"]} == {"NONE"}
        allowed = asked["typed_config"]["forward_rules"]["allowed_headers"]["patterns"]
        assert [pattern["exact"] for pattern in allowed] == [":path", ":status"]

    def test_it_stands_between_buffer_and_router(self, picked: GatewayConfig) -> None:
        names = [item["name"].rpartition(".")[2] for item in filters(bootstrap(picked))]
        assert names == ["buffer", "ext_proc", "router"]

    def test_without_one_nothing_is_different(self, config: GatewayConfig) -> None:
        assert "ext_proc" not in json.dumps(bootstrap(config))
        assert "override_host" not in json.dumps(bootstrap(config))

    @pytest.mark.parametrize(
        "picker", [{"address": "nowhere"}, {"address": "127.0.0.1:1", "timeout_s": 0}, {"address": ""}]
    )
    def test_what_cannot_work_is_refused(self, picker: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError):
            Picker(**picker)


class TestWeightedEndpoints:
    def test_weight_and_node_are_said(self) -> None:
        member = Endpoint(address="127.0.0.1:81", weight=180, node="n1")
        (resource,) = endpoints("service-tumours", [member, "127.0.0.1:82"])["resources"]
        first, second = resource["endpoints"][0]["lb_endpoints"]
        assert first["load_balancing_weight"] == 180
        assert first["metadata"] == {"filter_metadata": {"s3ml": {"node": "n1"}}}
        assert second.keys() == {"endpoint"}

    @pytest.mark.parametrize("weight", [0, -1, 1_000_001])
    def test_a_weight_that_envoy_refuses_is_none(self, weight: int) -> None:
        with pytest.raises(ConfigurationError, match="weight: expected 1 to 1000000"):
            Endpoint(address="127.0.0.1:81", weight=weight)
