"""What the pure functions render, and what Envoy itself says of it."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s3ml.gateway import GatewayConfig, bootstrap, endpoints, envoy_binary, write_endpoints
from s3ml.gateway.config import SERVER_KEEP_ALIVE_S, parse_address
from s3ml.gateway.routes import RETRY_ON
from s3ml.primitives.errors import ConfigurationError


def clusters_of(config: GatewayConfig) -> dict[str, Any]:
    return {cluster["name"]: cluster for cluster in bootstrap(config)["static_resources"]["clusters"]}


class TestBootstrap:
    """One document, the same for the same settings, that Envoy accepts."""

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"services": ()},
            {"listen_host": "::1", "listen_port": 8443},
            {"request_timeout_s": 0.25, "connect_timeout_s": 0.001, "retries": 1},
        ],
    )
    def test_envoy_accepts_it(self, config: GatewayConfig, changes: dict[str, Any]) -> None:
        changed = replace(config, **changes)
        changed.endpoints_folder.mkdir(parents=True)
        for cluster in clusters_of(changed):
            write_endpoints(changed.endpoints_folder, cluster, ["127.0.0.1:1"])
        path = config.folder / "bootstrap.json"
        path.write_text(json.dumps(bootstrap(changed)))

        checked = subprocess.run(
            [envoy_binary(), "--mode", "validate", "--config-path", path, "--log-level", "warning"],
            cwd=config.folder,
            capture_output=True,
            text=True,
            check=False,
        )

        assert checked.returncode == 0, checked.stderr
        assert checked.stdout == f"configuration '{path}' OK\n"

    def test_same_settings_render_the_same(self, config: GatewayConfig) -> None:
        assert bootstrap(config) == bootstrap(replace(config))

    def test_nothing_is_logged_of_requests(self, config: GatewayConfig) -> None:
        assert "access_log" not in json.dumps(bootstrap(config))

    def test_every_cluster_idles_less_than_its_servers(self, config: GatewayConfig) -> None:
        for cluster in clusters_of(config).values():
            (options,) = cluster["typed_extension_protocol_options"].values()
            idle = options["common_http_protocol_options"]["idle_timeout"]
            assert 0 < float(idle.removesuffix("s")) < SERVER_KEEP_ALIVE_S

    def test_only_what_was_not_sent_is_retried(self) -> None:
        assert set(RETRY_ON.split(",")) == {"connect-failure", "refused-stream", "reset-before-request"}

    def test_an_unready_replica_is_never_a_last_resort(self, config: GatewayConfig) -> None:
        for cluster in clusters_of(config).values():
            assert cluster["common_lb_config"]["healthy_panic_threshold"] == {"value": 0}


class TestEndpoints:
    """The endpoint file names each address once, and only addresses."""

    def test_addresses_become_endpoints(self) -> None:
        (resource,) = endpoints("service-tumours", ["127.0.0.1:81", "[::1]:82", "127.0.0.1:81"])["resources"]

        assert resource["cluster_name"] == "service-tumours"
        assert [
            tuple(member["endpoint"]["address"]["socket_address"].values())
            for member in resource["endpoints"][0]["lb_endpoints"]
        ] == [("127.0.0.1", 81), ("::1", 82)]

    def test_nobody_is_a_list_too(self) -> None:
        (resource,) = endpoints("service-tumours", [])["resources"]
        assert resource["endpoints"] == [{"lb_endpoints": []}]

    @pytest.mark.parametrize(
        "address", ["", "127.0.0.1", "localhost:80", "127.0.0.1:0", "1.2.3.4:99999", ":80"]
    )
    def test_other_than_ip_and_port_is_refused(self, address: str) -> None:
        with pytest.raises(ConfigurationError, match="endpoint: expected"):
            endpoints("service-tumours", [address])

    def test_ipv6_is_read_without_its_brackets(self) -> None:
        assert parse_address("[::1]:8080") == ("::1", 8080)


class TestSettings:
    """Settings that cannot work are refused on construction, in one line."""

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"services": ("Tumours",)}, "gateway: service: expected"),
            ({"services": ("a", "a")}, "each name once"),
            ({"listen_host": "localhost"}, "listen address: expected an IP address"),
            ({"listen_port": 65_536}, "port: expected 0 to 65535"),
            ({"upstream_idle_timeout_s": 5.0}, "expected less than the servers' keep-alive of 5.0 s"),
            ({"max_request_bytes": 0}, "max_request_bytes: expected more than 0"),
            ({"retries": -1}, "retries: expected more than 0"),
        ],
    )
    def test_refused(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        settings: dict[str, Any] = {"folder": tmp_path, "services": ("tumours",), **changes}
        with pytest.raises(ConfigurationError, match=message):
            GatewayConfig(**settings)
