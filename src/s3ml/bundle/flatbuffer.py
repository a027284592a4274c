"""Whether bytes are a LiteRT model that can be served, told without a flatbuffer library.

Only two things are looked for: files that the model keeps weights in, and operators that keep something for
the next request. LiteRT 2.3 ignores such files when a model is given in memory; a later one might look for
them on disk, where the host could plant weights. What an operator keeps might be one caller's, and reach
another.

Source: FlatBuffers, "Internals" (offsets, tables, virtual tables); schema.fbs of LiteRT 2.3 (numbers).
"""

from collections.abc import Iterator
from mmap import mmap
from struct import Struct

from s3ml.primitives.errors import ConfigurationError

_IDENTIFIER = b"TFL3"
_IDENTIFIER_AT = 4
_VTABLE_HEAD_BYTES = 4  # its own size, and that of the table
_OPERATOR_CODES, _EXTERNAL_GROUPS, _EXTERNAL_BUFFERS = 1, 8, 9  # fields of the model
_DEPRECATED_CODE, _CODE = 0, 3  # fields of an operator code
_ASSIGN_VARIABLE = 144
_U8, _U16, _U32, _I32 = Struct("<B"), Struct("<H"), Struct("<I"), Struct("<i")

Data = bytes | mmap


class _DamagedError(Exception):
    """An offset leads out of the bytes."""


def is_litert(head: bytes) -> bool:
    """Tell by its first eight bytes whether a file claims to be a LiteRT model."""
    return head[_IDENTIFIER_AT : _IDENTIFIER_AT + len(_IDENTIFIER)] == _IDENTIFIER


def check_litert(model: Data) -> None:
    """Accept a LiteRT model that needs no other file and keeps nothing; the rest is for the runtime to judge.

    Args:
        model: Possibly from an untrusted peer.

    Raises:
        ConfigurationError: other or damaged bytes, weights in other files, or state between requests.
    """
    try:
        has_files, has_state = _inspect(model)
    except _DamagedError:
        raise ConfigurationError("expected a LiteRT model, got other or damaged bytes") from None
    if has_files:
        raise ConfigurationError(
            "external weights: expected everything in one file, got a model that names others: "
            "save it with its weights inside"
        )
    if has_state:
        raise ConfigurationError(
            "state: expected a model that keeps nothing between requests, got one that assigns to a "
            "variable: save it with its variables as constants"
        )


def _inspect(model: Data) -> tuple[bool, bool]:
    """Tell whether weights lie in other files, and whether an operator assigns to a variable."""
    if not is_litert(model[: _IDENTIFIER_AT + len(_IDENTIFIER)]):
        raise _DamagedError
    root = _read(_U32, model, 0)
    has_files = any(len(_vector(model, root, field)) > 0 for field in (_EXTERNAL_GROUPS, _EXTERNAL_BUFFERS))
    return has_files, _ASSIGN_VARIABLE in _codes(model, root)


def _codes(model: Data, root: int) -> Iterator[int]:
    """Yield the code of each kind of operator; large ones stand in a field of their own."""
    for entry in _vector(model, root, _OPERATOR_CODES):
        table = entry + _read(_U32, model, entry)
        for kind, field in ((_U8, _DEPRECATED_CODE), (_I32, _CODE)):
            if at := _field(model, table, field):
                yield _read(kind, model, at)


def _vector(model: Data, table: int, field: int) -> range:
    """Return where the elements (4 bytes each) of a vector stand; none where the field is absent."""
    at = _field(model, table, field)
    if not at:
        return range(0)
    vector = at + _read(_U32, model, at)
    first, count = vector + _U32.size, _read(_U32, model, vector)
    if first + count * _U32.size > len(model):
        raise _DamagedError
    return range(first, first + count * _U32.size, _U32.size)


def _field(model: Data, table: int, field: int) -> int:
    """Return where a field of a table stands; 0 where it is absent."""
    vtable = table - _read(_I32, model, table)
    entry = _VTABLE_HEAD_BYTES + field * _U16.size
    if entry + _U16.size > _read(_U16, model, vtable):
        return 0
    offset = _read(_U16, model, vtable + entry)
    return table + offset if offset else 0


def _read(kind: Struct, model: Data, at: int) -> int:
    if not 0 <= at <= len(model) - kind.size:
        raise _DamagedError
    number: int = kind.unpack(model[at : at + kind.size])[0]
    return number
