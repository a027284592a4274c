"""What is inside the seal, as values.

Source: docs/spec/sealed-request.md, sections "Inner request" and "Limits".
"""

from dataclasses import dataclass, field

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import MIB
from s3ml.wire import bhttp
from s3ml.wire.errors import BinaryHTTPError

TextFields = tuple[tuple[str, str], ...]
Content = bytes | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class SealLimits:
    """How large sealed messages may be.

    Args:
        max_request_bytes: A sealed request, padding included. The default holds an image of 2,000 by 2,000
            pixels with three 8-bit channels in binary.
        max_response_bytes: A sealed response, padding included.
    """

    max_request_bytes: int = 16 * MIB
    max_response_bytes: int = 64 * MIB


DEFAULT_LIMITS = SealLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerRequest:
    """A request inside the seal.

    Args:
        method: ``GET`` or ``POST``.
        path: Of the Open Inference Protocol.
        fields: Lower-case names; without `date`, which sealing adds.
        content: Of an opened request, a view of its plaintext.
    """

    method: str
    path: str
    fields: TextFields = field(default=(), repr=False)
    content: Content = field(default=b"", repr=False)

    def field(self, name: str) -> str | None:
        """Return the value of the field `name` (lower case); None where there is none."""
        return dict(self.fields).get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerResponse:
    """A response inside the seal.

    Args:
        status: 200 to 599.
        fields: Lower-case names.
        content: Of an opened response, a view of its plaintext.
    """

    status: int
    fields: TextFields = field(default=(), repr=False)
    content: Content = field(default=b"", repr=False)

    def field(self, name: str) -> str | None:
        """Return the value of the field `name` (lower case); None where there is none."""
        return dict(self.fields).get(name)


def to_bytes_fields(fields: TextFields) -> bhttp.Fields:
    """Encode fields that are our own.

    Raises:
        ConfigurationError: a name or a value is not ASCII.
    """
    try:
        return tuple((name.encode("ascii"), value.encode("ascii")) for name, value in fields)
    except UnicodeEncodeError as error:
        raise ConfigurationError("fields: expected ASCII") from error


def to_text_fields(fields: bhttp.Fields) -> TextFields:
    """Decode fields of an untrusted peer, each of which may stand once.

    Raises:
        BinaryHTTPError: a value is not ASCII, or a name stands twice.
    """
    if len({name for name, _ in fields}) != len(fields):
        raise BinaryHTTPError("fields: expected each name once")
    try:
        return tuple((name.decode("ascii"), value.decode("ascii")) for name, value in fields)
    except UnicodeDecodeError as error:
        raise BinaryHTTPError("fields: expected ASCII") from error
