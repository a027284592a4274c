"""LiteRT models built operator by operator, so that the tests need no converter.

Source: the LiteRT flatbuffer schema, as the package's own generated classes have it.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from ai_edge_litert import schema_py_generated as schema

VALID = schema.Padding.VALID
Array = npt.NDArray[Any]

KINDS = {
    "FP32": schema.TensorType.FLOAT32,
    "FP16": schema.TensorType.FLOAT16,
    "BF16": schema.TensorType.BFLOAT16,
    "FP64": schema.TensorType.FLOAT64,
    "BOOL": schema.TensorType.BOOL,
    "INT8": schema.TensorType.INT8,
    "INT16": schema.TensorType.INT16,
    "INT32": schema.TensorType.INT32,
    "INT64": schema.TensorType.INT64,
    "UINT8": schema.TensorType.UINT8,
    "UINT16": schema.TensorType.UINT16,
    "UINT32": schema.TensorType.UINT32,
    "UINT64": schema.TensorType.UINT64,
    "BYTES": schema.TensorType.STRING,
    "COMPLEX64": schema.TensorType.COMPLEX64,
}
_OF_DTYPE = {"float32": "FP32", "int32": "INT32", "int64": "INT64", "float16": "FP16"}


class LiteRTGraph:
    """A graph that grows: tensors have indices, operators join them."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.graph.inputs, self.graph.outputs = [], []
        self.model.subgraphs = [self.graph]

    def tensor(self, name: str, shape: Sequence[int], datatype: str = "FP32", buffer: int = 0) -> int:
        """Add a tensor; -1 in `shape` stands for any size."""
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.buffer, tensor.hasRank = name, KINDS[datatype], buffer, True
        tensor.shape = [1 if size == -1 else size for size in shape]
        if -1 in shape:
            tensor.shapeSignature = list(shape)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, name: str, values: Array) -> int:
        """Add a tensor with its values."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        return self.tensor(name, values.shape, _OF_DTYPE[values.dtype.name], len(self.model.buffers) - 1)

    def input(self, name: str, shape: Sequence[int], datatype: str = "FP32") -> int:
        """Add an input."""
        index = self.tensor(name, shape, datatype)
        self.graph.inputs.append(index)
        return index

    def node(
        self,
        kind: str,
        inputs: Sequence[int],
        output: int,
        *,
        options: str = "",
        version: int = 1,
        custom: str | None = None,
        **values: Any,
    ) -> int:
        """Add an operator and return its output."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version, code.customCode = version, custom
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), [output]
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for name, value in values.items():
                setattr(operator.builtinOptions, name, value)
        self.graph.operators.append(operator)
        return output

    def sign(self, key: str, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
        """Add a signature: names for inputs and outputs."""
        definition = schema.SignatureDefT()
        definition.signatureKey, definition.subgraphIndex = key, 0
        definition.inputs = [_named(name, index) for name, index in inputs.items()]
        definition.outputs = [_named(name, index) for name, index in outputs.items()]
        self.model.signatureDefs = [*(self.model.signatureDefs or []), definition]

    def finish(self, *outputs: int) -> bytes:
        """Return the serialised model."""
        self.graph.outputs = list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def _named(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry


def linear(factor: float = 1.0, *, batch: int = -1) -> bytes:
    """``y = x @ w`` with three features and two outputs, and ``z = -y``; the weights of the ONNX twin."""
    graph = LiteRTGraph()
    x = graph.input("x", [batch, 3])
    weights = factor * np.arange(6, dtype=np.float32).reshape(3, 2)
    w = graph.constant("w", weights.T.copy())
    y = graph.node(
        "FULLY_CONNECTED", [x, w, -1], graph.tensor("y", [batch, 2]), options="FullyConnectedOptions"
    )
    z = graph.node("NEG", [y], graph.tensor("z", [batch, 2]), options="NegOptions")
    return graph.finish(y, z)


def identity(datatype: str, *shape: int) -> bytes:
    """``y = x`` by way of a reshape to the shape that it has."""
    graph = LiteRTGraph()
    x = graph.input("x", shape, datatype)
    target = graph.constant("shape", np.array(shape, np.int32))
    y = graph.node("RESHAPE", [x, target], graph.tensor("y", shape, datatype))
    return graph.finish(y)
