"""The models of the soak, and what each answers to whoever holds it in the clear."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from s3ml.bundle import Batching, Declaration

Arrays = Mapping[str, np.ndarray[Any, np.dtype[Any]]]
FEATURES = 48
# What a batch may change: sums of other rows' products are rounded in another order.
TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """A model version in the clear.

    Args:
        name: Of the model.
        version: Its number.
        source: Its file.
        declaration: What its owner says of it.
    """

    name: str
    version: str
    source: Path
    declaration: Declaration

    @property
    def is_batched(self) -> bool:
        """Whether answers may differ within the tolerance, and no further."""
        return self.declaration.batching is not None


class Oracle:
    """Answers as the plaintext runtime does.

    Args:
        plain: The model.
    """

    def __init__(self, plain: Plain) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(plain.source), options, providers=["CPUExecutionProvider"]
        )
        self._is_batched = plain.is_batched

    def is_right(self, inputs: Arrays, answer: Arrays) -> bool:
        """Whether `answer` is this model's: to the bit, or within the tolerance where it was batched."""
        names = [output.name for output in self._session.get_outputs()]
        expected = dict(zip(names, self._session.run(names, dict(inputs)), strict=True))
        if set(answer) != set(expected):
            return False
        return all(self._is_same(np.asarray(answer[name]), expected[name]) for name in names)

    def _is_same(self, got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> bool:
        if got.shape != expected.shape:
            return False
        if self._is_batched and got.dtype.kind == "f":
            return bool(np.allclose(got, expected, rtol=TOLERANCE, atol=TOLERANCE))
        return got.tobytes() == expected.tobytes()


def dense(name: str, version: str, folder: Path, *, is_batched: bool) -> Plain:
    """Write a model of two layers whose weights follow from its name and version; return it."""
    draw = np.random.default_rng(zlib.crc32(f"{name} {version}".encode()))
    first, second = (draw.standard_normal((FEATURES, FEATURES)).astype(np.float32) for _ in range(2))
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["hidden"]),
        helper.make_node("Tanh", ["hidden"], ["bent"]),
        helper.make_node("MatMul", ["bent", "second"], ["y"]),
    ]
    tensors = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")]
    shape: list[str | int | None] = ["n", FEATURES]
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    source = folder / f"{name}-{version}.onnx"
    onnx.save_model(model, source)
    batching = Batching(max_size=8, max_delay_us=2000) if is_batched else None
    return Plain(name=name, version=version, source=source, declaration=Declaration(batching=batching))
