"""What a local client is answered, and the one table from errors to HTTP statuses.

A service's own answer is handed on as it is. What the proxy says itself is ``{"error": …}``, with the failed
checks beside it when trust failed.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from s3ml.client.errors import CredentialsRefusedError, DeadlineExceededError, InvalidInputError
from s3ml.primitives.errors import ConfigurationError, S3MLError, UnavailableError, UntrustedPeerError
from s3ml.wire.errors import RequestTooLargeError
from s3ml.wire.oip import OIPError
from s3ml.wire.sealed import InnerResponse

JSON_FIELDS = (("content-type", "application/json"),)
NO_SERVICE = "none"
_FIRST_REFUSAL = 400
_FIRST_FAILURE = 500


class Outcome(StrEnum):
    """What became of a request: the whole set of label values."""

    ANSWERED = "answered"
    REFUSED = "refused"
    FAILED = "failed"
    REJECTED = "rejected"
    UNTRUSTED = "untrusted"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a request is answered.

    Args:
        response: Status, fields and content.
        outcome: For metrics: the service answered, refused (4xx) or failed (5xx); or the proxy rejected the
            request, did not trust the service, or could not reach it.
        service: Whose answer it is, or was to be; `NO_SERVICE` where none was found.
    """

    response: InnerResponse
    outcome: Outcome
    service: str = NO_SERVICE


# The first that fits. Inner refusals never raise, so that what is wrong with the input is its size.
_TABLE: tuple[tuple[tuple[type[S3MLError], ...], int, Outcome], ...] = (
    ((RequestTooLargeError, InvalidInputError), 413, Outcome.REJECTED),
    ((CredentialsRefusedError,), 401, Outcome.REJECTED),
    ((UntrustedPeerError,), 502, Outcome.UNTRUSTED),
    ((DeadlineExceededError,), 504, Outcome.UNAVAILABLE),
    ((UnavailableError,), 503, Outcome.UNAVAILABLE),
    # The trust file, the deployment or the gateway: nothing that the local client could mend.
    ((ConfigurationError,), 502, Outcome.UNAVAILABLE),
    ((S3MLError,), 500, Outcome.FAILED),
)


def of_service(response: InnerResponse, service: str) -> Answer:
    """Return what a service answered."""
    outcome = Outcome.ANSWERED
    if response.status >= _FIRST_REFUSAL:
        outcome = Outcome.REFUSED if response.status < _FIRST_FAILURE else Outcome.FAILED
    return Answer(response=response, outcome=outcome, service=service)


def of_proxy(document: object, *, status: int = 200, service: str = NO_SERVICE) -> Answer:
    """Return what the proxy knows itself."""
    response = InnerResponse(status=status, fields=JSON_FIELDS, content=msgspec.json.encode(document))
    return Answer(
        response=response,
        outcome=Outcome.ANSWERED if status < _FIRST_REFUSAL else Outcome.UNAVAILABLE,
        service=service,
    )


def of_error(error: S3MLError, service: str = NO_SERVICE) -> Answer:
    """Return what an error is answered, by the table."""
    if isinstance(error, OIPError):
        # RFC 9110, section 15.5.6: a 405 says what is allowed.
        allowed = () if error.allow is None else (("allow", error.allow),)
        return rejection(error.status, str(error), *allowed, service=service)
    status, outcome = next((status, outcome) for kinds, status, outcome in _TABLE if isinstance(error, kinds))
    document: dict[str, object] = {"error": line(error)}
    if isinstance(error, UntrustedPeerError):
        document = {"error": f"nothing was sent in the clear: {line(error)}"}
        mismatches = getattr(error, "mismatches", ())
        if mismatches:
            document["failed_checks"] = [str(mismatch) for mismatch in mismatches]
    fields: tuple[tuple[str, str], ...] = JSON_FIELDS
    if isinstance(error, UnavailableError) and error.retry_after_s is not None:
        fields = (*fields, ("retry-after", str(math.ceil(error.retry_after_s))))
    response = InnerResponse(status=status, fields=fields, content=msgspec.json.encode(document))
    return Answer(response=response, outcome=outcome, service=service)


def rejection(
    status: int, message: str, *fields: tuple[str, str], service: str = NO_SERVICE, closes: bool = False
) -> Answer:
    """Return the proxy's own refusal of a request.

    Args:
        status: HTTP's.
        message: One line.
        fields: Further fields.
        service: Whom the request was for.
        closes: Whether the connection ends with it: an unread body may still be on its way.
    """
    ending = (("connection", "close"),) if closes else ()
    response = InnerResponse(
        status=status,
        fields=(*JSON_FIELDS, *fields, *ending),
        content=msgspec.json.encode({"error": message}),
    )
    return Answer(response=response, outcome=Outcome.REJECTED, service=service)


def line(error: S3MLError) -> str:
    """Return what an error says, on one line."""
    return " ".join(str(error).split())
