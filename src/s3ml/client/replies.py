"""How replies are read: one short line for a person, and when to come back."""

from collections.abc import Mapping

import msgspec

from s3ml.client.steps import HTTPReply

LINE_LIMIT_CHARS = 400
_RETRY_AFTER_LIMIT_S = 3600.0


class _Error(msgspec.Struct):
    error: str


def told_line(reply: HTTPReply) -> str:
    """Return the error line of an outer reply, which is anybody's word."""
    return error_line(reply.body)


def error_line(content: bytes | memoryview) -> str:
    """Return what ``{"error": …}`` says as one printable line of at most 400 characters."""
    try:
        text = msgspec.json.decode(content, type=_Error).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "no reason given"
    line = "".join(character if character.isprintable() else " " for character in text)
    return line[:LINE_LIMIT_CHARS] or "no reason given"


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After, at most an hour; one that names a date is not honoured."""
    value = headers.get("retry-after", "").strip()
    if not (value.isascii() and value.isdigit() and len(value) <= 10):  # noqa: PLR2004 - digits, not seconds
        return None
    return min(float(value), _RETRY_AFTER_LIMIT_S)
