"""A model of MLServer's: ONNX Runtime at one thread. Runs in MLServer's own environment."""

import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):  # type: ignore[misc]
    """The model file that the settings' `uri` names; gives the output that `extra.output` names."""

    async def load(self) -> bool:
        """Open the model."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        parameters = self.settings.parameters
        self._output = parameters.extra["output"]
        self._session = ort.InferenceSession(parameters.uri, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Compute one request, or several that MLServer made one."""
        feeds = {given.name: NumpyCodec.decode_input(given) for given in payload.inputs}
        result = self._session.run([self._output], feeds)[0]
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            id=payload.id,
            outputs=[NumpyCodec.encode_output(self._output, result)],
        )
