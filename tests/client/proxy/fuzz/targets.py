"""What of the proxy's gRPC mapping is fuzzed: messages of a local client, and answers of a service.

A request is refused with `OIPError`, or becomes one that a server reads with the same names, shapes and
elements. An answer is refused with `UntrustedServiceError`, or becomes a message that says of each output
what the answer said. Anything else is a fault.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec
from google.protobuf.message import DecodeError

from s3ml.client.errors import UntrustedServiceError
from s3ml.client.proxy.documents import model_metadata, repository_index, server_metadata
from s3ml.client.proxy.messages import CONTENTS, RAW_ONLY, decode_answer, encode_request
from s3ml.client.proxy.protocol import oip_pb2
from s3ml.wire.oip import HEADER_LENGTH_FIELD, OIPError, decode_infer_request
from s3ml.wire.oip.datatypes import to_raw
from s3ml.wire.sealed import InnerResponse
from tests.wire.fuzz.targets import SAMPLES, response_seeds, tensor

REFUSED = (OIPError, UntrustedServiceError, DecodeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A direction of the mapping.

    Args:
        run: Takes any bytes, and checks what it made of them.
        seeds: Returns honest bytes to start from.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], tuple[bytes, ...]]

    def __call__(self, data: bytes) -> bool:
        """Tell whether `data` is accepted; whatever is not documented gets out."""
        try:
            self.run(data)
        except REFUSED as error:
            assert isinstance(error, DecodeError) or "\n" not in str(error)
            return False
        return True


def request(data: bytes) -> None:
    """Map a local client's message, and read the result as a server does."""
    message = oip_pb2.ModelInferRequest.FromString(data)
    fields, content = encode_request(message)
    decoded = decode_infer_request(content, int(dict(fields)[HEADER_LENGTH_FIELD]), model="m")
    assert decoded.is_output_binary
    for given, read in zip(message.inputs, decoded.inputs, strict=True):
        assert (given.name, given.datatype, tuple(given.shape)) == (read.name, read.datatype, read.shape)
    for blob, read in zip(message.raw_input_contents, decoded.inputs, strict=False):
        assert blob == bytes(to_raw(read.datatype, read.array))


def answer(data: bytes) -> None:
    """Map a service's answer, whose first line is the length of its JSON, to both forms."""
    line, _, content = data.partition(b"\n")
    fields = ((HEADER_LENGTH_FIELD, line.decode("latin-1")),) if line else ()
    response = InnerResponse(status=200, fields=fields, content=content)
    raw = decode_answer(response, wants_raw=True)
    assert len(raw.raw_output_contents) == len(raw.outputs)
    typed = decode_answer(response, wants_raw=False)
    for one, other in zip(raw.outputs, typed.outputs, strict=True):
        assert (one.name, one.datatype, list(one.shape)) == (other.name, other.datatype, list(other.shape))


def documents(data: bytes) -> None:
    """Map metadata and an index; at least one of them is refused, for they have no form in common."""
    refused = 0
    for make in (server_metadata, model_metadata, repository_index):
        try:
            make(InnerResponse(status=200, content=data))
        except UntrustedServiceError:
            refused += 1
    if refused == 3:
        raise UntrustedServiceError("no document")


def request_seeds() -> tuple[bytes, ...]:
    """Return honest messages of every datatype, in both forms."""
    found = []
    for datatype in SAMPLES:
        array = tensor(datatype).array
        for is_raw in (True, False):
            if datatype in RAW_ONLY and not is_raw:
                continue
            message = oip_pb2.ModelInferRequest(model_name="m", id="7", outputs=[{"name": "y"}])
            message.parameters["p"].int64_param = 1
            described = message.inputs.add(name="x", datatype=datatype, shape=array.shape)
            if is_raw:
                message.raw_input_contents.append(bytes(to_raw(datatype, array)))
            else:
                getattr(described.contents, CONTENTS[datatype]).extend(array.tolist())
            found.append(message.SerializeToString())
    return tuple(found)


def document_seeds() -> tuple[bytes, ...]:
    """Return honest metadata and an honest index."""
    described = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
    model = {
        "name": "m",
        "versions": ["1"],
        "platform": "onnx",
        "inputs": [described],
        "outputs": [described],
    }
    index = [{"name": "m", "version": "1", "state": "READY", "reason": ""}]
    server = {"name": "s3ml", "version": "1", "extensions": ["a"]}
    return tuple(msgspec.json.encode(document) for document in (model, index, server))


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "grpc-request": Target(run=request, seeds=request_seeds),
        "grpc-answer": Target(run=answer, seeds=lambda: response_seeds(is_binary=True)),
        "grpc-documents": Target(run=documents, seeds=document_seeds),
    }
)
