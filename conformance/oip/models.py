"""The models that the suite asks for, as ONNX: small, and computing what arithmetic can predict.

`every-datatype` echoes an input of each datatype, `half-precision` one of FP16; `add-subtract` has two inputs
and two outputs that share their first dimension; `scale` has one of each and two versions, which multiply by
2 and 3; `loadable` is loaded and unloaded.
"""

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from conformance.oip.names import ADD_SUBTRACT, DATATYPES, EVERY_DATATYPE, HALF_PRECISION, LOADABLE, SCALE

_OPSET = helper.make_opsetid("", 21)
_IR_VERSION = 10
_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
_COLUMNS = 3


def write_models(folder: Path) -> dict[tuple[str, str], Path]:
    """Write every model into `folder`; return the paths by name and version."""
    built = {
        (EVERY_DATATYPE, "1"): echo(*DATATYPES),
        (HALF_PRECISION, "1"): echo("FP16"),
        (ADD_SUBTRACT, "1"): add_subtract(),
        (SCALE, "1"): scale(2.0),
        (SCALE, "2"): scale(3.0),
        (LOADABLE, "1"): scale(5.0),
    }
    paths = {}
    for (name, version), model in built.items():
        onnx.checker.check_model(model)
        paths[name, version] = folder / f"{name}-{version}.onnx"
        paths[name, version].write_bytes(model.SerializeToString())
    return paths


def echo(*datatypes: str) -> onnx.ModelProto:
    """Return the model that echoes a vector of each datatype."""
    names = {datatype: datatype.lower() for datatype in datatypes}
    return _model(
        nodes=[helper.make_node("Identity", [name], [f"{name}-out"]) for name in names.values()],
        inputs=[_value(name, datatype, [name]) for datatype, name in names.items()],
        outputs=[_value(f"{name}-out", datatype, [name]) for datatype, name in names.items()],
    )


def add_subtract() -> onnx.ModelProto:
    """Return the model with two inputs."""
    shape: list[str | int | None] = ["batch", _COLUMNS]
    return _model(
        nodes=[
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Sub", ["a", "b"], ["difference"]),
        ],
        inputs=[_value(name, "FP32", shape) for name in ("a", "b")],
        outputs=[_value(name, "FP32", shape) for name in ("sum", "difference")],
    )


def scale(factor: float) -> onnx.ModelProto:
    """Return the model with one input."""
    return _model(
        nodes=[helper.make_node("Mul", ["x", "factor"], ["y"])],
        inputs=[_value("x", "FP32", ["rows", "columns"])],
        outputs=[_value("y", "FP32", ["rows", "columns"])],
        constants=[helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])],
    )


def _value(name: str, datatype: str, shape: Sequence[str | int | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _TYPES[datatype], shape)


def _model(
    *,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "conformance", inputs, outputs, constants)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[_OPSET])
    model.ir_version = _IR_VERSION
    return model
