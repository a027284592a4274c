"""The proxy without its servers: finds the service of a request, forwards it sealed, says what went wrong.

REST and gRPC share it: a call over gRPC is brought into the form of a REST request first. Nothing here opens
what a request carries.

Source: Open Inference Protocol v2, "HTTP/REST"; docs/proxy.md.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

import s3ml
from s3ml.client.credentials import Credentials
from s3ml.client.errors import UntrustedServiceError
from s3ml.client.proxy.answers import Answer, line, of_error, of_proxy, of_service
from s3ml.client.proxy.keeping import Forwarding, TrustKeeper
from s3ml.client.proxy.namespace import Target, parse_target
from s3ml.primitives.errors import S3MLError
from s3ml.wire.oip import Endpoint

logger = logging.getLogger("s3ml.client.proxy")

SERVER_NAME = "s3ml-proxy"
READY_PATH = "/v2/health/ready"
# Above what a replica that is well takes, below what a prober waits.
READY_TIMEOUT_S = 3.0
_OK = 200


class _Metadata(msgspec.Struct):
    extensions: list[str]


_Document = TypeVar("_Document")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request of a local client.

    Args:
        method: HTTP's.
        path: An endpoint of the protocol, or one below ``/services/SERVICE``.
        service: Whom it is for, where the path does not say.
        fields: What goes into the seal beside the content.
        content: What goes into the seal, byte for byte.
        credentials: The local client's own, instead of the proxy's.
        timeout_s: How long it may take; the proxy's own time where the client does not say.
    """

    method: str
    path: str
    service: str | None = None
    fields: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    content: bytes | memoryview = field(default=b"", repr=False)
    credentials: Credentials | None = field(default=None, repr=False)
    timeout_s: float | None = None


class Proxy:
    """Answers calls by forwarding them.

    Args:
        client: Seals and sends; the only way out.
        keeper: Knows what is verified.
    """

    def __init__(self, client: Forwarding, keeper: TrustKeeper) -> None:
        self._client = client
        self._keeper = keeper
        self.is_draining = False

    async def answer(self, call: Call) -> Answer:
        """Answer one call; never raises for anything that S3ML raises on purpose."""
        try:
            return await self._answer(call)
        except S3MLError as error:
            return of_error(error)
        except Exception as error:  # noqa: BLE001 - the last line: no traceback leaves with a request in it
            logger.error("fault: %s", type(error).__name__)  # noqa: TRY400 - see above
            return of_error(S3MLError("proxy: internal error"))

    async def _answer(self, call: Call) -> Answer:
        target = parse_target(call.method, call.path)
        services = await self._services(target, call)
        match target.route.endpoint:
            case Endpoint.LIVE:
                return of_proxy({"live": True})
            case Endpoint.READY:
                return await self._readiness(services, call)
            case Endpoint.SERVER_METADATA if len(services) > 1:
                return await self._joint_metadata(services, target, call)
            case Endpoint.REPOSITORY_INDEX if len(services) > 1:
                return await self._joint_index(services, target, call)
        return await self._forward(services[0], target, call)

    async def _services(self, target: Target, call: Call) -> tuple[str, ...]:
        """Return the services that a call is for: one, unless it is about the server as a whole.

        Raises:
            OIPError: none or several have the model, or the one that is named is not served here.
        """
        named = target.service if target.service is not None else call.service
        if named is not None:
            if named not in self._keeper.services:
                raise self._keeper.namespace.unknown_service(named)
            return (named,)
        model = target.route.model
        if model is None or len(self._keeper.services) == 1:
            return self._keeper.services
        found = self._keeper.namespace.service_of(model)
        if found is None:
            await self._keeper.look_again()
            found = self._keeper.namespace.service_of(model)
        if found is None:
            raise self._keeper.namespace.unknown_model(model)
        return (found,)

    async def _forward(self, service: str, target: Target, call: Call) -> Answer:
        try:
            self._keeper.check(service)
            response = await self._client.forward(
                service,
                method=call.method,
                path=target.path,
                fields=call.fields,
                content=call.content,
                credentials=call.credentials,
                timeout_s=call.timeout_s,
            )
        except S3MLError as error:
            return of_error(error, service)
        return of_service(response, service)

    async def _readiness(self, services: tuple[str, ...], call: Call) -> Answer:
        """Say whether trust in every service holds and each answers, or what is wrong with which."""
        if self.is_draining:
            return of_proxy({"ready": False, "reason": "draining"}, status=503)
        troubles = await asyncio.gather(*(self._trouble(service, call) for service in services))
        wrong = {service: why for service, why in zip(services, troubles, strict=True) if why is not None}
        if wrong:
            return of_proxy({"ready": False, "services": wrong}, status=503)
        return of_proxy({"ready": True})

    async def _trouble(self, service: str, call: Call) -> str | None:
        try:
            self._keeper.check(service)
            response = await self._client.forward(
                service,
                method="GET",
                path=READY_PATH,
                credentials=call.credentials,
                timeout_s=min(call.timeout_s or READY_TIMEOUT_S, READY_TIMEOUT_S),
            )
        except S3MLError as error:
            return line(error)
        return None if response.status == _OK else f"the service answered {response.status}"

    async def _joint_metadata(self, services: tuple[str, ...], target: Target, call: Call) -> Answer:
        """Say what all services can: the extensions that each of them has."""
        answers = await self._ask_all(services, target, call)
        if isinstance(answers, Answer):
            return answers
        first, *others = (_decoded(answer, _Metadata).extensions for answer in answers)
        extensions = [one for one in first if all(one in stated for stated in others)]
        return of_proxy({"name": SERVER_NAME, "version": s3ml.__version__, "extensions": extensions})

    async def _joint_index(self, services: tuple[str, ...], target: Target, call: Call) -> Answer:
        """List the models of all services, each as its service describes it."""
        answers = await self._ask_all(services, target, call)
        if isinstance(answers, Answer):
            return answers
        return of_proxy([entry for answer in answers for entry in _decoded(answer, list[msgspec.Raw])])

    async def _ask_all(
        self, services: tuple[str, ...], target: Target, call: Call
    ) -> tuple[Answer, ...] | Answer:
        """Return what each service answered, or the first answer that is no success."""
        answers = await asyncio.gather(*(self._forward(service, target, call) for service in services))
        failed = (answer for answer in answers if answer.response.status != _OK)
        return next(failed, tuple(answers))


def _decoded(answer: Answer, kind: type[_Document]) -> _Document:
    """Decode what a verified service answered.

    Raises:
        UntrustedServiceError: it is not what the protocol says.
    """
    try:
        return msgspec.json.decode(answer.response.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UntrustedServiceError(
            f"service {answer.service!r}: its answer is malformed: {error}"
        ) from error
