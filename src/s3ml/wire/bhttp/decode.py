"""Bytes to messages, limits first.

The content of a known-length message is a view of it, not a copy. Padding must be zero. A message may end
before its header, content or trailers; anywhere else it is truncated.

Source: RFC 9292, sections 3 and 4.
"""

from dataclasses import dataclass

from s3ml.primitives.units import KIB, MIB
from s3ml.wire.bhttp.encode import (
    INDETERMINATE_REQUEST,
    INDETERMINATE_RESPONSE,
    KNOWN_REQUEST,
    KNOWN_RESPONSE,
)
from s3ml.wire.bhttp.messages import STATUS_INFORMATIONAL, Content, Fields, Informational, Request, Response
from s3ml.wire.bhttp.varint import ONE_BYTE_LIMIT, decode_varint
from s3ml.wire.errors import BinaryHTTPError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a decoder accepts.

    Args:
        message_bytes: The whole message, padding included.
        control_bytes: Each of method, scheme, authority and path.
        section_bytes: All names and values of one field section.
        field_count: The fields of one section.
        chunk_count: The chunks of an indeterminate-length content.
        informational_count: The interim responses of a message.
    """

    message_bytes: int = 16 * MIB
    control_bytes: int = 2 * KIB
    section_bytes: int = 16 * KIB
    field_count: int = 64
    chunk_count: int = 4096
    informational_count: int = 8


DEFAULT_LIMITS = Limits()


def decode_request(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Request:
    """Decode a request from an untrusted peer.

    Raises:
        BinaryHTTPError: it is malformed, no request, or exceeds a limit.
    """
    reader = _Reader(data, limits)
    framing = reader.integer()
    if framing not in (KNOWN_REQUEST, INDETERMINATE_REQUEST):
        raise BinaryHTTPError(f"binary HTTP: expected a request, got framing indicator {framing}")
    reader.is_indeterminate = framing == INDETERMINATE_REQUEST
    method, scheme, authority, path = (reader.control() for _ in range(4))
    fields, content, trailers = reader.rest()
    return Request(
        method=method,
        scheme=scheme,
        authority=authority,
        path=path,
        fields=fields,
        content=content,
        trailers=trailers,
    )


def decode_response(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Response:
    """Decode a response from an untrusted peer.

    Raises:
        BinaryHTTPError: it is malformed, no response, or exceeds a limit.
    """
    reader = _Reader(data, limits)
    framing = reader.integer()
    if framing not in (KNOWN_RESPONSE, INDETERMINATE_RESPONSE):
        raise BinaryHTTPError(f"binary HTTP: expected a response, got framing indicator {framing}")
    reader.is_indeterminate = framing == INDETERMINATE_RESPONSE
    informational: list[Informational] = []
    while (status := reader.integer()) in STATUS_INFORMATIONAL:
        if len(informational) == limits.informational_count:
            raise BinaryHTTPError(
                f"binary HTTP: expected at most {limits.informational_count} interim responses"
            )
        informational.append(Informational(status=status, fields=reader.section()))
    fields, content, trailers = reader.rest()
    return Response(
        status=status,
        fields=fields,
        content=content,
        trailers=trailers,
        informational=tuple(informational),
    )


class _Reader:
    """A position in a message."""

    __slots__ = ("_data", "_limits", "_position", "is_indeterminate")

    def __init__(self, data: bytes, limits: Limits) -> None:
        if len(data) > limits.message_bytes:
            raise BinaryHTTPError(
                f"binary HTTP: expected at most {limits.message_bytes} bytes, got {len(data)}"
            )
        self._data = data
        self._limits = limits
        self._position = 0
        self.is_indeterminate = False

    def integer(self) -> int:
        """Read an integer; nearly all of them are one byte."""
        position = self._position
        if position < len(self._data) and (first := self._data[position]) < ONE_BYTE_LIMIT:
            self._position = position + 1
            return first
        value, self._position = decode_varint(self._data, position)
        return value

    def control(self) -> bytes:
        size = self.integer()
        if size > self._limits.control_bytes:
            raise BinaryHTTPError(
                f"binary HTTP: expected at most {self._limits.control_bytes} bytes of each of method, "
                f"scheme, authority and path, got {size}"
            )
        return self._take(size)

    def section(self) -> Fields:
        """Read a field section that is there."""
        limit = self._limits.section_bytes
        if not self.is_indeterminate:
            size = self.integer()
            if size > limit:
                raise BinaryHTTPError(f"binary HTTP: expected at most {limit} bytes of fields, got {size}")
            end = self._position + size
            if end > len(self._data):
                raise BinaryHTTPError("binary HTTP: the message is truncated")
            return self._known_section(end)
        start = self._position
        fields: list[tuple[bytes, bytes]] = []
        while name_size := self.integer():
            self._append_field(fields, name_size, len(self._data))
            if self._position - start > limit:
                raise BinaryHTTPError(f"binary HTTP: expected at most {limit} bytes of fields")
        return tuple(fields)

    def rest(self) -> tuple[Fields, Content, Fields]:
        """Read header, content and trailers, as far as they are there, and check the padding."""
        fields: Fields = ()
        content: Content = b""
        trailers: Fields = ()
        if self._position < len(self._data):
            fields = self.section()
        if self._position < len(self._data):
            content = self._chunks() if self.is_indeterminate else self._view(self.integer())
        if self._position < len(self._data):
            trailers = self.section()
        padding = len(self._data) - self._position
        if not self._data.startswith(bytes(padding), self._position):
            raise BinaryHTTPError("binary HTTP: expected padding of zeros")
        return fields, content, trailers

    def _known_section(self, end: int) -> Fields:
        fields: list[tuple[bytes, bytes]] = []
        while self._position < end:
            name_size = self.integer()
            if not name_size:
                raise BinaryHTTPError("binary HTTP: expected field names of at least one byte")
            self._append_field(fields, name_size, end)
        if self._position != end:
            raise BinaryHTTPError("binary HTTP: a field runs over the end of its section")
        return tuple(fields)

    def _append_field(self, fields: list[tuple[bytes, bytes]], name_size: int, end: int) -> None:
        if len(fields) == self._limits.field_count:
            raise BinaryHTTPError(f"binary HTTP: expected at most {self._limits.field_count} fields")
        if self._position + name_size > end:
            raise BinaryHTTPError("binary HTTP: a field runs over the end of its section")
        name = self._take(name_size)
        value = self._take(self.integer())
        fields.append((name, value))

    def _chunks(self) -> bytes:
        """Join the chunks of an indeterminate-length content."""
        chunks: list[memoryview] = []
        while size := self.integer():
            if len(chunks) == self._limits.chunk_count:
                raise BinaryHTTPError(
                    f"binary HTTP: expected at most {self._limits.chunk_count} chunks of content"
                )
            chunks.append(self._view(size))
        return b"".join(chunks)

    def _take(self, size: int) -> bytes:
        start = self._position
        self._position = start + size
        if self._position > len(self._data):
            raise BinaryHTTPError("binary HTTP: the message is truncated")
        return self._data[start : self._position]

    def _view(self, size: int) -> memoryview:
        start = self._position
        self._position = start + size
        if self._position > len(self._data):
            raise BinaryHTTPError("binary HTTP: the message is truncated")
        return memoryview(self._data)[start : self._position]
