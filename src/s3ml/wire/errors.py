"""What can be wrong with bytes from a peer, before anything is opened and after.

Errors that arise after a request was opened derive from `s3ml.wire.sealed.AnsweredError`: they carry the
answer, which must leave sealed.
"""

from s3ml.primitives.errors import ConfigurationError, UntrustedPeerError


class SealRejectedError(UntrustedPeerError):
    """A sealed message does not open; deliberately carries no reason."""

    def __init__(self) -> None:
        super().__init__("sealed message: does not open")


class UnknownKeyError(UntrustedPeerError):
    """A sealed request names a key, KEM or pair of algorithms that this recipient does not have."""


class BinaryHTTPError(UntrustedPeerError):
    """A Binary HTTP message is malformed or exceeds a limit."""


class RequestTooLargeError(ConfigurationError):
    """A sealed request exceeds the limit.

    Args:
        size_bytes: What was got.
        limit_bytes: What is accepted.
    """

    def __init__(self, *, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"sealed request: expected at most {limit_bytes} bytes, got {size_bytes}")
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
