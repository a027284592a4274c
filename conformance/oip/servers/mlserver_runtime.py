"""The suite's models as a runtime of MLServer; `mlserver_server.py` starts it."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from conformance.oip.servers.computing import compute


class Conformance(MLModel):
    """Computes one model in one version."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Compute."""
        given = {entry.name: NumpyCodec.decode_input(entry) for entry in payload.inputs}
        computed = compute(self.name, self.version, given)
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            id=payload.id,
            outputs=[NumpyCodec.encode_output(name, array) for name, array in computed.items()],
        )
