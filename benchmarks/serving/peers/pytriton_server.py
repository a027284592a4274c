"""PyTriton: Triton, and the model in the Python process that started it. Runs in Triton's own environment."""

import argparse
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def main() -> None:
    """Serve one model until terminated."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--input", required=True)
    parser.add_argument("--shape", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--output-shape", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    options = parser.parse_args()
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = 1
    session_options.inter_op_num_threads = 1
    session_options.log_severity_level = 4
    session = ort.InferenceSession(options.path, session_options, providers=["CPUExecutionProvider"])

    @batch  # type: ignore[untyped-decorator]
    def infer(**inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        return {options.output: session.run([options.output], inputs)[0]}

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=options.port,
        grpc_port=options.port + 1,
        metrics_port=options.port + 2,
        allow_grpc=False,
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name=options.name,
            infer_func=infer,
            inputs=[Tensor(name=options.input, dtype=np.float32, shape=_shape(options.shape))],
            outputs=[Tensor(name=options.output, dtype=np.float32, shape=_shape(options.output_shape))],
            config=ModelConfig(
                max_batch_size=options.batch, batcher=DynamicBatcher(max_queue_delay_microseconds=0)
            ),
            strict=False,
        )
        triton.serve()


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(","))


if __name__ == "__main__":
    main()
