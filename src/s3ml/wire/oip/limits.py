"""What a decoder of the protocol accepts.

Source: docs/spec/sealed-request.md, section "Limits".
"""

from dataclasses import dataclass

from s3ml.primitives.units import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one message.

    Args:
        content_bytes: All of it.
        tensor_count: The inputs, the requested outputs, or the outputs.
        rank: The dimensions of a tensor.
        element_count: The elements of a tensor; what is declared counts, before anything is allocated.
        text_count: The elements of a tensor of BYTES, each of which is a Python object of its own.
        head_bytes: The JSON without the larger ``data`` of tensors: names, shapes, parameters, all else.
        text_chars: A name, an id, or a parameter that is text.
        parameter_count: The parameters of one object.
    """

    content_bytes: int = 16 * MIB
    tensor_count: int = 64
    rank: int = 16
    element_count: int = 1 << 28
    text_count: int = 1 << 20
    head_bytes: int = MIB
    text_chars: int = 256
    parameter_count: int = 64


DEFAULT_LIMITS = Limits()
RESPONSE_LIMITS = Limits(content_bytes=64 * MIB)
