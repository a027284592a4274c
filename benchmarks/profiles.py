"""Profiles of three models, by the product's own `s3ml profile`: what they cost in time and memory.

SqueezeNet and ResNet50 are the full-size topologies of the `onnx` package, whose weights are made when the
model is opened, so that their files are small and their memory is not. Both take one image at a time; here
their first dimension is set free, so that batches can be measured. The third is the demonstration's
classifier.

Usage: ``python -m benchmarks.profiles [--quick] [--only NAME] [--output DIR]``.
"""

import argparse
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import onnx
from onnx import numpy_helper

from benchmarks.summaries import RESULTS
from s3ml.apps.cli.profile_view import three_digits
from s3ml.apps.demo.tumours import train
from s3ml.apps.profiling.plot import draw_profile
from s3ml.apps.profiling.session import Step, Wishes, measure_profile
from s3ml.bundle.profile import Profile, encode_profile, read_profile

PROFILES = RESULTS / "profiles"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
_ROWS = "rows"


def with_free_rows(path: Path) -> bytes:
    """Return a model of one row as one of any number of rows."""
    model = onnx.load_model(path)
    set_rows_free(model)
    data: bytes = model.SerializeToString()
    return data


def set_rows_free(model: onnx.ModelProto) -> None:
    """Let the first dimension of a model's inputs and outputs vary."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]
    for value in (*inputs, *model.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        first.ClearField("dim_value")
        first.dim_param = _ROWS
    shapes = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
    for tensor in model.graph.initializer:
        if tensor.name in shapes:
            sizes = numpy_helper.to_array(tensor).copy()
            sizes[0] = -1
            tensor.CopyFrom(numpy_helper.from_array(sizes, tensor.name))
    del model.graph.value_info[:]


def _light(name: str) -> Callable[[], bytes]:
    return lambda: with_free_rows(LIGHT / f"light_{name}.onnx")


MODELS: dict[str, Callable[[], bytes]] = {
    "tumours": lambda: train().onnx,
    "squeezenet": _light("squeezenet"),
    "resnet50": _light("resnet50"),
}


def measure(name: str, *, is_quick: bool) -> Profile:
    """Profile one of `MODELS`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        path.write_bytes(MODELS[name]())
        wishes = Wishes(
            source=path,
            max_batch=2 if is_quick else 64 if name == "tumours" else 16,
            threads=(1,) if is_quick else (),
            duration_s=0.05 if is_quick else 1.0,
        )
        return measure_profile(wishes, progress=_tell, now=lambda: datetime.now(UTC))


def read_profiles(folder: Path = PROFILES) -> dict[str, Profile]:
    """Return the profiles that were kept, by model."""
    return {name: read_profile(folder / f"{name}.profile.json") for name in MODELS}


def rows(profiles: dict[str, Profile]) -> list[list[str]]:
    """Return a row for the README's table for each point that is worth one."""
    found = []
    for name, profile in profiles.items():
        process = profile.loading.process.resident_bytes
        last = max(point.batch for point in profile.points)
        for point in profile.points:
            if point.batch not in {1, last}:
                continue
            touched = point.working_set_bytes
            found.append(
                [
                    f"{name}, {point.threads} thread{'s' if point.threads > 1 else ''}, batch {point.batch}",
                    f"{three_digits(point.p50_s * 1e3)} / {three_digits(point.p99_s * 1e3)}",
                    three_digits(point.rows_per_s),
                    three_digits(point.compute_s / point.batch * 1e3),
                    f"{(point.memory.resident_bytes - process) / 1e6:.0f}",
                    "unknown" if touched is None else f"{touched / 1e6:.0f}",
                ]
            )
    return found


HEAD = [
    "model",
    "p50 / p99, ms",
    "rows/s",
    "CPU ms per row",
    "MB more than the process",
    "MB touched by a run",
]


def _tell(step: Step) -> None:
    print(f"  {step.number} of {step.total}: threads {step.threads}, batch {step.batch}", flush=True)


def main() -> None:
    """Profile the models, one after the other, and draw each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    parser.add_argument("--only", choices=list(MODELS), action="append", help="leave the others out")
    parser.add_argument("--output", type=Path, default=PROFILES, help="folder of the results")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.only or MODELS:
        print(name, flush=True)
        profile = measure(name, is_quick=options.quick)
        (options.output / f"{name}.profile.json").write_bytes(encode_profile(profile))
        draw_profile(profile, options.output / f"{name}.png")


if __name__ == "__main__":
    main()
