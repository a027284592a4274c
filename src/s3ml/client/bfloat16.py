"""Numbers of BF16, which numpy lacks: raw bits of 16, and the way between them and 32-bit floats.

Source: Open Inference Protocol, "Tensor Data Types"; bfloat16 is the upper half of an IEEE 754 binary32.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from s3ml.client.errors import InvalidInputError

Array = np.ndarray[Any, np.dtype[Any]]
_QUIET_NAN = 0x7FC0


@dataclass(frozen=True, slots=True, eq=False)
class BFloat16:
    """An array of BF16 to send, or one that came back.

    Args:
        bits: Raw bits as ``uint16``, of any shape.

    Raises:
        InvalidInputError: another dtype.
    """

    bits: Array = field(repr=False)

    def __post_init__(self) -> None:
        if self.bits.dtype != np.uint16:
            raise InvalidInputError(f"BF16: expected raw bits as uint16, got {self.bits.dtype}")

    @classmethod
    def from_floats(cls, values: Any) -> "BFloat16":
        """Round numbers (anything numpy takes) to BF16: to nearest, ties to even, as processors do."""
        words: Array = np.ascontiguousarray(values, dtype="<f4").view("<u4")
        rounded = (words + (np.uint32(0x7FFF) + ((words >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
        is_nan = (words & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
        bits = np.where(is_nan, np.uint32(_QUIET_NAN), rounded).astype(np.uint16)
        return cls(bits.reshape(np.shape(values)))

    def to_float32(self) -> Array:
        """Return the same numbers as 32-bit floats, exactly."""
        words: Array = np.ascontiguousarray(self.bits).astype(np.uint32) << np.uint32(16)
        return words.view(np.float32).reshape(self.bits.shape)
