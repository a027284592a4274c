"""The way back from an opened request.

Source: docs/spec/sealed-request.md, section "Response".
"""

from dataclasses import dataclass

from s3ml.wire import bhttp
from s3ml.wire.ohttp import Opened
from s3ml.wire.padding import padded_length
from s3ml.wire.sealed.messages import InnerResponse, to_bytes_fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """An opened request that waits for its answer.

    Args:
        service: Whose key it was sealed to.
        epoch: That key's.
        opened: What was opened.
    """

    service: str
    epoch: int
    opened: Opened

    def seal_response(self, response: InnerResponse) -> bytes:
        """Pad and seal `response`, an error as much as a result, for the one who made the request.

        Raises:
            ConfigurationError: a field is not ASCII.
            BinaryHTTPError: a status or a field is none of HTTP's.
        """
        message = bhttp.Response(
            status=response.status, fields=to_bytes_fields(response.fields), content=response.content
        )
        return self.opened.seal_response(bhttp.encode_response(message, padded_length=padded_length))
