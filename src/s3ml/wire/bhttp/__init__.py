"""HTTP messages as bytes, in one piece: what is sealed.

Source: RFC 9292.
"""

from s3ml.wire.bhttp.decode import DEFAULT_LIMITS, Limits, decode_request, decode_response
from s3ml.wire.bhttp.encode import encode_request, encode_response
from s3ml.wire.bhttp.messages import Fields, Informational, Request, Response
from s3ml.wire.errors import BinaryHTTPError

MEDIA_TYPE = "message/bhttp"

__all__ = [
    "DEFAULT_LIMITS",
    "MEDIA_TYPE",
    "BinaryHTTPError",
    "Fields",
    "Informational",
    "Limits",
    "Request",
    "Response",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
]
