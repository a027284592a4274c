"""KServe's model server with ONNX Runtime at one thread. Runs in KServe's own environment.

KServe batches in a sidecar of its own, the agent; the server itself computes every request as it comes.
"""

import argparse
from collections.abc import Mapping

import onnxruntime as ort
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class OnnxModel(Model):  # type: ignore[misc]
    """A model file that gives one of its outputs."""

    def __init__(self, name: str, path: str, output: str) -> None:
        super().__init__(name)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._output = output
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.ready = True

    def predict(self, payload: InferRequest, headers: Mapping[str, str] | None = None) -> InferResponse:
        """Compute one request, and answer in binary where it asked for that."""
        del headers
        feeds = {given.name: given.as_numpy() for given in payload.inputs}
        result = self._session.run([self._output], feeds)[0]
        output = InferOutput(name=self._output, shape=list(result.shape), datatype="FP32")
        output.set_data_from_numpy(result, binary_data=bool(payload.use_binary_outputs))
        return InferResponse(response_id=payload.id or "", model_name=self.name, infer_outputs=[output])


def main() -> None:
    """Serve one model until terminated."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    server = ModelServer(
        http_port=options.port,
        workers=1,
        enable_grpc=False,
        enable_latency_logging=False,
        event_loop="uvloop",
    )
    server.start([OnnxModel(options.name, options.path, options.output)])


if __name__ == "__main__":
    main()
