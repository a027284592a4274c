"""The model that the experiments serve: a ranking network of 16 MiB, as large as MobileNetV2, small inputs.

Dense layers touch every one of their weights for each request, and compute little beside: in an EPC that is
too small a request costs its working set, and a core carries enough requests for a 99th percentile.
Weights are random: pages of equal bytes would compress to nothing, and cost nothing to swap.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from s3ml.wire.oip import InferRequest, RequestedOutput, Tensor, encode_infer_request

Array = npt.NDArray[np.float32]

NAME, INPUT, OUTPUT = "ranker", "features", "scores"
WIDTH, LAYERS, SCORES = 1024, 4, 16
INPUTS = 64
SEED = 20266


def inputs() -> list[Array]:
    """Return the inputs that are asked in turn, standard normal, each a batch of one."""
    draw = np.random.default_rng(SEED)
    return [draw.standard_normal((1, WIDTH), dtype=np.float32) for _ in range(INPUTS)]


def encoded() -> list[tuple[bytes, tuple[tuple[str, str], ...]]]:
    """Return the content of a request for each input, and the fields that describe it."""
    return [
        encode_infer_request(
            InferRequest(
                model=NAME,
                inputs=(Tensor.from_array(INPUT, array),),
                outputs=(RequestedOutput(name=OUTPUT),),
            ),
            binary=True,
        )
        for array in inputs()
    ]


def write(folder: Path, layers: int = LAYERS) -> Path:
    """Write the model to `folder`; return its path."""
    import onnx  # noqa: PLC0415 - only where it is needed
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    draw = np.random.default_rng(SEED)
    sizes = [WIDTH] * (layers + 1) + [SCORES]
    weights: list[Any] = []
    nodes: list[Any] = []
    newest = INPUT
    for number, (rows, columns) in enumerate(pairwise(sizes)):
        matrix = draw.standard_normal((rows, columns), dtype=np.float32) * np.float32((2 / rows) ** 0.5)
        weights.append(numpy_helper.from_array(matrix, f"w{number}"))
        is_last = number == layers
        product = OUTPUT if is_last else f"p{number}"
        nodes.append(helper.make_node("MatMul", [newest, f"w{number}"], [product]))
        if not is_last:
            newest = f"h{number}"
            nodes.append(helper.make_node("Relu", [product], [newest]))
    graph = helper.make_graph(
        nodes,
        NAME,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", WIDTH])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", SCORES])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / f"{NAME}.onnx"
    onnx.save(model, str(path))
    return path
