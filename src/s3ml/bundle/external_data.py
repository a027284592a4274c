"""Which files an ONNX model refers to, read from its protobuf without a protobuf library.

Only the fields that lead to tensors are followed, at every depth: graphs in attributes, functions, sparse
tensors, training graphs. Everything that might name a file counts, even where a runtime would ignore it.
Tensor contents are skipped, so a mapped file of gigabytes costs no memory.

External data is allowed in the initializers of the main graph only. Elsewhere ONNX Runtime 1.32 looks for the
file on disk, in the current folder, even when it was given in memory: there the host could plant weights.

Source: onnx.proto3 of ONNX 1.23 (field numbers); Protocol Buffers, "Encoding".
"""

from mmap import mmap

from s3ml.primitives.errors import ConfigurationError

_MODEL, _MAIN_GRAPH, _INITIALIZER, _ENTRY = range(4)
_GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _SPARSE, _FUNCTION, _TRAINING, _STRAY = range(4, 12)

_FOLLOWED: dict[int, dict[int, int]] = {
    _MODEL: {7: _MAIN_GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _MAIN_GRAPH: {1: _NODE, 5: _INITIALIZER, 15: _SPARSE},
    _INITIALIZER: {13: _ENTRY},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _TENSOR: {13: _STRAY},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_LIMIT_BYTES = 10
_NO_MODEL = "expected an ONNX or LiteRT model, got other or damaged bytes"


def external_locations(model: bytes | mmap) -> frozenset[str]:
    """Return every location that the tensors of `model` name as external data.

    Args:
        model: A serialised ``ModelProto``, possibly from an untrusted peer.

    Raises:
        ConfigurationError: the bytes are no protobuf message with a graph, or external data is elsewhere than
            in an initializer of the main graph.
    """
    found: set[str] = set()
    has_graph = False
    pending = [(_MODEL, 0, len(model))]
    while pending:
        kind, start, end = pending.pop()
        if kind == _ENTRY:
            found.update(_entry_location(model, start, end))
            continue
        if kind == _STRAY:
            raise ConfigurationError(
                "external data: expected in initializers of the main graph only, got it in a subgraph, a "
                "constant, a function or a sparse tensor: save the model with those weights inside"
            )
        has_graph = has_graph or kind == _MAIN_GRAPH
        followed = _FOLLOWED[kind]
        for number, first, last in _length_delimited(model, start, end):
            if number in followed:
                pending.append((followed[number], first, last))
    if not has_graph:
        raise ConfigurationError(_NO_MODEL)
    return frozenset(found)


def _entry_location(data: bytes | mmap, start: int, end: int) -> set[str]:
    """Return the values of a ``StringStringEntryProto`` whose key is ``location``."""
    fields = [(number, data[first:last]) for number, first, last in _length_delimited(data, start, end)]
    if (1, b"location") not in fields:
        return set()
    return {value.decode("utf-8", "replace") for number, value in fields if number == 2}  # noqa: PLR2004


def _length_delimited(data: bytes | mmap, start: int, end: int) -> list[tuple[int, int, int]]:
    """Return (field number, start, end) of each length-delimited field of one message."""
    fields: list[tuple[int, int, int]] = []
    at = start
    while at < end:
        key, at = _varint(data, at, end)
        wire_type = key & 7
        if wire_type == _VARINT:
            _, at = _varint(data, at, end)
        elif wire_type == _BYTES:
            size, at = _varint(data, at, end)
            fields.append((key >> 3, at, at + size))
            at += size
        elif wire_type in (_FIXED64, _FIXED32):
            at += 8 if wire_type == _FIXED64 else 4
        else:
            raise ConfigurationError(_NO_MODEL)
        if at > end:
            raise ConfigurationError(_NO_MODEL)
    return fields


def _varint(data: bytes | mmap, at: int, end: int) -> tuple[int, int]:
    """Read a varint and return it with the position after it."""
    value = 0
    for index in range(_VARINT_LIMIT_BYTES):
        if at + index >= end:
            break
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004
            return value, at + index + 1
    raise ConfigurationError(_NO_MODEL)
