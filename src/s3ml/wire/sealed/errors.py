"""What goes wrong once a request is open. Each error brings its answer, which leaves sealed.

Source: RFC 9458, sections 5.2 and 6.5; docs/spec/sealed-request.md, section "Errors".
"""

from datetime import datetime

from s3ml.primitives.errors import S3MLError
from s3ml.wire.ohttp import DATE_PROBLEM, PROBLEM_MEDIA_TYPE
from s3ml.wire.oip import encode_error
from s3ml.wire.sealed.dates import format_date
from s3ml.wire.sealed.exchange import Exchange
from s3ml.wire.sealed.messages import InnerResponse

RETRY_AFTER_S = 5
_CONFLICT = 409
_UNAVAILABLE = 503


class AnsweredError(S3MLError):
    """A request was opened and then refused; answer with `sealed_answer`, under an outer 200.

    Args:
        message: One line. It may quote the request: it is for the answer, never for a log.
        exchange: The way back.
        response: The answer.
    """

    def __init__(self, message: str, *, exchange: Exchange, response: InnerResponse) -> None:
        super().__init__(message)
        self.exchange = exchange
        self.response = response

    def sealed_answer(self) -> bytes:
        """Return the answer, padded and sealed."""
        return self.exchange.seal_response(self.response)


class InnerRequestError(AnsweredError):
    """The request inside the seal breaks a rule: 400, or 404 or 405 for its path."""

    def __init__(self, message: str, *, exchange: Exchange, status: int = 400) -> None:
        super().__init__(message, exchange=exchange, response=_refusal(status, message))


class DateRejectedError(AnsweredError):
    """The request's Date is missing or outside the window; the answer says what time it is here."""

    def __init__(self, *, exchange: Exchange, now: datetime) -> None:
        fields = (("content-type", PROBLEM_MEDIA_TYPE), ("date", format_date(now)))
        response = InnerResponse(status=DATE_PROBLEM.status, fields=fields, content=DATE_PROBLEM.content)
        super().__init__(DATE_PROBLEM.title, exchange=exchange, response=response)


class ReplayError(AnsweredError):
    """The same sealed request was opened before."""

    def __init__(self, *, exchange: Exchange) -> None:
        message = "sealed request: was opened before; seal afresh"
        super().__init__(message, exchange=exchange, response=_refusal(_CONFLICT, message))


class ReplayTableFullError(AnsweredError):
    """No more requests can be remembered in this window."""

    def __init__(self, *, exchange: Exchange) -> None:
        message = "too many requests in this window; retry later"
        response = _refusal(_UNAVAILABLE, message, ("retry-after", str(RETRY_AFTER_S)))
        super().__init__(message, exchange=exchange, response=response)


def _refusal(status: int, message: str, *fields: tuple[str, str]) -> InnerResponse:
    content, described = encode_error(message)
    return InnerResponse(status=status, fields=(*described, *fields), content=content)
