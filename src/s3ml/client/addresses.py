"""Where the gateway is."""

from urllib.parse import urlsplit

from s3ml.client.errors import UntrustedServiceError
from s3ml.primitives.errors import ConfigurationError


def gateway_url(url: str) -> str:
    """Return `url` without a trailing slash.

    Raises:
        ConfigurationError: no http or https URL, or one with a user, a query or a fragment.
    """
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ConfigurationError(f"gateway URL: {error}, got {url[:200]!r}") from error
    if not is_good or parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigurationError(
            f"gateway URL: expected http://host:port or https://host, without user, query or fragment, "
            f"got {parts._replace(netloc=parts.netloc.rpartition('@')[2]).geturl()[:200]!r}"
        )
    return url.rstrip("/")


def no_tls(url: str, error: Exception) -> UntrustedServiceError:
    """Return the error for a gateway whose TLS failed, which no retry mends."""
    reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    return UntrustedServiceError(
        f"gateway {url}: TLS failed: {reason}: "
        "check the URL, and the certificate against this machine's authorities"
    )
