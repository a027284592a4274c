"""Secret bytes that neither a log, a traceback nor a comparison gives away."""

import hmac
import secrets


class SecretBytes:
    """Bytes whose `repr` and `str` say nothing, compared in constant time.

    They live in memory that `wipe` overwrites. Copies that a library makes are beyond its reach, which
    makes wiping a matter of hygiene, not a promise.
    """

    __slots__ = ("_buffer",)

    def __init__(self, value: bytes | bytearray) -> None:
        self._buffer = bytearray(value)

    @classmethod
    def random(cls, size_bytes: int) -> "SecretBytes":
        """Draw `size_bytes` bytes from the system's generator."""
        return cls(secrets.token_bytes(size_bytes))

    def reveal(self) -> bytes:
        """Return the bytes themselves; the call says that a secret leaves here."""
        return bytes(self._buffer)

    def wipe(self) -> None:
        """Overwrite the bytes with zeros and forget their length."""
        for index in range(len(self._buffer)):
            self._buffer[index] = 0
        self._buffer.clear()

    def __len__(self) -> int:
        return len(self._buffer)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretBytes):
            return NotImplemented
        return hmac.compare_digest(self._buffer, other._buffer)

    def __hash__(self) -> int:
        raise TypeError("secret bytes are not hashable")

    def __repr__(self) -> str:
        return f"SecretBytes({len(self._buffer)} bytes, redacted)"

    def __reduce__(self) -> str:
        raise TypeError("secret bytes are not pickled")
