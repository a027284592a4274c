"""What can be wrong for a caller, by what to do about it.

A peer that failed a check raises what the check raised (`EvidenceRejectedError` with its mismatches, for
one), or `UntrustedServiceError`: stop, and ask the deployment's owners.
"""

from s3ml.primitives.errors import ConfigurationError, UnavailableError, UntrustedPeerError


class InvalidInputError(ConfigurationError):
    """The request itself is wrong: the message is the model server's own line, or ours."""


class UnknownServiceError(ConfigurationError):
    """The deployment has no such service, or the gateway does not route to it."""


class CredentialsRefusedError(ConfigurationError):
    """The service admits no caller with these credentials; it does not say why."""


class UntrustedServiceError(UntrustedPeerError):
    """What came back was not made by the verified service."""


class ModelError(UnavailableError):
    """The model failed on the server; the message is the model server's own line."""


class TransientError(UnavailableError):
    """One attempt failed for the moment: sealed afresh and tried again while there is time."""


class DeadlineExceededError(UnavailableError):
    """No answer within the caller's time; the message says why the last attempt failed."""
