"""The endpoint picker protocol in messages: what a gateway asks, and what it is told; pure.

The gateway is the operator's; callers' headers reach a picker only where it lets them. Anything else than
headers of a request or a response is refused: a picker copies no bodies.

Source: Gateway API inference extension, proposal 004, "Endpoint Picker Protocol", version 1.0.0;
docs/spec/endpoint-picker.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from s3ml.primitives.errors import UntrustedPeerError
from s3ml.scheduling.picker.protocol.ext_proc_pb2 import (
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    HeaderValue,
    HeaderValueOption,
    HttpHeaders,
    HttpStatus,
    ImmediateResponse,
    ProcessingRequest,
    ProcessingResponse,
    Struct,
    Value,
)

DESTINATION = "x-gateway-destination-endpoint"
SERVED = "x-gateway-destination-endpoint-served"
SUBSET = "x-gateway-destination-endpoint-subset"
NAMESPACE = "envoy.lb"
SUBSET_NAMESPACE = "envoy.lb.subset_hint"
MESSAGE_LIMIT_BYTES = 64 * 1024
"""Headers alone; Envoy's own limit for all headers of a request is 60 KiB."""

_UNAVAILABLE = 503
_OVERWRITE = 2  # OVERWRITE_IF_EXISTS_OR_ADD
_NO_REPLICA = b"unavailable: no replica is ready"


class QuestionMalformedError(UntrustedPeerError):
    """What a gateway sent is no question that a picker answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request that waits for its destination.

    Args:
        path: As the gateway sent it, or nothing.
        among: The only addresses that may be chosen; None for all.
    """

    path: str
    among: frozenset[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A response that began.

    Args:
        status: Of HTTP; 0 if the gateway does not say.
        served_by: The address that answered; None if the gateway does not say.
    """

    status: int
    served_by: str | None


def parse(data: bytes) -> Question | Answered:
    """Parse one message of a gateway.

    Args:
        data: At most 64 KiB.

    Raises:
        QuestionMalformedError: it is too long, no message of external processing, or neither headers of a
            request nor of a response.
    """
    if len(data) > MESSAGE_LIMIT_BYTES:
        raise QuestionMalformedError(f"picker: expected at most {MESSAGE_LIMIT_BYTES} bytes, got {len(data)}")
    try:
        request = ProcessingRequest.FromString(data)
    except DecodeError as error:
        raise QuestionMalformedError("picker: expected a message of external processing") from error
    which = request.WhichOneof("request")
    if which == "request_headers":
        return Question(path=_header(request.request_headers, ":path"), among=_subset(request))
    if which == "response_headers":
        status = _header(request.response_headers, ":status")
        is_number = status.isascii() and status.isdecimal() and len(status) <= 3  # noqa: PLR2004 - of HTTP
        return Answered(status=int(status) if is_number else 0, served_by=_served(request))
    raise QuestionMalformedError("picker: expected headers of a request or a response, and nothing else")


def destination(addresses: Iterable[str]) -> bytes:
    """Return the answer that sends a request to the first of these that serves.

    Args:
        addresses: Each ``ip:port``; at least one.
    """
    joined = ",".join(addresses)
    header = HeaderValueOption(
        header=HeaderValue(key=DESTINATION, raw_value=joined.encode()), append_action=_OVERWRITE
    )
    common = CommonResponse(header_mutation=HeaderMutation(set_headers=[header]))
    named = Value(struct_value=Struct(fields={DESTINATION: Value(string_value=joined)}))
    return ProcessingResponse(
        request_headers=HeadersResponse(response=common),
        dynamic_metadata=Struct(fields={NAMESPACE: named}),
    ).SerializeToString()


def none_ready() -> bytes:
    """Return the answer for when nothing may be chosen: status 503."""
    refusal = ImmediateResponse(
        status=HttpStatus(code=_UNAVAILABLE), body=_NO_REPLICA, details="no-replica-is-ready"
    )
    return ProcessingResponse(immediate_response=refusal).SerializeToString()


def noted() -> bytes:
    """Return the answer to a response: go on."""
    return ProcessingResponse(response_headers=HeadersResponse(response=CommonResponse())).SerializeToString()


def _header(headers: HttpHeaders, name: str) -> str:
    for header in headers.headers.headers:
        if header.key == name:
            return header.raw_value.decode("utf-8", errors="replace") if header.raw_value else header.value
    return ""


def _subset(request: ProcessingRequest) -> frozenset[str] | None:
    """Return the hint: a list of texts, or one text of several with commas between."""
    hinted = _metadata(request, SUBSET_NAMESPACE, SUBSET)
    if hinted is None:
        return None
    if hinted.WhichOneof("kind") == "list_value":
        texts = [value.string_value for value in hinted.list_value.values]
    else:
        texts = hinted.string_value.split(",")
    return frozenset(text.strip() for text in texts if text.strip())


def _served(request: ProcessingRequest) -> str | None:
    served = _metadata(request, NAMESPACE, SERVED)
    return None if served is None or not served.string_value else served.string_value


def _metadata(request: ProcessingRequest, namespace: str, key: str) -> Value | None:
    spaces = request.metadata_context.filter_metadata
    if namespace not in spaces:
        return None
    fields = spaces[namespace].fields
    return fields.get(key)
