"""The root of every deliberate error, branched by what its receiver should do.

Domain errors know neither HTTP nor exit statuses; each edge maps them in one table.
Messages say what was expected and what was got, and never carry a secret.
"""


class S3MLError(Exception):
    """Anything that S3ML raises on purpose."""


class ConfigurationError(S3MLError):
    """The input is wrong: fix it; retrying cannot help."""


class UntrustedPeerError(S3MLError):
    """A peer failed a check: stop talking to it."""


class UnavailableError(S3MLError):
    """Nothing is wrong but the moment: retry later.

    Args:
        message: What is unavailable.
        retry_after_s: The least useful delay before a retry, in seconds, when it is known.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
