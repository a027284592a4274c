"""What can be wrong for a caller, by what to do about it.

A peer that failed a check raises what the check raised (`EvidenceRejectedError` with its mismatches, for
one), or `UntrustedServiceError`: stop, and ask the deployment's owners.
"""

from s3ml.primitives.errors import ConfigurationError, UnavailableError, UntrustedPeerError


class InvalidInputError(ConfigurationError):
    """The request itself is wrong: the message is the model server's own line, or ours.

    Args:
        message: What is wrong with it.
        status: What the verified service answered, 400 to 499; None where the client noticed by itself.
        line: The service's own line, printable and at most 400 characters; it never repeats values.
    """

    def __init__(self, message: str, *, status: int | None = None, line: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.line = line


class UnknownServiceError(ConfigurationError):
    """The deployment has no such service, or the gateway does not route to it."""


class CredentialsRefusedError(ConfigurationError):
    """The service admits no caller with these credentials; it does not say why."""


class UntrustedServiceError(UntrustedPeerError):
    """What came back was not made by the verified service."""


class ModelError(UnavailableError):
    """The model failed on the server; it is not tried again by itself.

    Args:
        message: What failed.
        status: What the verified service answered, usually 500.
        line: The service's own line, printable and at most 400 characters.
    """

    def __init__(self, message: str, *, status: int = 500, line: str = "no reason given") -> None:
        super().__init__(message)
        self.status = status
        self.line = line


class TransientError(UnavailableError):
    """One attempt failed for the moment: sealed afresh and tried again while there is time."""


class DeadlineExceededError(UnavailableError):
    """No answer within the caller's time; the message says why the last attempt failed."""
