"""Requests and responses, and what every one of them obeys.

Names are lower case, as in HTTP/2. Content that was decoded is a view of the message, not a copy. Neither
content nor fields show in a `repr`.

Source: RFC 9292, section 3; RFC 9113, sections 8.2.1 and 8.3; RFC 9110, sections 5.1 and 9.1.
"""

import re
from dataclasses import dataclass, field

from s3ml.wire.errors import BinaryHTTPError

Fields = tuple[tuple[bytes, bytes], ...]
Content = bytes | memoryview

STATUS_INFORMATIONAL = range(100, 200)
STATUS_FINAL = range(200, 600)

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NAME = re.compile(rb":?[!#$%&'*+.^_`|~0-9a-z-]+")
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*")
_VISIBLE = re.compile(rb"[\x21-\x7e\x80-\xff]*")
_VALUE_REJECTED = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")
_CONTROL_NAMES = frozenset({b":method", b":scheme", b":authority", b":path", b":status"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request; `authority` may be empty.

    Raises:
        BinaryHTTPError: a part is not what HTTP allows there.
    """

    method: bytes
    scheme: bytes = b"https"
    authority: bytes = b""
    path: bytes
    fields: Fields = field(default=(), repr=False)
    content: Content = field(default=b"", repr=False)
    trailers: Fields = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not _TOKEN.fullmatch(self.method):
            raise BinaryHTTPError("binary HTTP: expected a method that is a token")
        if not _SCHEME.fullmatch(self.scheme):
            raise BinaryHTTPError("binary HTTP: expected a scheme")
        if not self.path or not _VISIBLE.fullmatch(self.path) or not _VISIBLE.fullmatch(self.authority):
            raise BinaryHTTPError(
                "binary HTTP: expected a path, and an authority or none, without white space"
            )
        check_fields(self.fields, has_pseudo_fields=True)
        check_fields(self.trailers, has_pseudo_fields=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Informational:
    """An interim answer: a status of 100 to 199, and fields."""

    status: int
    fields: Fields = ()

    def __post_init__(self) -> None:
        if self.status not in STATUS_INFORMATIONAL:
            raise BinaryHTTPError(f"binary HTTP: expected a status of 100 to 199, got {self.status}")
        check_fields(self.fields, has_pseudo_fields=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response with a final status, 200 to 599.

    Raises:
        BinaryHTTPError: a part is not what HTTP allows there.
    """

    status: int
    fields: Fields = field(default=(), repr=False)
    content: Content = field(default=b"", repr=False)
    trailers: Fields = field(default=(), repr=False)
    informational: tuple[Informational, ...] = ()

    def __post_init__(self) -> None:
        if self.status not in STATUS_FINAL:
            raise BinaryHTTPError(f"binary HTTP: expected a final status of 200 to 599, got {self.status}")
        check_fields(self.fields, has_pseudo_fields=True)
        check_fields(self.trailers, has_pseudo_fields=False)


def check_fields(fields: Fields, *, has_pseudo_fields: bool) -> None:
    """Check names, values, and that pseudo-fields come first, where they may be at all.

    Raises:
        BinaryHTTPError: a field breaks a rule.
    """
    pseudo_allowed = has_pseudo_fields
    for name, value in fields:
        if not _NAME.fullmatch(name):
            raise BinaryHTTPError("binary HTTP: expected field names that are lower-case tokens")
        if name[0] != ord(":"):
            pseudo_allowed = False
        elif not pseudo_allowed or name in _CONTROL_NAMES:
            raise BinaryHTTPError("binary HTTP: a pseudo-field stands where none may be")
        if _VALUE_REJECTED.search(value):
            raise BinaryHTTPError(
                "binary HTTP: expected field values without NUL, CR, LF or outer white space"
            )
