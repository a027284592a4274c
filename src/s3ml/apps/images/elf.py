"""Which shared libraries an ELF file asks the dynamic loader for.

Only 64-bit little-endian files for x86-64 are read, because SGX has no others. Files are from the machine
that builds an image: trusted, yet read strictly, so that a damaged one is an error and not a shorter list.

Source: System V ABI, chapter 5 (program header, dynamic section).
"""

import struct
from pathlib import Path

from s3ml.primitives.errors import ConfigurationError

_MAGIC = b"\x7fELF"
_CLASS_64_LITTLE_ENDIAN = b"\x02\x01"
_MACHINE_X86_64 = 62
_SEGMENT_LOAD = 1
_SEGMENT_DYNAMIC = 2
_TAG_END = 0
_TAG_NEEDED = 1
_TAG_STRINGS = 5
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")


def needed_libraries(path: Path) -> tuple[str, ...]:
    """Return the names under which `path` needs shared libraries; none where it is no ELF file.

    Raises:
        ConfigurationError: It cannot be read, is for another machine, or is damaged.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return ()
            data = _MAGIC + file.read()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        if data[4:6] != _CLASS_64_LITTLE_ENDIAN or struct.unpack_from("<H", data, 18)[0] != _MACHINE_X86_64:
            raise ConfigurationError(f"{path}: expected an ELF file for x86-64, got one for another machine")
        return _needed(data)
    except (struct.error, OverflowError, ValueError) as error:
        raise ConfigurationError(f"{path}: expected an ELF file, got a damaged one") from error


def _needed(data: bytes) -> tuple[str, ...]:
    loads: list[tuple[int, int, int]] = []
    dynamic: tuple[int, int] | None = None
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for number in range(count):
        kind, _, offset, address, _, length, _, _ = _PROGRAM_HEADER.unpack_from(data, table + number * size)
        if kind == _SEGMENT_LOAD:
            loads.append((address, offset, length))
        elif kind == _SEGMENT_DYNAMIC:
            dynamic = (offset, length)
    if dynamic is None:
        return ()
    entries = [_DYNAMIC.unpack_from(data, at) for at in range(dynamic[0], sum(dynamic), _DYNAMIC.size)]
    tags = [tag for tag, _ in entries]
    entries = entries[: tags.index(_TAG_END)]
    names = [value for tag, value in entries if tag == _TAG_NEEDED]
    if not names:
        return ()
    strings = _file_offset(next((value for tag, value in entries if tag == _TAG_STRINGS), -1), loads)
    return tuple(_text(data, strings + name) for name in names)


def _file_offset(address: int, loads: list[tuple[int, int, int]]) -> int:
    for start, offset, length in loads:
        if start <= address < start + length:
            return address - start + offset
    raise ValueError("the string table is in no segment")


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode("ascii")
