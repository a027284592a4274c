"""Addresses of services of collateral: the host may choose them, within limits."""

import pytest

from s3ml.attestation.generate.collateral import ADDRESSES_LIMIT, parse_addresses
from s3ml.primitives.errors import ConfigurationError


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "addresses"),
        [
            ("", ()),
            ("https://a", ("https://a",)),
            ("http://a:8081/x , https://b", ("http://a:8081/x", "https://b")),
            (",".join(["https://a"] * ADDRESSES_LIMIT), ("https://a",) * ADDRESSES_LIMIT),
        ],
    )
    def test_a_list(self, text: str, addresses: tuple[str, ...]) -> None:
        assert parse_addresses("X", text) == addresses

    @pytest.mark.parametrize(
        "text", [",", "https://a,", "a", "//a", "https://", "file:///a", "ftp://a", "https://[a", " "]
    )
    def test_what_is_no_address(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match=r"^X: expected addresses of http or https"):
            parse_addresses("X", text)

    def test_too_many(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^X: expected at most 8 addresses, got 9$"):
            parse_addresses("X", ",".join(["https://a"] * (ADDRESSES_LIMIT + 1)))
