"""A repository as Triton and MLServer know it is found whole, and one model with what stands beside it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from s3ml.apps.packing.repository import find_model, find_models, is_repository
from s3ml.primitives.errors import ConfigurationError


@pytest.fixture
def repository(tmp_path: Path, onnx_file: Path, litert_file: Path, saved: Callable[..., Path]) -> Path:
    root = tmp_path / "repository"
    for place, source in (
        ("tumours/1/model.onnx", onnx_file),
        ("tumours/10/model.onnx", onnx_file),
        ("tumours/2/model.tflite", litert_file),
        ("birds/1/model.joblib", saved("model.joblib")),
    ):
        (root / place).parent.mkdir(parents=True)
        shutil.copy(source, root / place)
    (root / "tumours" / "model.toml").write_text("[batching]\nmax_size = 4")
    (root / "tumours" / "10" / "model.toml").write_text("[batching]\nmax_size = 8")
    (root / "tumours" / "labels.txt").write_text("benign")
    (root / "birds" / "samples.csv").write_text("1,2,3,4")
    (root / ".git").mkdir()
    return root


class TestRepository:
    """Every version of every model is found, with its settings."""

    def test_all_are_found_in_order(self, repository: Path) -> None:
        found = find_models(repository)

        assert [(one.model, one.version) for one in found] == [
            ("birds", "1"),
            ("tumours", "1"),
            ("tumours", "2"),
            ("tumours", "10"),
        ]
        assert found[0].source == repository / "birds" / "1" / "model.joblib"
        assert found[0].samples == repository / "birds" / "samples.csv"
        assert found[1].source == repository / "tumours" / "1"
        assert found[1].samples is None

    def test_a_versions_settings_come_first(self, repository: Path) -> None:
        batchings = [one.settings.declaration.batching for one in find_models(repository)]

        assert [None if one is None else one.max_size for one in batchings] == [None, 4, 4, 8]

    def test_a_version_without_a_model_is_told(self, repository: Path) -> None:
        (repository / "tumours" / "3").mkdir()

        with pytest.raises(ConfigurationError, match=r"tumours/3: expected model\.onnx or model\.tflite"):
            find_models(repository)

    def test_two_saved_models_in_a_version_are_told(
        self, repository: Path, saved: Callable[..., Path]
    ) -> None:
        shutil.copy(saved("other.pkl"), repository / "birds" / "1" / "other.pkl")

        with pytest.raises(ConfigurationError, match="birds/1: expected"):
            find_models(repository)

    @pytest.mark.parametrize("name", ["Tumours!", "a model"])
    def test_a_folder_whose_name_is_none_is_told(self, repository: Path, name: str) -> None:
        (repository / "birds").rename(repository / name)

        with pytest.raises(ConfigurationError, match="model"):
            find_models(repository)

    def test_version_zero_is_none(self, repository: Path) -> None:
        (repository / "birds" / "1").rename(repository / "birds" / "0")

        with pytest.raises(ConfigurationError, match="version"):
            find_models(repository)

    def test_folders_without_versions_are_no_repository(self, tmp_path: Path) -> None:
        (tmp_path / "models" / "tumours").mkdir(parents=True)

        with pytest.raises(ConfigurationError, match=r"of the form MODEL/VERSION/model\.onnx"):
            find_models(tmp_path / "models")


class TestKindsOfSource:
    """A model, the folder of one, and a repository are told apart."""

    def test_a_repository_holds_folders_and_no_model(self, repository: Path, onnx_file: Path) -> None:
        assert is_repository(repository)
        assert not is_repository(repository / "tumours" / "1")
        assert not is_repository(repository / "birds" / "1")
        assert not is_repository(onnx_file)
        assert not is_repository(repository / "absent")

    def test_an_empty_folder_is_no_repository(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()

        assert not is_repository(tmp_path / "empty")


class TestOneModel:
    """What stands beside a model belongs to it."""

    def test_a_files_settings_have_its_name(self, onnx_file: Path) -> None:
        onnx_file.with_suffix(".toml").write_text("[batching]\nmax_size = 4")
        onnx_file.with_name("model.toml").write_text("[batching]\nmax_size = 9")
        found = find_model(onnx_file, model="m", version="1")

        assert found.source == onnx_file
        assert found.settings.path == onnx_file.with_suffix(".toml")

    def test_a_folders_settings_lie_in_it(self, repository: Path) -> None:
        folder = repository / "tumours" / "10"

        assert find_model(folder, model="m", version="1").settings.path == folder / "model.toml"

    def test_settings_that_are_named_come_first(self, repository: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.toml"
        other.write_text("[batching]\nmax_size = 2")
        found = find_model(repository / "tumours" / "10", model="m", version="1", settings=other)

        assert found.settings.declaration.batching is not None
        assert found.settings.declaration.batching.max_size == 2

    def test_a_file_without_settings_declares_nothing(self, onnx_file: Path) -> None:
        assert find_model(onnx_file, model="m", version="1").settings.path is None

    def test_a_folder_with_one_saved_model_is_that_model(self, repository: Path) -> None:
        folder = repository / "birds" / "1"
        (folder / "samples.npy").write_bytes(b"")
        found = find_model(folder, model="m", version="1")

        assert (found.source, found.samples) == (folder / "model.joblib", folder / "samples.npy")
