"""What a model server holds as ResNet50s come and go: one, two, four of them, then fewer again.

A process imports the server as it is and drives its repository with releases, as enrolment does: bundles are
decrypted, opened, run at batch 1 and 8, let go. Twice: as the product does it, and with all of a model in
glibc's heap. The weights are random, so that a bundle has a model's
real size.

Usage: ``python -m benchmarks.model_memory [--output DIR]``.
"""

import argparse
import contextlib
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks import machine
from benchmarks.profiles import LIGHT, set_rows_free
from benchmarks.summaries import RESULTS, write
from s3ml.apps.profiling.memory import disable_huge_pages, forget_peak, read_memory, read_peak_bytes
from s3ml.keyservice.documents import Release
from s3ml.modelserver import repository
from s3ml.modelserver.events import EventLog
from s3ml.modelserver.memory import MemoryBudget
from s3ml.modelserver.runtimes import open_model
from s3ml.modelserver.runtimes.selection import RUNTIMES
from s3ml.modelserver.store import BundleStore
from tests.modelserver.conftest import World

REPOSITORY = Path(__file__).parents[1]
KINDS = ("apart", "heap")
_RELEASE = "release.json"
_MODELS = 4
_SEED = 20260


def with_weights(path: Path) -> bytes:
    """Return a model whose weights are made when it is opened as one that holds random ones."""
    model = onnx.load_model(path)
    set_rows_free(model)
    random = np.random.default_rng(_SEED)
    made = [node for node in model.graph.node if node.op_type == "ConstantOfShape"]
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in made:
        sizes = tuple(shapes[node.input[0]].tolist())
        weights = np.abs(random.standard_normal(sizes, dtype=np.float32)) * np.float32(0.02)
        model.graph.initializer.append(numpy_helper.from_array(weights, node.output[0]))
        model.graph.node.remove(node)
    data: bytes = model.SerializeToString()
    return data


def measure(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Load, run and let go; return what was held after each step, in bytes."""
    disable_huge_pages()
    importlib.import_module("s3ml.modelserver.server")  # what a model server holds without a model
    importlib.import_module(RUNTIMES["onnx"].module)
    if kind == "heap":
        vars(repository)["large_pieces_apart"] = contextlib.nullcontext
    release = msgspec.json.decode((folder / _RELEASE).read_bytes(), type=Release)
    models = repository.Repository(
        BundleStore(str(folder / "store")),
        open_runtime=open_model,
        budget=MemoryBudget(8 << 30),
        log=EventLog("memory"),
    )
    steps: list[dict[str, Any]] = []

    def say(step: str) -> None:
        held = read_memory()
        steps.append({"step": step, "resident_bytes": held.resident_bytes, "peak_bytes": read_peak_bytes()})
        forget_peak()

    forget_peak()
    say("no model")
    for count in (1, 2, _MODELS):
        models.synchronise(msgspec.structs.replace(release, models=release.models[:count]))
        say(f"{count} opened")
        for loaded in models.models.models.values():
            outputs = [spec.name for spec in loaded.runtime.outputs]
            for rows in (1, 8):
                given = {
                    spec.name: np.zeros((rows, *spec.shape[1:]), np.float32) for spec in loaded.runtime.inputs
                }
                loaded.runtime.run(given, outputs)
        del loaded
        say(f"{count} ran")
    for count in (2, 1, 0):
        models.synchronise(msgspec.structs.replace(release, models=release.models[:count]))
        say(f"{count} left")
    return steps


def read(folder: Path = RESULTS) -> dict[str, Any]:
    """Return the result that was kept."""
    document: dict[str, Any] = json.loads((folder / "model_memory.json").read_text(encoding="utf-8"))
    return document


def table(document: dict[str, Any]) -> list[list[str]]:
    """Return a row for each step: resident and peak MB, as the product does it and in the heap."""
    return [
        [
            apart["step"],
            *(f"{one[key] / 1e6:.0f}" for key in ("resident_bytes", "peak_bytes") for one in (apart, heap)),
        ]
        for apart, heap in zip(document["steps"]["apart"], document["steps"]["heap"], strict=True)
    ]


HEAD = ["models", "MB", "MB, in the heap", "peak since the line above, MB", "peak, in the heap"]


def main() -> None:
    """Pack four models, measure in a process for each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "KIND"), help="measure one kind, print JSON")
    options = parser.parse_args()
    if options.child:
        folder, kind = options.child
        print(json.dumps(measure(Path(folder), kind)))
        return
    document: dict[str, Any] = {"machine": machine.describe(), "seed": _SEED, "steps": {}}
    with tempfile.TemporaryDirectory() as name:
        world, data = World(Path(name)), with_weights(LIGHT / "light_resnet50.onnx")
        document["model_bytes"] = len(data)
        for number in range(_MODELS):
            world.publish(data, model=f"resnet50-{number}")
        (Path(name) / _RELEASE).write_bytes(msgspec.json.encode(world.release()))
        for kind in KINDS:
            command = [sys.executable, "-m", "benchmarks.model_memory", "--child", name, kind]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=REPOSITORY)
            document["steps"][kind] = json.loads(done.stdout)
    print(write(options.output, "model_memory", document))


if __name__ == "__main__":
    main()
