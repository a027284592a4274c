"""What stands beside a model is read, whoever it was written for."""

from pathlib import Path

import pytest

from s3ml.apps.packing.settings import find_settings, read_settings
from s3ml.bundle import Batching, Declaration, DeclaredTensor, Resources
from s3ml.primitives.errors import ConfigurationError

TOML = """
[batching]
max_size = 8
max_delay_us = 500

[resources]
memory_bytes = 100_000_000
threads = 2

[[inputs]]
name = "x"
datatype = "FP32"
shape = [-1, 3]
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


class TestModelToml:
    """`model.toml` says all that a bundle can declare."""

    def test_everything_is_read(self, tmp_path: Path) -> None:
        assert read_settings(write(tmp_path, "model.toml", TOML)) == Declaration(
            batching=Batching(max_size=8, max_delay_us=500),
            resources=Resources(memory_bytes=100_000_000, threads=2),
            inputs=(DeclaredTensor(name="x", datatype="FP32", shape=(-1, 3)),),
        )

    def test_any_toml_may_be_named(self, tmp_path: Path) -> None:
        assert read_settings(write(tmp_path, "fast.toml", TOML)).batching is not None

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[batching]\nmax_size = 0", "expected `int` >= 1"),
            ("[batching]\nmax_size = 8\npreferred = 4", "unknown field `preferred`"),
            ("batch = 8", "unknown field `batch`"),
            ("[batching", "at the end of a table"),
            ('[[inputs]]\nname = "x"\ndatatype = "FP8"\nshape = []', "FP8"),
        ],
    )
    def test_a_mistake_is_told_with_the_file(self, tmp_path: Path, text: str, said: str) -> None:
        path = write(tmp_path, "model.toml", text)

        with pytest.raises(ConfigurationError) as refused:
            read_settings(path)
        assert str(refused.value).startswith(f"settings {path}: ")
        assert said.lower() in str(refused.value).lower()

    def test_bytes_that_are_no_text_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "model.toml").write_bytes(b"\xff\xfe")

        with pytest.raises(ConfigurationError, match="settings"):
            read_settings(tmp_path / "model.toml")

    def test_another_name_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"expected model\.toml, config\.pbtxt"):
            read_settings(write(tmp_path, "model.yaml", ""))

    def test_a_file_that_is_not_there_is_said_so(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="settings"):
            read_settings(tmp_path / "model.toml")


class TestTriton:
    """Of `config.pbtxt`, dynamic batching is taken."""

    def batching(self, folder: Path, text: str) -> Batching | None:
        return read_settings(write(folder, "config.pbtxt", text)).batching

    def test_dynamic_batching_is_taken(self, tmp_path: Path) -> None:
        text = (
            'name: "m" max_batch_size: 16 dynamic_batching { max_queue_delay_microseconds: 250 '
            "default_queue_policy { max_queue_size: 32 } }"
        )

        assert self.batching(tmp_path, text) == Batching(max_size=16, max_delay_us=250, max_queue=32)

    def test_its_defaults_are_ours(self, tmp_path: Path) -> None:
        text = "max_batch_size: 4 dynamic_batching { }"

        assert self.batching(tmp_path, text) == Batching(max_size=4, max_delay_us=0, max_queue=256)

    @pytest.mark.parametrize("text", ["", "max_batch_size: 8", "dynamic_batching { }"])
    def test_without_it_requests_stay_alone(self, tmp_path: Path, text: str) -> None:
        assert self.batching(tmp_path, text) is None

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('max_batch_size: "8"', "max_batch_size: expected an integer"),
            ("max_batch_size: 8 dynamic_batching: 1", "dynamic_batching: expected a message"),
            ("max_batch_size: 9999 dynamic_batching { }", "batching: Expected `int` <= 1024"),
            ("max_batch_size 8", "line 1"),
        ],
    )
    def test_a_mistake_is_told(self, tmp_path: Path, text: str, said: str) -> None:
        with pytest.raises(ConfigurationError, match=said):
            self.batching(tmp_path, text)


class TestMLServer:
    """Of `model-settings.json`, adaptive batching is taken."""

    def test_adaptive_batching_is_taken(self, tmp_path: Path) -> None:
        text = '{"name": "iris", "implementation": "x.Y", "max_batch_size": 10, "max_batch_time": 0.5}'
        path = write(tmp_path, "model-settings.json", text)

        assert read_settings(path).batching == Batching(max_size=10, max_delay_us=500_000)

    @pytest.mark.parametrize("text", ["{}", '{"max_batch_size": 10}', '{"max_batch_time": 1}'])
    def test_without_both_requests_stay_alone(self, tmp_path: Path, text: str) -> None:
        assert read_settings(write(tmp_path, "model-settings.json", text)).batching is None

    def test_a_longer_delay_than_a_second_is_refused(self, tmp_path: Path) -> None:
        path = write(tmp_path, "model-settings.json", '{"max_batch_size": 10, "max_batch_time": 5}')

        with pytest.raises(ConfigurationError, match="max_delay_us"):
            read_settings(path)


class TestFinding:
    """The first folder with settings has them; `model.toml` comes before the others."""

    def test_none_declare_nothing(self, tmp_path: Path) -> None:
        found = find_settings(tmp_path)

        assert (found.path, found.declaration) == (None, Declaration())

    def test_a_versions_settings_come_before_the_models(self, tmp_path: Path) -> None:
        version = tmp_path / "1"
        version.mkdir()
        write(tmp_path, "model.toml", "[batching]\nmax_size = 2")
        inner = write(version, "config.pbtxt", "max_batch_size: 4 dynamic_batching { }")

        assert find_settings(version, tmp_path).path == inner
        assert find_settings(tmp_path).path == tmp_path / "model.toml"

    def test_ours_come_before_others(self, tmp_path: Path) -> None:
        write(tmp_path, "config.pbtxt", "max_batch_size: 4 dynamic_batching { }")
        write(tmp_path, "model.toml", "")

        assert find_settings(tmp_path).declaration.batching is None
