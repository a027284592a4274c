"""Addresses: what may be asked, and what is sent where."""

import pytest

from s3ml.attestation.collateral import IntelService, pccs, pcs
from s3ml.attestation.collateral.endpoints import check_url, origin_of
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.secret import SecretBytes


class TestAddresses:
    """An address is scheme, host and perhaps a port and a path; credentials and queries have no place."""

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "localhost:8081",
            "ftp://host",
            "https://",
            "https://user:secret@host",
            "https://host?query",
            "https://host/#part",
            "https://host/a b",
            "https://host\\other",
            "https://host:0",
            "https://host:port",
            "https://[::1",
            "https://höst",
            "https://h\udcffst",
            "https://" + "h" * 1020,
        ],
    )
    def test_anything_else_is_refused(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="PCCS: expected an address") as refused:
            pccs(url)
        assert "secret" not in str(refused.value)

    @pytest.mark.parametrize("suffix", ["", "/", "/sgx/certification/v4", "/sgx/certification/v4/"])
    def test_the_path_of_the_api_may_be_there_or_not(self, suffix: str) -> None:
        endpoint = pccs("https://localhost:8081" + suffix)
        assert endpoint.url == "https://localhost:8081"
        assert endpoint.root_crl_url == "https://localhost:8081/sgx/certification/v4/rootcacrl"

    def test_endpoints_are_told_apart_by_scheme_host_and_port(self) -> None:
        assert origin_of("https://host/a?b") == origin_of("https://host:443/c") == "https://host:443"
        assert origin_of("http://host/") == "http://host:80"

    def test_a_path_is_kept(self) -> None:
        assert check_url("http://host/relay/", what="KDS") == "http://host/relay"


class TestSubscriptionKey:
    """A key goes to the service that it is for, and is never shown."""

    def test_it_is_sent_to_the_service_alone(self) -> None:
        endpoint = pcs("https://host", subscription_key=SecretBytes(b"the-key"))
        assert endpoint.target("/path").fields == {"Ocp-Apim-Subscription-Key": "the-key"}
        assert "the-key" not in repr(endpoint)
        assert "the-key" not in repr(endpoint.target("/path"))

    @pytest.mark.parametrize("key", [b"", b"a\r\nb", b"\xff"])
    def test_it_is_visible_ascii(self, key: bytes) -> None:
        with pytest.raises(ConfigurationError, match="subscription key"):
            pcs(subscription_key=SecretBytes(key))

    def test_it_never_travels_in_the_clear(self) -> None:
        with pytest.raises(ConfigurationError, match="expected an https address") as refused:
            pcs("http://host", subscription_key=SecretBytes(b"the-key"))
        assert "the-key" not in str(refused.value)
        assert pcs("http://host").subscription_key is None


class TestIntelService:
    """A service has a root that is a certificate, and an update that exists."""

    def test_another_update_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="standard or early"):
            IntelService(endpoints=(), update="late")  # type: ignore[arg-type]

    def test_a_root_that_is_none_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="root certificate"):
            IntelService(endpoints=(), root=b"no certificate")
