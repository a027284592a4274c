"""Settings are an allow-list."""

import dataclasses
from typing import Any

import pytest

from s3ml.modelserver import Settings, parse_settings
from s3ml.modelserver import settings as module
from s3ml.primitives.errors import ConfigurationError

ENVIRONMENT = {
    "S3ML_LISTEN": "127.0.0.1:8443",
    "S3ML_KEY_SERVICE": "http://127.0.0.1:9000",
    "S3ML_SERVICE": "tumours",
    "S3ML_BUNDLES": "file:///models",
    "PATH": "/bin",
}


class TestAllowList:
    """What is not on the list does not pass, and what is on it decides nothing about trust."""

    def test_the_four_that_must_be_given_are_enough(self) -> None:
        settings = parse_settings(ENVIRONMENT)

        assert (settings.host, settings.port, settings.service) == ("127.0.0.1", 8443, "tumours")
        assert (settings.max_request_bytes, settings.inference_threads) == (16 << 20, 2)
        assert settings.simulated_platform is None

    def test_every_setting_reaches_its_field(self) -> None:
        more = {
            "S3ML_MAX_REQUEST_BYTES": "65536",
            "S3ML_REPLICA": "replica-7",
            "S3ML_INFERENCE_THREADS": "3",
            "S3ML_DRAIN_S": "120",
            "S3ML_OTLP_ENDPOINT": "http://collector:4318",
            "S3ML_SIMULATED_PLATFORM": "/run/quote.sock",
            "S3ML_KDS_URL": "https://kds",
            "S3ML_PCCS_URL": "https://a:8081, http://b",
            "S3ML_PCS_URL": "https://pcs",
        }
        settings = parse_settings({**ENVIRONMENT, **more})

        assert settings.max_request_bytes == 65536
        assert (settings.replica, settings.inference_threads) == ("replica-7", 3)
        assert (settings.drain_s, settings.otlp_endpoint) == (120, "http://collector:4318")
        assert settings.simulated_platform == "/run/quote.sock"
        assert settings.pccs_urls == ("https://a:8081", "http://b")
        assert (settings.pcs_urls, settings.kds_urls) == (("https://pcs",), ("https://kds",))

    def test_unknown_ones_are_named_together(self) -> None:
        with pytest.raises(ConfigurationError, match=r"unknown: S3ML_DEBUG, S3ML_POLICY; known: S3ML_LISTEN"):
            parse_settings({**ENVIRONMENT, "S3ML_POLICY": "x", "S3ML_DEBUG": "1"})

    def test_missing_ones_are_named_together(self) -> None:
        with pytest.raises(ConfigurationError, match="missing: S3ML_LISTEN, S3ML_KEY_SERVICE"):
            parse_settings({"S3ML_SERVICE": "tumours", "S3ML_BUNDLES": "/models"})

    def test_the_list_holds_addresses_sizes_and_names_only(self) -> None:
        assert sorted(field.name for field in dataclasses.fields(Settings)) == [
            "bundles",
            "drain_s",
            "host",
            "inference_threads",
            "kds_urls",
            "key_service",
            "max_request_bytes",
            "model_memory_bytes",
            "otlp_endpoint",
            "pccs_urls",
            "pcs_urls",
            "port",
            "replica",
            "service",
            "simulated_platform",
        ]
        assert len(module.KNOWN) == 14

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("S3ML_LISTEN", "8443"),
            ("S3ML_LISTEN", ":8443"),
            ("S3ML_LISTEN", "localhost:http"),
            ("S3ML_LISTEN", "localhost:65536"),
            ("S3ML_LISTEN", "localhost:٣"),
            ("S3ML_KEY_SERVICE", "ftp://host"),
            ("S3ML_SERVICE", "../other"),
            ("S3ML_REPLICA", "two words"),
            ("S3ML_MAX_REQUEST_BYTES", "16M"),
            ("S3ML_MAX_REQUEST_BYTES", "1"),
            ("S3ML_MAX_REQUEST_BYTES", "-1"),
            ("S3ML_MAX_REQUEST_BYTES", "9" * 5000),
            ("S3ML_INFERENCE_THREADS", "0"),
            ("S3ML_INFERENCE_THREADS", "65"),
            ("S3ML_DRAIN_S", "0"),
            ("S3ML_DRAIN_S", "601"),
            ("S3ML_OTLP_ENDPOINT", "collector:4318"),
            ("S3ML_OTLP_ENDPOINT", ""),
            ("S3ML_OTLP_ENDPOINT", "http://a,http://b"),
            ("S3ML_KDS_URL", "kds"),
            ("S3ML_PCCS_URL", "https://[a"),
            ("S3ML_PCS_URL", ",".join(["https://a"] * 9)),
        ],
    )
    def test_a_malformed_one_is_named(self, name: str, text: str) -> None:
        with pytest.raises(ConfigurationError, match=f"^{name}: expected"):
            parse_settings({**ENVIRONMENT, name: text})

    def test_an_empty_store_is_named(self) -> None:
        settings: dict[str, Any] = dataclasses.asdict(parse_settings(ENVIRONMENT))

        with pytest.raises(ConfigurationError, match="S3ML_BUNDLES"):
            Settings(**{**settings, "bundles": ""})

    def test_an_address_of_version_six_loses_its_brackets(self) -> None:
        assert parse_settings({**ENVIRONMENT, "S3ML_LISTEN": "[::1]:0"}).host == "::1"
