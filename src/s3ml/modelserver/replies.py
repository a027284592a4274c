"""Plain replies: everything that is ever said outside the seal."""

from dataclasses import dataclass

import msgspec

from s3ml.wire.ohttp import OHTTP_KEY_PROBLEM, PROBLEM_MEDIA_TYPE, RESPONSE_MEDIA_TYPE

_JSON = b"application/json"
_RETRY_AFTER = (b"retry-after", b"1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An outer reply.

    Args:
        status: HTTP's.
        media_type: Of the content.
        content: The body.
        fields: Further header fields, lower case.
        closes: Whether the connection ends with it: an unread body may still be on its way.
    """

    status: int
    media_type: bytes
    content: bytes
    fields: tuple[tuple[bytes, bytes], ...] = ()
    closes: bool = False

    def headers(self, *, is_draining: bool) -> list[tuple[bytes, bytes]]:
        """Return the header fields."""
        headers = [(b"content-type", self.media_type), (b"content-length", b"%d" % len(self.content))]
        if self.closes or is_draining:
            headers.append((b"connection", b"close"))
        return [*headers, *self.fields]


def json_reply(status: int, document: dict[str, object]) -> Reply:
    """Return a JSON reply."""
    return Reply(status=status, media_type=_JSON, content=msgspec.json.encode(document))


def sealed_reply(content: bytes) -> Reply:
    """Return a sealed response: always 200, whatever is inside."""
    return Reply(status=200, media_type=RESPONSE_MEDIA_TYPE.encode(), content=content)


def _refusal(status: int, error: str, *fields: tuple[bytes, bytes]) -> Reply:
    content = msgspec.json.encode({"error": error})
    return Reply(status=status, media_type=_JSON, content=content, fields=fields, closes=True)


NOT_FOUND = _refusal(404, "not found")
REJECTED = _refusal(400, "sealed request: does not open")
TOO_LARGE = _refusal(413, "sealed request: larger than this server accepts")
OVERLOADED = _refusal(503, "overloaded; retry later", _RETRY_AFTER)
ENDING = _refusal(503, "this replica ends; retry", _RETRY_AFTER)
NO_KEYS = _refusal(503, "not ready; retry later", _RETRY_AFTER)
FAULT = _refusal(500, "internal error")
UNKNOWN_KEY = Reply(
    status=OHTTP_KEY_PROBLEM.status,
    media_type=PROBLEM_MEDIA_TYPE.encode(),
    content=OHTTP_KEY_PROBLEM.content,
)
