"""What is served and asked: three models, the same inputs for every server, and the answers to expect.

The image models are the full-size topologies of the package `onnx`. There they are fixed to a batch of one;
here their first dimension is made variable, so that every server may batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from s3ml.wire.oip import InferRequest, RequestedOutput, Tensor, encode_infer_request

Array = npt.NDArray[np.float32]

BINARY, JSON = "binary", "json"
INPUTS = 16
SEED = 20260
# Sums are taken in another order in a batch.
RELATIVE, ABSOLUTE = 1e-3, 1e-5
_LIGHT = "backend/test/data/light"
_BATCH = "N"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A model, and how it is asked.

    Attributes:
        name: Of the model, at every server.
        path: Its plaintext file.
        input: The name of its only input, FP32.
        output: The name of the one output that is asked for, FP32.
        shape: Of an input without the batch.
        output_shape: Of an output without the batch.
        seconds: How long one cell takes.
    """

    name: str
    path: Path
    input: str
    output: str
    shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    seconds: float

    def inputs(self) -> list[Array]:
        """Return the inputs, standard normal, each a batch of one."""
        draw = np.random.default_rng(SEED)
        return [draw.standard_normal((1, *self.shape), dtype=np.float32) for _ in range(INPUTS)]

    def answers(self) -> list[Array]:
        """Return what ONNX Runtime gives for each input, by itself and at one thread."""
        import onnxruntime as ort  # noqa: PLC0415 - only where it is needed

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = ort.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        return [session.run([self.output], {self.input: array})[0] for array in self.inputs()]

    def encoded(self, encoding: str) -> list[tuple[bytes, tuple[tuple[str, str], ...]]]:
        """Return the content of each request and the fields that describe it."""
        requests = []
        for array in self.inputs():
            request = InferRequest(
                model=self.name,
                inputs=(Tensor.from_array(self.input, array),),
                outputs=(RequestedOutput(name=self.output),),
            )
            requests.append(encode_infer_request(request, binary=encoding == BINARY))
        return requests

    def described(self) -> Mapping[str, Any]:
        """Return what the result says of it."""
        return {
            "input": {"shape": [1, *self.shape], "datatype": "FP32"},
            "output": {"shape": [1, *self.output_shape], "datatype": "FP32"},
            "file_bytes": self.path.stat().st_size,
            "seconds_per_cell": self.seconds,
        }


def make(name: str, folder: Path) -> Workload:
    """Write the model `name` to `folder` and describe it."""
    if name == "tiny":
        return _tiny(folder)
    names = {"squeezenet": ("data_0", "softmaxout_1"), "resnet50": ("gpu_0/data_0", "gpu_0/softmax_1")}
    given, wanted = names[name]
    return Workload(
        name=name,
        path=_batchable(name, folder),
        input=given,
        output=wanted,
        shape=(3, 224, 224),
        output_shape=(1000, 1, 1) if name == "squeezenet" else (1000,),
        seconds=2.0 if name == "squeezenet" else 3.0,
    )


def _tiny(folder: Path) -> Workload:
    from s3ml.apps.demo.tumours import train  # noqa: PLC0415 - imports scikit-learn

    return Workload(
        name="tiny",
        path=train().write(folder),
        input="x",
        output="probabilities",
        shape=(30,),
        output_shape=(2,),
        seconds=1.0,
    )


def _batchable(name: str, folder: Path) -> Path:
    """Write the topology `name` of the package `onnx` with a variable batch; return its path."""
    import onnx  # noqa: PLC0415 - only where it is needed
    from onnx import numpy_helper  # noqa: PLC0415

    found = find_spec("onnx")
    assert found is not None
    assert found.origin is not None
    model = onnx.load(str(Path(found.origin).parent / _LIGHT / f"light_{name}.onnx"))
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for value in (*graph.input, *graph.output):
        if value.name not in weights:
            value.type.tensor_type.shape.dim[0].dim_param = _BATCH
    for tensor in graph.initializer:
        if tensor.name in shapes:
            sizes = numpy_helper.to_array(tensor).copy()
            sizes[0] = -1
            tensor.CopyFrom(numpy_helper.from_array(sizes, tensor.name))
    path = folder / f"{name}.onnx"
    onnx.save(model, str(path))
    return path
