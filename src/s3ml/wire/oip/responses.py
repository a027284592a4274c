"""Inference responses out of bytes.

Source: Open Inference Protocol, "HTTP/REST"; Triton's binary tensor data extension.
"""

from s3ml.wire.oip.documents import ResponseDocument, parse_document
from s3ml.wire.oip.errors import OIPError
from s3ml.wire.oip.limits import RESPONSE_LIMITS, Limits
from s3ml.wire.oip.messages import InferResponse
from s3ml.wire.oip.requests import split_content
from s3ml.wire.oip.tensors import decode_tensors


def decode_infer_response(
    content: bytes | memoryview, header_length: int | None, *, limits: Limits = RESPONSE_LIMITS
) -> InferResponse:
    """Decode the answer to an inference.

    Args:
        content: From a server; arrays may be views of it.
        header_length: The length of the JSON at its beginning; None when all of it is JSON.
        limits: What is accepted.

    Raises:
        OIPError: it is malformed, exceeds a limit, or its data is not what its shapes say.
    """
    view, blobs = split_content(content, header_length, limits=limits)
    if not view:
        raise OIPError("response: expected JSON")
    document = parse_document(view, ResponseDocument, limits=limits)
    return InferResponse(
        model=document.model_name,
        version=document.model_version,
        id=document.id,
        outputs=decode_tensors(document.outputs, blobs, limits=limits),
        parameters=document.parameters or {},
    )
