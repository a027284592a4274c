"""One sealed request and its answer, however many attempts that takes.

What an outer reply can do is: carry an answer that opens, ask for another key, or make the client wait. What
an inner reply says was said by the verified service.

Source: docs/spec/sealed-request.md; RFC 9458, sections 5.2, 5.3 and 6.5.2.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus

from s3ml.client.authorising import Authorised, authorise, is_asked_for
from s3ml.client.budget import Budget
from s3ml.client.credentials import Credentials
from s3ml.client.errors import (
    CredentialsRefusedError,
    InvalidInputError,
    ModelError,
    TransientError,
    UnknownServiceError,
    UntrustedServiceError,
)
from s3ml.client.replies import error_line, retry_after_s, told_line
from s3ml.client.steps import HEAVY_BYTES, Compute, HTTPReply, HTTPRequest, Program, Send
from s3ml.client.trusting import Trusted, Trusting
from s3ml.keyservice.client import VerifiedService
from s3ml.primitives.errors import UnavailableError
from s3ml.wire.errors import BinaryHTTPError, SealRejectedError
from s3ml.wire.ohttp import (
    DATE_PROBLEM,
    OHTTP_KEY_PROBLEM,
    REQUEST_MEDIA_TYPE,
    RESPONSE_MEDIA_TYPE,
    is_problem,
)
from s3ml.wire.oip import Endpoint, parse_path
from s3ml.wire.sealed import (
    DEFAULT_LIMITS,
    InnerRequest,
    InnerResponse,
    SealedRequest,
    offered_date,
    seal_request,
)

# What a replica can answer only once it has the model.
_NEEDS_MODEL = (Endpoint.INFER, Endpoint.MODEL_METADATA)
_LATER = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


class DateOffsets:
    """By how much each service's clock differs from ours, as the services themselves said, sealed."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._offsets: dict[str, timedelta] = {}

    def date(self, service: str) -> datetime:
        """Return the present as `service` sees it."""
        return self._now() + self._offsets.get(service, timedelta())

    def correct(self, service: str, answer: InnerResponse) -> None:
        """Take over the Date of `answer`.

        Raises:
            UnavailableError: it has none.
        """
        date = offered_date(answer)
        if date is None:
            raise UnavailableError(
                f"service {service!r}: it refused the date of the request and named none of its own"
            )
        self._offsets[service] = date - self._now()


class Exchange:
    """A request that is sealed afresh for each attempt.

    Args:
        service: Whom it is for.
        ask: Makes the request of an attempt, given the seconds that are left; it never leaves in the clear.
        trusting: Whom to seal to.
        dates: What to put in as the date.
        budget: The caller's time.
        credentials: Who the caller is, for services that ask.
        patience_s: How long a model that the service states is waited for, where a replica lacks it.

    `refusal` is what the verified service answered the last attempt, where that was no success.
    """

    def __init__(
        self,
        service: str,
        ask: Callable[[float], InnerRequest],
        *,
        trusting: Trusting,
        dates: DateOffsets,
        budget: Budget,
        credentials: Credentials | None = None,
        patience_s: float,
    ) -> None:
        self._service = service
        self._ask = ask
        self._trusting = trusting
        self._dates = dates
        self._budget = budget
        self._credentials = credentials
        self._patience_s = patience_s
        self._rejected: int | None = None
        self._is_date_corrected = False
        self.refusal: InnerResponse | None = None

    def attempt(self) -> Program[InnerResponse]:
        """Make one attempt, which may seal again for a new key or a corrected date, each once.

        Returns:
            The verified service's answer, with status 200.

        Raises:
            TransientError: it failed for the moment.
            S3MLError: it failed for good.
        """
        self.refusal = None
        while True:
            trusted = yield from self._trusting.obtain(self._service, self._budget, rejected=self._rejected)
            date = self._dates.date(self._service)
            request = self._ask(self._budget.left_for("the request"))
            authorised = yield from self._authorise(request, trusted.verified)
            sealed: SealedRequest = yield Compute(
                work=partial(
                    seal_request, trusted.config, authorised.request, date=date, signer=authorised.signer
                ),
                size_bytes=len(request.content),
            )
            reply: HTTPReply = yield Send(request=self._outer(sealed))
            if reply.status != HTTPStatus.OK:
                self._refused(reply, trusted, len(request.content))
                continue
            answer = yield from self._open(sealed, reply)
            if is_problem(DATE_PROBLEM, media_type=answer.field("content-type"), content=answer.content):
                self._correct_date(answer)
                continue
            if answer.status != HTTPStatus.OK:
                self.refusal = answer
            if answer.status == HTTPStatus.NOT_FOUND and self._is_worth_waiting(request, trusted.verified):
                raise TransientError("a replica does not have the service's newest model yet")
            return _checked(answer, self._service)

    def _authorise(self, request: InnerRequest, verified: VerifiedService) -> Program[Authorised]:
        """Add credentials; a function that has to fetch them is called where it may take its time."""
        work = partial(authorise, request, self._credentials, verified)
        if callable(self._credentials) and is_asked_for(self._credentials, verified):
            authorised: Authorised = yield Compute(work=work, size_bytes=HEAVY_BYTES)
            return authorised
        return work()

    def _is_worth_waiting(self, request: InnerRequest, verified: VerifiedService) -> bool:
        return self._budget.elapsed_s < self._patience_s and _is_stated(request, verified)

    def _outer(self, sealed: SealedRequest) -> HTTPRequest:
        return HTTPRequest(
            method="POST",
            path=f"/services/{self._service}/ohttp",
            content_type=REQUEST_MEDIA_TYPE,
            body=sealed.body,
            timeout_s=self._budget.left_for("the request"),
            limit_bytes=DEFAULT_LIMITS.max_response_bytes,
        )

    def _refused(self, reply: HTTPReply, trusted: Trusted, size_bytes: int) -> None:
        """Return when another key is worth an immediate attempt; raise in all other cases."""
        if is_problem(OHTTP_KEY_PROBLEM, media_type=reply.media_type, content=reply.body):
            is_first = self._rejected is None
            self._rejected = trusted.generation
            if is_first:
                return
            raise TransientError("a replica does not have the service's newest key yet")
        line = told_line(reply)
        if reply.status in _LATER:
            raise TransientError(
                f"gateway: answered {reply.status}: {line}", retry_after_s=retry_after_s(reply.headers)
            )
        if reply.status == HTTPStatus.NOT_FOUND:
            raise UnknownServiceError(f"service {self._service!r}: the gateway does not route to it: {line}")
        if reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise InvalidInputError(f"request: {size_bytes} bytes are more than the service accepts: {line}")
        raise UntrustedServiceError(
            f"service {self._service!r}: expected a sealed answer, got status {reply.status}: "
            f"the request was changed on its way, or this is no S3ML gateway: {line}"
        )

    def _open(self, sealed: SealedRequest, reply: HTTPReply) -> Program[InnerResponse]:
        if reply.media_type != RESPONSE_MEDIA_TYPE:
            raise UntrustedServiceError(
                f"service {self._service!r}: expected an answer of type {RESPONSE_MEDIA_TYPE}, "
                f"got {reply.media_type[:80]!r}"
            )
        try:
            answer: InnerResponse = yield Compute(
                work=lambda: sealed.open_response(reply.body), size_bytes=len(reply.body)
            )
        except (SealRejectedError, BinaryHTTPError) as error:
            raise UntrustedServiceError(
                f"service {self._service!r}: the answer does not open: the verified service did not make it"
            ) from error
        return answer

    def _correct_date(self, answer: InnerResponse) -> None:
        if self._is_date_corrected:
            raise UnavailableError(
                f"service {self._service!r}: it refused the date of the request, and its own as well: "
                "the clocks of its replicas differ"
            )
        self._is_date_corrected = True
        self._dates.correct(self._service, answer)


def _is_stated(request: InnerRequest, verified: VerifiedService) -> bool:
    """Tell whether the verified service has the model that a request cannot do without."""
    route = parse_path(request.method, request.path)
    return route.endpoint in _NEEDS_MODEL and any(
        model.model == route.model and route.version in (None, model.model_version)
        for model in verified.models
    )


def _checked(answer: InnerResponse, service: str) -> InnerResponse:
    """Return a good answer; sort the others by what to do."""
    if answer.status == HTTPStatus.OK:
        return answer
    status, line = answer.status, error_line(answer.content)
    # 409: the gateway delivered the request twice, and the copy came first.
    if status in (*_LATER, HTTPStatus.CONFLICT):
        raise TransientError(
            f"service {service!r}: answered {status}: {line}",
            retry_after_s=retry_after_s(dict(answer.fields)),
        )
    if status == HTTPStatus.UNAUTHORIZED:
        raise CredentialsRefusedError(
            f"service {service!r}: does not admit these credentials, and does not say why: has the token "
            "expired, is it for another audience, were the service's rules changed?"
        )
    if status == HTTPStatus.FORBIDDEN:
        raise CredentialsRefusedError(f"service {service!r}: {line}")
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        raise InvalidInputError(f"service {service!r}: {line}", status=status, line=line)
    raise ModelError(f"service {service!r}: answered {status}: {line}", status=status, line=line)
