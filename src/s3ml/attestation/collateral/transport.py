"""One request to one endpoint over HTTP, with every limit that an untrusted peer makes necessary.

1. The exchange as a whole ends at a deadline.
2. A body is read up to its limit; nothing is decompressed.
3. Redirects are followed on the same scheme, host and port, three at most.
4. TLS certificates are verified. No proxy is taken from the environment.
5. An endpoint that failed is left alone for a while, as long as it asks.

Source: RFC 9110, sections 10.2.3 (Retry-After), 13.1 (conditional requests) and 15.4 (redirection).
"""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as LateError

from s3ml.attestation.collateral.cooldown import Cooldown
from s3ml.attestation.collateral.endpoints import check_url, origin_of
from s3ml.attestation.collateral.item import Reply, Target
from s3ml.primitives.clock import Clock, SystemClock
from s3ml.primitives.deadline import POOL_CLASSES, Deadline
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.primitives.units import KIB

DEFAULT_DEADLINE_S = 10.0
BODY_LIMIT_BYTES = 64 * KIB
REDIRECTS_LIMIT = 3
FIELD_LIMIT_CHARACTERS = 16 * KIB

_OK, _NOT_MODIFIED, _TOO_MANY, _UNAVAILABLE, _SERVER_ERROR = 200, 304, 429, 503, 500
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK_BYTES = 16 * KIB


class EndpointFailedError(UnavailableError):
    """One endpoint did not deliver; another may."""


class Transport:
    """Asks endpoints; safe to use from several threads.

    Args:
        clock: For deadlines' cooldowns and for dates in Retry-After.
        deadline_s: For one whole request with its redirects, in seconds.
        tls: What certificates of endpoints are verified with; None for the system's authorities. A cache on
            one's own premises often has an authority of its own.
        proxy: The address of an HTTP proxy to go through; None for none.

    Raises:
        ConfigurationError: a deadline of 0 or less, a TLS context that does not verify, or no address.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
    ) -> None:
        if deadline_s <= 0:
            raise ConfigurationError(f"collateral: expected a deadline above 0 s, got {deadline_s:g}")
        if tls is not None and (tls.verify_mode is not ssl.CERT_REQUIRED or not tls.check_hostname):
            raise ConfigurationError(
                "collateral: expected a TLS context that verifies certificates and names"
            )
        self._clock = clock or SystemClock()
        self._deadline_s = deadline_s
        self._cooldown = Cooldown(self._clock)
        context = tls or ssl.create_default_context()
        self._pool: urllib3.PoolManager = (
            urllib3.ProxyManager(check_url(proxy, what="proxy"), ssl_context=context)
            if proxy is not None
            else urllib3.PoolManager(ssl_context=context)
        )
        self._pool.pool_classes_by_scheme = POOL_CLASSES

    def get(self, target: Target, *, validators: Mapping[str, str] | None = None) -> Reply:
        """Ask one endpoint for one document.

        Args:
            target: Where.
            validators: Header fields that make the request conditional; with them, 304 is an answer.

        Returns:
            A reply with status 200 or 304; its content is the endpoint's word and nothing more.

        Raises:
            EndpointFailedError: no answer in time, another status, too large a body, a redirect elsewhere, or
                the endpoint is left alone after an earlier failure. `.retry_after_s` says how long it is.
        """
        endpoint = origin_of(target.url)
        remaining_s = self._cooldown.remaining_s(endpoint)
        if remaining_s > 0:
            raise EndpointFailedError(
                f"left alone for {remaining_s:.0f} s more after it failed", retry_after_s=remaining_s
            )
        try:
            reply = self._exchange(target, dict(validators or {}))
        except EndpointFailedError as failure:
            self._cooldown.fail(endpoint, retry_after_s=failure.retry_after_s)
            raise EndpointFailedError(
                str(failure), retry_after_s=self._cooldown.remaining_s(endpoint)
            ) from failure
        if reply.status in {_OK, _NOT_MODIFIED}:
            return reply
        raise EndpointFailedError(f"answered {reply.status}")

    def report(self, target: Target, *, is_sound: bool) -> None:
        """Say what became of a reply: an endpoint that delivers what no vendor signed has failed, too."""
        if is_sound:
            self._cooldown.succeed(origin_of(target.url))
        else:
            self._cooldown.fail(origin_of(target.url))

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _exchange(self, target: Target, validators: dict[str, str]) -> Reply:
        url = target.url
        with Deadline(self._deadline_s) as deadline:  # (1)
            for _ in range(REDIRECTS_LIMIT + 1):
                try:
                    reply = self._request(url, {**target.fields, **validators})
                except (HTTPError, OSError, ValueError) as error:
                    raise EndpointFailedError(_describe(error, deadline)) from error
                if deadline.is_over:
                    raise EndpointFailedError("did not answer in time")
                if reply.status not in _REDIRECTS:
                    return self._judge(reply, is_conditional=bool(validators))
                url = _redirected(url, reply.fields.get("location"))  # (3)
        raise EndpointFailedError(f"redirects more than {REDIRECTS_LIMIT} times")

    def _request(self, url: str, fields: Mapping[str, str]) -> Reply:
        answer = self._pool.request(
            "GET",
            url,
            headers={"accept-encoding": "identity", "connection": "close", **fields},
            preload_content=False,
            decode_content=False,
            redirect=False,
            retries=False,
            timeout=urllib3.Timeout(total=self._deadline_s),
        )
        try:
            received = {
                name.lower(): value
                for name, value in answer.headers.items()
                if len(value) <= FIELD_LIMIT_CHARACTERS
            }
            if received.get("content-encoding", "identity") != "identity":
                raise EndpointFailedError("sent a compressed body, which was not asked for")
            body = bytearray()
            while chunk := answer.read(_CHUNK_BYTES):  # (2)
                body += chunk
                if len(body) > BODY_LIMIT_BYTES:
                    raise EndpointFailedError(f"sent more than {BODY_LIMIT_BYTES} bytes")
        finally:
            answer.close()
        return Reply(url=url, status=answer.status, fields=received, body=bytes(body))

    def _judge(self, reply: Reply, *, is_conditional: bool) -> Reply:
        """Return a reply that tells something of the document; the rest is a failure of the endpoint."""
        if reply.status >= _SERVER_ERROR or reply.status == _TOO_MANY:
            asks = reply.status in {_TOO_MANY, _UNAVAILABLE}
            retry_after_s = self._seconds(reply.fields.get("retry-after")) if asks else None
            raise EndpointFailedError(f"answered {reply.status}", retry_after_s=retry_after_s)
        if reply.status == _NOT_MODIFIED and not is_conditional:
            raise EndpointFailedError("answered 304 to a request without conditions")
        return reply

    def _seconds(self, text: str | None) -> float | None:
        """Return the seconds that a Retry-After field asks for, as a number or until a date."""
        if text is None:
            return None
        if text.isascii() and text.isdigit() and len(text) <= 9:  # noqa: PLR2004 - digits of any sensible number
            return float(text)
        try:
            until = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        return max(0.0, (_aware(until) - self._clock.now()).total_seconds())


def _redirected(url: str, location: str | None) -> str:
    """Return where a redirect leads to, when that is the same endpoint."""
    try:
        target = urljoin(url, location or "")
        is_same = location is not None and origin_of(target) == origin_of(url) and "@" not in target
    except ValueError:
        is_same = False
    if not is_same:
        raise EndpointFailedError("redirects to another host, which is not followed")
    return target


def _describe(error: Exception, deadline: Deadline) -> str:
    if deadline.is_over or (isinstance(error, LateError) and not isinstance(error, NewConnectionError)):
        return "did not answer in time"
    return f"failed with {type(error).__name__}"


def _aware(instant: datetime) -> datetime:
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
