"""The JSON of inference messages: its shapes, its limits, and no key twice.

Members that are not known are ignored, because clients send some. A key that stands twice rejects, wherever
it stands: readers differ in which of the two they see. Objects are made of a head of bounded size only, for a
list or an object of Python takes thirty times the bytes that it travelled in.

Source: Open Inference Protocol, "HTTP/REST"; RFC 8259, section 4.
"""

import json
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
import numpy as np

from s3ml.primitives.units import KIB
from s3ml.wire.oip.errors import OIPError
from s3ml.wire.oip.limits import Limits

ParameterValue = bool | int | float | str
_BLANKED_FROM_BYTES = KIB
_NO_DATA = msgspec.Raw(b"")


class TensorOutline(msgspec.Struct, frozen=True, gc=False):
    """A tensor in which nothing is parsed but where its data stands."""

    name: msgspec.Raw
    shape: msgspec.Raw
    datatype: msgspec.Raw
    data: msgspec.Raw = _NO_DATA


class RequestOutline(msgspec.Struct, frozen=True):
    """A request, as far as it takes to find the data in it."""

    inputs: list[TensorOutline]

    def tensors(self) -> list[TensorOutline]:
        """Return what carries data."""
        return self.inputs


class ResponseOutline(msgspec.Struct, frozen=True):
    """A response, as far as it takes to find the data in it."""

    outputs: list[TensorOutline]

    def tensors(self) -> list[TensorOutline]:
        """Return what carries data."""
        return self.outputs


class TensorDocument(msgspec.Struct, frozen=True):
    """A tensor; `data` stays unparsed until its shape is known to be within limits."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, ParameterValue] | None = None
    data: msgspec.Raw = _NO_DATA


class OutputDocument(msgspec.Struct, frozen=True):
    """A requested output."""

    name: str
    parameters: dict[str, ParameterValue] | None = None


class RequestDocument(msgspec.Struct, frozen=True):
    """A request."""

    inputs: list[TensorDocument]
    id: str | None = None
    parameters: dict[str, ParameterValue] | None = None
    outputs: list[OutputDocument] | None = None

    def tensors(self) -> list[TensorDocument]:
        """Return what carries data."""
        return self.inputs


class ResponseDocument(msgspec.Struct, frozen=True):
    """A response."""

    model_name: str
    outputs: list[TensorDocument]
    model_version: str | None = None
    id: str | None = None
    parameters: dict[str, ParameterValue] | None = None

    def tensors(self) -> list[TensorDocument]:
        """Return what carries data."""
        return self.outputs


Document = TypeVar("Document", RequestDocument, ResponseDocument)
Parsed = TypeVar("Parsed", RequestDocument, ResponseDocument, RequestOutline, ResponseOutline)


def parse_document(content: bytes | memoryview, kind: type[Document], *, limits: Limits) -> Document:
    """Parse the JSON of a message from an untrusted peer.

    Raises:
        OIPError: it is malformed, no UTF-8, nested too deep, has a key twice, or exceeds a limit.
    """
    outline = RequestOutline if issubclass(kind, RequestDocument) else ResponseOutline
    try:
        tensors = [] if len(content) <= _BLANKED_FROM_BYTES else _decode(outline, content).tensors()
        head = _without_data(content, tensors)
        if len(head) > limits.head_bytes:
            raise OIPError(f"JSON: expected at most {limits.head_bytes} bytes beside data, got {len(head)}")
        document = _decode(kind, head)
        _check_keys(head)
        _give_data(document.tensors(), tensors)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise OIPError(f"JSON: {error}") from error
    except RecursionError as error:
        raise OIPError("JSON: nested too deep") from error
    _check_limits(document, limits)
    return document


def _check_limits(document: RequestDocument | ResponseDocument, limits: Limits) -> None:
    tensors = document.tensors()
    outputs: list[OutputDocument] = []
    if isinstance(document, RequestDocument):
        outputs = document.outputs or []
    if max(len(tensors), len(outputs)) > limits.tensor_count:
        raise OIPError(f"tensors: expected at most {limits.tensor_count}, got more")
    entries: list[TensorDocument | OutputDocument] = [*tensors, *outputs]
    names = [entry.name for entry in entries]
    texts = [document.id or "", *names]
    if isinstance(document, ResponseDocument):
        texts += (document.model_name, document.model_version or "")
    for parameters in (document.parameters, *(entry.parameters for entry in entries)):
        if parameters is None:
            continue
        if len(parameters) > limits.parameter_count:
            raise OIPError(f"parameters: expected at most {limits.parameter_count}, got {len(parameters)}")
        texts += parameters
        texts += (value for value in parameters.values() if isinstance(value, str))
    if max(map(len, texts)) > limits.text_chars:
        raise OIPError(f"text: expected at most {limits.text_chars} characters in a name, id or parameter")
    if not all(map(str.isprintable, names)):
        raise OIPError("text: expected names of printable characters")


def _decode(kind: type[Parsed], content: bytes | memoryview) -> Parsed:
    decoder: msgspec.json.Decoder[Parsed] = _decoder(kind)
    return decoder.decode(content)


@lru_cache(maxsize=4)
def _decoder(kind: type[Parsed]) -> msgspec.json.Decoder[Parsed]:
    return msgspec.json.Decoder(kind)


def _give_data(documents: list[TensorDocument], tensors: list[TensorOutline]) -> None:
    """Put the large ``data`` that the outline found where the head has a zero."""
    for place, tensor in enumerate(tensors):
        if _is_large(tensor):
            documents[place] = msgspec.structs.replace(documents[place], data=tensor.data)


def _is_large(tensor: TensorOutline) -> bool:
    return memoryview(tensor.data).nbytes > _BLANKED_FROM_BYTES


def _without_data(content: bytes | memoryview, tensors: list[TensorOutline]) -> bytes:
    """Return `content` with a zero in place of large ``data``: every key is still there."""
    large = [tensor.data for tensor in tensors if _is_large(tensor)]
    if not large:
        return bytes(content)
    origin = _address(content)
    view = memoryview(content)
    kept: list[bytes] = []
    position = 0
    for data in large:
        start = _address(data) - origin
        kept += (bytes(view[position:start]), b"0")
        position = start + memoryview(data).nbytes
    return b"".join((*kept, bytes(view[position:])))


def _address(data: bytes | memoryview | msgspec.Raw) -> int:
    """Return where `data` begins in memory: an unparsed value is a view of the content."""
    return int(np.frombuffer(data, np.uint8).ctypes.data)


def _check_keys(content: bytes) -> None:
    """Reject a key that stands twice, and text that is not UTF-8 (nor are surrogates) wherever it stands."""
    _KEYS.decode(content.decode())


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise OIPError(f"JSON: expected each key once, got {key[:80]!r} twice")
        seen.add(key)


_KEYS = json.JSONDecoder(object_pairs_hook=_unique, parse_int=len, parse_float=len)
