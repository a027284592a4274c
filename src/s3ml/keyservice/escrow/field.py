"""Arithmetic in GF(2^8) on whole vectors, in steps that do not depend on what the vectors hold.

A vector of n field elements is one integer of n bytes below a guard bit, so that its length in memory is the
same whatever it holds. Secrets are only ever added, and multiplied by *public* scalars: shifts, masks and
XOR do both. No table is looked up, and nothing branches on, a secret. How far CPython's integers keep that
promise is said in the decision.

Elements are polynomials over GF(2) modulo ``x^8 + x^4 + x^3 + x + 1``.

Source: FIPS 197, section 4 (the field); docs/adr/0011-shamir-of-our-own.md.
"""

_ELEMENT_BITS = 8
_REDUCTION = 0x1B


class VectorSpace:
    """Vectors of `size_bytes` elements of GF(2^8).

    Args:
        size_bytes: At least 1.
    """

    __slots__ = ("_guard", "_kept", "_lowest", "_second", "_shifted", "size_bytes")

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        # One element's width apart, so that no shift moves the guard into the vector or away from itself.
        self._guard = 1 << (_ELEMENT_BITS * (size_bytes + 1))
        # Where two guards cancel each other, a second one keeps the length.
        self._second = self._guard << 1
        self._kept = self._guard | int.from_bytes(b"\xff" * size_bytes, "big")
        self._lowest = self._guard | int.from_bytes(b"\x01" * size_bytes, "big")
        self._shifted = self._guard | int.from_bytes(b"\xfe" * size_bytes, "big")

    def pack(self, elements: bytes) -> int:
        """Return the vector of `elements`, exactly `size_bytes` of them."""
        if len(elements) != self.size_bytes:
            raise ValueError(f"vector: expected {self.size_bytes} elements, got {len(elements)}")
        return int.from_bytes(b"\x01\x00" + elements, "big")

    def unpack(self, vector: int) -> bytes:
        """Return the elements of `vector`."""
        return vector.to_bytes(self.size_bytes + 2, "big")[2:]

    def add(self, left: int, right: int) -> int:
        """Return the sum, which is also the difference."""
        return (((left | self._second) ^ right) | self._guard) & self._kept

    def scale(self, vector: int, scalar: int) -> int:
        """Return `vector` times `scalar` (0 to 255), which is public: the steps depend on it."""
        result, power = self._guard, vector
        for bit in range(_ELEMENT_BITS):
            if scalar >> bit & 1:
                result = self.add(result, power)
            power = self._double(power)
        return result

    def _double(self, vector: int) -> int:
        """Multiply every element by x: shift, and reduce those whose highest bit was set."""
        high = ((vector >> 7) | self._guard) & self._lowest
        reduction = high ^ (high << 1) ^ (high << 3) ^ (high << 4)
        doubled = ((vector << 1) | self._guard) & self._shifted
        return ((doubled ^ reduction) | self._guard) & self._kept


def multiply(left: int, right: int) -> int:
    """Return the product of two public elements."""
    product = 0
    for bit in range(_ELEMENT_BITS):
        if right >> bit & 1:
            product ^= left
        left = (left << 1) ^ (_REDUCTION if left & 0x80 else 0)
        left &= 0xFF
    return product


def invert(element: int) -> int:
    """Return the inverse of a public element: its 254th power, 254 being 2 + 4 + … + 128.

    Raises:
        ZeroDivisionError: 0 has none.
    """
    if element == 0:
        raise ZeroDivisionError("0 has no inverse in GF(2^8)")
    result, power = 1, element
    for _ in range(_ELEMENT_BITS - 1):
        power = multiply(power, power)
        result = multiply(result, power)
    return result
