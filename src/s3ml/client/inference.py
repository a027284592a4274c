"""One inference as a request to seal, and its answer as a result.

Source: Open Inference Protocol, "HTTP/REST"; Triton's request parameter ``timeout``, in microseconds.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from s3ml.client.errors import InvalidInputError, UntrustedServiceError
from s3ml.client.results import InferResult
from s3ml.wire.oip import (
    DEFAULT_LIMITS,
    HEADER_LENGTH_FIELD,
    InferRequest,
    Limits,
    OIPError,
    Parameters,
    decode_infer_response,
    encode_infer_request,
    infer_path,
    parse_header_length,
)
from s3ml.wire.sealed import DEFAULT_LIMITS as SEALED_LIMITS
from s3ml.wire.sealed import InnerRequest, InnerResponse

TIMEOUT_PARAMETER = "timeout"
REPLICA_FIELD = "s3ml-replica"
_OWN_PARAMETERS = {
    TIMEOUT_PARAMETER: "it follows from timeout_s",
    "binary_data_output": "outputs travel as raw bytes anyway",
}
_ANSWER_LIMITS = Limits(content_bytes=SEALED_LIMITS.max_response_bytes)


def check_parameters(parameters: Mapping[str, bool | int | float | str] | None) -> Parameters:
    """Return the parameters of a request, which a server could take.

    Raises:
        InvalidInputError: one that the client sets itself, a value that is no boolean, number or text, or
            more or longer ones than the protocol's limits allow.
    """
    given = dict(parameters or {})
    for name, reason in _OWN_PARAMETERS.items():
        if name in given:
            raise InvalidInputError(f"parameters: {name!r} cannot be set: {reason}")
    if len(given) + len(_OWN_PARAMETERS) > DEFAULT_LIMITS.parameter_count:
        limit = DEFAULT_LIMITS.parameter_count - len(_OWN_PARAMETERS)
        raise InvalidInputError(f"parameters: expected at most {limit}, got {len(given)}")
    for name, value in given.items():
        if not isinstance(value, bool | int | float | str) or not math.isfinite(
            0.0 if isinstance(value, str) else value
        ):
            raise InvalidInputError(f"parameters: {name!r}: expected a boolean, a finite number or text")
        if max(len(name), len(value) if isinstance(value, str) else 0) > DEFAULT_LIMITS.text_chars:
            raise InvalidInputError(
                f"parameters: expected names and texts of at most {DEFAULT_LIMITS.text_chars} characters"
            )
    return given


def check_request_id(request_id: str | None) -> str | None:
    """Return the id of a request, at most 256 characters.

    Raises:
        InvalidInputError: a longer one.
    """
    if request_id is not None and len(request_id) > DEFAULT_LIMITS.text_chars:
        raise InvalidInputError(f"request_id: expected at most {DEFAULT_LIMITS.text_chars} characters")
    return request_id


def asked(request: InferRequest) -> Callable[[float], InnerRequest]:
    """Return what makes the inner request of an attempt, given the seconds that its caller still has.

    The server is told them, so that it can reject early what it could not answer in time.

    Raises:
        ConfigurationError: a malformed name or version; what is returned raises `InvalidInputError` for text
            that has no UTF-8.
    """
    path = infer_path(request.model, request.version)

    def ask(left_s: float) -> InnerRequest:
        parameters = {**request.parameters, TIMEOUT_PARAMETER: max(1, int(left_s * 1e6))}
        try:
            content, fields = encode_infer_request(replace(request, parameters=parameters), binary=True)
        except UnicodeEncodeError:
            raise InvalidInputError("text: expected Unicode, got half a surrogate pair") from None
        return InnerRequest(method="POST", path=path, fields=fields, content=content)

    return ask


def to_result(answer: InnerResponse, service: str) -> InferResult:
    """Return what a verified service answered.

    Raises:
        UntrustedServiceError: it is no answer to an inference.
    """
    try:
        header_length = parse_header_length(answer.field(HEADER_LENGTH_FIELD))
        response = decode_infer_response(answer.content, header_length, limits=_ANSWER_LIMITS)
    except OIPError as error:
        raise UntrustedServiceError(f"service {service!r}: its answer is malformed: {error}") from error
    return InferResult(
        model=response.model,
        version=response.version,
        id=response.id,
        parameters=response.parameters,
        replica=answer.field(REPLICA_FIELD),
        outputs={tensor.name: np.array(tensor.array) for tensor in response.outputs},
        datatypes={tensor.name: tensor.datatype for tensor in response.outputs},
    )
