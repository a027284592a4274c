"""How a model pages is a section of its profile: optional, strict, and always EMULATED."""

from typing import Any

import msgspec
import pytest

from s3ml.bundle.profile import encode_profile, parse_profile
from s3ml.primitives.errors import ConfigurationError
from tests.bundle.profiles import as_json, paging, profile

Plain = dict[str, Any]


def parse(section: object) -> object:
    return parse_profile(msgspec.json.encode(as_json(profile()) | {"paging": section}))


def plain(**changes: object) -> Plain:
    section: Plain = msgspec.to_builtins(paging())
    return section | changes


class TestSection:
    """Profiles of before are valid; a section says what it says exactly."""

    def test_it_comes_back(self) -> None:
        whole = profile(paging=paging())
        assert parse_profile(encode_profile(whole)) == whole

    def test_profiles_without_one_are_as_they_were(self) -> None:
        assert b"paging" not in encode_profile(profile())
        assert parse_profile(encode_profile(profile())).paging is None
        assert parse(None) == profile()

    def test_a_cost_may_be_unknown(self) -> None:
        whole = profile(paging=paging(page_cost_s=None))
        assert parse_profile(encode_profile(whole)) == whole

    @pytest.mark.parametrize(
        "changes",
        [
            {"is_emulated": False},
            {"copies": 0},
            {"copies": 1000},
            {"hot_set_bytes": 0},
            {"compute_s": -1},
            {"page_cost_s": "20 µs"},
            {"points": []},
            {"sgx": True},
        ],
    )
    def test_what_is_wrong_is_refused(self, changes: Plain) -> None:
        with pytest.raises(ConfigurationError, match="profile: "):
            parse(plain(**changes))

    @pytest.mark.parametrize("name", list(plain()))
    def test_nothing_may_lack(self, name: str) -> None:
        section = plain()
        del section[name]
        with pytest.raises(ConfigurationError, match=f"missing required field `{name}`"):
            parse(section)

    def test_points_are_in_order(self) -> None:
        points = plain()["points"]
        for wrong in (points[::-1], (*points, points[-1])):
            with pytest.raises(ConfigurationError, match="expected points by size, the largest first"):
                parse(plain(points=wrong))

    def test_p50_is_below_p99(self) -> None:
        point = plain()["points"][0] | {"p50_s": 2.0, "p99_s": 1.0}
        with pytest.raises(
            ConfigurationError, match=r"headroom 1.3: expected p50 below p99, got 2 s and 1 s"
        ):
            parse(plain(points=[point]))
