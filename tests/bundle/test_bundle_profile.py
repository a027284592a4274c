"""A profile is read strictly: whatever it does not say exactly, it does not say."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.bundle import Batching, ListedFile, Resources
from s3ml.bundle.profile import (
    PROFILE_LIMIT_BYTES,
    Suggestion,
    check_profile_of,
    encode_profile,
    parse_profile,
    read_profile,
    suggested_place,
)
from s3ml.primitives.errors import ConfigurationError
from tests.bundle.profiles import FILE, as_json, point, profile

Plain = dict[str, Any]


def parse(plain: Plain) -> object:
    return parse_profile(msgspec.json.encode(plain))


def paths(plain: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return where each value of a document lies."""
    items: list[tuple[str | int, object]] = []
    if isinstance(plain, dict):
        items = list(plain.items())
    elif isinstance(plain, list | tuple):
        items = list(enumerate(plain))
    return [path, *(found for key, value in items for found in paths(value, (*path, key)))]


class TestRoundTrip:
    """What is written is what is read."""

    def test_a_profile_comes_back(self) -> None:
        assert parse_profile(encode_profile(profile())) == profile()

    def test_it_is_laid_out_for_people(self) -> None:
        assert encode_profile(profile()).count(b"\n") > 100

    def test_pages_that_were_not_counted_stay_unknown(self) -> None:
        single = profile(points=(point(working_set_bytes=None),), suggestion=alone())
        assert parse_profile(encode_profile(single)).points[0].working_set_bytes is None


def alone() -> Suggestion:
    return Suggestion(batching=None, resources=Resources(memory_bytes=1), memory_margin=0.1)


class TestStrictness:
    """Unknown, missing, out of range: rejected, with a line."""

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda plain: plain.update(version=2), "version"),
            (lambda plain: plain.update(tee="sgx"), "tee"),
            (lambda plain: plain.update(extra=1), "extra"),
            (lambda plain: plain.pop("version"), "version"),
            (lambda plain: plain.pop("suggestion"), "suggestion"),
            (lambda plain: plain.update(points=[]), "points"),
            (lambda plain: plain.update(measured_at="2026-11-23T08:00:00"), "timezone"),
            (lambda plain: plain["points"][0].update(batch=0), "batch"),
            (lambda plain: plain["points"][0].update(batch=1025), "batch"),
            (lambda plain: plain["points"][0].update(runs=0), "runs"),
            (lambda plain: plain["points"][0].update(p50_s=-1), "p50_s"),
            (lambda plain: plain["points"][0].update(peak_bytes=2**51), "peak_bytes"),
            (lambda plain: plain["points"][0].update(p50_s="1"), "p50_s"),
            (lambda plain: plain["model"]["files"][0].update(sha256="x"), "sha256"),
            (lambda plain: plain["model"]["inputs"][0].update(datatype="FP99"), "datatype"),
            (lambda plain: plain["suggestion"]["resources"].update(memory_bytes=0), "memory_bytes"),
            (lambda plain: plain["machine"].update(processor=""), "processor"),
        ],
    )
    def test_a_wrong_field_is_rejected(self, change: Callable[[Plain], object], said: str) -> None:
        plain = copy.deepcopy(as_json(profile()))
        change(plain)
        with pytest.raises(ConfigurationError, match=said):
            parse(plain)

    def test_numbers_that_are_none_are_rejected(self) -> None:
        data = encode_profile(profile()).replace(b'"duration_s": 2.0', b'"duration_s": NaN')
        with pytest.raises(ConfigurationError, match="malformed"):
            parse_profile(data)

    def test_a_large_document_is_not_parsed(self) -> None:
        with pytest.raises(ConfigurationError, match="expected at most 4194304 bytes, got 4194305"):
            parse_profile(b" " * (PROFILE_LIMIT_BYTES + 1))

    @given(st.binary(max_size=300))
    def test_bytes_are_a_profile_or_rejected(self, data: bytes) -> None:
        with pytest.raises(ConfigurationError):
            parse_profile(data)

    @given(st.data())
    def test_a_changed_value_is_accepted_or_rejected(self, data: st.DataObject) -> None:
        plain = copy.deepcopy(as_json(profile()))
        *above, last = data.draw(st.sampled_from(paths(plain)[1:]))
        values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
        inside: Any = plain
        for key in above:
            if isinstance(inside[key], tuple):
                inside[key] = list(inside[key])
            inside = inside[key]
        inside[last] = data.draw(values | st.lists(values, max_size=3))
        try:
            parsed = parse_profile(msgspec.json.encode(plain))
        except ConfigurationError:
            return
        assert parse_profile(encode_profile(parsed)) == parsed


class TestConsistency:
    """A profile does not contradict itself."""

    def test_points_are_in_order_and_each_once(self) -> None:
        twice = profile(points=(point(), point()), suggestion=alone())
        with pytest.raises(ConfigurationError, match="each once"):
            parse_profile(encode_profile(twice))

    def test_the_median_is_not_above_p99(self) -> None:
        wrong = profile(points=(point(p99_s=0.001),), suggestion=alone())
        with pytest.raises(ConfigurationError, match=r"expected p50 below p99, got 0\.01 s and 0\.001 s"):
            parse_profile(encode_profile(wrong))

    @pytest.mark.parametrize(("size", "threads"), [(8, 1), (1, 3)])
    def test_what_is_suggested_was_measured(self, size: int, threads: int) -> None:
        suggestion = Suggestion(
            batching=Batching(max_size=size),
            resources=Resources(memory_bytes=1, threads=threads),
            memory_margin=0.1,
        )
        with pytest.raises(ConfigurationError, match="which was not measured"):
            parse_profile(encode_profile(profile(suggestion=suggestion)))

    def test_no_batching_is_a_batch_of_one(self) -> None:
        assert suggested_place(alone()) == (1, 1)
        assert suggested_place(profile().suggestion) == (2, 1)


class TestWhose:
    """A profile counts for the files that it was measured with."""

    def test_the_same_files_have_it(self) -> None:
        check_profile_of(profile(), [FILE])

    def test_another_version_of_a_file_does_not(self) -> None:
        other = ListedFile(name=FILE.name, size_bytes=FILE.size_bytes, sha256="cd" * 32)
        with pytest.raises(ConfigurationError, match=r"another model\.onnx: measure this model"):
            check_profile_of(profile(), [other])

    def test_more_files_do_not(self) -> None:
        more = ListedFile(name="weights.bin", size_bytes=1, sha256="cd" * 32)
        with pytest.raises(ConfigurationError, match=r"another weights\.bin"):
            check_profile_of(profile(), [FILE, more])


class TestFiles:
    """A profile in a file says which file it is when something is wrong."""

    def test_it_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "profile.json"
        path.write_bytes(encode_profile(profile()))
        assert read_profile(path) == profile()

    def test_a_wrong_one_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "profile.json"
        path.write_bytes(b"{}")
        with pytest.raises(ConfigurationError, match=r"profile\.json: profile: "):
            read_profile(path)

    def test_a_missing_one_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="No such file"):
            read_profile(tmp_path / "profile.json")
