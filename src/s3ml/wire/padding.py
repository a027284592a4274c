"""How long a sealed message may look: few sizes, at little cost.

Padmé leaves at most log log L bits of the size of a message of L bytes, for at most 12 % of padding. Below
1 KiB all look alike.

Source: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs",
PoPETs 2019(4), section 4.
"""

from s3ml.primitives.units import KIB

FLOOR_BYTES = KIB


def padded_length(size: int) -> int:
    """Return the size in bytes to which a message of `size` bytes is padded."""
    if size <= FLOOR_BYTES:
        return FLOOR_BYTES
    exponent = size.bit_length() - 1
    free_bits = exponent - exponent.bit_length()
    mask = (1 << free_bits) - 1
    return (size + mask) & ~mask
