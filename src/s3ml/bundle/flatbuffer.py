"""Whether bytes are a LiteRT model that needs no other file, told without a flatbuffer library.

Only the root table is looked at: its identifier, and the two vectors by which a model names files for its
weights. LiteRT 2.3 ignores those files when a model is given in memory; a later one might look for them on
disk, where the host could plant weights, so they are refused.

Source: FlatBuffers, "Internals" (offsets, tables, virtual tables); schema.fbs of LiteRT 2.3 (field numbers).
"""

from mmap import mmap
from struct import Struct

from s3ml.primitives.errors import ConfigurationError

_IDENTIFIER = b"TFL3"
_IDENTIFIER_AT = 4
_EXTERNAL_FIELDS = (8, 9)  # external_buffer_groups, external_buffers
_HEAD_FIELDS = 2  # a virtual table begins with its own size and that of the table
_U16, _U32, _I32 = Struct("<H"), Struct("<I"), Struct("<i")


def is_litert(head: bytes) -> bool:
    """Tell by its first eight bytes whether a file claims to be a LiteRT model."""
    return head[_IDENTIFIER_AT : _IDENTIFIER_AT + len(_IDENTIFIER)] == _IDENTIFIER


def check_litert(model: bytes | mmap) -> None:
    """Accept a LiteRT model that keeps its weights within; its graph is for the runtime to judge.

    Args:
        model: Possibly from an untrusted peer.

    Raises:
        ConfigurationError: other or damaged bytes, or weights in other files.
    """
    no_model = ConfigurationError("expected a LiteRT model, got other or damaged bytes")
    if not is_litert(model[: _IDENTIFIER_AT + len(_IDENTIFIER)]):
        raise no_model
    table = _read(_U32, model, 0)
    virtual = None if table is None else _jump(_I32, model, table, sign=-1)
    size = None if virtual is None else _read(_U16, model, virtual)
    if table is None or virtual is None or size is None:
        raise no_model
    for number in _EXTERNAL_FIELDS:
        entry = _U16.size * (_HEAD_FIELDS + number)
        count = _count(model, table, virtual + entry) if entry + _U16.size <= size else 0
        if count is None:
            raise no_model
        if count:
            raise ConfigurationError(
                "external weights: expected everything in one file, got a model that names others: "
                "save it with its weights inside"
            )


def _count(model: bytes | mmap, table: int, entry: int) -> int | None:
    """Return the length of the vector behind an entry of a virtual table; None where bytes are damaged."""
    offset = _read(_U16, model, entry)
    if not offset:
        return offset
    vector = _jump(_U32, model, table + offset)
    return None if vector is None else _read(_U32, model, vector)


def _jump(kind: Struct, model: bytes | mmap, at: int, *, sign: int = 1) -> int | None:
    """Follow an offset that is relative to where it stands."""
    offset = _read(kind, model, at)
    return None if offset is None else at + sign * offset


def _read(kind: Struct, model: bytes | mmap, at: int) -> int | None:
    """Return a number, or None where there are no bytes for it."""
    if not 0 <= at <= len(model) - kind.size:
        return None
    number: int = kind.unpack(model[at : at + kind.size])[0]
    return number
