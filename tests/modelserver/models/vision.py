"""The full-size topologies of the `onnx` package, with weights, and a twin of one of them for LiteRT.

The package has them without weights: each is made by a node that fills a shape with one number. Here those
nodes become weights from a fixed seed, scaled so that signals neither die nor explode.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from tests.modelserver.litert_models import VALID, LiteRTGraph

Array = npt.NDArray[Any]
FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
PIXELS, CLASSES = (3, 224, 224), 1000


def topology(name: str, *, has_rows: bool = False) -> Any:
    """Return a model of the package with weights; `has_rows` leaves its first dimension open."""
    light = onnx.load(FOLDER / f"light_{name}.onnx")
    shapes = {one.name: numpy_helper.to_array(one) for one in light.graph.initializer}
    random = np.random.default_rng(20260)
    made = [
        numpy_helper.from_array(_weights(random, node.output[0], shapes[node.input[0]]), node.output[0])
        for node in light.graph.node
        if node.op_type == "ConstantOfShape"
    ]
    nodes = [node for node in light.graph.node if node.op_type != "ConstantOfShape"]
    used = {name for node in nodes for name in node.input}
    kept = [one for one in light.graph.initializer if one.name in used]
    inputs = [one for one in light.graph.input if one.name in used - {one.name for one in kept}]
    graph = helper.make_graph(nodes, name, inputs, light.graph.output, [*kept, *made])
    model = helper.make_model(graph, opset_imports=light.opset_import, ir_version=8)
    if has_rows:
        for tensor in (*graph.input, *graph.output):
            tensor.type.tensor_type.shape.dim[0].dim_param = "n"
        model = helper.make_model(graph, opset_imports=light.opset_import, ir_version=8)
    return model


def _weights(random: np.random.Generator, name: str, shape: Array) -> Array:
    sizes = tuple(int(size) for size in shape)
    if len(sizes) > 1:
        scale = np.sqrt(2 / np.prod(sizes[1:]))
        weights: Array = (random.standard_normal(sizes) * scale).astype(np.float32)
        return weights
    # Of batch normalisation, scale and variance are near one; of everything else, biases are small.
    return random.uniform(0.5, 1.5, sizes).astype(np.float32) * (1.0 if "bn" in name else 0.1)


def images(count: int) -> Array:
    """Return images, the same ones each time."""
    return np.random.default_rng(7).standard_normal((count, *PIXELS)).astype(np.float32)


def litert_twin(model: Any) -> bytes:
    """Translate SqueezeNet node by node; images have their channels last here, as LiteRT wants them."""
    twin = _Twin(model)
    for node in model.graph.node:
        twin.translate(node)
    output = twin.tensors[model.graph.output[0].name]
    twin.graph.graph.tensors[output].shapeSignature = [-1, 1, 1, CLASSES]
    return twin.graph.finish(output)


class _Twin:
    """A LiteRT graph that follows an ONNX graph."""

    def __init__(self, model: Any) -> None:
        self.constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
        self.graph = LiteRTGraph()
        name = model.graph.input[0].name
        self.tensors = {name: self.graph.input(name, [-1, *PIXELS[1:], PIXELS[0]])}

    def translate(self, node: Any) -> None:
        given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        rules: dict[str, Callable[[Any, dict[str, Any]], int]] = {
            "Conv": self.convolution,
            "MaxPool": self.pooling,
            "Dropout": lambda node, _given: self.tensors[node.input[0]],
            "Relu": lambda node, _given: self.node(node, "RELU"),
            "Softmax": lambda node, _given: self.node(node, "SOFTMAX", options="SoftmaxOptions", beta=1.0),
            "Concat": lambda node, _given: self.node(
                node, "CONCATENATION", options="ConcatenationOptions", axis=3
            ),
            "GlobalAveragePool": self.average,
        }
        self.tensors[node.output[0]] = rules[node.op_type](node, given)

    def node(self, node: Any, kind: str, *, more: tuple[int, ...] = (), **options: Any) -> int:
        inputs = [self.tensors[name] for name in node.input if name in self.tensors]
        return self.graph.node(kind, [*inputs, *more], self.output(node), **options)

    def output(self, node: Any) -> int:
        return self.graph.tensor(node.output[0], [1, 1, 1, 1])

    def convolution(self, node: Any, given: dict[str, Any]) -> int:
        image, name = self.tensors[node.input[0]], node.output[0]
        top, left, bottom, right = given.get("pads", [0, 0, 0, 0])
        if any((top, left, bottom, right)):
            pads = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
            padded = self.graph.tensor(f"{name}_padded", [1, 1, 1, 1])
            sides = self.graph.constant(f"{name}_pads", pads)
            image = self.graph.node("PAD", [image, sides], padded, options="PadOptions")
        kernel = self.graph.constant(f"{name}_w", self.constants[node.input[1]].transpose(0, 2, 3, 1).copy())
        bias = self.graph.constant(f"{name}_b", self.constants[node.input[2]])
        down, across = given.get("strides", [1, 1])
        return self.graph.node(
            "CONV_2D",
            [image, kernel, bias],
            self.output(node),
            options="Conv2DOptions",
            padding=VALID,
            strideH=down,
            strideW=across,
        )

    def pooling(self, node: Any, given: dict[str, Any]) -> int:
        (down, across), (height, width) = given["strides"], given["kernel_shape"]
        return self.node(
            node,
            "MAX_POOL_2D",
            options="Pool2DOptions",
            padding=VALID,
            strideH=down,
            strideW=across,
            filterHeight=height,
            filterWidth=width,
        )

    def average(self, node: Any, _given: dict[str, Any]) -> int:
        axes = self.graph.constant(f"{node.output[0]}_axes", np.array([1, 2], np.int32))
        return self.node(node, "MEAN", more=(axes,), options="ReducerOptions", keepDims=True)
