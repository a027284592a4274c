"""A process that loads and lets go of models as a model server does, and says what it holds meanwhile.

Usage: ``python -m tests.modelserver.memory_process``; prints a JSON list of resident bytes: before, with
three models that ran, and after they were let go.
"""

import json
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from s3ml.apps.profiling.memory import disable_huge_pages, read_memory
from s3ml.modelserver.events import EventLog
from s3ml.modelserver.memory import MemoryBudget
from s3ml.modelserver.repository import Repository
from s3ml.modelserver.runtimes.onnx import open_model
from s3ml.modelserver.store import BundleStore
from tests.modelserver.conftest import World, build, value

LAYERS, WIDTH = 40, 512


def layers() -> bytes:
    """Forty multiplications with weights of 1 MiB each: none so large that it lies apart by itself."""
    random = np.random.default_rng(1)
    names = [f"w{place}" for place in range(LAYERS)]
    weights = [
        numpy_helper.from_array(random.standard_normal((WIDTH, WIDTH), dtype=np.float32) / WIDTH, name)
        for name in names
    ]
    steps = ["x", *(f"h{place}" for place in range(LAYERS - 1)), "y"]
    nodes = [
        helper.make_node("MatMul", [steps[place], names[place]], [steps[place + 1]])
        for place in range(LAYERS)
    ]
    sides = [value("x", TensorProto.FLOAT, "n", WIDTH)], [value("y", TensorProto.FLOAT, "n", WIDTH)]
    data: bytes = build(nodes, *sides, weights).SerializeToString()
    return data


def main() -> None:
    """Load, run, let go."""
    disable_huge_pages()
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for number in range(3):
            world.publish(layers(), model=f"layers-{number}")
        log = EventLog("memory")
        repository = Repository(
            BundleStore(str(world.store)), open_runtime=open_model, budget=MemoryBudget(1 << 30), log=log
        )
        held = [read_memory().resident_bytes]
        release = world.release()
        repository.synchronise(release)
        for model in repository.models.models.values():
            model.runtime.run({"x": np.ones((8, WIDTH), dtype=np.float32)}, ["y"])
        del model
        held.append(read_memory().resident_bytes)
        repository.synchronise(msgspec.structs.replace(release, models=()))
        held.append(read_memory().resident_bytes)
    sys.stdout.write(json.dumps(held))


if __name__ == "__main__":
    main()
