"""The messages are the published protocol's, and the generated modules are those of the source."""

import subprocess
import sys
from pathlib import Path

import pytest

from s3ml.client.proxy import protocol
from s3ml.client.proxy.protocol import oip_pb2

FOLDER = Path(protocol.__file__).parent
SCRIPT = Path(__file__).parents[3] / "scripts" / "protobuf"

# Field numbers as the Open Inference Protocol and Triton's model repository extension publish them.
PUBLISHED = {
    "ServerLiveResponse": {"live": 1},
    "ServerReadyResponse": {"ready": 1},
    "ModelReadyRequest": {"name": 1, "version": 2},
    "ModelReadyResponse": {"ready": 1},
    "ServerMetadataResponse": {"name": 1, "version": 2, "extensions": 3},
    "ModelMetadataRequest": {"name": 1, "version": 2},
    "ModelMetadataResponse": {"name": 1, "versions": 2, "platform": 3, "inputs": 4, "outputs": 5},
    "ModelMetadataResponse.TensorMetadata": {"name": 1, "datatype": 2, "shape": 3},
    "InferParameter": {
        "bool_param": 1,
        "int64_param": 2,
        "string_param": 3,
        "double_param": 4,
        "uint64_param": 5,
    },
    "InferTensorContents": {
        "bool_contents": 1,
        "int_contents": 2,
        "int64_contents": 3,
        "uint_contents": 4,
        "uint64_contents": 5,
        "fp32_contents": 6,
        "fp64_contents": 7,
        "bytes_contents": 8,
    },
    "ModelInferRequest": {
        "model_name": 1,
        "model_version": 2,
        "id": 3,
        "parameters": 4,
        "inputs": 5,
        "outputs": 6,
        "raw_input_contents": 7,
    },
    "ModelInferRequest.InferInputTensor": {
        "name": 1,
        "datatype": 2,
        "shape": 3,
        "parameters": 4,
        "contents": 5,
    },
    "ModelInferRequest.InferRequestedOutputTensor": {"name": 1, "parameters": 2},
    "ModelInferResponse": {
        "model_name": 1,
        "model_version": 2,
        "id": 3,
        "parameters": 4,
        "outputs": 5,
        "raw_output_contents": 6,
    },
    "ModelInferResponse.InferOutputTensor": {
        "name": 1,
        "datatype": 2,
        "shape": 3,
        "parameters": 4,
        "contents": 5,
    },
    "RepositoryIndexRequest": {"repository_name": 1, "ready": 2},
    "RepositoryIndexResponse": {"models": 1},
    "RepositoryIndexResponse.ModelIndex": {"name": 1, "version": 2, "state": 3, "reason": 4},
    "RepositoryModelLoadRequest": {"repository_name": 1, "model_name": 2, "parameters": 3},
    "RepositoryModelUnloadRequest": {"repository_name": 1, "model_name": 2, "parameters": 3},
}


class TestProtocol:
    @pytest.mark.parametrize("name", PUBLISHED)
    def test_field_numbers(self, name: str) -> None:
        descriptor = oip_pb2.DESCRIPTOR.message_types_by_name[name.partition(".")[0]]
        if "." in name:
            descriptor = descriptor.nested_types_by_name[name.partition(".")[2]]
        assert descriptor.full_name == f"inference.{name}"
        assert {field.name: field.number for field in descriptor.fields} == PUBLISHED[name]

    def test_service(self) -> None:
        (service,) = oip_pb2.DESCRIPTOR.services_by_name.values()
        assert service.full_name == "inference.GRPCInferenceService"
        assert {method.name for method in service.methods} == {
            "ServerLive",
            "ServerReady",
            "ModelReady",
            "ServerMetadata",
            "ModelMetadata",
            "ModelInfer",
            "RepositoryIndex",
            "RepositoryModelLoad",
            "RepositoryModelUnload",
        }

    def test_the_generated_modules_are_current(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        for name in ("oip_pb2.py", "oip_pb2.pyi"):
            assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), "run scripts/protobuf"

    def test_another_copy_of_the_messages_may_be_there(self) -> None:
        """Other clients put the same names into the default pool."""
        code = (
            "from google.protobuf import descriptor_pool\n"
            "from s3ml.client.proxy.protocol import oip_pb2\n"
            "descriptor_pool.Default().AddSerializedFile(oip_pb2.DESCRIPTOR.serialized_pb)\n"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
