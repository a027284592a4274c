"""What a stored value may be: its type and its length, checked on the way in and on the way out.

The database is the host's, and so are its column types. Whatever does not fit is an error of the store that
it was read from, never one of the code that reads it.
"""

from typing import TypeVar

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import KIB, MIB

_T = TypeVar("_T", bytes, str, int)

VALUE_LIMIT_BYTES = 8 * MIB
"""An entry, an audit record, a ciphertext, a seal; the log's own limit of an entry is half of it."""
TEXT_LIMIT_CHARACTERS = 128 * KIB
"""A checkpoint, a cosigned note, a name; a note's own limit is half of it."""
READ_LIMIT_BYTES = 64 * MIB
"""What one call returns at most."""
TEXT_LIMIT_BYTES = 4 * TEXT_LIMIT_CHARACTERS
NUMBER_LIMIT = 2**63 - 1

_LIMITS: dict[type, int] = {bytes: VALUE_LIMIT_BYTES, str: TEXT_LIMIT_CHARACTERS, int: NUMBER_LIMIT}


class ValueTypeError(Exception):
    """A stored value has another type or length than any that is written; a store turns it into its own."""


def typed(value: object, kind: type[_T]) -> _T:
    """Return `value` when it is a `kind` within its limit; a number, when it is not negative either.

    Raises:
        ValueTypeError: it is not.
    """
    if type(value) is not kind:
        raise ValueTypeError(f"expected a value of type {kind.__name__}, got {type(value).__name__}")
    size = value if isinstance(value, int) else len(value)
    if not 0 <= size <= _LIMITS[kind]:
        raise ValueTypeError(f"expected {kind.__name__} up to {_LIMITS[kind]}, got {size}")
    if isinstance(value, str) and "\0" in value:
        raise ValueTypeError("expected a text without NUL")
    return value


def check_values(*values: bytes) -> None:
    """Refuse what would be stored and could not be read back.

    Raises:
        ConfigurationError: a value is longer than `VALUE_LIMIT_BYTES`.
    """
    longest = max(map(len, values), default=0)
    if longest > VALUE_LIMIT_BYTES:
        raise ConfigurationError(f"storage: expected at most {VALUE_LIMIT_BYTES} bytes, got {longest}")


def check_texts(*texts: str) -> None:
    """Refuse texts that would be stored and could not be read back.

    Raises:
        ConfigurationError: a text is longer than `TEXT_LIMIT_CHARACTERS`, or holds a NUL.
    """
    longest = max(map(len, texts), default=0)
    if longest > TEXT_LIMIT_CHARACTERS:
        raise ConfigurationError(
            f"storage: expected at most {TEXT_LIMIT_CHARACTERS} characters, got {longest}"
        )
    if any("\0" in text for text in texts):
        raise ConfigurationError("storage: expected a text without NUL")
