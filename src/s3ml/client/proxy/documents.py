"""Metadata and the repository's index, from the JSON of a verified service to gRPC messages; pure.

Source: Open Inference Protocol, "gRPC"; Triton's model repository extension.
"""

from typing import TypeVar

import msgspec

from s3ml.client.errors import UntrustedServiceError
from s3ml.client.proxy.protocol import oip_pb2
from s3ml.wire.oip import OIPError, decode_index
from s3ml.wire.sealed import InnerResponse


class _Server(msgspec.Struct):
    name: str
    version: str
    extensions: list[str] = []


class _Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]


class _Model(msgspec.Struct):
    name: str
    platform: str = ""
    versions: list[str] = []
    inputs: list[_Tensor] = []
    outputs: list[_Tensor] = []


_Kind = TypeVar("_Kind")


def server_metadata(response: InnerResponse) -> oip_pb2.ServerMetadataResponse:
    """Return what a server says of itself.

    Raises:
        UntrustedServiceError: it is not what the protocol says.
    """
    server = _decoded(response, _Server)
    return oip_pb2.ServerMetadataResponse(
        name=server.name, version=server.version, extensions=server.extensions
    )


def model_metadata(response: InnerResponse) -> oip_pb2.ModelMetadataResponse:
    """Return what a server says of a model.

    Raises:
        UntrustedServiceError: it is not what the protocol says.
    """
    model = _decoded(response, _Model)
    return oip_pb2.ModelMetadataResponse(
        name=model.name,
        versions=model.versions,
        platform=model.platform,
        inputs=[_tensor(tensor) for tensor in model.inputs],
        outputs=[_tensor(tensor) for tensor in model.outputs],
    )


def repository_index(response: InnerResponse) -> oip_pb2.RepositoryIndexResponse:
    """Return what a server says of its models.

    Raises:
        UntrustedServiceError: it is not what the protocol says.
    """
    try:
        entries = decode_index(response.content)
    except OIPError as error:
        raise UntrustedServiceError(f"its answer is malformed: {error}") from error
    message = oip_pb2.RepositoryIndexResponse()
    for entry in entries:
        message.models.add(name=entry.name, version=entry.version, state=entry.state, reason=entry.reason)
    return message


def _tensor(tensor: _Tensor) -> oip_pb2.ModelMetadataResponse.TensorMetadata:
    return oip_pb2.ModelMetadataResponse.TensorMetadata(
        name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
    )


def _decoded(response: InnerResponse, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UntrustedServiceError(f"its answer is malformed: {error}") from error
