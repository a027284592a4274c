"""Messages to bytes.

Known-length is the default; the indeterminate form takes content in chunks. Both pad with zeros to a total
size, and write every section, empty or not.

Source: RFC 9292, sections 3.1, 3.2 and 3.8.
"""

from collections.abc import Callable, Iterable, Iterator

from s3ml.wire.bhttp.messages import Content, Fields, Request, Response
from s3ml.wire.bhttp.varint import encode_varint

KNOWN_REQUEST, KNOWN_RESPONSE, INDETERMINATE_REQUEST, INDETERMINATE_RESPONSE = 0, 1, 2, 3

Padding = Callable[[int], int]


def _no_padding(size: int) -> int:
    return size


def encode_request(
    request: Request, *, is_indeterminate: bool = False, padded_length: Padding = _no_padding
) -> bytes:
    """Encode `request`.

    Args:
        request: What to encode.
        is_indeterminate: Whether to use the indeterminate-length form.
        padded_length: From the size of the message in bytes to the size to pad it to, which is not smaller.
    """
    framing = INDETERMINATE_REQUEST if is_indeterminate else KNOWN_REQUEST
    control = (request.method, request.scheme, request.authority, request.path)
    head: list[Content] = [encode_varint(framing), *(part for value in control for part in _prefixed(value))]
    return _finish(head, request, is_indeterminate=is_indeterminate, padded_length=padded_length)


def encode_response(
    response: Response, *, is_indeterminate: bool = False, padded_length: Padding = _no_padding
) -> bytes:
    """Encode `response`; the arguments are those of `encode_request`."""
    framing = INDETERMINATE_RESPONSE if is_indeterminate else KNOWN_RESPONSE
    head: list[Content] = [encode_varint(framing)]
    for interim in response.informational:
        head += (encode_varint(interim.status), *_section(interim.fields, is_indeterminate=is_indeterminate))
    head.append(encode_varint(response.status))
    return _finish(head, response, is_indeterminate=is_indeterminate, padded_length=padded_length)


def _finish(
    parts: list[Content], message: Request | Response, *, is_indeterminate: bool, padded_length: Padding
) -> bytes:
    """Join head, sections and padding, copying the content once."""
    parts += _section(message.fields, is_indeterminate=is_indeterminate)
    parts += _prefixed(message.content)
    if is_indeterminate and len(message.content):
        parts.append(b"\x00")
    parts += _section(message.trailers, is_indeterminate=is_indeterminate)
    size = sum(map(len, parts))
    parts.append(bytes(padded_length(size) - size))
    return b"".join(parts)


def _section(fields: Fields, *, is_indeterminate: bool) -> Iterator[bytes]:
    """Yield a field section: prefixed with its length, or ended by a zero."""
    lines = b"".join(_lines(fields))
    if is_indeterminate:
        yield lines
        yield b"\x00"
    else:
        yield encode_varint(len(lines))
        yield lines


def _lines(fields: Fields) -> Iterable[bytes]:
    for name, value in fields:
        yield encode_varint(len(name)) + name + encode_varint(len(value)) + value


def _prefixed(value: Content) -> tuple[bytes, Content]:
    return encode_varint(len(value)), value
