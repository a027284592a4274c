"""A model of Triton's Python backend: ONNX Runtime at one thread. Runs in Triton's own interpreter."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton


class TritonPythonModel:
    """The model file that the configuration's parameters name; gives one of its outputs."""

    def initialize(self, args: dict[str, Any]) -> None:
        """Open the model."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._input, self._output = parameters["input"], parameters["output"]
        self._session = ort.InferenceSession(parameters["path"], options, providers=["CPUExecutionProvider"])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Compute the requests that Triton gathered as one batch."""
        arrays = [triton.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]
        batch = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        result = self._session.run([self._output], {self._input: batch})[0]
        responses, start = [], 0
        for array in arrays:
            end = start + len(array)
            tensor = triton.Tensor(self._output, result[start:end])
            responses.append(triton.InferenceResponse(output_tensors=[tensor]))
            start = end
        return responses
