"""What a server has and could have: the repository's index.

Source: Triton's model repository extension, "Index".
"""

from enum import StrEnum

import msgspec

from s3ml.wire.oip.errors import OIPError

INDEX_LIMIT = 4096


class ModelState(StrEnum):
    """Whether a version of a model can be used."""

    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"
    LOADING = "LOADING"
    UNLOADING = "UNLOADING"


class IndexEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a model, its state, and why it is not ready, in a line for people."""

    name: str
    version: str
    state: ModelState
    reason: str = ""


class _IndexRequest(msgspec.Struct, frozen=True):
    ready: bool = False


def decode_index_request(content: bytes | memoryview) -> bool:
    """Return whether only what is ready is asked for.

    Args:
        content: From an untrusted peer, already within limits; nothing at all asks for everything.

    Raises:
        OIPError: status 400; no object, or ``ready`` is neither true nor false.
    """
    if not len(content):
        return False
    try:
        return msgspec.json.decode(content, type=_IndexRequest).ready
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OIPError(f"index: {error}") from error


def encode_index(entries: tuple[IndexEntry, ...]) -> bytes:
    """Encode an index."""
    return msgspec.json.encode(entries)


def decode_index(content: bytes | memoryview) -> tuple[IndexEntry, ...]:
    """Decode an index from a server.

    Raises:
        OIPError: it is malformed, or has more than 4096 entries.
    """
    try:
        entries = msgspec.json.decode(content, type=tuple[IndexEntry, ...])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OIPError(f"index: {error}") from error
    if len(entries) > INDEX_LIMIT:
        raise OIPError(f"index: expected at most {INDEX_LIMIT} entries, got {len(entries)}")
    return entries
