"""Triton, as `nvidia-pytriton` carries it, with the suite's models: `triton_server.py HTTP GRPC METRICS`.

One version of each: its Python front has no others.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from conformance.oip.servers.computing import Spec, compute, inputs, outputs, served

DTYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.bytes_,
}


def main() -> None:
    """Serve until interrupted."""
    http_port, grpc_port, metrics_port = map(int, sys.argv[1:4])
    config = TritonConfig(
        http_address="127.0.0.1",
        grpc_address="127.0.0.1",
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
    )
    with Triton(config=config) as triton:
        for name, version in served():
            if version == "1":
                triton.bind(
                    model_name=name,
                    infer_func=_function(name),
                    inputs=[_tensor(spec) for spec in inputs(name)],
                    outputs=[_tensor(spec) for spec in outputs(name)],
                    config=ModelConfig(batching=False),
                )
        triton.serve()


def _function(name: str) -> Callable[..., Any]:
    def infer(requests: list[Any]) -> list[dict[str, Any]]:
        return [compute(name, "1", dict(request)) for request in requests]

    return infer


def _tensor(spec: Spec) -> Tensor:
    return Tensor(name=spec.name, dtype=DTYPES[spec.datatype], shape=spec.shape)


main()
