"""What is encrypted was tried as the model server will open it, and says what its owner said."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from s3ml.apps.packing.preparing import PackingOptions, apply_options, apply_profile, prepared
from s3ml.apps.packing.repository import find_model
from s3ml.apps.packing.tried import try_model
from s3ml.bundle import Batching, Declaration, DeclaredTensor, Resources, inspect_source
from s3ml.bundle.profile import Profile, Suggestion
from s3ml.modelserver.runtimes import selection
from s3ml.primitives.errors import ConfigurationError
from tests.modelserver.conftest import build, external_model, value
from tests.modelserver.litert_models import linear as linear_litert
from tests.packing.conftest import ROWS

BATCHING = Declaration(batching=Batching(max_size=8))


def refuse(_path: Path) -> Any:
    raise AssertionError


class TestTrying:
    """What the model server would refuse is refused before it is packed, with the reason."""

    def test_the_models_own_inputs_and_outputs_are_declared(self, onnx_file: Path) -> None:
        tried = try_model(onnx_file, BATCHING)

        assert tried.declaration.inputs == (DeclaredTensor(name="x", datatype="FP32", shape=(-1, 3)),)
        assert [one.name for one in tried.declaration.outputs] == ["y", "z"]
        assert tried.declaration.batching == BATCHING.batching

    def test_litert_models_are_tried_too(self, litert_file: Path) -> None:
        assert try_model(litert_file, BATCHING).runtime.platform == "litert_tflite"

    def test_a_folder_keeps_its_weights_and_leaves_out_what_is_said(self, tmp_path: Path) -> None:
        external_model(tmp_path / "m")
        (tmp_path / "m" / "my notes.txt").write_text("x")

        tried = try_model(tmp_path / "m", Declaration(), leave_out=frozenset({"my notes.txt"}))
        assert tried.runtime.inputs[0].name == "x"

    def test_a_wrong_declaration_is_told(self, onnx_file: Path) -> None:
        wrong = Declaration(inputs=(DeclaredTensor(name="x", datatype="FP64", shape=(-1, 3)),))

        with pytest.raises(ConfigurationError, match=r"declared FP64 \[-1, 3\], the model has FP32"):
            try_model(onnx_file, wrong)

    def test_the_owner_hears_the_runtimes_own_words(self, tmp_path: Path) -> None:
        from onnx import helper

        node = helper.make_node("MyOperator", ["x"], ["y"], domain="own.example")
        model = build([node], [value("x", 1, 1)], [value("y", 1, 1)], [])
        model.opset_import.append(helper.make_opsetid("own.example", 1))
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())

        with pytest.raises(ConfigurationError, match="MyOperator"):
            try_model(tmp_path / "m.onnx", Declaration())

    @pytest.mark.parametrize("kind", ["onnx", "tflite"])
    def test_a_model_without_rows_cannot_be_batched(self, kind: str, tmp_path: Path) -> None:
        from onnx import helper

        path = tmp_path / f"m.{kind}"
        if kind == "onnx":
            nodes = [helper.make_node("Neg", ["x"], ["y"])]
            path.write_bytes(
                build(nodes, [value("x", 1, 1, 3)], [value("y", 1, 1, 3)], []).SerializeToString()
            )
        else:
            path.write_bytes(linear_litert(batch=1))

        with pytest.raises(ConfigurationError, match=r"batching: .* got x of shape \[1, 3\]"):
            try_model(path, BATCHING)
        assert try_model(path, Declaration(batching=Batching(max_size=1)))

    def test_a_missing_runtime_is_one_clear_line(
        self, litert_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(selection, "find_spec", lambda _name: None)

        with pytest.raises(ConfigurationError, match=r"pip install 's3ml\[litert\]', or .* --no-try"):
            try_model(litert_file, Declaration())


class TestOptions:
    """The command line comes before the settings, and those before a profile."""

    @pytest.mark.parametrize(
        ("options", "batching"),
        [
            ({}, Batching(max_size=8)),
            ({"max_batch": 4}, Batching(max_size=4)),
            ({"max_delay_us": 100}, Batching(max_size=8, max_delay_us=100)),
            ({"max_batch": 2, "max_delay_us": 0}, Batching(max_size=2)),
        ],
    )
    def test_what_is_said_replaces_what_is_written(self, options: Any, batching: Batching) -> None:
        assert apply_options(BATCHING, PackingOptions(**options)).batching == batching

    def test_a_delay_alone_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="--max-batch with it"):
            apply_options(Declaration(), PackingOptions(max_delay_us=5))

    @pytest.mark.parametrize("options", [{"max_batch": 2000}, {"max_batch": 2, "max_delay_us": 2_000_000}])
    def test_numbers_out_of_range_are_told(self, options: Any) -> None:
        with pytest.raises(ConfigurationError, match="batching: Expected `int` <="):
            apply_options(Declaration(), PackingOptions(**options))


def profile_of(source: Path, **suggestion: Any) -> Profile:
    """A profile with a suggestion, of these files."""
    memory = {"resident_bytes": 1, "anonymous_bytes": 1}
    point = {
        "threads": 1, "batch": 1, "runs": 1, "p50_s": 0.1, "p99_s": 0.1, "rows_per_s": 10, "compute_s": 0.1,
        "memory": memory, "peak_bytes": 1, "working_set_bytes": None, "minor_faults_per_run": 0,
        "major_faults_per_run": 0,
    }  # fmt: skip
    files = [
        {"name": one.name, "size_bytes": one.size_bytes, "sha256": one.sha256(lambda _bytes: None)}
        for one in inspect_source(source).files
    ]
    stated = {
        "version": 1,
        "tee": "none",
        "measured_at": datetime(2026, 11, 28, tzinfo=UTC),
        "machine": {
            "processor": "p", "cores": 1, "memory_bytes": 1, "page_bytes": 4096, "kernel": "k", "system": "s",
            "python": "3", "libraries": [], "load_average": [0, 0],
        },
        "settings": {"duration_s": 1, "inputs": "random", "p99_objective_s": None},
        "model": {"name": "m", "platform": "onnx", "files": files, "inputs": [], "is_batched": True},
        "loading": {"process": memory, "model": memory, "peak_bytes": 1, "duration_s": 1},
        "points": [point],
        "skipped": [],
        "suggestion": {
            "batching": None, "resources": {"memory_bytes": 1 << 20}, "memory_margin": 0.1, **suggestion
        },
    }  # fmt: skip
    return msgspec.convert(stated, Profile)


class TestProfile:
    """A profile suggests what the settings leave open, for the model that it was measured with."""

    def test_its_suggestions_are_taken(self, onnx_file: Path) -> None:
        profile = profile_of(onnx_file, batching={"max_size": 4})
        declaration = apply_profile(Declaration(), profile, onnx_file)

        assert isinstance(profile.suggestion, Suggestion)
        assert declaration.batching == Batching(max_size=4)
        assert declaration.resources == Resources(memory_bytes=1 << 20)

    def test_settings_come_before_it(self, onnx_file: Path) -> None:
        profile = profile_of(onnx_file, batching={"max_size": 4})

        assert apply_profile(BATCHING, profile, onnx_file).batching == BATCHING.batching

    def test_another_models_profile_is_refused(self, onnx_file: Path, litert_file: Path) -> None:
        with pytest.raises(ConfigurationError, match="profile"):
            apply_profile(Declaration(), profile_of(onnx_file), litert_file)

    def test_none_changes_nothing(self, onnx_file: Path) -> None:
        assert apply_profile(BATCHING, None, onnx_file) is BATCHING


class TestPrepared:
    """One way for every kind of model."""

    def test_a_model_file_is_packed_as_it_is(self, onnx_file: Path) -> None:
        found = find_model(onnx_file, model="m", version="1")

        with prepared(found, PackingOptions(max_batch=4), read_samples=refuse) as model:
            assert (model.source, model.conversion) == (onnx_file, None)
            assert model.declaration.batching == Batching(max_size=4)
            assert model.declaration.inputs[0].name == "x"

    def test_an_untried_model_declares_only_what_was_said(self, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").write_bytes(b"\x3a\x00")
        found = find_model(tmp_path / "m.onnx", model="m", version="1")

        with prepared(found, PackingOptions(is_tried=False), read_samples=refuse) as model:
            assert model.declaration == Declaration()

    def test_a_saved_model_becomes_onnx_for_as_long_as_it_is_needed(
        self, saved: Callable[..., Path], samples: Path
    ) -> None:
        found = find_model(saved("m.skops"), model="m", version="1")
        options = PackingOptions(samples=samples, max_batch=16)

        with prepared(found, options, read_samples=np.load) as model:
            assert model.conversion is not None
            assert model.conversion.rows == len(ROWS)
            assert model.source.read_bytes() == model.conversion.onnx
            assert [one.name for one in model.declaration.outputs] == ["label", "probabilities"]
        assert not model.source.parent.exists()

    def test_a_saved_model_without_samples_is_told(self, saved: Callable[..., Path]) -> None:
        found = find_model(saved("m.skops"), model="m", version="1")

        with (
            pytest.raises(ConfigurationError, match=r"give --samples FILE\.npy"),
            prepared(found, PackingOptions(), read_samples=refuse),
        ):
            raise AssertionError
