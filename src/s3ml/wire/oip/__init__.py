"""The Open Inference Protocol v2: JSON, and tensors as raw bytes behind it.

Source: Open Inference Protocol, "HTTP/REST"; Triton's binary tensor data extension.
"""

from s3ml.wire.oip.datatypes import NUMPY_TYPES, datatype_of
from s3ml.wire.oip.encode import (
    HEADER_LENGTH_FIELD,
    encode_error,
    encode_infer_request,
    encode_infer_response,
)
from s3ml.wire.oip.errors import OIPError
from s3ml.wire.oip.limits import DEFAULT_LIMITS, RESPONSE_LIMITS, Limits
from s3ml.wire.oip.messages import InferRequest, InferResponse, Parameters, RequestedOutput, Tensor
from s3ml.wire.oip.paths import (
    INDEX_PATH,
    Endpoint,
    Route,
    infer_path,
    metadata_path,
    parse_path,
    repository_path,
)
from s3ml.wire.oip.repository import (
    IndexEntry,
    ModelState,
    decode_index,
    decode_index_request,
    encode_index,
)
from s3ml.wire.oip.requests import bind_raw_input, decode_infer_request, parse_header_length
from s3ml.wire.oip.responses import decode_infer_response

__all__ = [
    "DEFAULT_LIMITS",
    "HEADER_LENGTH_FIELD",
    "INDEX_PATH",
    "NUMPY_TYPES",
    "RESPONSE_LIMITS",
    "Endpoint",
    "IndexEntry",
    "InferRequest",
    "InferResponse",
    "Limits",
    "ModelState",
    "OIPError",
    "Parameters",
    "RequestedOutput",
    "Route",
    "Tensor",
    "bind_raw_input",
    "datatype_of",
    "decode_index",
    "decode_index_request",
    "decode_infer_request",
    "decode_infer_response",
    "encode_error",
    "encode_index",
    "encode_infer_request",
    "encode_infer_response",
    "infer_path",
    "metadata_path",
    "parse_header_length",
    "parse_path",
    "repository_path",
]
