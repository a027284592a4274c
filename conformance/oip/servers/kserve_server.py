"""KServe's server with the suite's models: `kserve_server.py HTTP_PORT GRPC_PORT`. It has no versions."""

import sys
import uuid
from typing import Any

import kserve

from conformance.oip.servers.computing import compute, inputs, outputs, served


class Conformance(kserve.Model):
    """Computes one model."""

    def __init__(self, name: str, version: str) -> None:
        super().__init__(name)
        self.version = version
        self.ready = True

    async def get_input_types(self) -> list[dict[str, Any]]:
        """Describe the inputs."""
        return [{"name": s.name, "datatype": s.datatype, "shape": list(s.shape)} for s in inputs(self.name)]

    async def get_output_types(self) -> list[dict[str, Any]]:
        """Describe the outputs."""
        return [{"name": s.name, "datatype": s.datatype, "shape": list(s.shape)} for s in outputs(self.name)]

    def predict(
        self,
        payload: kserve.InferRequest,
        headers: object = None,
        response_headers: object = None,
    ) -> kserve.InferResponse:
        """Compute."""
        given = {entry.name: entry.as_numpy() for entry in payload.inputs}
        computed = compute(self.name, self.version, given)
        answered = []
        for spec in outputs(self.name):
            array = computed[spec.name]
            output = kserve.InferOutput(spec.name, list(array.shape), spec.datatype)
            output.set_data_from_numpy(array, binary_data=payload.use_binary_outputs)
            answered.append(output)
        return kserve.InferResponse(
            payload.id or str(uuid.uuid4()),
            self.name,
            answered,
            use_binary_outputs=payload.use_binary_outputs,
        )


def main() -> None:
    """Serve; without versions, the first of each model."""
    models = [Conformance(name, version) for name, version in served() if version == "1"]
    server = kserve.ModelServer(http_port=int(sys.argv[1]), grpc_port=int(sys.argv[2]), workers=1)
    server.start(models)


main()
