"""Parse documents from untrusted peers and from untrusted storage: limits first, then exact types."""

from functools import lru_cache
from typing import TypeVar

import msgspec

from s3ml.attestation import AppraisalPolicy, parse_policy
from s3ml.primitives.errors import ConfigurationError

_T = TypeVar("_T")


class DocumentMalformedError(ConfigurationError):
    """A document is too large, is no JSON, or is not of its type."""


def parse_document(data: bytes, kind: type[_T], *, what: str, limit_bytes: int) -> _T:
    """Parse `data` as a document of type `kind`.

    Args:
        data: JSON from an untrusted peer.
        kind: The document's type.
        what: How messages call it.
        limit_bytes: The most that is looked at.

    Raises:
        DocumentMalformedError: too large, no JSON, an unknown or missing field, a value out of range.
    """
    if len(data) > limit_bytes:
        raise DocumentMalformedError(f"{what}: expected at most {limit_bytes} bytes, got {len(data)}")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DocumentMalformedError(f"{what}: {str(error)[:200]}") from error


def encode_document(document: msgspec.Struct) -> bytes:
    """Return `document` as JSON; what is signed or hashed afterwards is these very bytes."""
    return msgspec.json.encode(document)


@lru_cache(maxsize=32)
def read_policy(data: bytes) -> AppraisalPolicy:
    """Parse a policy document; remembers the newest few, because the same ones are read again and again.

    Raises:
        ConfigurationError: it is no policy.
    """
    return parse_policy(data)
