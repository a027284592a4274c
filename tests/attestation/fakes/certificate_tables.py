"""Tables of certificates as a SEV-SNP host makes them, and as it should not.

Source: AMD 56421, section 4.1.8.1.
"""

import struct
import uuid
from collections.abc import Iterable


def encode_entry(guid: uuid.UUID, offset: int, size: int) -> bytes:
    return struct.pack("<16sII", guid.bytes, offset, size)


def encode_table(certificates: Iterable[tuple[uuid.UUID, bytes]]) -> bytes:
    """Return a table whose contents stand in the order of their entries."""
    listed = list(certificates)
    offset = 24 * (len(listed) + 1)
    head = b""
    for guid, content in listed:
        head += encode_entry(guid, offset, len(content))
        offset += len(content)
    return b"".join((head, bytes(24), *(content for _guid, content in listed)))
