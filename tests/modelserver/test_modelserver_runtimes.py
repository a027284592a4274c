"""The bundle names the runtime, and what it declares is held against the model."""

import importlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import s3ml.modelserver.runtimes
from s3ml.bundle import DeclaredTensor, ListedFile, ModelConfig, ModelFiles
from s3ml.modelserver.runtimes import (
    ModelUnusableError,
    declare,
    import_only_runtime,
    open_model,
    selection,
)
from s3ml.modelserver.runtimes.selection import RUNTIMES
from tests.modelserver.conftest import linear
from tests.modelserver.litert_models import linear as linear_litert

ROOT = Path(__file__).parents[2]
MODELS = {"onnx": ("model.onnx", linear()), "litert": ("model.tflite", linear_litert())}
X = DeclaredTensor(name="x", datatype="FP32", shape=(-1, 3))
Y, Z = (DeclaredTensor(name=name, datatype="FP32", shape=(-1, 2)) for name in "yz")


def files(runtime: Any, **declared: Any) -> ModelFiles:
    name, data = MODELS[runtime]
    listed = (ListedFile(name=name, size_bytes=len(data), sha256="0" * 64),)
    return ModelFiles(
        config=ModelConfig(runtime=runtime, files=listed, **declared), files={name: data, "labels.txt": b"a"}
    )


class TestSelection:
    """One table leads from a bundle to what computes it."""

    @pytest.mark.parametrize(("runtime", "platform"), [("onnx", "onnx_onnxv1"), ("litert", "litert_tflite")])
    def test_the_bundle_names_the_runtime(self, runtime: str, platform: str) -> None:
        assert open_model(files(runtime)).platform == platform

    @pytest.mark.parametrize(("runtime", "extra"), [("onnx", "modelserver"), ("litert", "litert")])
    def test_a_missing_package_is_one_clear_line(
        self, runtime: str, extra: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(selection, "find_spec", lambda _name: None)

        with pytest.raises(ModelUnusableError) as refused:
            open_model(files(runtime))
        assert str(refused.value) == (
            f"model: its runtime {runtime} is not installed here: install it with pip install 's3ml[{extra}]'"
        )

    def test_the_only_runtime_is_imported_ahead(self, monkeypatch: pytest.MonkeyPatch) -> None:
        imported: list[str] = []

        def import_module(name: str) -> Any:
            imported.append(name)
            return s3ml.modelserver.runtimes

        monkeypatch.setattr(importlib, "import_module", import_module)
        import_only_runtime()
        assert imported == []

        monkeypatch.setattr(
            selection,
            "find_spec",
            lambda name: None if name == "onnxruntime" else object(),
        )
        import_only_runtime()
        assert imported == ["s3ml.modelserver.runtimes.litert"]

    def test_every_extra_exists_and_installs_its_package(self) -> None:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

        for choice in RUNTIMES.values():
            names = [name.replace("-", "_").split(">")[0] for name in extras[choice.extra]]
            assert choice.package in names


class TestDeclared:
    """A model is what its owner declared, in either runtime."""

    @pytest.mark.parametrize("runtime", ["onnx", "litert"])
    def test_what_the_model_says_itself_is_accepted(self, runtime: str) -> None:
        opened = open_model(files(runtime))
        declared = {"inputs": declare(opened.inputs), "outputs": tuple(reversed(declare(opened.outputs)))}

        assert declared == {"inputs": (X,), "outputs": (Z, Y)}
        assert open_model(files(runtime, **declared)).inputs == opened.inputs

    def test_inputs_may_be_declared_alone(self) -> None:
        assert open_model(files("onnx", inputs=(X,)))

    @pytest.mark.parametrize("runtime", ["onnx", "litert"])
    def test_every_difference_is_told_at_once(self, runtime: str) -> None:
        wrong = DeclaredTensor(name="y", datatype="INT64", shape=(-1, 2))
        other = DeclaredTensor(name="w", datatype="FP32", shape=(-1, 3))

        with pytest.raises(ModelUnusableError) as refused:
            open_model(files(runtime, inputs=(other,), outputs=(wrong, Z)))
        assert refused.value.told == (
            "input w: declared, and the model has none; input x: expected none, the model has it; "
            "output y: declared INT64 [-1, 2], the model has FP32 [-1, 2]"
        )
        assert str(refused.value) == (
            "model: 3 of its inputs and outputs are not as its bundle declares them: "
            "try it where it was packed"
        )

    def test_a_size_that_the_model_leaves_open_stays_open(self) -> None:
        fixed = DeclaredTensor(name="x", datatype="FP32", shape=(4, 3))

        with pytest.raises(ModelUnusableError) as refused:
            open_model(files("onnx", inputs=(fixed,)))
        assert refused.value.told == "input x: declared FP32 [4, 3], the model has FP32 [-1, 3]"


SERVE = """
import numpy as np
from tests.modelserver.test_modelserver_runtimes import files, open_model
runtime = open_model(files("{runtime}"))
print(runtime.run({{"x": np.ones((2, 3), np.float32)}}, ["y"])[0].tolist())
"""


@pytest.mark.parametrize("runtime", ["onnx", "litert"])
class TestKeptToItself:
    """A runtime computes, and does nothing else."""

    def serve(
        self, runtime: str, folder: Path, *command: str, more: str = ""
    ) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "HOME": str(folder), "PYTHONPATH": str(ROOT)}
        environment.pop("ORT_DISABLE_TELEMETRY", None)
        program = [*command, sys.executable, "-c", SERVE.format(runtime=runtime) + more]
        return subprocess.run(program, cwd=folder, env=environment, capture_output=True, check=True)

    def test_it_prints_nothing_and_writes_no_file(self, runtime: str, tmp_path: Path) -> None:
        done = self.serve(runtime, tmp_path)

        assert done.stdout == b"[[6.0, 9.0], [6.0, 9.0]]\n"
        assert done.stderr == b""
        assert list(tmp_path.iterdir()) == []

    def test_errors_of_c_are_still_to_be_seen(self, runtime: str, tmp_path: Path) -> None:
        done = self.serve(runtime, tmp_path, more='import ctypes; ctypes.CDLL(None).perror(b"after")')

        assert done.stderr.startswith(b"after: ")

    @pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
    def test_it_opens_no_connection_and_creates_no_file(self, runtime: str, tmp_path: Path) -> None:
        trace = tmp_path / "trace"
        self.serve(runtime, tmp_path, "strace", "-f", "-e", "trace=network,openat,mkdir", "-o", str(trace))

        lines = trace.read_text().splitlines()
        assert any("openat(" in line for line in lines)
        assert [line for line in lines if any(w in line for w in ("socket(", "connect(", "mkdir("))] == []
        assert [line for line in lines if "O_CREAT" in line and "/dev/null" not in line] == []


def test_the_package_exports_what_it_says() -> None:
    """The public names are pinned."""
    assert sorted(s3ml.modelserver.runtimes.__all__) == [
        "Array",
        "Arrays",
        "ModelUnusableError",
        "Runtime",
        "RuntimeRefusedError",
        "TensorSpec",
        "declare",
        "import_only_runtime",
        "is_installed",
        "missing_runtime",
        "open_model",
    ]
